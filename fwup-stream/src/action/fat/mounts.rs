//! The file systems that are known at a time, and the functions of a task on them.

use super::error::{FatError, Fault};
use super::file::{File, Opening};
use super::limits::MOUNTS;
use super::mkfs;
use super::volume::Volume;
use crate::disk::DiskIo;

/// The FAT file systems of a task: up to four are kept mounted, with one sector of each in memory, and the
/// file that `fat_write` writes stays open from piece to piece.
///
/// `block` is always the block where a file system begins, or where the partition table begins whose first
/// FAT partition is meant.
///
/// # Examples
///
/// ```
/// use fwup_stream::action::fat::Mounts;
/// use fwup_stream::disk::{DiskError, DiskIo};
///
/// struct Image(Vec<u8>);
///
/// impl DiskIo for Image {
///     fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
///         let start = (offset as usize).min(self.0.len());
///         let held = &self.0[start..(start + buffer.len()).min(self.0.len())];
///         buffer.fill(0);
///         buffer[..held.len()].copy_from_slice(held);
///         Ok(())
///     }
///     fn write(&mut self, offset: u64, data: &[u8], _streamed: bool) -> Result<(), DiskError> {
///         let end = offset as usize + data.len();
///         self.0.resize(self.0.len().max(end), 0);
///         self.0[offset as usize..end].copy_from_slice(data);
///         Ok(())
///     }
///     fn trim(&mut self, _offset: u64, _length: u64) -> Result<(), DiskError> {
///         Ok(())
///     }
/// }
///
/// let mut disk = Image(Vec::new());
/// let mut mounts = Mounts::new();
/// mounts.mkfs(&mut disk, 0, 1024)?;
/// mounts.truncate(&mut disk, 0, "hello.txt")?;
/// mounts.write_at(&mut disk, 0, "hello.txt", 0, b"hello")?;
/// mounts.close(&mut disk)?;
/// assert!(mounts.file_contains(&mut disk, 0, "HELLO.TXT", b"ell"));
/// # Ok::<(), fwup_stream::action::fat::FatError>(())
/// ```
#[derive(Default)]
pub struct Mounts {
    slots: [Option<Slot>; MOUNTS],
    next: usize,
    pub(super) open: Option<OpenFile>,
    /// The [`DiskIo::other_changes`] that the indexes of folders know of.
    seen: Option<u64>,
}

/// A file system, mounted once it is used.
struct Slot {
    block: u64,
    volume: Option<Box<Volume>>,
}

/// The file that is being written.
pub(super) struct OpenFile {
    pub(super) block: u64,
    pub(super) name: String,
    pub(super) file: Box<File>,
}

impl Mounts {
    /// Knows no file system yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `fat_mkfs`: makes a file system of `count` blocks (fw-format §15.1).
    ///
    /// # Errors
    ///
    /// No FAT layout has that size, or the destination fails. A size that is refused changes nothing.
    pub fn mkfs(&mut self, disk: &mut dyn DiskIo, block: u64, count: u64) -> Result<(), FatError> {
        // An open file of the old file system has nowhere to go; one elsewhere is finished as usual.
        if self.open.as_ref().is_some_and(|open| open.block == block) {
            self.open = None;
        }
        let slot = self.slot(disk, block);
        if let Some(Some(slot)) = self.slots.get_mut(slot) {
            slot.volume = None;
        }
        // It may reach over others.
        self.volumes().for_each(|volume| volume.index.clear());
        mkfs::make(disk, block, count)
    }

    /// `fat_touch`: makes an empty file if there is none; an existing one is not changed.
    ///
    /// # Errors
    ///
    /// The name is that of a folder or a read-only file, is not allowed, or there is no room.
    pub fn touch(&mut self, disk: &mut dyn DiskIo, block: u64, name: &str) -> Result<(), FatError> {
        self.run(disk, block, |volume, disk| volume.touch(disk, name))
            .map_err(|fault| fault.during("fat_touch", name))
    }

