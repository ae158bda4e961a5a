//! The `uboot_*` functions: variables of the boot loader (fw-format §16).

use std::collections::BTreeMap;

use super::context::{Context, blocks, bytes};
use super::error::ActionError;
use super::table::PlanContext;
use crate::disk::{DiskError, DiskIo, Twins};
use crate::limits::UBOOT_BLOCKS_MAX;
use crate::manifest::{Call, Manifest, UbootEnvironment};

/// Bytes of the checksum in front of everything.
const CHECKSUM: usize = 4;
/// What fills the rest of the blocks.
const FILL: u8 = 0xff;
/// The flag of both copies when they are written anew.
const FIRST_FLAG: u8 = 1;

/// Why an environment cannot be read or changed. Displays as fwup does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UbootError {
    /// The destination could not be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The checksum does not fit: no environment, or a damaged one.
    #[error("U-boot environment (block {block}) CRC32 mismatch (expected 0x{expected:08x}; got 0x{got:08x})")]
    Checksum {
        /// The first block, of the first copy.
        block: u64,
        /// The checksum on the medium.
        expected: u32,
        /// The checksum of the data.
        got: u32,
    },
    /// The checksum fits, but the content makes no sense.
    #[error("Invalid U-boot environment")]
    Invalid,
    /// The variables do not fit in.
    #[error("Not enough room in U-boot environment")]
    NoRoom,
    /// The environment is unreasonably large, or has no size.
    #[error("uboot-environment {name} has {count} blocks, but 1 to {UBOOT_BLOCKS_MAX} are supported")]
    Size {
        /// The section's title.
        name: String,
        /// Its blocks.
        count: i64,
    },
}

/// Names and values, as bytes.
type Variables = BTreeMap<Vec<u8>, Vec<u8>>;

/// Where an environment is.
struct Place {
    block: u64,
    /// The second copy, if there is one.
    second: Option<u64>,
    /// Bytes of one copy.
    size: usize,
}

/// One copy as read.
struct Copy {
    flag: u8,
    variables: Result<Variables, UbootError>,
}

/// An environment as read from the better of its copies.
struct Found {
    variables: Variables,
    /// Which copy it came from, and its flag.
    second: bool,
    flag: u8,
}

pub(super) fn units(plan: &PlanContext<'_>, call: &Call<'_>) -> Result<u64, ActionError> {
    let name = call.args.first().map_or("", String::as_str);
    let place = Place::find(plan.manifest, plan.function, name)?;
    Ok(place.weight())
}

/// `uboot_clearenv(ENV)`.
pub(super) fn clear(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let place = Place::of_call(context, call, "uboot_clearenv")?;
    place.write_anew(context.disk)?;
    context.done(place.weight());
    Ok(())
}

/// `uboot_recover(ENV)`: clears only what cannot be read.
pub(super) fn recover(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let place = Place::of_call(context, call, "uboot_recover")?;
    match place.read(context.disk) {
        Ok(_) => {}
        // What a failing medium hides may be sound.
        Err(UbootError::Disk(error)) => return Err(UbootError::Disk(error).into()),
        Err(_) => place.write_anew(context.disk)?,
    }
    context.done(place.weight());
    Ok(())
}

/// `uboot_setenv(ENV, NAME, VALUE)`.
pub(super) fn set(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    change(context, call, "uboot_setenv", |variables, name, value| {
        variables.insert(name, value);
    })
}

/// `uboot_unsetenv(ENV, NAME)`.
pub(super) fn unset(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    change(context, call, "uboot_unsetenv", |variables, name, _| {
        variables.remove(&name);
    })
}

/// The value of a variable, for `require-uboot-variable`; nothing when there is no valid environment.
pub(crate) fn value(
    disk: &mut (impl DiskIo + ?Sized),
    environment: &UbootEnvironment,
    name: &str,
) -> Option<Vec<u8>> {
    let place = Place::of(environment).ok()?;
    place.read(disk).ok()?.variables.remove(name.as_bytes())
}

fn change(
    context: &mut Context<'_>,
    call: &Call<'_>,
    function: &'static str,
    edit: impl FnOnce(&mut Variables, Vec<u8>, Vec<u8>),
) -> Result<(), ActionError> {
    let place = Place::of_call(context, call, function)?;
    let argument = |at: usize| call.args.get(at).map(|text| text.clone().into_bytes()).unwrap_or_default();
    let mut found = place.read(context.disk)?;
    edit(&mut found.variables, argument(1), argument(2));
    place.write_other(context.disk, &found)?;
    context.done(place.weight());
    Ok(())
}

