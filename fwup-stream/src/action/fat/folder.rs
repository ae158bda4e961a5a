//! Walking through a folder: place by place, looking for names, room or labels.

use super::boot::ENTRY;
use super::error::Fault;
use super::limits::FOLDER_BYTES;
use super::name::{DELETED, Name, checksum};
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
const ATTRIBUTES: u8 = 0x3F;

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

/// A run of long entries as it is met, last part first.
struct LongRun {
    /// Number of the part met last; `None` when it does not hang together.
    part: Option<u8>,
    sum: u8,
}

impl LongRun {
    const NONE: Self = LongRun { part: None, sum: 0xFF };

    /// Takes the long entry of number `number`; returns whether it begins a run. `fits` says whether its
    /// characters are right.
    fn take(&mut self, first: u8, sum: u8, fits: impl FnOnce() -> bool) -> bool {
        let begins = first & LAST_LONG != 0;
        let number = first & !LAST_LONG;
        if begins {
            self.sum = sum;
        }
        let expected = if begins { Some(number) } else { self.part };
        let holds = expected == Some(number) && self.sum == sum && fits();
        self.part = if holds { number.checked_sub(1) } else { None };
        begins
    }

    /// Whether all parts have come and belong to the short name.
    fn belongs_to(&self, short: &[u8; 11]) -> bool {
        self.part == Some(0) && self.sum == checksum(short)
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
        if offset >= FOLDER_BYTES || !offset.is_multiple_of(ENTRY) {
            return Err(Fault::Corrupt);
        }
        place.offset = offset;
        let mut cluster = place.folder;
        if cluster == 0 && self.is_fat32() {
            cluster = self.geometry.root;
        }
        let mut rest = offset;
        let sector = if cluster == 0 {
            if offset / ENTRY >= self.geometry.root_entries {
                return Err(Fault::Corrupt);
            }
            Some(self.geometry.root)
        } else {
            while rest >= self.geometry.cluster_bytes() {
                cluster = self.link(disk, cluster)?;
                if cluster < 2 || cluster >= self.geometry.entries {
                    return Err(Fault::Corrupt);
                }
                rest -= self.geometry.cluster_bytes();
            }
            self.geometry.sector_of(cluster)
        };
        place.cluster = cluster;
        place.sector = sector.and_then(|sector| sector.checked_add(rest / 512));
        if place.sector.is_none() { Err(Fault::Corrupt) } else { Ok(()) }
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
        let first = self.geometry.sector_of(cluster).ok_or(Fault::Corrupt)?;
        self.window.blank(first);
        for index in 0..self.geometry.cluster_sectors {
            self.window.store(disk, first.saturating_add(index))?;
        }
        Ok(())
    }

    /// Looks for a name from the folder's start; stays at its short entry when it is there. `short_only`
    /// compares nothing but the short name.
    pub(super) fn find(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        name: &Name,
        short_only: bool,
    ) -> Result<bool, Fault> {
        self.seek(disk, place, 0)?;
        let mut run = LongRun::NONE;
        place.long_start = None;
        loop {
            let first = self.load_entry(disk, place)?;
            if first == 0 {
                return Ok(false);
            }
            let attributes = self.window.byte(place.at() + AT_ATTRIBUTES) & ATTRIBUTES;
            place.attributes = attributes;
            if first == DELETED || (attributes & LABEL != 0 && attributes != LONG_NAME) {
                run = LongRun::NONE;
                place.long_start = None;
            } else if attributes == LONG_NAME {
                if !short_only {
                    let sum = self.window.byte(place.at() + AT_LONG_SUM);
                    if run.take(first, sum, || self.long_part_is(place.at(), first, &name.long)) {
                        place.long_start = Some(place.offset);
                    }
                }
            } else {
                let short = self.short_name(place.at());
                if run.belongs_to(&short) || ((short_only || !name.lossy) && short == name.short) {
                    return Ok(true);
                }
                run = LongRun::NONE;
                place.long_start = None;
            }
            if !self.advance(disk, place, false)? {
                return Ok(false);
            }
        }
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

    /// Finds `count` free entries in a row from the folder's start, growing it if needed, and stays at the
    /// last of them.
    pub(super) fn find_room(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        count: u32,
    ) -> Result<(), Fault> {
        self.seek(disk, place, 0)?;
        let mut free = 0;
        loop {
            let first = self.load_entry(disk, place)?;
            free = if first == DELETED || first == 0 { free + 1 } else { 0 };
            if free == count {
                return Ok(());
            }
            if !self.advance(disk, place, true)? {
                return Err(Fault::Denied);
            }
        }
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

    fn short_name(&self, at: usize) -> [u8; 11] {
        self.window.bytes().get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; 11])
    }

    /// Whether the long entry at `at` has the right part of the name.
    fn long_part_is(&self, at: usize, first: u8, name: &[u16]) -> bool {
        let Some(part) = (first & 0x3F).checked_sub(1) else { return false };
        if self.window.word(at + AT_CLUSTER_LOW) != 0 {
            return false;
        }
        let mut expected = name.iter().copied().chain([0]).skip(usize::from(part) * 13);
        let mut ended = false;
        for character in AT_LONG.map(|offset| self.window.word(at + offset)) {
            if ended {
                if character != 0xFFFF {
                    return false;
                }
            } else if expected.next().map(super::codepage::capital)
                == Some(super::codepage::capital(character))
            {
                ended = character == 0;
            } else {
                return false;
            }
        }
        // A last part without end mark must be where the name ends.
        first & LAST_LONG == 0 || ended || expected.next().is_none_or(|next| next == 0)
    }
}
