//! The entries of a folder: where they are, and going from one to the next.

use super::boot::ENTRY;
use super::error::Fault;
use super::index::Folder;
use super::limits::FOLDER_BYTES;
use super::name::DELETED;
use super::volume::Volume;
use super::window::SECTOR;
use crate::disk::DiskIo;

/// Attribute bits of an entry.
pub(super) const READ_ONLY: u8 = 0x01;
pub(super) const HIDDEN: u8 = 0x02;
pub(super) const SYSTEM: u8 = 0x04;
pub(super) const LABEL: u8 = 0x08;
pub(super) const FOLDER: u8 = 0x10;
pub(super) const ARCHIVE: u8 = 0x20;
pub(super) const LONG_NAME: u8 = 0x0F;
pub(super) const ATTRIBUTES: u8 = 0x3F;

/// Where the parts of an entry are.
pub(super) const AT_ATTRIBUTES: usize = 11;
pub(super) const AT_LONG_SUM: usize = 13;
pub(super) const AT_CLUSTER_HIGH: usize = 20;
pub(super) const AT_CLUSTER_LOW: usize = 26;
/// Where the thirteen characters of a long entry are.
pub(super) const AT_LONG: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
/// Marks the entry with the end of a long name, which comes first.
pub(super) const LAST_LONG: u8 = 0x40;

/// A place in a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The folder's first cluster; 0 is the root folder.
    pub(super) folder: u32,
    /// Bytes from the folder's start.
    pub(super) offset: u32,
    /// The cluster it lies in; 0 in a root folder of fixed size.
    cluster: u32,
    /// The sector it lies in; `None` past the end.
    pub(super) sector: Option<u32>,
    /// Where the long entries that belong to the entry here begin.
    pub(super) long_start: Option<u32>,
    /// The attributes of the entry here.
    pub(super) attributes: u8,
}

impl Place {
    pub(super) fn start_of(folder: u32) -> Self {
        Place { folder, offset: 0, cluster: 0, sector: None, long_start: None, attributes: 0 }
    }

    /// The place in the sector.
    pub(super) fn at(&self) -> usize {
        self.offset as usize % SECTOR
    }
}

impl Volume {
    /// Moves to `offset` in the folder.
    pub(super) fn seek(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        offset: u32,
    ) -> Result<(), Fault> {
        let mut known = self.index.take(place.folder);
        self.seek_with(disk, place, offset, known.as_mut())?;
        if let Some(known) = known {
            self.index.put(known);
        }
        Ok(())
    }

    /// Moves to `offset` in the folder, by the clusters that are known.
    pub(super) fn seek_with(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        offset: u32,
        mut known: Option<&mut Folder>,
    ) -> Result<(), Fault> {
        if offset >= FOLDER_BYTES || !offset.is_multiple_of(ENTRY) {
            return Err(Fault::Corrupt);
        }
        let mut cluster = place.folder;
        if cluster == 0 && self.is_fat32() {
            cluster = self.geometry.root;
        }
        let (sector, rest) = if cluster == 0 {
            if offset / ENTRY >= self.geometry.root_entries {
                return Err(Fault::Corrupt);
            }
            (Some(self.geometry.root), offset)
        } else {
            let size = self.geometry.cluster_bytes();
            let wanted = offset / size;
            let mut number = 0;
            if let Some(known) = &mut known {
                self.note(known, 0, cluster);
                (number, cluster) = known.nearest(wanted).unwrap_or((number, cluster));
            }
            while number < wanted {
                cluster = self.link(disk, cluster)?;
                if cluster < 2 || cluster >= self.geometry.entries {
                    return Err(Fault::Corrupt);
                }
                number += 1;
                if let Some(known) = &mut known {
                    self.note(known, number, cluster);
                }
            }
            (self.geometry.sector_of(cluster), offset % size)
        };
        place.offset = offset;
        place.cluster = cluster;
        place.sector = sector.and_then(|sector| sector.checked_add(rest / 512));
        if place.sector.is_none() { Err(Fault::Corrupt) } else { Ok(()) }
    }

    /// Notes that a folder has this cluster. Folders that share one are damaged, and none of them is known for sure.
    fn note(&mut self, known: &mut Folder, number: u32, cluster: u32) {
        if known.lacks(number) {
            if self.index.overwritten(cluster) {
                known.note_damage();
            }
            known.add_cluster(cluster);
        }
    }

    /// Moves one entry on like [`advance`](Self::advance), and notes the cluster.
    pub(super) fn advance_with(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        grow: bool,
        known: Option<&mut Folder>,
    ) -> Result<bool, Fault> {
        let more = self.advance(disk, place, grow)?;
        if let Some(known) = known
            && more
            && place.cluster != 0
        {
            self.note(known, place.offset / self.geometry.cluster_bytes(), place.cluster);
        }
        Ok(more)
    }

