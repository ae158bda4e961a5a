//! One download: its parts as files.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::bounds::{Bounds, Kept};
use super::error::io_error;
use super::{MANIFEST, StoreError, StoreRequest, sync_dir};
use crate::limits::{OPEN_PARTS_MAX, SPACE_CHECK_EVERY};
use crate::small_file::{folder_of, open_own, open_regular_here, set_aside};

/// A download that is open. Dropping it keeps what is there.
#[derive(Debug)]
pub struct StoredFile {
    dir: PathBuf,
    /// Keeps other programs out.
    _lock: File,
    part_size: u64,
    lengths: Vec<(u32, u64)>,
    /// Parts being written, the one used last at the end.
    open: Vec<Part>,
    /// The part read last.
    reading: Option<(u32, File)>,
    /// The bounds of the folder.
    bounds: Bounds,
    /// Bytes that may be written before the free space is asked for again.
    unasked: u64,
}

#[derive(Debug)]
struct Part {
    number: u32,
    file: File,
    length: u64,
}

impl StoredFile {
    pub(super) fn new(
        dir: PathBuf,
        lock: File,
        request: &StoreRequest,
        lengths: Vec<(u32, u64)>,
        bounds: Bounds,
    ) -> Self {
        debug_assert!(request.part_size > 0, "a download in parts of no bytes");
        let part_size = request.part_size.max(1);
        Self { dir, _lock: lock, part_size, lengths, open: Vec::new(), reading: None, bounds, unasked: 0 }
    }

    /// Returns the parts that were there when it was opened: number and length in bytes.
    pub fn lengths(&self) -> &[(u32, u64)] {
        &self.lengths
    }

    /// Writes bytes at an offset of the whole file. They go on where their part ends, or begin it anew.
    ///
    /// # Errors
    ///
    /// What the system said, or that the partition would get fuller than its reserve allows ([`StoreError::is_full`]).
    pub fn write(&mut self, offset: u64, mut bytes: &[u8]) -> Result<(), StoreError> {
        self.check_space(bytes.len() as u64)?;
        let mut at = offset;
        while !bytes.is_empty() {
            let (number, inside) = self.place(at)?;
            // More than a 32-bit address is more than any piece.
            let room = usize::try_from(self.part_size - inside).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            let path = self.path(number);
            let part = self.part(number, inside)?;
            part.file.write_all_at(now, inside).map_err(io_error("write", &path))?;
            part.length = inside.saturating_add(now.len() as u64);
            at = at.saturating_add(now.len() as u64);
            bytes = later;
        }
        Ok(())
    }

    /// Brings a part onto the disk, so that a power loss can't take it any more.
    pub fn commit(&mut self, number: u32) -> Result<(), StoreError> {
        let path = self.path(number);
        let file = match self.open.iter().position(|part| part.number == number) {
            Some(at) => self.open.remove(at).file,
            None => open_regular_here(&path).map_err(io_error("open", &path))?,
        };
        file.sync_all().map_err(io_error("sync", &path))?;
        sync_dir(&self.dir)
    }

