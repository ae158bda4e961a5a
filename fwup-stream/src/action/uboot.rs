//! The `uboot_*` functions: variables of the boot loader (fw-format §16).

mod content;

use super::context::{Context, blocks, bytes};
use super::error::ActionError;
use super::table::PlanContext;
use crate::disk::{DiskError, DiskIo, Twins};
use crate::internal::Internal;
use crate::limits::UBOOT_BLOCKS_MAX;
use crate::manifest::{Call, Manifest, UbootEnvironment};
use content::{Content, count};

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
    /// A variable would have no name: nobody could read the environment any more, U-Boot no more than this.
    #[error("uboot_setenv needs the name of a variable, and the firmware gives it none")]
    NoName,
    /// Something that cannot happen has happened.
    #[error(transparent)]
    Internal(#[from] Internal),
    /// The variables do not fit in.
    #[error("Not enough room in U-boot environment")]
    NoRoom,
    /// The system has no memory left for an environment of this size.
    #[error("this system has no {0} bytes of memory left for the U-boot environment")]
    NoMemory(usize),
    /// The environment is unreasonably large, or has no size.
    #[error("uboot-environment {name} has {count} blocks, but 1 to {UBOOT_BLOCKS_MAX} are supported")]
    Size {
        /// The section's title.
        name: String,
        /// Its blocks.
        count: i64,
    },
    /// The second copy lies over the first: each change would destroy the good one.
    #[error("uboot-environment {name}: block-offset-redund can't overlap primary U-Boot environment")]
    Overlap {
        /// The section's title.
        name: String,
    },
}

/// Where an environment is.
struct Place {
    block: u64,
    /// The second copy, if there is one.
    second: Option<u64>,
    /// Bytes of one copy.
    size: usize,
}

/// The name and the value of a variable.
type Variable<'a> = (&'a [u8], &'a [u8]);

/// One copy as read, with its content when that is sound.
struct Copy {
    flag: u8,
    content: Result<Content, UbootError>,
}

/// An environment as read from the better of its copies.
struct Found {
    content: Content,
    /// Which copy it came from, and its flag.
    second: bool,
    flag: u8,
}

pub(super) fn units(plan: &PlanContext<'_>, call: &Call<'_>) -> Result<u64, ActionError> {
    let place = Place::find(plan.manifest, plan.function, call.text(0)?)?;
    if plan.function == "uboot_setenv" && call.text(1)?.is_empty() {
        return Err(UbootError::NoName.into());
    }
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
    // Here as well as in the plan, which leaves out on-error.
    if call.text(1)?.is_empty() {
        return Err(UbootError::NoName.into());
    }
    change(context, call, "uboot_setenv", Some(call.text(2)?))
}

/// `uboot_unsetenv(ENV, NAME)`.
pub(super) fn unset(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    change(context, call, "uboot_unsetenv", None)
}

/// The value of a variable, for `require-uboot-variable`; nothing when there is no valid environment.
pub(crate) fn value(
    disk: &mut (impl DiskIo + ?Sized),
    environment: &UbootEnvironment,
    name: &str,
) -> Option<Vec<u8>> {
    let place = Place::of(environment).ok()?;
    place.read(disk).ok()?.content.value(name.as_bytes()).map(<[u8]>::to_vec)
}

/// Gives a variable a value, or takes it out.
fn change(
    context: &mut Context<'_>,
    call: &Call<'_>,
    function: &'static str,
    value: Option<&str>,
) -> Result<(), ActionError> {
    let place = Place::of_call(context, call, function)?;
    let name = call.text(1)?;
    let found = place.read(context.disk)?;
    place.write_other(context.disk, &found, name.as_bytes(), value.map(str::as_bytes))?;
    context.done(place.weight());
    Ok(())
}

