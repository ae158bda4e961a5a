//! Making a file system, as FatFs lays one out with clusters of one sector (fw-format §15.1).

use super::boot::{Kind, MAX_FAT12, MAX_FAT16, MAX_FAT32};
use super::error::{FatError, Fault};
use super::volume::info_sector;
use super::window::{SECTOR, put, write_sectors};
use crate::disk::{DiskError, DiskIo};

/// Entries of the root folder on FAT12 and FAT16.
const ROOT_ENTRIES: u16 = 512;
const ROOT_SECTORS: u32 = 32;

/// Fewest sectors of a file system and fewest clusters.
const MIN_SECTORS: u32 = 128;
const MIN_CLUSTERS: u32 = 16;

/// The volume number is the size plus this, the time 1980-01-01 00:00:00 in FAT's form.
const SERIAL_BASE: u32 = 0x0021_0000;

/// Zeros written at a time.
const ZERO_SECTORS: u32 = 64;
static ZEROS: [u8; ZERO_SECTORS as usize * SECTOR] = [0; ZERO_SECTORS as usize * SECTOR];

/// How a file system of some size is laid out.
struct Layout {
    kind: Kind,
    sectors: u32,
    reserved: u32,
    table_sectors: u32,
    clusters: u32,
}

/// Makes an empty FAT file system of `count` blocks at `block`: FAT12 below 4086 blocks, FAT16 below 66077,
/// else FAT32. What was there is given up to the destination first, and the last block is filled with 0xFF,
/// which shows whether the medium is large enough and gives an image file its length.
pub(super) fn make(disk: &mut dyn DiskIo, block: u64, count: u64) -> Result<(), FatError> {
    let layout = Layout::of(count).ok_or_else(|| Fault::BadSize.during("fat_mkfs", ""))?;
    let bytes = |blocks: u64| blocks.checked_mul(512);
    let (Some(start), Some(length), Some(last)) =
        (bytes(block), bytes(count), block.checked_add(count - 1).and_then(bytes))
    else {
        return Err(Fault::BadSize.during("fat_mkfs", ""));
    };
    disk.trim(start, length)?;
    disk.write(last, &[0xFF; SECTOR], true)?;
    layout.write(disk, block).map_err(|error| Fault::Disk(error).during("fat_mkfs", ""))
}

impl Layout {
    /// Works out the layout, or `None` if no kind of FAT fits the size.
    fn of(count: u64) -> Option<Self> {
        let sectors = u32::try_from(count).ok().filter(|sectors| *sectors >= MIN_SECTORS)?;
        let wide = sectors > MAX_FAT12;
        let table_bytes =
            if wide { u64::from(sectors) * 2 + 4 } else { (u64::from(sectors) * 3).div_ceil(2) + 3 };
        let mut layout = Layout {
            kind: if wide { Kind::Fat16 } else { Kind::Fat12 },
            sectors,
            reserved: 1,
            table_sectors: u32::try_from(table_bytes.div_ceil(512)).ok()?,
            clusters: 0,
        };
        layout.count_clusters()?;
        if wide && layout.clusters <= MAX_FAT12 {
            return None;
        }
        if wide && layout.clusters > MAX_FAT16 {
            layout.kind = Kind::Fat32;
            layout.reserved = 32;
            layout.table_sectors = u32::try_from((u64::from(sectors) * 4 + 8).div_ceil(512)).ok()?;
            layout.count_clusters()?;
            if layout.clusters <= MAX_FAT16 || sectors > MAX_FAT32 {
                return None;
            }
        }
        Some(layout)
    }

    /// Counts the sectors behind the tables, if there are enough.
    fn count_clusters(&mut self) -> Option<()> {
        let root = if self.kind == Kind::Fat32 { 0 } else { ROOT_SECTORS };
        let before = self.table_sectors.checked_mul(2)?.checked_add(self.reserved)?.checked_add(root)?;
        self.clusters = self.sectors.checked_sub(before).filter(|clusters| *clusters >= MIN_CLUSTERS)?;
        Some(())
    }

    fn write(&self, disk: &mut dyn DiskIo, block: u64) -> Result<(), DiskError> {
        let boot = self.boot_sector();
        write_sectors(disk, block, 0, &boot)?;
        if self.kind == Kind::Fat32 {
            let info = info_sector(self.clusters - 1, 2);
            write_sectors(disk, block, 6, &boot)?;
            write_sectors(disk, block, 7, &info)?;
            write_sectors(disk, block, 1, &info)?;
        }
        let mut head = [0; SECTOR];
        let marks: &[u8] = match self.kind {
            Kind::Fat12 => &[0xF8, 0xFF, 0xFF],
            Kind::Fat16 => &[0xF8, 0xFF, 0xFF, 0xFF],
            Kind::Fat32 => &[0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F],
        };
        put(&mut head, 0, marks);
        let mut sector = self.reserved;
        for _ in 0..2 {
            write_sectors(disk, block, sector, &head)?;
            write_zeros(disk, block, sector + 1, self.table_sectors - 1)?;
            sector += self.table_sectors;
        }
        write_zeros(disk, block, sector, if self.kind == Kind::Fat32 { 1 } else { ROOT_SECTORS })
    }

    fn boot_sector(&self) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        let wide = self.kind == Kind::Fat32;
        let mut set = |at, from: &[u8]| put(&mut bytes, at, from);
        set(0, b"\xEB\xFE\x90MSDOS5.0");
        set(11, &512u16.to_le_bytes());
        set(13, &[1]);
        set(14, &self.reserved.to_le_bytes()[..2]);
        set(16, &[2]);
        if !wide {
            set(17, &ROOT_ENTRIES.to_le_bytes());
        }
        match u16::try_from(self.sectors) {
            Ok(sectors) => set(19, &sectors.to_le_bytes()),
            Err(_) => set(32, &self.sectors.to_le_bytes()),
        }
        set(21, &[0xF8]);
        set(24, &63u16.to_le_bytes());
        set(26, &255u16.to_le_bytes());
        let table_sectors = self.table_sectors.to_le_bytes();
        if wide {
            set(36, &table_sectors);
            set(44, &2u32.to_le_bytes());
            set(48, &1u16.to_le_bytes());
            set(50, &6u16.to_le_bytes());
        } else {
            set(22, &table_sectors[..2]);
        }
        let extended = if wide { 64 } else { 36 };
        set(extended, &[0x80, 0, 0x29]);
        set(extended + 3, &self.sectors.wrapping_add(SERIAL_BASE).to_le_bytes());
        set(extended + 7, b"NO NAME    ");
        set(
            extended + 18,
            match self.kind {
                Kind::Fat12 => b"FAT12   ",
                Kind::Fat16 => b"FAT16   ",
                Kind::Fat32 => b"FAT32   ",
            },
        );
        set(510, &[0x55, 0xAA]);
        bytes
    }
}

/// Writes zeros, never across the line between held and streamed sectors in one go.
fn write_zeros(disk: &mut dyn DiskIo, block: u64, first: u32, count: u32) -> Result<(), DiskError> {
    let mut sector = first;
    let end = first.saturating_add(count);
    while sector < end {
        // Up to the next multiple, which keeps clear of the line at 2049.
        let step = (ZERO_SECTORS - sector.wrapping_sub(1) % ZERO_SECTORS).min(end - sector);
        let zeros = ZEROS.get(..step as usize * SECTOR);
        let zeros = zeros
            .ok_or_else(|| DiskError::internal(block, "more sectors are to be zeroed than at a time"))?;
        write_sectors(disk, block, sector, zeros)?;
        sector += step;
    }
    Ok(())
}
