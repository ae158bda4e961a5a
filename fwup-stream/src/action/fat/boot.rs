//! The boot sector: where a file system's parts lie (FAT specification 1.03, fw-format §15.1).

use super::error::Fault;
use super::window::{SECTOR, long, word};

/// Most clusters of each width, as FatFs draws the lines.
pub(super) const MAX_FAT12: u32 = 0xFF5;
const MIN_FAT16: u32 = MAX_FAT12 + 1;
pub(super) const MAX_FAT16: u32 = 0xFFF5;
const MIN_FAT32: u32 = MAX_FAT16 + 1;
pub(super) const MAX_FAT32: u32 = 0x0FFF_FFF5;

/// Bytes of a folder entry.
pub(super) const ENTRY: u32 = 32;
const ENTRIES_PER_SECTOR: u32 = 16;

/// How wide a table entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Fat12,
    Fat16,
    Fat32,
}

/// What a sector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// The boot sector of a FAT file system.
    FileSystem,
    /// Something with a boot signature, maybe a partition table.
    Signed,
    /// Neither.
    Other,
}

/// Where the parts of a file system lie. Sectors count from the block it was looked for at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) kind: Kind,
    /// The boot sector.
    pub(super) start: u32,
    /// The first sector of the first table.
    pub(super) table: u32,
    /// Sectors of one table.
    pub(super) table_sectors: u32,
    /// Tables: 1 or 2.
    pub(super) tables: u8,
    /// The root folder's first sector, or on FAT32 its first cluster.
    pub(super) root: u32,
    /// Entries of a root folder of fixed size; 0 on FAT32.
    pub(super) root_entries: u32,
    /// The first sector of cluster 2.
    pub(super) data: u32,
    /// Sectors of a cluster: a power of two from 1 to 128.
    pub(super) cluster_sectors: u32,
    /// Entries of a table: clusters + 2.
    pub(super) entries: u32,
    /// Whether free space is tracked in the sector after the boot sector.
    pub(super) has_info: bool,
}

/// Tells what the sector is.
pub(super) fn sort(bytes: &[u8; SECTOR]) -> Sort {
    let signed = word(bytes, 510) == 0xAA55;
    if matches!(bytes[0], 0xEB | 0xE9 | 0xE8) {
        let fat32 = signed && bytes.get(82..90) == Some(b"FAT32   ".as_slice());
        // Old formatters write neither signature nor type, so the numbers have to make sense together.
        let plausible = usize::from(word(bytes, 11)) == SECTOR
            && bytes[13].is_power_of_two()
            && word(bytes, 14) != 0
            && matches!(bytes[16], 1 | 2)
            && word(bytes, 17) != 0
            && (word(bytes, 19) >= 128 || long(bytes, 32) >= 0x1_0000)
            && word(bytes, 22) != 0;
        if fat32 || plausible {
            return Sort::FileSystem;
        }
    }
    if signed { Sort::Signed } else { Sort::Other }
}

/// Returns where the four primary partitions of a partition table begin; 0 for none.
pub(super) fn partition_starts(bytes: &[u8; SECTOR]) -> [u32; 4] {
    [454, 470, 486, 502].map(|at| long(bytes, at))
}

impl Geometry {
    /// Reads the boot sector `bytes`, which is sector `start`.
    pub(super) fn read(bytes: &[u8; SECTOR], start: u32) -> Result<Self, Fault> {
        if usize::from(word(bytes, 11)) != SECTOR {
            return Err(Fault::NoFileSystem);
        }
        let table_sectors = match word(bytes, 22) {
            0 => long(bytes, 36),
            small => u32::from(small),
        };
        let tables = bytes[16];
        let cluster_sectors = u32::from(bytes[13]);
        let root_entries = u32::from(word(bytes, 17));
        let reserved = u32::from(word(bytes, 14));
        let total = match word(bytes, 19) {
            0 => long(bytes, 32),
            small => u32::from(small),
        };
        if !matches!(tables, 1 | 2)
            || !cluster_sectors.is_power_of_two()
            || root_entries % ENTRIES_PER_SECTOR != 0
            || reserved == 0
        {
            return Err(Fault::NoFileSystem);
        }
        let layout = || {
            let all_tables = table_sectors.checked_mul(u32::from(tables))?;
            let before_data =
                reserved.checked_add(all_tables)?.checked_add(root_entries / ENTRIES_PER_SECTOR)?;
            let clusters = total.checked_sub(before_data)? / cluster_sectors;
            let table = start.checked_add(reserved)?;
            let after_tables = table.checked_add(all_tables)?;
            // Every sector of the file system must have a number.
            start.checked_add(total)?;
            Some((clusters, table, after_tables, start.checked_add(before_data)?))
        };
        let (clusters, table, after_tables, data) = layout().ok_or(Fault::NoFileSystem)?;
        let kind = match clusters {
            0 => return Err(Fault::NoFileSystem),
            1..=MAX_FAT12 => Kind::Fat12,
            MIN_FAT16..=MAX_FAT16 => Kind::Fat16,
            MIN_FAT32..=MAX_FAT32 => Kind::Fat32,
            _ => return Err(Fault::NoFileSystem),
        };
        let fixed_root = kind != Kind::Fat32;
        if fixed_root == (root_entries == 0) || (!fixed_root && word(bytes, 42) != 0) {
            return Err(Fault::NoFileSystem);
        }
        let entries = clusters + 2;
        let table_bytes = match kind {
            Kind::Fat12 => (u64::from(entries) * 3).div_ceil(2),
            Kind::Fat16 => u64::from(entries) * 2,
            Kind::Fat32 => u64::from(entries) * 4,
        };
        if u64::from(table_sectors) < table_bytes.div_ceil(512) {
            return Err(Fault::NoFileSystem);
        }
        Ok(Geometry {
            kind,
            start,
            table,
            table_sectors,
            tables,
            root: if fixed_root { after_tables } else { long(bytes, 44) },
            root_entries,
            data,
            cluster_sectors,
            entries,
            has_info: !fixed_root && word(bytes, 48) == 1,
        })
    }

    /// Returns the first sector of a cluster, if there is such a cluster.
    pub(super) fn sector_of(&self, cluster: u32) -> Option<u32> {
        let index = cluster.checked_sub(2).filter(|_| cluster < self.entries)?;
        self.data.checked_add(index.checked_mul(self.cluster_sectors)?)
    }

    /// Bytes of a cluster.
    pub(super) fn cluster_bytes(&self) -> u32 {
        self.cluster_sectors * 512
    }
}