impl Place {
    fn of_call(context: &Context<'_>, call: &Call<'_>, function: &'static str) -> Result<Self, ActionError> {
        Self::find(context.manifest, function, call.args.first().map_or("", String::as_str))
    }

    fn find(manifest: &Manifest, function: &'static str, name: &str) -> Result<Self, ActionError> {
        let environment = manifest.environment(name).ok_or_else(|| ActionError::Reference {
            function,
            kind: "uboot-environment",
            name: name.to_owned(),
        })?;
        Ok(Self::of(environment)?)
    }

    fn of(environment: &UbootEnvironment) -> Result<Self, UbootError> {
        let count = environment.block_count;
        let size = u64::try_from(count)
            .ok()
            .filter(|count| (1..=UBOOT_BLOCKS_MAX).contains(count))
            .and_then(|count| usize::try_from(bytes(count)).ok())
            .ok_or_else(|| UbootError::Size { name: environment.name.clone(), count })?;
        let block = blocks(&environment.block_offset);
        let second = environment.block_offset_redund.as_deref().map(blocks);
        Ok(Self { block, second, size })
    }

    fn weight(&self) -> u64 {
        self.size as u64 * if self.second.is_some() { 2 } else { 1 }
    }

    fn header(&self) -> usize {
        CHECKSUM + usize::from(self.second.is_some())
    }

    fn read(&self, disk: &mut (impl DiskIo + ?Sized)) -> Result<Found, UbootError> {
        let first = self.read_copy(disk, self.block)?;
        let Some(second) = self.second else {
            return Ok(Found { variables: first.variables?, second: false, flag: first.flag });
        };
        let second = self.read_copy(disk, second)?;
        let second_is_newer = is_newer(second.flag, first.flag);
        let (newer, older) = if second_is_newer { (second, first) } else { (first, second) };
        match (newer.variables, older.variables) {
            (Ok(variables), _) => Ok(Found { variables, second: second_is_newer, flag: newer.flag }),
            (Err(_), Ok(variables)) => Ok(Found { variables, second: !second_is_newer, flag: older.flag }),
            (Err(_), Err(error)) => Err(error),
        }
    }

    fn read_copy(&self, disk: &mut (impl DiskIo + ?Sized), block: u64) -> Result<Copy, UbootError> {
        let mut data = vec![0; self.size];
        disk.read(bytes(block), &mut data)?;
        let (header, body) = data.split_at(self.header().min(data.len()));
        let flag = header.get(CHECKSUM).copied().unwrap_or(0);
        let expected = header.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let got = crc32fast::hash(body);
        let variables = if expected == got {
            parse(body).ok_or(UbootError::Invalid)
        } else {
            Err(UbootError::Checksum { block: self.block, expected, got })
        };
        Ok(Copy { flag, variables })
    }

    /// Writes the copy that was not read, so that the other stays as it was.
    fn write_other(&self, disk: &mut (impl DiskIo + ?Sized), found: &Found) -> Result<(), UbootError> {
        let block = match self.second {
            Some(second) if !found.second => second,
            _ => self.block,
        };
        self.write_copy(disk, block, found.flag.wrapping_add(1), &found.variables)
    }

    /// Writes empty copies.
    fn write_anew(&self, disk: &mut (impl DiskIo + ?Sized)) -> Result<(), UbootError> {
        let empty = Variables::new();
        self.write_copy(disk, self.block, FIRST_FLAG, &empty)?;
        self.second.map_or(Ok(()), |second| self.write_copy(disk, second, FIRST_FLAG, &empty))
    }

    fn write_copy(
        &self,
        disk: &mut (impl DiskIo + ?Sized),
        block: u64,
        flag: u8,
        variables: &Variables,
    ) -> Result<(), UbootError> {
        let mut data = Vec::with_capacity(self.size);
        data.extend([0; CHECKSUM]);
        if self.second.is_some() {
            data.push(flag);
        }
        for (name, value) in variables {
            // The bounds of fwup, so that what fits there fits here and the other way round.
            if data.len() + name.len() + 1 + value.len() >= self.size - 2 {
                return Err(UbootError::NoRoom);
            }
            data.extend_from_slice(name);
            data.push(b'=');
            data.extend_from_slice(value);
            data.push(0);
        }
        data.push(0);
        data.resize(self.size, FILL);
        let checksum = crc32fast::hash(data.get(self.header()..).unwrap_or_default()).to_le_bytes();
        for (place, byte) in data.iter_mut().zip(checksum) {
            *place = byte;
        }
        let other = self.second.map(|second| if block == second { self.block } else { second });
        match other.map(bytes) {
            Some(other) => {
                let twins = Twins { other, preferred: block == self.block, newer, disguise, succeed };
                disk.write_twin(bytes(block), &data, twins)?;
            }
            None => disk.write(bytes(block), &data, false)?,
        }
        Ok(())
    }
}

