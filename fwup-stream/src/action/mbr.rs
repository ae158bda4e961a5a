//! `mbr_write(MBR)`: partition tables of the MBR kind (fw-format §13).

mod layout;
mod osip;

use super::context::Context;
use super::error::ActionError;
use super::overlap::Overlap;
use super::table::PlanContext;
use crate::disk::BLOCK;
use crate::internal::Internal;
use crate::manifest::{Call, Manifest, Mbr};
use layout::{Layout, Slot};

const NAME: &str = "mbr_write";
/// Where things are in block 0.
const BOOTSTRAP: usize = 440;
const TABLE: usize = 446;
const ENTRY: usize = 16;
const SIGNATURE: usize = 510;
/// The type of the link from one extended boot record to the next.
const LINK_TYPE: u8 = 0x0f;
/// The highest block whose cylinder, head and sector fit in three bytes.
const CHS_MAX: u32 = 63 * 255 * 1023;

/// Why a partition table cannot be written. Displays as fwup does where fwup has a text for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MbrError {
    /// A partition has a number that no table has room for.
    #[error("partition must be numbered 0 through 11")]
    Number,
    /// The first block is no number.
    #[error("error parsing partition {0}'s block offset")]
    OffsetText(u32),
    /// The first block cannot be written into a table.
    #[error("partition {0}'s block_offset must be positive and less than 2^32 - 1: '{1}'")]
    Offset(u32, String),
    /// The number of blocks cannot be written into a table.
    #[error("partition {0}'s block-count must be specified and less than 2^31 - 1")]
    Count(u32),
    /// The type is not a byte.
    #[error("partition {0}'s type must be between 0 and 255")]
    Kind(u32),
    /// Another partition has an extended partition's type.
    #[error("only partition 3 may be specified as the extended partition")]
    ExtendedElsewhere,
    /// Logical partitions without an extended one.
    #[error(
        "to use more than 4 partitions with MBR, partition 3 must have extended partition type 0xf or 0x5"
    )]
    NoExtended,
    /// Two partitions have one number.
    #[error("invalid or duplicate partition number found for {0}")]
    Duplicate(u32),
    /// Two partitions claim the same blocks.
    #[error(transparent)]
    Overlap(#[from] Overlap),
    /// A partition grows over another.
    #[error(
        "partition {number} (from block {start}, expand = true) would grow over partition {over} (from block \
         {over_start}); only the last partition on the disk can grow"
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
    },
    /// A logical partition outside the extended one.
    #[error("partition 3, the extended partition, is expected to contain partition {0}")]
    Outside(u32),
    /// A boot record of a logical partition outside the extended one.
    #[error("partition 3, the extended partition, is expected to contain the EBR for partition {0}")]
    RecordOutside(u32),
    /// A boot record of a logical partition inside a partition.
    #[error("partition {number} (blocks {start} to {end}) overlaps the EBR at {record} for partition {of}")]
    RecordInside {
        /// The number of the partition in the way.
        number: u32,
        /// Its first block.
        start: u64,
        /// The block behind it.
        end: u64,
        /// The block of the boot record.
        record: u64,
        /// The number of the logical partition it describes.
        of: u32,
    },
    /// Boot records of logical partitions in the place of the table itself.
    #[error(
        "partition 3, the extended partition, can't begin at block 0, where its first EBR would replace the MBR"
    )]
    RecordOnTable,
    /// The boot code is not 440 bytes in hex digits.
    #[error("bootstrap-code should be exactly 440 bytes")]
    Bootstrap,
    /// Boot code and OSIP want the same place.
    #[error("an mbr can't have both bootstrap code and an OSIP header")]
    BootstrapAndOsip,
    /// The disk signature is not a number of 32 bits.
    #[error("signature '{0}' is not a 32-bit number")]
    Signature(String),
    /// Two images of the OSIP header have one number.
    #[error("invalid or duplicate osii number found for {0}")]
    DuplicateImage(u32),
    /// An OSIP header without images.
    #[error("need to specify one or more osii")]
    NoImages,
    /// A number of the OSIP header does not fit in its field.
    #[error("OSIP {what} is {value}, which does not fit")]
    Osip {
        /// Which of its options.
        what: &'static str,
        /// The value.
        value: i64,
    },
    /// Something that cannot happen has happened.
    #[error(transparent)]
    Internal(#[from] Internal),
}

/// Tells what is wrong with a table before it is used: while an archive is made. The boot code and the
/// signature, which may be known only later, are checked when they are.
pub(crate) fn check(mbr: &Mbr) -> Result<(), MbrError> {
    boot_block(mbr, &Layout::new(mbr, 0)?).map(|_| ())
}

/// Finds the table, so that one that is not there is told before anything is written.
pub(super) fn units(plan: &PlanContext<'_>, call: &Call<'_>) -> Result<u64, ActionError> {
    find(plan.manifest, call).map(|_| BLOCK as u64)
}