    /// Deletes a part. One that isn't there is fine.
    pub fn drop_part(&mut self, number: u32) -> Result<(), StoreError> {
        self.open.retain(|part| part.number != number);
        self.reading = None;
        let path = self.path(number);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("delete", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Reads from an offset of the whole file on, to the end of the buffer or of the part. Returns how many bytes
    /// there were; 0 at the end of what is there.
    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let (number, inside) = self.place(offset)?;
        let path = self.path(number);
        let file = match self.reading.take() {
            Some((reading, file)) if reading == number => file,
            _ => open_regular_here(&path).map_err(io_error("open", &path))?,
        };
        // More than a 32-bit address is more than any buffer.
        let room = usize::try_from(self.part_size - inside).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..room) else {
            debug_assert!(false, "{room} bytes of a smaller buffer");
            let error = std::io::Error::other("internal error: a piece larger than its buffer");
            return Err(io_error("read", &path)(error));
        };
        let count = loop {
            match file.read_at(buffer, inside) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome.map_err(io_error("read", &path))?,
            }
        };
        self.reading = Some((number, file));
        Ok(count)
    }

    /// Deletes the download.
    pub fn clear(self) -> Result<(), StoreError> {
        fs::remove_dir_all(&self.dir).map_err(io_error("delete", &self.dir))
    }

    /// Asks for the free space now and then, as others write as well.
    fn check_space(&mut self, more: u64) -> Result<(), StoreError> {
        if let Some(left) = self.unasked.checked_sub(more) {
            self.unasked = left;
            return Ok(());
        }
        self.bounds.check(folder_of(&self.dir), more)?;
        self.unasked = SPACE_CHECK_EVERY;
        Ok(())
    }

    /// Gives the file of a download in one part a name of its own, beside the folder, and deletes the folder. It is
    /// overwritten when the same is downloaded again. The oldest of such files are deleted when there are more than the
    /// folder may hold ([`DownloadStore::keep_at_most`](super::DownloadStore::keep_at_most)).
    pub fn keep_as(self, extension: &str) -> Result<Kept, StoreError> {
        let (from, to) = (self.path(0), self.dir.with_extension(extension));
        if fs::symlink_metadata(&to).is_ok_and(|found| found.is_dir()) {
            // A file can't replace a folder.
            set_aside(&to).map_err(io_error("set aside", &to))?;
        }
        fs::rename(&from, &to).map_err(io_error("move", &from))?;
        sync_dir(folder_of(&self.dir))?;
        let dropped = self.bounds.prune(&to, extension);
        self.clear()?;
        Ok(Kept { path: to, dropped })
    }

    /// Returns where a part is.
    pub fn path(&self, number: u32) -> PathBuf {
        self.dir.join(part_name(number))
    }

    fn place(&self, offset: u64) -> Result<(u32, u64), StoreError> {
        let number = u32::try_from(offset / self.part_size);
        let number = number.map_err(|_| StoreError::Offset { path: self.dir.clone(), offset })?;
        Ok((number, offset % self.part_size))
    }

    /// Returns a part that has exactly so many bytes.
    fn part(&mut self, number: u32, length: u64) -> Result<&mut Part, StoreError> {
        let path = self.path(number);
        self.reading = None;
        let part = if let Some(at) = self.open.iter().position(|part| part.number == number) {
            self.open.remove(at)
        } else {
            let file = open_own(&path, 0o600).map_err(io_error("open", &path))?;
            let length = file.metadata().map_err(io_error("look at", &path))?.len();
            Part { number, file, length }
        };
        if part.length < length {
            return Err(StoreError::Length { path, length: part.length, wanted: length });
        }
        if part.length > length {
            part.file.set_len(length).map_err(io_error("cut", &path))?;
        }
        if self.open.len() >= OPEN_PARTS_MAX {
            self.open.remove(0);
        }
        self.open.push(part);
        let pushed = self.open.last_mut();
        debug_assert!(pushed.is_some(), "it was pushed just now");
        pushed.ok_or(StoreError::Length { path, length: 0, wanted: length })
    }
}

/// Finds the parts in a folder, and deletes everything else in it: parts that can't be read and written are no parts.
pub(super) fn survey(dir: &Path, request: &StoreRequest) -> Result<Vec<(u32, u64)>, StoreError> {
    let mut lengths = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let entry = entry.map_err(io_error("list", dir))?;
        let path = entry.path();
        let name = entry.file_name();
        let kind = entry.file_type().map_err(io_error("look at", &path))?;
        if name == MANIFEST {
            continue;
        }
        let part = name.to_str().and_then(number).filter(|part| *part < request.parts && kind.is_file());
        let usable = |part| {
            let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
            Some((part, file.metadata().ok()?.len()))
        };
        match part.and_then(usable) {
            Some(part) => lengths.push(part),
            None if kind.is_dir() => fs::remove_dir_all(&path).map_err(io_error("delete", &path))?,
            None => fs::remove_file(&path).map_err(io_error("delete", &path))?,
        }
    }
    lengths.sort_unstable();
    Ok(lengths)
}

fn part_name(number: u32) -> String {
    format!("part-{number:05}")
}

pub(super) fn number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("part-")?.parse().ok()?;
    (part_name(number) == name).then_some(number)
}
