//! `gpt_write(GPT)`: partition tables of the GPT kind (fw-format §14).

use super::context::{Context, bytes};
use super::error::ActionError;
use super::overlap::{self, Overlap, Range};
use super::table::PlanContext;
use crate::disk::BLOCK;
use crate::internal::Internal;
use crate::manifest::{Call, Gpt, GptPartition, number};

const NAME: &str = "gpt_write";
/// Entries in a table, and bytes of one.
const ENTRIES: u32 = 128;
const ENTRY: usize = 128;
/// Blocks of a table, and of a table with its header.
const TABLE_BLOCKS: u64 = 32;
const COPY_BLOCKS: u64 = TABLE_BLOCKS + 1;
/// The first block a partition may have.
const FIRST_USABLE: u64 = 34;
/// Bytes of a header that count.
const HEADER: usize = 92;
/// UTF-16 units of a name.
const NAME_UNITS: usize = 36;
/// What offsets and counts must stay below.
const OFFSET_END: u64 = u32::MAX as u64;
const COUNT_END: u64 = i32::MAX as u64;

/// Why a partition table cannot be written. Displays as fwup does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GptError {
    /// The disk has no GUID.
    #[error("GPT must have a valid disk guid")]
    Guid,
    /// A partition has no GUID.
    #[error("partition {0} must have a valid guid")]
    PartitionGuid(u32),
    /// A partition's type is no GUID.
    #[error("partition {0}'s type must set to a UUID")]
    Kind(u32),
    /// A partition's first block cannot be used.
    #[error("partition {0}'s block_offset must be positive and less than 2^32 - 1: '{1}'")]
    Offset(u32, String),
    /// A partition's number of blocks cannot be used.
    #[error("partition {0}'s block-count must be specified and less than 2^31 - 1")]
    Count(u32),
    /// A partition's flags are no number.
    #[error("error parsing partition {0}'s flags")]
    Flags(u32),
    /// A partition has a number that is not in the table.
    #[error("partition must be numbered 0 through 15")]
    Number,
    /// There is no partition.
    #[error("empty partition table?")]
    Empty,
    /// Two partitions have one number.
    #[error("invalid or duplicate partition number found for {0}")]
    Duplicate(u32),
    /// A partition's first block is no number.
    #[error("error parsing partition {0}'s block offset")]
    OffsetText(u32),
    /// Two partitions claim the same blocks.
    #[error(transparent)]
    Overlap(#[from] Overlap),
    /// A partition grows over another. Its number says nothing about where it is.
    #[error(
        "partition {number} (from block {start}, expand = true) would grow over partition {over} (blocks {over_start} \
         to {over_end}); only the last partition on the disk can grow"
    )]
    Growth {
        /// The number of the one that grows.
        number: u32,
        /// Its first block.
        start: u64,
        /// The number of the other.
        over: u32,
        /// Its first block.
        over_start: u64,
        /// The block behind it.
        over_end: u64,
    },
    /// A partition has a higher number than one that grows (while an archive is made, as in fwup).
    #[error("a partition can't be specified after the one with \"expand = true\"")]
    AfterExpand,
    /// A partition claims the blocks of the table.
    #[error(
        "partition {number} (blocks {start} to {end}) overlaps the partition table itself (blocks 0 to \
         {FIRST_USABLE}); begin it at block {FIRST_USABLE} or later"
    )]
    OnTable {
        /// The partition's number.
        number: u32,
        /// Its first block.
        start: u64,
        /// The block behind it.
        end: u64,
    },
    /// Something that cannot happen has happened.
    #[error(transparent)]
    Internal(#[from] Internal),
}

/// Tells what is wrong with a table before it is used: while an archive is made.
pub(crate) fn check(gpt: &Gpt) -> Result<(), GptError> {
    let tables = Tables::new(gpt, 0)?;
    let mut slots = tables.slots;
    slots.retain(|slot| slot.count > 0 || slot.from.expand);
    slots.sort_by_key(|slot| slot.from.number);
    match slots.iter().position(|slot| slot.from.expand) {
        Some(at) if at + 1 < slots.len() => Err(GptError::AfterExpand),
        _ => Ok(()),
    }
}

