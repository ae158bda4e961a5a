//! Open files: making, reading and writing them (fw-format §15.5).

use super::error::Fault;
use super::folder::{ARCHIVE, AT_ATTRIBUTES, FOLDER, READ_ONLY};
use super::limits::FILE_BYTES;
use super::path::Target;
use super::volume::Volume;
use super::window::{SECTOR, read_sectors, write_sectors};
use crate::disk::DiskIo;

/// 1980-01-01 00:00:00, the time of everything: time in the low half, date in the high one (fw-format §15.2).
pub(super) const TIME: [u8; 4] = [0x00, 0x00, 0x21, 0x00];

const AT_CREATED: usize = 14;
const AT_ACCESSED: usize = 18;
pub(super) const AT_MODIFIED: usize = 22;
const AT_SIZE: usize = 28;

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// It must exist; for reading.
    Read,
    /// It may exist, then it is left as it is.
    Touch,
    /// It may exist, then it is emptied; for writing.
    Write,
}

/// An open file.
pub(super) struct File {
    /// The first cluster, 0 for none.
    first: u32,
    size: u32,
    position: u32,
    /// The cluster of the byte before `position`, or of `position` itself inside a cluster.
    cluster: u32,
    /// Clusters gone through since `position` was 0; more than there are means a circle.
    steps: u32,
    /// A sector that is read or written in parts, and its number.
    bytes: [u8; SECTOR],
    sector: Option<u32>,
    dirty: bool,
    /// The entry must be written.
    modified: bool,
    /// Where the entry is.
    entry_sector: u32,
    entry_at: usize,
}

impl File {
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    pub(super) fn position(&self) -> u32 {
        self.position
    }
}

impl Volume {
    /// Opens a file.
    pub(super) fn open(&mut self, disk: &mut dyn DiskIo, path: &str, how: Opening) -> Result<File, Fault> {
        let mut made = false;
        let place = match (self.follow(disk, path)?, how) {
            (Target::Root, _) => return Err(Fault::InvalidName),
            (Target::Missing(..), Opening::Read) => return Err(Fault::NoFile),
            (Target::Missing(mut place, name), _) => {
                self.register(disk, &mut place, &name)?;
                made = true;
                place
            }
            (Target::Entry(place, _), Opening::Read) if place.attributes & FOLDER != 0 => {
                return Err(Fault::NoFile);
            }
            (Target::Entry(place, _), Opening::Read) => place,
            (Target::Entry(place, _), _) if place.attributes & (READ_ONLY | FOLDER) != 0 => {
                return Err(Fault::Denied);
            }
            (Target::Entry(place, _), _) => place,
        };
        let at = place.at();
        let sector = place.sector.ok_or(Fault::Corrupt)?;
        let empty = made || how == Opening::Write;
        if empty {
            self.reset_entry(disk, sector, at)?;
        }
        Ok(File {
            first: self.entry_cluster(at),
            size: self.window.long(at + AT_SIZE),
            position: 0,
            cluster: 0,
            steps: 0,
            bytes: [0; SECTOR],
            sector: None,
            dirty: false,
            modified: empty,
            entry_sector: sector,
            entry_at: at,
        })
    }

    /// Whether a path leads to the entry of an open file.
    pub(super) fn leads_to(&mut self, disk: &mut dyn DiskIo, path: &str, file: &File) -> Result<bool, Fault> {
        Ok(match self.follow(disk, path)? {
            Target::Entry(place, _) => place.sector == Some(file.entry_sector) && place.at() == file.entry_at,
            Target::Root | Target::Missing(..) => false,
        })
    }

