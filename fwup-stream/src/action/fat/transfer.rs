//! Moving contents: writing, reading, copying and searching files.

use super::error::{FatError, Fault};
use super::file::{File, Opening};
use super::limits::{FILE_BYTES, PATTERN_BYTES};
use super::mounts::{Mounts, OpenFile};
use super::volume::Volume;
use crate::disk::DiskIo;

/// Bytes copied at a time, and searched at a time.
const PIECE: usize = 4096;

impl Mounts {
    /// Begins `fat_write`: makes the file, or empties it, and keeps it open for [`write_at`](Self::write_at).
    ///
    /// # Errors
    ///
    /// The name is that of a folder or a read-only file, is not allowed, or there is no room.
    pub fn truncate(&mut self, disk: &mut dyn DiskIo, block: u64, name: &str) -> Result<(), FatError> {
        self.with_open(disk, block, name, Opening::Write, |volume, disk, file| {
            volume.empty_file(disk, file).map_err(|f| f.during("Can't truncate file on FAT partition", name))
        })
    }

    /// Goes on with `fat_write`: writes a piece at `offset` bytes. A gap before it is filled with zeros; what
    /// is after a write into the middle stays.
    ///
    /// # Errors
    ///
    /// The file system is full, or the file would pass 4 GiB.
    pub fn write_at(
        &mut self,
        disk: &mut dyn DiskIo,
        block: u64,
        name: &str,
        offset: u64,
        data: &[u8],
    ) -> Result<(), FatError> {
        let full = |written| FatError::Full { name: name.to_owned(), expected: data.len(), written };
        let writing = |fault: Fault| fault.during("fat_write can't write", name);
        let target =
            u32::try_from(offset).ok().filter(|target| *target < FILE_BYTES).ok_or_else(|| full(0))?;
        self.with_open(disk, block, name, Opening::Touch, |volume, disk, file| {
            if target > file.size() {
                let end = file.size();
                volume.seek_file(disk, file, end).map_err(writing)?;
                while file.position() < target {
                    let zeros = [0; 512];
                    let count = (target - file.position()).min(512) as usize;
                    let (zeros, _) = zeros.split_at(count);
                    let written = volume.write(disk, file, zeros).map_err(writing)?;
                    if written != count {
                        return Err(full(written));
                    }
                    volume.sync_file(disk, file).map_err(|fault| fault.during("sync", name))?;
                }
            } else if target != file.position() {
                volume.seek_file(disk, file, target).map_err(writing)?;
            }
            let written = volume.write(disk, file, data).map_err(writing)?;
            if written == data.len() { Ok(()) } else { Err(full(written)) }
        })
    }