/// No partition may be in the way of another or of the table, on a disk of any size: what grows must be the last.
/// (Both fwup and this write a table to a disk that is too small for it; nothing is then where the table says.)
fn check_places(slots: &[Slot<'_>]) -> Result<(), GptError> {
    if let Some(number) = overlap::duplicate(slots.iter().map(|slot| slot.from.number)) {
        return Err(GptError::Duplicate(number));
    }
    overlap::check(slots.iter().map(Slot::range))?;
    for slot in slots {
        if slot.offset < FIRST_USABLE && (slot.count > 0 || slot.from.expand) {
            let Range { number, start, end } = slot.range();
            return Err(GptError::OnTable { number, start, end });
        }
        // Growing takes all that is behind it.
        let behind = slots.iter().find(|other| {
            other.from.number != slot.from.number
                && other.offset >= slot.offset
                && (other.count > 0 || other.from.expand)
        });
        if let Some(other) = behind.filter(|_| slot.from.expand) {
            let (over, over_start, over_end) = (other.from.number, other.offset, other.offset + other.count);
            return Err(GptError::Growth {
                number: slot.from.number,
                start: slot.offset,
                over,
                over_start,
                over_end,
            });
        }
    }
    Ok(())
}

pub(super) fn units(plan: &PlanContext<'_>, call: &Call<'_>) -> Result<u64, ActionError> {
    find(&plan.manifest.gpts, call).map(|_| bytes(2 * COPY_BLOCKS))
}

pub(super) fn run(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let gpt = find(&context.manifest.gpts, call)?;
    let tables = Tables::new(gpt, context.disk.media_blocks())?;
    let backup = tables.blocks - COPY_BLOCKS;
    let first = [tables.protective_mbr()?, tables.header(false)?, tables.entries.clone()].concat();
    let second = [tables.entries.clone(), tables.header(true)?].concat();
    context.disk.write(0, &first, false)?;
    context.disk.write(bytes(backup), &second, false)?;
    context.done(bytes(2 * COPY_BLOCKS));
    Ok(())
}

fn find<'a>(gpts: &'a [Gpt], call: &Call<'_>) -> Result<&'a Gpt, ActionError> {
    let name = call.text(0)?;
    let reference = || ActionError::Reference { function: NAME, kind: "gpt", name: name.to_owned() };
    gpts.iter().find(|gpt| gpt.name == name).ok_or_else(reference)
}

/// What both copies are made of.
struct Tables<'a> {
    guid: [u8; 16],
    slots: Vec<Slot<'a>>,
    /// Blocks of the medium, as far as the table knows.
    blocks: u64,
    entries: Vec<u8>,
}

/// A partition with its final place.
struct Slot<'a> {
    from: &'a GptPartition,
    offset: u64,
    count: u64,
}

impl<'a> Tables<'a> {
    fn new(gpt: &'a Gpt, media_blocks: u64) -> Result<Self, GptError> {
        let guid = gpt.guid.as_deref().and_then(guid_bytes).ok_or(GptError::Guid)?;
        let slots = gpt.partitions.iter().map(Slot::new).collect::<Result<Vec<_>, _>>()?;
        check_places(&slots)?;
        let end = slots.iter().map(|slot| slot.offset + slot.count).max().ok_or(GptError::Empty)?;
        let blocks = if media_blocks == 0 { end + FIRST_USABLE } else { media_blocks };
        // Both copies must fit, one behind the other.
        let blocks = blocks.max(1 + 2 * COPY_BLOCKS);
        let mut entries = vec![0; ENTRY * ENTRIES as usize];
        for slot in &slots {
            let number = usize::try_from(slot.from.number).map_err(|_| GptError::Number)?;
            put(&mut entries, ENTRY * number, &slot.entry(blocks)?)?;
        }
        Ok(Self { guid, slots, blocks, entries })
    }

    /// Block 0, which tells those who know only MBRs that the disk is taken.
    fn protective_mbr(&self) -> Result<Vec<u8>, Internal> {
        let mut block = vec![0; BLOCK];
        put(&mut block, 446, &[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0])?;
        // A disk of more than 2 TiB has all the blocks that can be said here (UEFI, table of the protective MBR).
        let count = u32::try_from(self.blocks - 1).unwrap_or(u32::MAX);
        put(&mut block, 458, &count.to_le_bytes())?;
        put(&mut block, 510, &[0x55, 0xaa])?;
        Ok(block)
    }