    /// Reads from the position on; returns how much there was.
    pub(super) fn read(
        &mut self,
        disk: &mut dyn DiskIo,
        file: &mut File,
        buffer: &mut [u8],
    ) -> Result<usize, Fault> {
        let left = (file.size - file.position) as usize;
        let end = buffer.len().min(left);
        let mut done = 0;
        while done < end {
            let Some(rest) = buffer.get_mut(done..end) else {
                debug_assert!(false, "more was read than there is room for");
                return Err(Fault::Corrupt);
            };
            let within = file.position as usize % SECTOR;
            if within == 0 {
                let index = self.sector_in_cluster(file);
                if index == 0 {
                    let next = if file.position == 0 { file.first } else { self.link(disk, file.cluster)? };
                    if next < 2 {
                        return Err(Fault::Corrupt);
                    }
                    self.step(file, next)?;
                }
                let sector = self.current_sector(file, index)?;
                let whole = self.whole_sectors(rest.len(), index);
                if let Some(target) = rest.get_mut(..whole).filter(|_| whole > 0) {
                    read_sectors(disk, self.block, sector, target)?;
                    done += whole;
                    file.position = file.position.saturating_add(length(whole));
                    continue;
                }
                if file.sector != Some(sector) {
                    self.write_back(disk, file)?;
                    file.sector = None;
                    read_sectors(disk, self.block, sector, &mut file.bytes)?;
                    file.sector = Some(sector);
                }
            }
            let copied =
                rest.iter_mut().zip(file.bytes.iter().skip(within)).map(|(to, byte)| *to = *byte).count();
            done += copied;
            file.position = file.position.saturating_add(length(copied));
        }
        Ok(done)
    }

