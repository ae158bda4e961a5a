//! A mounted file system: finding it, and keeping its one sector of memory and free-space notes in step.

use super::boot::{Geometry, Kind, Sort, partition_starts, sort};
use super::error::Fault;
use super::index::Index;
use super::window::{SECTOR, Window, put};
use crate::disk::DiskIo;

/// Where the free count and the last allocated cluster stand in the FSInfo sector, and its two signatures.
const INFO_LEAD: (usize, u32) = (0, 0x4161_5252);
const INFO_STRUCTURE: (usize, u32) = (484, 0x6141_7272);
const INFO_FREE: usize = 488;
const INFO_LAST: usize = 492;

/// "Not known", for the free count and the last allocated cluster.
const UNKNOWN: u32 = u32::MAX;

/// A mounted FAT file system.
pub(super) struct Volume {
    pub(super) block: u64,
    pub(super) window: Window,
    pub(super) geometry: Geometry,
    /// Free clusters as the FSInfo sector counts them, wrong values included; [`UNKNOWN`] without one.
    pub(super) free: u32,
    /// The cluster allocated last, where the search for a free one starts; may be out of range.
    pub(super) last: u32,
    /// The free-space notes differ from the FSInfo sector.
    pub(super) info_changed: bool,
    /// What is known of names in folders.
    pub(super) index: Index,
}

impl Volume {
    /// Mounts the file system at `block`, or the first one in the partition table there.
    pub(super) fn mount(disk: &mut dyn DiskIo, block: u64) -> Result<Self, Fault> {
        let mut window = Window::new(block);
        let start = find(disk, &mut window)?;
        let geometry = Geometry::read(window.bytes(), start)?;
        let mut volume = Volume {
            block,
            window,
            geometry,
            free: UNKNOWN,
            last: UNKNOWN,
            info_changed: false,
            index: Index::default(),
        };
        if geometry.has_info {
            volume.read_info(disk);
        }
        Ok(volume)
    }

    /// Makes `sector` the one in memory.
    pub(super) fn load(&mut self, disk: &mut dyn DiskIo, sector: u32) -> Result<(), Fault> {
        if self.window.number() != Some(sector) {
            self.flush(disk)?;
            self.window.fill(disk, sector)?;
            self.index.sector_was_read();
        }
        Ok(())
    }

    /// Writes the sector in memory if it was changed, to both tables if it belongs to the first.
    pub(super) fn flush(&mut self, disk: &mut dyn DiskIo) -> Result<(), Fault> {
        let Some(number) = self.window.number().filter(|_| self.window.is_dirty()) else { return Ok(()) };
        self.window.store(disk, number)?;
        self.window.set_clean();
        let in_first_table =
            number.checked_sub(self.geometry.table).is_some_and(|index| index < self.geometry.table_sectors);
        if in_first_table && self.geometry.tables == 2 {
            self.window.store(disk, number.saturating_add(self.geometry.table_sectors))?;
        }
        Ok(())
    }

    /// Brings everything to the destination: the sector in memory and the free-space notes.
    pub(super) fn sync(&mut self, disk: &mut dyn DiskIo) -> Result<(), Fault> {
        self.flush(disk)?;
        if self.geometry.has_info && self.info_changed {
            let sector = self.geometry.start + 1;
            self.window.blank(sector);
            self.window.put(0, &info_sector(self.free, self.last));
            self.window.store(disk, sector)?;
            self.window.set_clean();
            self.info_changed = false;
        }
        Ok(())
    }

    /// The blocks of the destination that this file system may write.
    pub(super) fn blocks(&self) -> std::ops::Range<u64> {
        let block = |sector: u32| self.block.saturating_add(u64::from(sector));
        let clusters = u64::from(self.geometry.entries - 2) * u64::from(self.geometry.cluster_sectors);
        block(self.geometry.start)..block(self.geometry.data).saturating_add(clusters)
    }

    /// Whether the sectors of tables, notes and folders are different ones, as far as the boot sector says.
    pub(super) fn can_be_indexed(&self) -> bool {
        !self.geometry.has_info || self.geometry.table > self.geometry.start.saturating_add(1)
    }

    pub(super) fn is_fat32(&self) -> bool {
        self.geometry.kind == Kind::Fat32
    }

    /// Takes over the notes of the FSInfo sector; one that cannot be read or is none tells nothing.
    fn read_info(&mut self, disk: &mut dyn DiskIo) {
        let Some(sector) = self.geometry.start.checked_add(1) else { return };
        if self.load(disk, sector).is_err() {
            self.geometry.has_info = false;
            return;
        }
        let signed = [INFO_LEAD, INFO_STRUCTURE].iter().all(|(at, value)| self.window.long(*at) == *value);
        if signed && self.window.word(510) == 0xAA55 {
            self.free = self.window.long(INFO_FREE);
            self.last = self.window.long(INFO_LAST);
        }
    }
}

/// Returns the bytes of an FSInfo sector.
pub(super) fn info_sector(free: u32, last: u32) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    for (at, value) in [INFO_LEAD, INFO_STRUCTURE, (INFO_FREE, free), (INFO_LAST, last)] {
        put(&mut bytes, at, &value.to_le_bytes());
    }
    put(&mut bytes, 510, &[0x55, 0xAA]);
    bytes
}

/// Leaves the boot sector in the window and returns its number.
fn find(disk: &mut dyn DiskIo, window: &mut Window) -> Result<u32, Fault> {
    window.fill(disk, 0)?;
    match sort(window.bytes()) {
        Sort::FileSystem => return Ok(0),
        Sort::Signed => {}
        Sort::Other => return Err(Fault::NoFileSystem),
    }
    let mut outcome = Fault::NoFileSystem;
    for start in partition_starts(window.bytes()) {
        outcome = Fault::NoFileSystem;
        if start == 0 {
            continue;
        }
        // A partition that cannot be read does not hide a later one that can.
        match window.fill(disk, start) {
            Ok(()) if sort(window.bytes()) == Sort::FileSystem => return Ok(start),
            Ok(()) => {}
            Err(error) => outcome = Fault::Disk(error),
        }
    }
    Err(outcome)
}