impl Place {
    fn of_call(context: &Context<'_>, call: &Call<'_>, function: &'static str) -> Result<Self, ActionError> {
        Self::find(context.manifest, function, call.text(0)?)
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
        if second.is_some_and(|second| bytes(block.abs_diff(second)) < size as u64) {
            return Err(UbootError::Overlap { name: environment.name.clone() });
        }
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
            return Ok(Found { content: first.content?, second: false, flag: first.flag });
        };
        let second = self.read_copy(disk, second)?;
        let second_is_newer = is_newer(second.flag, first.flag);
        let (newer, older) = if second_is_newer { (second, first) } else { (first, second) };
        match (newer.content, older.content) {
            (Ok(content), _) => Ok(Found { content, second: second_is_newer, flag: newer.flag }),
            (Err(_), Ok(content)) => Ok(Found { content, second: !second_is_newer, flag: older.flag }),
            (Err(_), Err(error)) => Err(error),
        }
    }

    /// Returns memory for one copy, empty yet.
    fn room(&self) -> Result<Vec<u8>, UbootError> {
        let mut data = Vec::new();
        data.try_reserve_exact(self.size).map_err(|_| UbootError::NoMemory(self.size))?;
        Ok(data)
    }

    fn read_copy(&self, disk: &mut (impl DiskIo + ?Sized), block: u64) -> Result<Copy, UbootError> {
        let mut data = self.room()?;
        data.resize(self.size, 0);
        disk.read(bytes(block), &mut data)?;
        let (header, body) = data.split_at(self.header());
        // A single copy has none, and needs none.
        let flag = header.get(CHECKSUM).copied().unwrap_or(0);
        let expected = header.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let expected =
            expected.ok_or_else(|| Internal::new("an environment is shorter than its checksum"))?;
        let got = crc32fast::hash(body);
        let content = if expected == got {
            Content::new(data, self.header()).ok_or(UbootError::Invalid)
        } else {
            Err(UbootError::Checksum { block: self.block, expected, got })
        };
        Ok(Copy { flag, content })
    }

    /// Writes the copy that was not read, with one variable changed, so that the other stays as it was.
    fn write_other(
        &self,
        disk: &mut (impl DiskIo + ?Sized),
        found: &Found,
        name: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), UbootError> {
        let block = match self.second {
            Some(second) if !found.second => second,
            _ => self.block,
        };
        self.write_copy(disk, block, found.flag.wrapping_add(1), found.content.with(name, value)?)
    }

    /// Writes empty copies.
    fn write_anew(&self, disk: &mut (impl DiskIo + ?Sized)) -> Result<(), UbootError> {
        self.write_copy(disk, self.block, FIRST_FLAG, std::iter::empty())?;
        self.second.map_or(Ok(()), |second| self.write_copy(disk, second, FIRST_FLAG, std::iter::empty()))
    }

    fn write_copy<'a>(
        &self,
        disk: &mut (impl DiskIo + ?Sized),
        block: u64,
        flag: u8,
        variables: impl Iterator<Item = Result<Variable<'a>, Internal>>,
    ) -> Result<(), UbootError> {
        let mut data = self.room()?;
        data.extend([0; CHECKSUM]);
        if self.second.is_some() {
            data.push(flag);
        }
        for variable in variables {
            let (name, value) = variable?;
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
        let (header, body) = data.split_at_mut(self.header());
        for (place, byte) in header.iter_mut().zip(crc32fast::hash(body).to_le_bytes()) {
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
            u32::from_le_bytes(*sum) == crc32fast::hash(body) && count(body).is_some()
        })
    };
    let [first, second] = copies;
    debug_assert!(copies.iter().all(|copy| copy.len() > CHECKSUM), "a copy has no flag");
    // Of a copy that is too short to be sound it is not asked for.
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
    debug_assert!(copy.len() > CHECKSUM && flag.len() > CHECKSUM, "a copy has no flag");
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
    debug_assert!(copy.len() > CHECKSUM && flag.len() > CHECKSUM, "a copy has no flag");
    if let (Some(place), Some(flag)) = (copy.get_mut(CHECKSUM), flag.get(CHECKSUM)) {
        *place = flag.wrapping_add(1);
    }
    copy
}

/// The flag counts up and wraps around.
fn is_newer(flag: u8, than: u8) -> bool {
    (1..128).contains(&flag.wrapping_sub(than))
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
                let copy = |text: &'static str| std::iter::once(Ok((&b"copy"[..], text.as_bytes())));
                place.write_copy(&mut disk, 16, first, copy("1")).unwrap();
                place.write_copy(&mut disk, 32, first.wrapping_add(ahead), copy("2")).unwrap();
                let found = place.read(&mut disk).unwrap();
                assert_eq!(found.second, (1..128).contains(&ahead), "flags {first} and {ahead} ahead");
            }
        }
    }

    #[test]
    fn every_single_bit_flip_is_noticed() {
        let place = place(None);
        let mut disk = SegmentCache::new(MemoryTarget::new(), CacheOptions::default());
        place.write_copy(&mut disk, 16, 0, std::iter::once(Ok((&b"a"[..], &b"b"[..])))).unwrap();
        let mut good = vec![0; 1024];
        disk.read(16 * 512, &mut good).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            disk.write(16 * 512, &bad, false).unwrap();
            assert!(matches!(place.read(&mut disk), Err(UbootError::Checksum { .. })));
        }
    }
}