    /// `fat_mkdir`: makes a folder; an existing one is fine.
    ///
    /// # Errors
    ///
    /// The parent does not exist, a file has the name, or there is no room.
    pub fn mkdir(&mut self, disk: &mut dyn DiskIo, block: u64, name: &str) -> Result<(), FatError> {
        self.run(disk, block, |volume, disk| volume.make_folder(disk, name))
            .map_err(|fault| fault.during("fat_mkdir", name))
    }

    /// `fat_setlabel`: sets, changes or (when empty) removes the label in the root folder. The label in the
    /// boot sector stays `NO NAME`.
    ///
    /// # Errors
    ///
    /// More than 11 bytes or forbidden characters, or no room in the root folder.
    pub fn set_label(&mut self, disk: &mut dyn DiskIo, block: u64, label: &str) -> Result<(), FatError> {
        self.run(disk, block, |volume, disk| volume.set_label(disk, label))
            .map_err(|fault| fault.during("fat_setlabel", label))
    }

    /// `fat_rm`, or with `must_exist` `fat_rm!`: deletes a file or an empty folder.
    ///
    /// # Errors
    ///
    /// The file is read-only or the folder not empty; with `must_exist` also when there is none.
    pub fn remove(
        &mut self,
        disk: &mut dyn DiskIo,
        block: u64,
        name: &str,
        must_exist: bool,
    ) -> Result<(), FatError> {
        let context = if must_exist { "fat_rm!" } else { "fat_rm" };
        self.remove_for(disk, block, name, must_exist, context)
    }

    /// `fat_mv`, or with `force` `fat_mv!`, which first deletes what has the new name.
    ///
    /// # Errors
    ///
    /// There is no `from`, something has the name `to`, a folder on the way is missing, or a folder would get
    /// into itself (`fwup` does that and loses it).
    pub fn rename(
        &mut self,
        disk: &mut dyn DiskIo,
        block: u64,
        from: &str,
        to: &str,
        force: bool,
    ) -> Result<(), FatError> {
        let context = if force { "fat_mv!" } else { "fat_mv" };
        if force {
            self.remove_for(disk, block, to, false, context)?;
        }
        self.run(disk, block, |volume, disk| volume.rename(disk, from, to))
            .map_err(|fault| fault.during(context, from))
    }

    /// `fat_attrib`: sets exactly those of the attributes R, H and S (letters in any case) that are named.
    ///
    /// # Errors
    ///
    /// There is no such file. `fwup` does not report this (fw-format §8), so a caller goes on.
    pub fn set_attributes(
        &mut self,
        disk: &mut dyn DiskIo,
        block: u64,
        name: &str,
        letters: &str,
    ) -> Result<(), FatError> {
        // The only function that leaves a file open that is being written.
        let slot = self.slot(disk, block);
        self.volume(disk, slot)
            .and_then(|volume| volume.set_attributes(disk, name, letters))
            .map_err(|fault| fault.during("fat_attrib", name))
    }

    /// Returns the size of a file in bytes.
    ///
    /// # Errors
    ///
    /// There is no such file.
    pub fn size(&mut self, disk: &mut dyn DiskIo, block: u64, name: &str) -> Result<u64, FatError> {
        self.run(disk, block, |volume, disk| volume.open(disk, name, Opening::Read))
            .map(|file| u64::from(file.size()))
            .map_err(|fault| fault.during("fatfs_exists", name))
    }

    /// `require-fat-file-exists`: whether there is a file (not a folder) of that name. What cannot be read
    /// counts as "no".
    pub fn exists(&mut self, disk: &mut dyn DiskIo, block: u64, name: &str) -> bool {
        self.size(disk, block, name).is_ok()
    }

    /// Finishes the file that is open and forgets all file systems; done before on-finish and after an error.
    ///
    /// # Errors
    ///
    /// The destination refused the file's last bytes. Everything is forgotten all the same.
    pub fn close(&mut self, disk: &mut dyn DiskIo) -> Result<(), FatError> {
        let finished = self.try_finish_open(disk);
        *self = Self::default();
        finished
    }

