//! One sector of the file system held in memory, as FatFs holds it: changes reach the destination only when
//! another sector is wanted or at a sync. Which sectors are written when decides what a cut of power leaves.

use crate::disk::{DiskError, DiskIo};

/// Bytes of a sector.
pub(super) const SECTOR: usize = 512;

/// The last sector of a file system that is not streamed: the first MiB holds the tables, which change often.
const LAST_HELD_SECTOR: u32 = 2048;

/// A sector in memory.
pub(super) struct Window {
    /// First block of the file system's frame on the destination.
    block: u64,
    number: Option<u32>,
    dirty: bool,
    bytes: [u8; SECTOR],
    /// A change lay outside of the sector: nothing of it may be written.
    broken: bool,
}

impl Window {
    pub(super) fn new(block: u64) -> Self {
        Window { block, number: None, dirty: false, bytes: [0; SECTOR], broken: false }
    }

    /// The number of the sector held.
    pub(super) fn number(&self) -> Option<u32> {
        self.number
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Says that the changes are on the destination.
    pub(super) fn set_clean(&mut self) {
        self.dirty = false;
    }

    /// Holds sector `number`, all zero and not yet on the destination.
    pub(super) fn blank(&mut self, number: u32) {
        self.number = Some(number);
        self.bytes = [0; SECTOR];
    }

    /// Reads sector `number`, dropping what was held.
    pub(super) fn fill(&mut self, disk: &mut dyn DiskIo, number: u32) -> Result<(), DiskError> {
        self.number = None;
        let offset = position(self.block, number, SECTOR)?;
        disk.read(offset, &mut self.bytes)?;
        self.number = Some(number);
        Ok(())
    }

    /// Writes the bytes held to sector `number`.
    pub(super) fn store(&self, disk: &mut dyn DiskIo, number: u32) -> Result<(), DiskError> {
        if self.broken {
            let offset = position(self.block, number, SECTOR)?;
            return Err(DiskError::internal(offset, "a change of a file system lay outside of its sector"));
        }
        write_sectors(disk, self.block, number, &self.bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; SECTOR] {
        &self.bytes
    }

    pub(super) fn byte(&self, at: usize) -> u8 {
        debug_assert!(at < SECTOR, "a byte outside of its sector");
        self.bytes.get(at).copied().unwrap_or(0)
    }

    pub(super) fn word(&self, at: usize) -> u16 {
        word(&self.bytes, at)
    }

    pub(super) fn long(&self, at: usize) -> u32 {
        long(&self.bytes, at)
    }

    /// Changes bytes, which lie in the sector.
    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.broken |= at.saturating_add(bytes.len()) > SECTOR;
        put(&mut self.bytes, at, bytes);
        self.dirty = true;
    }
}

/// Reads whole sectors of the file system at `block`.
pub(super) fn read_sectors(
    disk: &mut dyn DiskIo,
    block: u64,
    sector: u32,
    buffer: &mut [u8],
) -> Result<(), DiskError> {
    let offset = position(block, sector, buffer.len())?;
    disk.read(offset, buffer)
}

/// Writes whole sectors of the file system at `block`.
pub(super) fn write_sectors(
    disk: &mut dyn DiskIo,
    block: u64,
    sector: u32,
    data: &[u8],
) -> Result<(), DiskError> {
    let offset = position(block, sector, data.len())?;
    disk.write_fat(offset, data, sector > LAST_HELD_SECTOR)
}

/// Returns the two bytes at `at`, which is inside, as a little-endian number.
pub(super) fn word(bytes: &[u8], at: usize) -> u16 {
    debug_assert!(at + 2 <= bytes.len(), "a number outside of its sector");
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |pair| u16::from_le_bytes(*pair))
}

/// Returns the four bytes at `at`, which is inside, as a little-endian number.
pub(super) fn long(bytes: &[u8], at: usize) -> u32 {
    debug_assert!(at + 4 <= bytes.len(), "a number outside of its sector");
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |four| u32::from_le_bytes(*four))
}

/// Copies `from` into `bytes` at `at`, where it fits.
pub(super) fn put(bytes: &mut [u8], at: usize, from: &[u8]) {
    debug_assert!(at + from.len() <= bytes.len(), "a change outside of its sector");
    for (to, byte) in bytes.iter_mut().skip(at).zip(from) {
        *to = *byte;
    }
}

/// The place of a sector on the destination, in bytes.
fn position(block: u64, sector: u32, length: usize) -> Result<u64, DiskError> {
    block.checked_add(u64::from(sector)).and_then(|block| block.checked_mul(512)).ok_or_else(|| {
        DiskError::Read {
            length,
            offset: u64::MAX,
            reason: format!(
                "block {block} of the FAT file system lies beyond what a 64-bit offset can address"
            ),
        }
    })
}
