//! The bytes of a U-Boot environment: plain and redundant blocks (device-identity §1.1).
//!
//! Where the specification and recorded runs of `fwup` differ (the order of two copies whose
//! generations are exactly 128 apart), the recorded runs win.

use std::collections::BTreeMap;

use crate::kv::{Change, Pairs, check_pair};

/// The form of a block: with or without a generation byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One copy: CRC-32, then pairs.
    Plain,
    /// One of two copies: CRC-32, generation byte, then pairs.
    Redundant,
}

impl Layout {
    const fn header(self) -> usize {
        match self {
            Self::Plain => 4,
            Self::Redundant => 5,
        }
    }
}

/// Which of two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// The first location.
    First,
    /// The second location.
    Second,
}

/// The pairs of an environment, as bytes so that foreign values survive being rewritten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What is wrong with a block or a change to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvError {
    /// The checksum is wrong: torn write, wrong offset or size, or never written.
    #[error("CRC32 mismatch (stored {stored:#010x}, computed {computed:#010x})")]
    Crc {
        /// The checksum in the block.
        stored: u32,
        /// The checksum of the block's bytes.
        computed: u32,
    },
    /// The block is too short to hold an environment.
    #[error("{size} bytes are too few for an environment")]
    Short {
        /// The size, in bytes.
        size: usize,
    },
    /// The pairs need more bytes than the block has. Nothing was written.
    #[error("environment too small: {needed} bytes needed, the block has {size}")]
    TooSmall {
        /// Bytes needed.
        needed: usize,
        /// Bytes there are.
        size: usize,
    },
    /// A name is empty or has `=`, or a NUL is in name or value.
    #[error("the pair named {name:?} cannot be stored in an environment")]
    Unstorable {
        /// The name.
        name: String,
    },
}

impl Environment {
    /// Reads a block. Returns the pairs and the generation (0 for a plain block).
    ///
    /// Of a name that occurs twice the last value counts; an entry without `=` has an empty value.
    pub fn decode(block: &[u8], layout: Layout) -> Result<(Self, u8), EnvError> {
        let short = EnvError::Short { size: block.len() };
        let Some((crc, rest)) = block.split_first_chunk::<4>() else { return Err(short) };
        let (generation, body) = match layout {
            Layout::Plain => (0, rest),
            Layout::Redundant => match rest.split_first() {
                Some((generation, body)) => (*generation, body),
                None => return Err(short),
            },
        };
        let (stored, computed) = (u32::from_le_bytes(*crc), crc32fast::hash(body));
        if stored != computed {
            return Err(EnvError::Crc { stored, computed });
        }
        let mut pairs = BTreeMap::new();
        for entry in body.split(|byte| *byte == 0).take_while(|entry| !entry.is_empty()) {
            let mut halves = entry.splitn(2, |byte| *byte == b'=');
            let name = halves.next().unwrap_or_default();
            // A split always has a first half. An entry such as `=x` has no name anyone could ask for.
            if !name.is_empty() {
                pairs.insert(name.to_vec(), halves.next().unwrap_or_default().to_vec());
            }
        }
        Ok((Self { pairs }, generation))
    }

    /// Writes a block of `size` bytes: pairs sorted by name, the rest 0xFF, as `fwup` does.
    pub fn encode(&self, size: usize, layout: Layout, generation: u8) -> Result<Vec<u8>, EnvError> {
        let needed = self.needed(layout);
        if needed > size {
            return Err(EnvError::TooSmall { needed, size });
        }
        let mut body = Vec::with_capacity(size);
        for (name, value) in &self.pairs {
            body.extend_from_slice(name);
            body.push(b'=');
            body.extend_from_slice(value);
            body.push(0);
        }
        body.push(0);
        body.resize(size - layout.header(), 0xFF);
        let mut block = crc32fast::hash(&body).to_le_bytes().to_vec();
        if layout == Layout::Redundant {
            block.push(generation);
        }
        block.append(&mut body);
        Ok(block)
    }

    /// Returns the bytes of the smallest block that holds the pairs.
    pub fn needed(&self, layout: Layout) -> usize {
        let used: usize = self.pairs.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        // One byte stays free, as with `fwup`: it must be able to change what was written here.
        layout.header() + used + 2
    }