    /// Reads from a file at `offset` bytes; returns how much there was, 0 at and past the end.
    ///
    /// # Errors
    ///
    /// There is no such file, or its chain of clusters is broken.
    pub fn read_at(
        &mut self,
        disk: &mut dyn DiskIo,
        block: u64,
        name: &str,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, FatError> {
        let slot = self.slot(disk, block);
        let volume = self.volume(disk, slot).map_err(|f| f.during("fat_pread can't open file", name))?;
        let mut file = volume
            .open(disk, name, Opening::Read)
            .map_err(|f| f.during("fat_pread can't open file", name))?;
        let Some(offset) = u32::try_from(offset).ok().filter(|offset| *offset < file.size()) else {
            return Ok(0);
        };
        volume
            .seek_file(disk, &mut file, offset)
            .and_then(|()| volume.read(disk, &mut file, buffer))
            .map_err(|fault| fault.during("fat_read can't read", name))
    }

    /// `fat_cp`: copies a file within a file system or to another one; an existing target is overwritten. A
    /// copy of a file onto itself changes nothing (`fwup` would lose its content).
    ///
    /// # Errors
    ///
    /// There is no `from`, the target is read-only or a folder, or the space does not suffice. Also when
    /// making the target known has thrown out the source: with more than four file systems in use `fwup`
    /// cannot copy either (golden `fat-several`), and a task must not work here only.
    pub fn copy(
        &mut self,
        disk: &mut dyn DiskIo,
        from_block: u64,
        from: &str,
        to_block: u64,
        to: &str,
    ) -> Result<(), FatError> {
        const OPEN: &str = "fatfs_cp can't open file";
        self.finish_open(disk);
        let from_slot = self.slot(disk, from_block);
        let to_slot = self.slot(disk, to_block);
        if from_slot == to_slot && from_block != to_block {
            return Err(Fault::NoFile.during(OPEN, from));
        }
        let source = |fault: Fault| fault.during(OPEN, from);
        let target = |fault: Fault| fault.during(OPEN, to);
        let mut input =
            self.volume(disk, from_slot).and_then(|v| v.open(disk, from, Opening::Read)).map_err(source)?;
        if from_slot == to_slot
            && self.volume(disk, to_slot).and_then(|v| v.leads_to(disk, to, &input)).map_err(target)?
        {
            return Ok(());
        }
        let mut output =
            self.volume(disk, to_slot).and_then(|v| v.open(disk, to, Opening::Write)).map_err(target)?;
        let sync = |fault: Fault| fault.during("sync", to);
        self.volume(disk, to_slot).and_then(|v| v.sync_file(disk, &mut output)).map_err(sync)?;
        let mut buffer = [0; PIECE];
        loop {
            let read = self
                .volume(disk, from_slot)
                .and_then(|v| v.read(disk, &mut input, &mut buffer))
                .map_err(|fault| fault.during("fatfs_cp can't read", from))?;
            let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else { return Ok(()) };
            let volume = self.volume(disk, to_slot).map_err(target)?;
            let written = volume
                .write(disk, &mut output, piece)
                .map_err(|fault| fault.during("fatfs_cp can't write", to))?;
            if written != read {
                return Err(FatError::CopyFull);
            }
            volume.sync_file(disk, &mut output).map_err(sync)?;
        }
    }

    /// `require-fat-file-match`: whether the file contains the bytes of `pattern`. An empty pattern is in
    /// every file, one of 4096 bytes or more in none. What cannot be read counts as "no".
    ///
    /// Searches as `fwup` does, which misses some places in the second and later 4 KiB (golden
    /// `fat-file-match-long`), so that the same task is chosen on the same device by either program.
    pub fn file_contains(&mut self, disk: &mut dyn DiskIo, block: u64, name: &str, pattern: &[u8]) -> bool {
        self.run(disk, block, |volume, disk| {
            let mut file = volume.open(disk, name, Opening::Read)?;
            search(volume, disk, &mut file, pattern)
        })
        // What cannot be read does not have it, as in fwup: another task is chosen then.
        .unwrap_or(false)
    }

    /// Runs an operation on the file that is being written, opening it first if another or
    /// none is open, and brings its entry up to date.
    fn with_open(
        &mut self,
        disk: &mut dyn DiskIo,
        block: u64,
        name: &str,
        how: Opening,
        operation: impl FnOnce(&mut Volume, &mut dyn DiskIo, &mut File) -> Result<(), FatError>,
    ) -> Result<(), FatError> {
        let opening = |fault: Fault| fault.during("Can't open file on FAT partition", name);
        if !self.open.as_ref().is_some_and(|open| open.block == block && open.name == name) {
            self.finish_open(disk);
        }
        let slot = self.slot(disk, block);
        let kept = self.open.take();
        let volume = self.volume(disk, slot).map_err(opening)?;
        let mut open = if let Some(open) = kept {
            open
        } else {
            let file = volume.open(disk, name, how).map_err(opening)?;
            OpenFile { block, name: name.to_owned(), file: Box::new(file) }
        };
        operation(volume, disk, &mut open.file)?;
        volume.sync_file(disk, &mut open.file).map_err(|fault| fault.during("sync", name))?;
        self.open = Some(open);
        Ok(())
    }
}

/// Looks for `pattern` piece by piece, in the very windows that `fwup` looks at.
fn search(
    volume: &mut Volume,
    disk: &mut dyn DiskIo,
    file: &mut File,
    pattern: &[u8],
) -> Result<bool, Fault> {
    if pattern.is_empty() || pattern.len() > PATTERN_BYTES {
        return Ok(pattern.is_empty());
    }
    let mut buffer = [0; PIECE];
    let mut kept = 0;
    loop {
        debug_assert!(kept < PIECE, "no room to look for a pattern");
        let room = buffer.get_mut(kept..).unwrap_or_default();
        let read = volume.read(disk, file, room)?;
        if read == 0 {
            return Ok(false);
        }
        // `fwup` looks at as many bytes as it has read, from the start of what it kept.
        if buffer.get(..read).is_some_and(|window| window.windows(pattern.len()).any(|part| part == pattern))
        {
            return Ok(true);
        }
        if read < pattern.len() {
            kept = read;
        } else {
            let keep = pattern.len() - 1;
            buffer.copy_within(read - keep..read, 0);
            kept = keep;
        }
    }
}