    fn header(&self, backup: bool) -> Result<Vec<u8>, Internal> {
        let last = self.blocks - 1;
        let (here, there, table) = if backup { (last, 1, last - TABLE_BLOCKS) } else { (1, last, 2) };
        let mut header = b"EFI PART\0\0\x01\0".to_vec();
        header.extend(92_u32.to_le_bytes());
        header.extend([0; 8]);
        for number in [here, there, FIRST_USABLE, self.blocks - FIRST_USABLE] {
            header.extend(number.to_le_bytes());
        }
        header.extend(self.guid);
        header.extend(table.to_le_bytes());
        header.extend(ENTRIES.to_le_bytes());
        header.extend(128_u32.to_le_bytes());
        header.extend(crc32fast::hash(&self.entries).to_le_bytes());
        debug_assert_eq!(header.len(), HEADER);
        let checksum = crc32fast::hash(&header).to_le_bytes();
        put(&mut header, 16, &checksum)?;
        header.resize(BLOCK, 0);
        Ok(header)
    }
}

impl<'a> Slot<'a> {
    fn new(from: &'a GptPartition) -> Result<Self, GptError> {
        if from.number > 15 {
            return Err(GptError::Number);
        }
        let (offset, rest, _) = number::parse(&from.block_offset);
        if !rest.is_empty() {
            return Err(GptError::OffsetText(from.number));
        }
        let offset = u64::try_from(offset).ok().filter(|offset| *offset < OFFSET_END);
        let offset = offset.ok_or_else(|| GptError::Offset(from.number, from.block_offset.clone()))?;
        let count = u64::try_from(from.block_count).ok().filter(|count| *count < COUNT_END);
        let count = count.ok_or(GptError::Count(from.number))?;
        Ok(Self { from, offset, count })
    }

    fn range(&self) -> Range {
        Range { number: self.from.number, start: self.offset, end: self.offset + self.count }
    }

    /// The entry of a table on a medium of `blocks`.
    fn entry(&self, blocks: u64) -> Result<Vec<u8>, GptError> {
        let from = self.from;
        let mut count = self.count;
        if from.expand && blocks > self.offset + count + COPY_BLOCKS {
            // One block less than would fit, as fwup does.
            count = blocks - COPY_BLOCKS - 1 - self.offset;
        }
        // 64 bits without a sign: the highest are in use.
        let flags = if from.flags.is_empty() { Some(0) } else { number::unsigned(&from.flags) };
        let flags = flags.ok_or(GptError::Flags(from.number))?;
        let mut entry = guid_bytes(&from.kind).ok_or(GptError::Kind(from.number))?.to_vec();
        entry.extend(guid_bytes(&from.guid).ok_or(GptError::PartitionGuid(from.number))?);
        entry.extend(self.offset.to_le_bytes());
        // A partition without blocks ends before it begins, as in fwup; one at block 0 ends there.
        entry.extend((self.offset + count).saturating_sub(1).to_le_bytes());
        entry.extend(flags.to_le_bytes());
        // fwup widens byte by byte, so only ASCII comes out right.
        entry.extend(from.name.bytes().take(NAME_UNITS).flat_map(|byte| [byte, 0]));
        entry.resize(ENTRY, 0);
        Ok(entry)
    }
}

/// The bytes of a GUID on disk: the first three groups turned around.
fn guid_bytes(text: &str) -> Option<[u8; 16]> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let text = text.get(..36)?;
    if DASHES.iter().any(|at| text.as_bytes().get(*at) != Some(&b'-')) {
        return None;
    }
    let digits: String = text.split('-').collect();
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let value = u128::from_str_radix(&digits, 16).ok()?;
    let mut bytes = value.to_be_bytes();
    for (start, end) in [(0, 4), (4, 6), (6, 8)] {
        bytes.get_mut(start..end)?.reverse();
    }
    Some(bytes)
}

fn put(block: &mut [u8], at: usize, bytes: &[u8]) -> Result<(), Internal> {
    let place = block.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len()));
    place.ok_or_else(|| Internal::new("a part of a GPT lies outside its blocks"))?.copy_from_slice(bytes);
    Ok(())
}