    /// Hears that an entry is changed: what shares its cluster is not known any more.
    pub(super) fn entry_changes(&mut self, place: &Place) {
        self.index.changed_by(place.folder, place.cluster);
    }

    /// Moves one entry on; `false` at the folder's end. With `grow` a folder that is not the fixed root gets
    /// another cluster at its end, and no room for one is [`Fault::Denied`].
    pub(super) fn advance(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        grow: bool,
    ) -> Result<bool, Fault> {
        let offset = place.offset.saturating_add(ENTRY);
        let Some(sector) = place.sector.filter(|_| offset < FOLDER_BYTES) else {
            place.sector = None;
            return Ok(false);
        };
        if offset.is_multiple_of(512) {
            place.sector = sector.checked_add(1);
            if place.cluster == 0 {
                if offset / ENTRY >= self.geometry.root_entries {
                    place.sector = None;
                    return Ok(false);
                }
            } else if offset.is_multiple_of(self.geometry.cluster_bytes()) {
                let mut next = self.link(disk, place.cluster)?;
                if next < 2 {
                    return Err(Fault::Corrupt);
                }
                if next >= self.geometry.entries {
                    if !grow {
                        place.sector = None;
                        return Ok(false);
                    }
                    next = self.extend_chain(disk, place.cluster)?.ok_or(Fault::Denied)?;
                    self.blank_cluster(disk, next)?;
                }
                place.cluster = next;
                place.sector = self.geometry.sector_of(next);
            }
        }
        place.offset = offset;
        Ok(true)
    }

    /// Writes zeros to a cluster and leaves its first sector in memory.
    pub(super) fn blank_cluster(&mut self, disk: &mut dyn DiskIo, cluster: u32) -> Result<(), Fault> {
        self.flush(disk)?;
        self.index.overwritten(cluster);
        let first = self.geometry.sector_of(cluster).ok_or(Fault::Corrupt)?;
        self.window.blank(first);
        for index in 0..self.geometry.cluster_sectors {
            self.window.store(disk, first.saturating_add(index))?;
        }
        Ok(())
    }

    /// Goes on from here to the next file or folder other than `.` and `..`, or with `label` to the label.
    /// Returns whether there is one.
    pub(super) fn next_entry(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        label: bool,
    ) -> Result<bool, Fault> {
        while place.sector.is_some() {
            let first = self.load_entry(disk, place)?;
            if first == 0 {
                break;
            }
            let attributes = self.window.byte(place.at() + AT_ATTRIBUTES) & ATTRIBUTES;
            let is_label = attributes & !ARCHIVE == LABEL;
            if first != DELETED && first != b'.' && is_label == label && attributes != LONG_NAME {
                return Ok(true);
            }
            if !self.advance(disk, place, false)? {
                break;
            }
        }
        place.sector = None;
        Ok(false)
    }

    /// Loads the sector of the entry here and returns the entry's first byte.
    pub(super) fn load_entry(&mut self, disk: &mut dyn DiskIo, place: &Place) -> Result<u8, Fault> {
        self.load(disk, place.sector.ok_or(Fault::Corrupt)?)?;
        Ok(self.window.byte(place.at()))
    }

    /// Returns the first cluster that the entry at `at` in memory names.
    pub(super) fn entry_cluster(&self, at: usize) -> u32 {
        let low = u32::from(self.window.word(at + AT_CLUSTER_LOW));
        let high = if self.is_fat32() { u32::from(self.window.word(at + AT_CLUSTER_HIGH)) } else { 0 };
        high << 16 | low
    }

    /// Sets the first cluster in the entry at `at` in memory.
    pub(super) fn set_entry_cluster(&mut self, at: usize, cluster: u32) {
        let [low, middle, high, top] = cluster.to_le_bytes();
        self.window.put(at + AT_CLUSTER_LOW, &[low, middle]);
        if self.is_fat32() {
            self.window.put(at + AT_CLUSTER_HIGH, &[high, top]);
        }
    }

    /// The bytes of the entry at `at` in memory.
    pub(super) fn entry(&self, at: usize) -> &[u8] {
        let entry = self.window.bytes().get(at..).and_then(|rest| rest.get(..ENTRY as usize));
        debug_assert!(entry.is_some(), "an entry outside of its sector");
        entry.unwrap_or_default()
    }

    pub(super) fn short_name(&self, at: usize) -> [u8; 11] {
        let name = self.window.bytes().get(at..).and_then(<[u8]>::first_chunk);
        debug_assert!(name.is_some(), "an entry outside of its sector");
        name.copied().unwrap_or([0; 11])
    }
}