    /// Writes at the position; returns how much fitted.
    pub(super) fn write(
        &mut self,
        disk: &mut dyn DiskIo,
        file: &mut File,
        data: &[u8],
    ) -> Result<usize, Fault> {
        let room = (FILE_BYTES - file.position) as usize;
        let data = data.get(..room).unwrap_or(data);
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let within = file.position as usize % SECTOR;
            if within == 0 {
                let index = self.sector_in_cluster(file);
                if index == 0 {
                    let next = if file.position > 0 {
                        self.extend_chain(disk, file.cluster)?
                    } else if file.first == 0 {
                        self.begin_chain(disk)?
                    } else {
                        Some(file.first)
                    };
                    let Some(next) = next else { break };
                    self.step(file, next)?;
                    if file.first == 0 {
                        file.first = next;
                    }
                }
                self.write_back(disk, file)?;
                self.index.overwritten(file.cluster);
                let sector = self.current_sector(file, index)?;
                let whole = self.whole_sectors(rest.len(), index);
                if let Some(source) = rest.get(..whole).filter(|_| whole > 0) {
                    write_sectors(disk, self.block, sector, source)?;
                    if file.sector.is_some_and(|held| {
                        held.checked_sub(sector).is_some_and(|past| (past as usize) < whole / SECTOR)
                    }) {
                        file.sector = None;
                    }
                    done += whole;
                    file.move_on(whole);
                    continue;
                }
                if file.sector != Some(sector) {
                    file.sector = None;
                    // Behind the end there is nothing to keep: the rest of a last sector is zeros.
                    file.bytes = [0; SECTOR];
                    if file.position < file.size {
                        read_sectors(disk, self.block, sector, &mut file.bytes)?;
                    }
                    file.sector = Some(sector);
                }
            }
            let copied = file.bytes.iter_mut().skip(within).zip(rest).map(|(to, byte)| *to = *byte).count();
            file.dirty = true;
            done += copied;
            file.move_on(copied);
        }
        file.modified = true;
        Ok(done)
    }

    /// Moves the position to `target`, which is not past the end.
    pub(super) fn seek_file(
        &mut self,
        disk: &mut dyn DiskIo,
        file: &mut File,
        target: u32,
    ) -> Result<(), Fault> {
        let target = target.min(file.size);
        let size = self.geometry.cluster_bytes();
        // The cluster wanted is the one of the byte before, so that the next write can add to the chain.
        let wanted = target.saturating_sub(1) / size;
        let from = if file.position > 0 && (file.position - 1) / size <= wanted {
            (file.position - 1) / size
        } else {
            file.position = 0;
            file.steps = 0;
            0
        };
        if target > 0 {
            if file.position == 0 {
                self.step(file, file.first)?;
            }
            for _ in from..wanted {
                let next = self.link(disk, file.cluster)?;
                if next < 2 || next >= self.geometry.entries {
                    return Err(Fault::Corrupt);
                }
                self.step(file, next)?;
            }
        }
        file.position = target;
        if target == 0 {
            file.steps = 0;
        }
        if !(target as usize).is_multiple_of(SECTOR) {
            let sector = self.current_sector(file, self.sector_in_cluster(file))?;
            if file.sector != Some(sector) {
                self.write_back(disk, file)?;
                file.sector = None;
                read_sectors(disk, self.block, sector, &mut file.bytes)?;
                file.sector = Some(sector);
            }
        }
        Ok(())
    }

    /// Empties an open file.
    pub(super) fn empty_file(&mut self, disk: &mut dyn DiskIo, file: &mut File) -> Result<(), Fault> {
        self.seek_file(disk, file, 0)?;
        if file.size > 0 {
            self.free_chain(disk, file.first)?;
            file.first = 0;
            file.size = 0;
            file.modified = true;
            file.dirty = false;
            file.sector = None;
        }
        Ok(())
    }

    /// Brings the file's last sector, its entry and the tables to the destination.
    pub(super) fn sync_file(&mut self, disk: &mut dyn DiskIo, file: &mut File) -> Result<(), Fault> {
        if !file.modified {
            return Ok(());
        }
        self.write_back(disk, file)?;
        self.load(disk, file.entry_sector)?;
        let at = file.entry_at;
        let attributes = self.window.byte(at + AT_ATTRIBUTES) | ARCHIVE;
        self.window.put(at + AT_ATTRIBUTES, &[attributes]);
        self.set_entry_cluster(at, file.first);
        self.window.put(at + AT_SIZE, &file.size.to_le_bytes());
        self.window.put(at + AT_MODIFIED, &TIME);
        self.window.put(at + AT_ACCESSED, &[0, 0]);
        self.sync(disk)?;
        file.modified = false;
        Ok(())
    }

    /// Makes the entry one of an empty file and frees what it had; its sector is in memory afterwards.
    fn reset_entry(&mut self, disk: &mut dyn DiskIo, sector: u32, at: usize) -> Result<(), Fault> {
        let old = self.entry_cluster(at);
        self.window.put(at + AT_CREATED, &TIME);
        self.window.put(at + AT_MODIFIED, &TIME);
        self.window.put(at + AT_ATTRIBUTES, &[ARCHIVE]);
        self.set_entry_cluster(at, 0);
        self.window.put(at + AT_SIZE, &[0; 4]);
        if old != 0 {
            self.free_chain(disk, old)?;
            self.load(disk, sector)?;
            // The space just freed is the first to be used again.
            self.last = old - 1;
        }
        Ok(())
    }

    /// Goes to the next cluster of the file.
    fn step(&self, file: &mut File, cluster: u32) -> Result<(), Fault> {
        file.steps = file.steps.saturating_add(1);
        if file.steps > self.geometry.entries {
            return Err(Fault::Corrupt);
        }
        file.cluster = cluster;
        Ok(())
    }

    fn write_back(&self, disk: &mut dyn DiskIo, file: &mut File) -> Result<(), Fault> {
        if let Some(sector) = file.sector.filter(|_| file.dirty) {
            write_sectors(disk, self.block, sector, &file.bytes)?;
            file.dirty = false;
        }
        Ok(())
    }

    fn sector_in_cluster(&self, file: &File) -> u32 {
        file.position / 512 % self.geometry.cluster_sectors
    }

    fn current_sector(&self, file: &File, index: u32) -> Result<u32, Fault> {
        self.geometry.sector_of(file.cluster).and_then(|first| first.checked_add(index)).ok_or(Fault::Corrupt)
    }

    /// Bytes of the whole sectors in `length` bytes, no further than the end of the cluster.
    fn whole_sectors(&self, length: usize, index: u32) -> usize {
        let left = (self.geometry.cluster_sectors - index) as usize;
        (length / SECTOR).min(left) * SECTOR
    }
}

impl File {
    fn move_on(&mut self, written: usize) {
        self.position = self.position.saturating_add(length(written));
        self.size = self.size.max(self.position);
    }
}

/// Bytes of a part of a cluster, as positions in files count them. A cluster has 64 KiB at most; what is no such
/// length ends the file.
fn length(bytes: usize) -> u32 {
    let length = u32::try_from(bytes);
    debug_assert!(length.is_ok(), "a cluster of {bytes} bytes");
    length.unwrap_or(u32::MAX)
}
