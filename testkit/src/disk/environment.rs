//! The U-Boot environment, read and written as boot loaders do (device-identity §1.1): an oracle
//! independent of the code under test.

use std::collections::BTreeMap;

use super::layout::{BLOCK, DiskLayout};
use super::medium::Medium;
use crate::limits::ENVIRONMENT;

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// Why there is no environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// No copy has the right checksum.
    #[error("the boot environment at block {block} has a wrong checksum{}", if *.copies > 1 { ", and so has its copy" } else { "" })]
    Checksum {
        /// Block of the first copy.
        block: u64,
        /// How many copies there are.
        copies: u8,
    },
    /// The pairs do not fit.
    #[error("the boot environment has no room for {needed} bytes in {room}")]
    Full {
        /// Bytes that the pairs take.
        needed: usize,
        /// Bytes there are for them.
        room: usize,
    },
    /// The disk could not be read or written.
    #[error("the boot environment could not be read or written: {0}")]
    Io(String),
}

/// Reads the environment of a disk: the newer good copy where there are two.
pub fn read_environment(medium: &dyn Medium, layout: &DiskLayout) -> Result<Variables, EnvironmentError> {
    newest(medium, layout).map(|(variables, _, _)| variables)
}

/// Writes the environment: over the copy that is older or bad, so that a torn write loses only the change.
pub fn write_environment(
    medium: &mut dyn Medium,
    layout: &DiskLayout,
    variables: &Variables,
) -> Result<(), EnvironmentError> {
    let size = size(layout);
    let (target, generation) = match layout.environment_redundant {
        None => (layout.environment, None),
        Some(second) => match newest(medium, layout) {
            Ok((_, block, generation)) => {
                let other = if block == second { layout.environment } else { second };
                (other, Some(generation.wrapping_add(1)))
            }
            Err(EnvironmentError::Checksum { .. }) => (layout.environment, Some(0)),
            Err(error) => return Err(error),
        },
    };
    let block = encode(variables, size, generation)?;
    medium.write_at(target * BLOCK, &block).map_err(|error| io(&error))
}

/// The bytes of one copy. `generation` makes it a copy of a redundant pair.
pub fn encode(
    variables: &Variables,
    size: usize,
    generation: Option<u8>,
) -> Result<Vec<u8>, EnvironmentError> {
    let header = if generation.is_some() { 5 } else { 4 };
    let mut data = Vec::new();
    for (name, value) in variables {
        data.extend(name.as_bytes());
        data.push(b'=');
        data.extend(value.as_bytes());
        data.push(0);
    }
    data.push(0);
    let room = size.saturating_sub(header);
    if data.len() > room {
        return Err(EnvironmentError::Full { needed: data.len(), room });
    }
    data.resize(room, 0xff);
    let mut block = crc32fast::hash(&data).to_le_bytes().to_vec();
    block.extend(generation);
    block.extend(data);
    Ok(block)
}

/// Reads one copy: its variables and, in a redundant pair, its generation.
pub fn decode(block: &[u8], redundant: bool) -> Option<(Variables, u8)> {
    let (crc, rest) = block.split_first_chunk::<4>()?;
    let (generation, data) = if redundant { rest.split_first().map(|(g, d)| (*g, d))? } else { (0, rest) };
    if crc32fast::hash(data) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut variables = Variables::new();
    for pair in data.split(|byte| *byte == 0).take_while(|pair| !pair.is_empty()) {
        let pair = String::from_utf8_lossy(pair);
        let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
        variables.insert(name.to_owned(), value.to_owned());
    }
    Some((variables, generation))
}

/// The newest good copy, its block and its generation.
pub(super) fn newest(
    medium: &dyn Medium,
    layout: &DiskLayout,
) -> Result<(Variables, u64, u8), EnvironmentError> {
    let mut block = vec![0; size(layout)];
    let redundant = layout.environment_redundant.is_some();
    let mut copy = |at: u64| {
        medium.read_at(at * BLOCK, &mut block).map_err(|error| io(&error))?;
        Ok::<_, EnvironmentError>(decode(&block, redundant).map(|(vars, generation)| (vars, at, generation)))
    };
    let first = copy(layout.environment)?;
    let second = layout.environment_redundant.map(&mut copy).transpose()?.flatten();
    match (first, second) {
        // The second is newer when it is ahead by 1 to 127 (device-identity §1.1).
        (Some(a), Some(b)) if !(1..128).contains(&b.2.wrapping_sub(a.2)) => Ok(a),
        (_, Some(b)) => Ok(b),
        (Some(a), None) => Ok(a),
        (None, None) => {
            let copies = 1 + u8::from(redundant);
            Err(EnvironmentError::Checksum { block: layout.environment, copies })
        }
    }
}

/// Whether U-Boot and its tools find the same values as fwup and the device. They know no order modulo 256: the larger
/// generation is the newer one, but for 0 after 255. So they agree when generations are neighbours, or values equal.
pub(super) fn readers_agree(medium: &dyn Medium, layout: &DiskLayout) -> Result<bool, EnvironmentError> {
    let Some(second) = layout.environment_redundant else { return Ok(true) };
    let mut block = vec![0; size(layout)];
    let mut copy = |at: u64| {
        medium.read_at(at * BLOCK, &mut block).map_err(|error| io(&error))?;
        Ok::<_, EnvironmentError>(decode(&block, true))
    };
    let (Some((values, first)), Some((others, other))) = (copy(layout.environment)?, copy(second)?) else {
        return Ok(true);
    };
    let takes_second = match (first, other) {
        (255, 0) => true,
        (0, 255) => false,
        _ => other > first,
    };
    Ok(values == others || takes_second == (1..128).contains(&other.wrapping_sub(first)))
}

fn size(layout: &DiskLayout) -> usize {
    usize::try_from(layout.environment_blocks.saturating_mul(BLOCK)).unwrap_or(ENVIRONMENT).min(ENVIRONMENT)
}

fn io(error: &std::io::Error) -> EnvironmentError {
    EnvironmentError::Io(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_worked_examples_of_the_format() {
        let variables: Variables = [("nerves_fw_active", "a"), ("nerves_serial_number", "1234")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .into();
        let plain = hex(
            "c1b1bc106e65727665735f66775f6163746976653d61006e65727665735f73657269616c5f6e756d6265723d313233340000ffffffffffffffffffffffffffff",
        );
        let redundant = hex(
            "43eba169076e65727665735f66775f6163746976653d61006e65727665735f73657269616c5f6e756d6265723d313233340000ffffffffffffffffffffffffff",
        );
        assert_eq!(encode(&variables, 64, None).unwrap(), plain);
        assert_eq!(encode(&variables, 64, Some(7)).unwrap(), redundant);
        assert_eq!(decode(&plain, false).unwrap(), (variables.clone(), 0));
        assert_eq!(decode(&redundant, true).unwrap(), (variables.clone(), 7));
        assert!(decode(&plain, true).is_none());
        assert!(matches!(encode(&variables, 32, None), Err(EnvironmentError::Full { .. })));
    }
}