    fn remove_for(
        &mut self,
        disk: &mut dyn DiskIo,
        block: u64,
        name: &str,
        must_exist: bool,
        context: &'static str,
    ) -> Result<(), FatError> {
        match self.run(disk, block, |volume, disk| volume.remove(disk, name)) {
            Err(Fault::NoFile | Fault::NoPath) if !must_exist => Ok(()),
            outcome => outcome.map_err(|fault| fault.during(context, name)),
        }
    }

    /// Finishes the open file, then runs an operation on a file system.
    pub(super) fn run<T>(
        &mut self,
        disk: &mut dyn DiskIo,
        block: u64,
        operation: impl FnOnce(&mut Volume, &mut dyn DiskIo) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.finish_open(disk);
        let slot = self.slot(disk, block);
        operation(self.volume(disk, slot)?, disk)
    }

    /// Finishes the open file where a failure is not the business of the operation at hand: every piece was
    /// brought to the destination when it was written, so nothing is left that could fail.
    pub(super) fn finish_open(&mut self, disk: &mut dyn DiskIo) {
        let finished = self.try_finish_open(disk);
        debug_assert!(finished.is_ok(), "an open file was not brought to the destination: {finished:?}");
    }

    fn try_finish_open(&mut self, disk: &mut dyn DiskIo) -> Result<(), FatError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let volume = self.slots.iter_mut().flatten().find(|slot| slot.block == open.block);
        match volume.and_then(|slot| slot.volume.as_mut()) {
            Some(volume) => {
                volume.sync_file(disk, &mut open.file).map_err(|fault| fault.during("sync", &open.name))
            }
            None => Ok(()),
        }
    }

    /// Returns the slot of a file system, taking a free one or that of the oldest if it is not known yet.
    pub(super) fn slot(&mut self, disk: &mut dyn DiskIo, block: u64) -> usize {
        let known = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.block == block);
        if let Some(index) = self.slots.iter().position(known) {
            return index;
        }
        let order = (0..MOUNTS).map(|step| (self.next + step) % MOUNTS);
        let index = order
            .clone()
            .find(|index| self.slots.get(*index).is_some_and(Option::is_none))
            .unwrap_or(self.next);
        let leaving = self.slots.get(index).and_then(Option::as_ref).map(|slot| slot.block);
        if leaving.is_some() && leaving == self.open.as_ref().map(|open| open.block) {
            self.finish_open(disk);
        }
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Some(Slot { block, volume: None });
        }
        self.next = (index + 1) % MOUNTS;
        index
    }

    /// Returns the file system in a slot, mounting it if it is not.
    pub(super) fn volume(&mut self, disk: &mut dyn DiskIo, slot: usize) -> Result<&mut Volume, Fault> {
        let changes = disk.other_changes();
        if changes != self.seen {
            self.volumes().for_each(|volume| volume.index.clear());
            self.seen = changes;
        }
        let place = self.slots.get_mut(slot).and_then(Option::as_mut).ok_or(Fault::NoFileSystem)?;
        if place.volume.is_none() {
            let mut volume = Volume::mount(disk, place.block)?;
            let mut alone = true;
            let blocks = volume.blocks();
            for other in self.volumes() {
                let theirs = other.blocks();
                if theirs.start < blocks.end && blocks.start < theirs.end {
                    // Two views of the same blocks, as of a disk and of a partition on it: neither knows what the
                    // other writes.
                    other.index.enable(false);
                    alone = false;
                }
            }
            volume.index.enable(alone && changes.is_some() && volume.can_be_indexed());
            if let Some(place) = self.slots.get_mut(slot).and_then(Option::as_mut) {
                place.volume = Some(Box::new(volume));
            }
        }
        let place = self.slots.get_mut(slot).and_then(Option::as_mut);
        place.and_then(|place| place.volume.as_deref_mut()).ok_or(Fault::NoFileSystem)
    }

    fn volumes(&mut self) -> impl Iterator<Item = &mut Volume> {
        self.slots.iter_mut().flatten().filter_map(|slot| slot.volume.as_deref_mut())
    }
}