fn find<'a>(manifest: &'a Manifest, call: &Call<'_>) -> Result<&'a Mbr, ActionError> {
    let name = call.text(0)?;
    manifest.mbr(name).ok_or_else(|| ActionError::Reference {
        function: NAME,
        kind: "mbr",
        name: name.to_owned(),
    })
}

pub(super) fn run(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let mbr = find(context.manifest, call)?;
    let layout = Layout::new(mbr, context.disk.media_blocks())?;
    let block = boot_block(mbr, &layout)?;
    context.disk.write(0, &block, false)?;
    if let Some(extended) = layout.extended() {
        for (number, record) in boot_records(extended, &layout.logical())?.iter().enumerate() {
            let offset = super::context::bytes(u64::from(extended.offset) + number as u64);
            context.disk.write(offset, record, false)?;
        }
    }
    context.done(BLOCK as u64);
    Ok(())
}

/// The bytes of block 0.
fn boot_block(mbr: &Mbr, layout: &Layout) -> Result<[u8; BLOCK], MbrError> {
    let mut block = [0; BLOCK];
    match (&mbr.bootstrap_code, &mbr.osip) {
        (Some(_), Some(_)) => return Err(MbrError::BootstrapAndOsip),
        (Some(code), None) => {
            put(&mut block, 0, &from_hex(code).ok_or(MbrError::Bootstrap)?)?;
        }
        (None, Some(osip)) => put(&mut block, 0, &osip::header(osip)?)?,
        (None, None) => {}
    }
    if let Some(text) = &mbr.signature {
        let (value, rest, _) = crate::manifest::number::parse(text);
        let signature = u32::try_from(value).ok().filter(|_| rest.is_empty());
        let signature = signature.ok_or_else(|| MbrError::Signature(text.clone()))?;
        put(&mut block, BOOTSTRAP, &signature.to_le_bytes())?;
    }
    for slot in layout.primary() {
        let number = usize::try_from(slot.number).map_err(|_| MbrError::Number)?;
        put(&mut block, TABLE + ENTRY * number, &entry(slot.offset, slot.count, slot.kind, slot.boot))?;
    }
    put(&mut block, SIGNATURE, &[0x55, 0xaa])?;
    Ok(block)
}

/// The boot records of the logical partitions, which stand in a row at the start of the extended one.
fn boot_records(extended: &Slot, logical: &[&Slot]) -> Result<Vec<[u8; BLOCK]>, MbrError> {
    let records = logical.iter().zip(0_u32..).map(|(slot, index)| {
        let mut block = [0; BLOCK];
        // A logical partition lies behind its boot record, or the layout would have been refused.
        let record = extended.offset.checked_add(index);
        let offset = record.and_then(|record| slot.offset.checked_sub(record));
        let offset = offset.ok_or_else(|| Internal::new("a partition lies before its boot record"))?;
        put(&mut block, TABLE, &entry(offset, slot.count, slot.kind, false))?;
        if (index as usize) + 1 < logical.len() {
            put(&mut block, TABLE + ENTRY, &entry(index + 1, 1, LINK_TYPE, false))?;
        }
        put(&mut block, SIGNATURE, &[0x55, 0xaa])?;
        Ok(block)
    });
    records.collect()
}

/// The 16 bytes of an entry. An entry of type 0 keeps its numbers only.
fn entry(offset: u32, count: u32, kind: u8, boot: bool) -> [u8; ENTRY] {
    let [head, sector, cylinder] = chs(offset);
    // The last block of a partition without blocks is the one before it, as in fwup.
    let [last_head, last_sector, last_cylinder] = chs(offset.wrapping_add(count).wrapping_sub(1));
    let flag = if boot { 0x80 } else { 0 };
    let places = [flag, head, sector, cylinder, kind, last_head, last_sector, last_cylinder];
    let [b0, b1, b2, b3, b4, b5, b6, b7] = if kind == 0 { [0; 8] } else { places };
    let [o0, o1, o2, o3] = offset.to_le_bytes();
    let [c0, c1, c2, c3] = count.to_le_bytes();
    [b0, b1, b2, b3, b4, b5, b6, b7, o0, o1, o2, o3, c0, c1, c2, c3]
}

/// Cylinder, head and sector as an entry has them; zeros where they do not reach.
fn chs(block: u32) -> [u8; 3] {
    if block > CHS_MAX {
        return [0; 3];
    }
    let low = |number: u32| number.to_le_bytes()[0];
    let cylinder = block / (63 * 255);
    let head = (block / 63) % 255;
    let sector = block % 63 + 1;
    [low(head), low(sector) | (low(cylinder >> 2) & 0xc0), low(cylinder)]
}

fn put(block: &mut [u8], at: usize, bytes: &[u8]) -> Result<(), Internal> {
    let place = block.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len()));
    place
        .ok_or_else(|| Internal::new("a part of a partition table lies outside its block"))?
        .copy_from_slice(bytes);
    Ok(())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let bytes: Vec<u8> =
        digits?.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    (text.len() == BOOTSTRAP * 2).then_some(bytes)
}