/// Which of two copies counts; the first when both are equally new.
fn newer(copies: [&[u8]; 2]) -> Option<usize> {
    let sound = |copy: &[u8]| {
        copy.split_first_chunk::<CHECKSUM>().is_some_and(|(sum, rest)| {
            let body = rest.get(1..).unwrap_or_default();
            u32::from_le_bytes(*sum) == crc32fast::hash(body) && parse(body).is_some()
        })
    };
    let [first, second] = copies;
    let flag = |copy: &[u8]| copy.get(CHECKSUM).copied().unwrap_or(0);
    match (sound(first), sound(second)) {
        (true, true) => Some(usize::from(is_newer(flag(second), flag(first)))),
        (true, false) => Some(0),
        (false, true) => Some(1),
        (false, false) => None,
    }
}

/// The content of one copy with the flag of the other, which the checksum does not cover.
fn disguise(content: &[u8], flag: &[u8]) -> Vec<u8> {
    let mut copy = content.to_vec();
    if let (Some(place), Some(flag)) = (copy.get_mut(CHECKSUM), flag.get(CHECKSUM)) {
        *place = *flag;
    }
    copy
}

/// The content of one copy with the flag that follows the one of the other. Boot loaders do not count modulo 256:
/// to them the larger flag is newer, but for 0 after 255. On a larger step around that they would take another copy
/// than fwup and the device.
fn succeed(content: &[u8], flag: &[u8]) -> Vec<u8> {
    let mut copy = content.to_vec();
    if let (Some(place), Some(flag)) = (copy.get_mut(CHECKSUM), flag.get(CHECKSUM)) {
        *place = flag.wrapping_add(1);
    }
    copy
}

/// The flag counts up and wraps around.
fn is_newer(flag: u8, than: u8) -> bool {
    (1..128).contains(&flag.wrapping_sub(than))
}

/// Takes the pairs apart, up to an empty name or the end.
fn parse(body: &[u8]) -> Option<Variables> {
    let mut variables = Variables::new();
    let mut rest = body;
    while rest.first().is_some_and(|byte| *byte != 0) {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (pair, after) = rest.split_at(end);
        // A name has at least one character.
        let equals = pair.iter().skip(1).position(|byte| *byte == b'=')? + 1;
        let (name, value) = pair.split_at(equals);
        variables.insert(name.to_vec(), value.get(1..).unwrap_or_default().to_vec());
        rest = after.get(1..).unwrap_or_default();
    }
    Some(variables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{CacheOptions, MemoryTarget, SegmentCache};

    fn place(second: Option<u64>) -> Place {
        Place { block: 16, second, size: 1024 }
    }

    /// Every pair of flags: the second copy is newer exactly when it is ahead by 1 to 127 (fw-format §16;
    /// 1.10.1 of fwup got 127 and 128 wrong).
    #[test]
    fn the_newer_copy_is_found_for_every_pair_of_flags() {
        let place = place(Some(32));
        for first in 0..=255_u8 {
            for ahead in 0..=255_u8 {
                let mut disk = SegmentCache::new(MemoryTarget::new(), CacheOptions::default());
                let copy = |text: &str| Variables::from([(b"copy".to_vec(), text.into())]);
                place.write_copy(&mut disk, 16, first, &copy("1")).unwrap();
                place.write_copy(&mut disk, 32, first.wrapping_add(ahead), &copy("2")).unwrap();
                let found = place.read(&mut disk).unwrap();
                assert_eq!(found.second, (1..128).contains(&ahead), "flags {first} and {ahead} ahead");
            }
        }
    }

    #[test]
    fn every_single_bit_flip_is_noticed() {
        let place = place(None);
        let mut disk = SegmentCache::new(MemoryTarget::new(), CacheOptions::default());
        place.write_copy(&mut disk, 16, 0, &Variables::from([(b"a".to_vec(), b"b".to_vec())])).unwrap();
        let mut good = vec![0; 1024];
        disk.read(16 * 512, &mut good).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            disk.write(16 * 512, &bad, false).unwrap();
            assert!(matches!(place.read(&mut disk), Err(UbootError::Checksum { .. })));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse(b"noequals\0\0").is_none());
        assert!(parse(b"=value\0\0").is_none());
        assert!(parse(b"a=unterminated").is_none());
        assert_eq!(parse(b"a=\0==b\0\0junk").map(|variables| variables.len()), Some(2));
        assert_eq!(parse(b"").map(|variables| variables.len()), Some(0));
    }
}