    /// Applies changes. On an error nothing was changed.
    pub fn apply(&mut self, changes: &[Change<'_>]) -> Result<(), EnvError> {
        for (name, value) in changes {
            // Of what is deleted only the name is checked.
            check_pair(name, value.unwrap_or_default())?;
        }
        for (name, value) in changes {
            match value {
                Some(value) => self.pairs.insert(name.as_bytes().to_vec(), value.as_bytes().to_vec()),
                None => self.pairs.remove(name.as_bytes()),
            };
        }
        Ok(())
    }

    /// Returns the pairs as text; bytes that are not UTF-8 become U+FFFD.
    pub fn pairs(&self) -> Pairs {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.pairs.iter().map(|(name, value)| (text(name), text(value))).collect()
    }
}

/// Returns which of two good copies is newer, from their generations modulo 256.
pub const fn newer(first: u8, second: u8) -> Copy {
    match second.wrapping_sub(first) {
        0 | 128..=255 => Copy::First,
        _ => Copy::Second,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        let mut env = Environment::default();
        env.apply(&pairs.iter().map(|(k, v)| (*k, Some(*v))).collect::<Vec<_>>()).unwrap();
        env
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    const PLAIN: &str = "c1b1bc106e65727665735f66775f6163746976653d61006e65727665735f73657269616c5f6e\
                         756d6265723d313233340000ffffffffffffffffffffffffffff";
    const REDUNDANT: &str = "43eba169076e65727665735f66775f6163746976653d61006e65727665735f73657269616c5f\
                             6e756d6265723d313233340000ffffffffffffffffffffffffff";

    #[test]
    fn worked_examples_of_the_specification_encode_and_decode() {
        let env = env(&[("nerves_serial_number", "1234"), ("nerves_fw_active", "a")]);
        assert_eq!(env.encode(64, Layout::Plain, 0).unwrap(), hex(PLAIN));
        assert_eq!(env.encode(64, Layout::Redundant, 7).unwrap(), hex(REDUNDANT));
        assert_eq!(Environment::decode(&hex(PLAIN), Layout::Plain).unwrap(), (env.clone(), 0));
        assert_eq!(Environment::decode(&hex(REDUNDANT), Layout::Redundant).unwrap(), (env, 7));
    }

    fn sealed(body: &[u8]) -> Vec<u8> {
        let mut block = crc32fast::hash(body).to_le_bytes().to_vec();
        block.extend_from_slice(body);
        block
    }

    #[test]
    fn the_last_of_two_equal_names_wins_and_a_missing_equals_sign_is_an_empty_value() {
        let block = sealed(b"a=1\0a=2=3\0flag\0=x\0\0junk=1\0\0");
        let (env, _) = Environment::decode(&block, Layout::Plain).unwrap();
        let expected = [("a", "2=3"), ("flag", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(env.pairs(), Pairs::from(expected));
    }

    #[test]
    fn an_empty_block_and_zero_padding_are_fine() {
        let (env, _) = Environment::decode(&sealed(&[0; 60]), Layout::Plain).unwrap();
        assert_eq!(env, Environment::default());
        let (env, _) = Environment::decode(&sealed(b"a=1\0\0\0\0\0"), Layout::Plain).unwrap();
        assert_eq!(env.pairs().len(), 1);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = hex(REDUNDANT);
        for bit in (0..good.len() * 8).filter(|bit| bit / 8 != 4) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let error = Environment::decode(&bad, Layout::Redundant).unwrap_err();
            assert!(matches!(error, EnvError::Crc { .. }), "bit {bit}");
        }
    }

    #[test]
    fn blocks_of_any_short_length_are_refused_not_panicked_on() {
        for size in 0..5 {
            assert!(Environment::decode(&vec![0xFF; size], Layout::Redundant).is_err(), "{size}");
        }
    }

    #[test]
    fn a_block_is_full_where_fwup_says_so() {
        // Recorded: with 2,048 bytes a lone `x` may hold 2,039 bytes (case `uboot-env`, fits / fits-not).
        let fits = env(&[("x", &"v".repeat(2039))]);
        assert_eq!(fits.encode(2048, Layout::Plain, 0).unwrap().len(), 2048);
        let over = env(&[("x", &"v".repeat(2040))]);
        let error = over.encode(2048, Layout::Plain, 0).unwrap_err();
        assert_eq!(error, EnvError::TooSmall { needed: 2049, size: 2048 });
    }

    #[test]
    fn the_newer_copy_is_found_for_every_pair_of_generations() {
        for first in 0..=255_u8 {
            for ahead in 0..=255_u8 {
                let expected = if (1..128).contains(&ahead) { Copy::Second } else { Copy::First };
                assert_eq!(newer(first, first.wrapping_add(ahead)), expected, "{first} {ahead}");
            }
        }
    }

    #[test]
    fn foreign_bytes_survive_a_change_of_another_name() {
        let (mut env, _) = Environment::decode(&sealed(b"bin=\xff\xfe\0\0"), Layout::Plain).unwrap();
        env.apply(&[("a", Some("1"))]).unwrap();
        let block = env.encode(32, Layout::Plain, 0).unwrap();
        assert!(block.windows(6).any(|bytes| bytes == b"bin=\xff\xfe"));
    }

    #[test]
    fn names_no_environment_can_hold_are_refused_and_change_nothing() {
        let mut env = env(&[("a", "1")]);
        for (name, value) in [("", "x"), ("a=b", "x"), ("a\0", "x"), ("ok", "a\0b")] {
            assert!(env.apply(&[("a", Some("2")), (name, Some(value))]).is_err(), "{name:?}");
        }
        assert_eq!(env.pairs().get("a").map(String::as_str), Some("1"));
    }
}
