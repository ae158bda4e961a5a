//! Where the partitions are: growing to the end, and the checks that none is in another's way.

use super::super::overlap::{self, Range};
use super::MbrError;
use crate::manifest::{Mbr, MbrPartition, number};

/// The slot of the extended partition.
const EXTENDED_SLOT: u32 = 3;
/// Types of an extended partition.
const EXTENDED_TYPES: [u8; 2] = [0x05, 0x0f];
/// The first logical partition, and the last.
const LOGICAL: std::ops::RangeInclusive<u32> = 4..=11;
/// What a block count is when the manifest does not give one.
const COUNT_UNSET: i64 = 2_147_483_647;

/// A partition with its final place.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) number: u32,
    pub(super) offset: u32,
    pub(super) count: u32,
    pub(super) kind: u8,
    pub(super) boot: bool,
    expand: bool,
}

/// The checked partitions of a table, by number.
#[derive(Debug)]
pub(super) struct Layout {
    slots: Vec<Slot>,
}

impl Layout {
    /// Places the partitions on a medium of `media_blocks` (0 when not known) and checks them.
    pub(super) fn new(mbr: &Mbr, media_blocks: u64) -> Result<Self, MbrError> {
        let mut slots = mbr.partitions.iter().map(Slot::new).collect::<Result<Vec<_>, _>>()?;
        slots.sort_by_key(|slot| slot.number);
        expand(&mut slots, media_blocks);
        let layout = Self { slots };
        layout.check()?;
        Ok(layout)
    }

    /// The partitions in block 0.
    pub(super) fn primary(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.number < *LOGICAL.start())
    }

    /// The extended partition.
    pub(super) fn extended(&self) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.is_extended())
    }

    /// The logical partitions in order.
    pub(super) fn logical(&self) -> Vec<&Slot> {
        self.slots.iter().filter(|slot| LOGICAL.contains(&slot.number)).collect()
    }

    fn check(&self) -> Result<(), MbrError> {
        if let Some(number) = overlap::duplicate(self.slots.iter().map(|slot| slot.number)) {
            return Err(MbrError::Duplicate(number));
        }
        let primary: Vec<_> = self.primary().collect();
        if primary.iter().any(|slot| EXTENDED_TYPES.contains(&slot.kind) && slot.number != EXTENDED_SLOT) {
            return Err(MbrError::ExtendedElsewhere);
        }
        check_overlaps(&primary)?;
        let logical = self.logical();
        if logical.is_empty() {
            return Ok(());
        }
        let extended = self.extended().ok_or(MbrError::NoExtended)?;
        if extended.start() == 0 {
            return Err(MbrError::RecordOnTable);
        }
        check_overlaps(&logical)?;
        for (slot, index) in logical.iter().zip(0_u32..) {
            if slot.start() < extended.start() || slot.end() > extended.end() {
                return Err(MbrError::Outside(slot.number));
            }
            let record = extended.start() + u64::from(index);
            // A gap in the numbers would leave a link to a record that is not there.
            if record >= extended.end() || slot.number != LOGICAL.start() + index {
                return Err(MbrError::RecordOutside(slot.number));
            }
            if let Some(in_the_way) =
                logical.iter().find(|other| (other.start()..other.end()).contains(&record))
            {
                return Err(MbrError::RecordInside {
                    number: in_the_way.number,
                    start: in_the_way.start(),
                    end: in_the_way.end(),
                    record,
                    of: slot.number,
                });
            }
        }
        Ok(())
    }
}

impl Slot {
    fn new(partition: &MbrPartition) -> Result<Self, MbrError> {
        let number = partition.number;
        if number > *LOGICAL.end() {
            return Err(MbrError::Number);
        }
        let text = &partition.block_offset;
        let (offset, rest, _) = number::parse(text);
        if !rest.is_empty() {
            return Err(MbrError::OffsetText(number));
        }
        let offset = u32::try_from(offset).ok().filter(|offset| *offset < u32::MAX);
        let offset = offset.ok_or_else(|| MbrError::Offset(number, text.clone()))?;
        let kind = u8::try_from(partition.kind).map_err(|_| MbrError::Kind(number))?;
        let extended = number == EXTENDED_SLOT && EXTENDED_TYPES.contains(&kind);
        let count = match partition.block_count {
            COUNT_UNSET if extended => 1,
            count if count < COUNT_UNSET => u32::try_from(count).map_err(|_| MbrError::Count(number))?,
            _ => return Err(MbrError::Count(number)),
        };
        Ok(Self {
            number,
            offset,
            count,
            kind,
            boot: partition.boot && !extended,
            expand: partition.expand || extended,
        })
    }

    fn is_extended(&self) -> bool {
        self.number == EXTENDED_SLOT && EXTENDED_TYPES.contains(&self.kind)
    }

    fn start(&self) -> u64 {
        u64::from(self.offset)
    }

    fn end(&self) -> u64 {
        self.start() + u64::from(self.count)
    }
}

/// Lets the partitions that want to grow reach to the end of the medium, or of the table if that is further.
fn expand(slots: &mut [Slot], media_blocks: u64) {
    let size = slots.iter().map(Slot::end).fold(media_blocks, u64::max);
    for slot in slots.iter_mut().filter(|slot| slot.expand && slot.end() < size) {
        // More than 2 TiB cannot be said in a table of this kind: the partition gets as much as can be.
        slot.count = u32::try_from(size - slot.start()).unwrap_or(u32::MAX);
    }
}

/// No two may share a block, on a disk of any size: what grows must be the last. Partitions of no length or type 0 are
/// only numbers.
fn check_overlaps(slots: &[&Slot]) -> Result<(), MbrError> {
    let real = || slots.iter().filter(|slot| slot.kind != 0);
    overlap::check(real().map(|slot| Range { number: slot.number, start: slot.start(), end: slot.end() }))?;
    for slot in real().filter(|slot| slot.expand) {
        let behind = real().find(|other| {
            other.number != slot.number && other.start() >= slot.start() && (other.count > 0 || other.expand)
        });
        if let Some(other) = behind {
            return Err(MbrError::Growth {
                number: slot.number,
                start: slot.start(),
                over: other.number,
                over_start: other.start(),
            });
        }
    }
    Ok(())
}
