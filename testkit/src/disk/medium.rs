//! Disks as files and as memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that can be read and written anywhere. Reads past the end give zeros, as a sparse image does.
pub trait Medium {
    /// Fills `buffer` from byte `offset`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data` at byte `offset`.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;
}

impl Medium for Vec<u8> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let have = self.get(from..).unwrap_or_default();
        let n = have.len().min(buffer.len());
        let (filled, rest) = buffer.split_at_mut(n);
        filled.copy_from_slice(have.get(..n).unwrap_or_default());
        rest.fill(0);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let end = from.checked_add(data.len()).ok_or_else(|| io::Error::other("offset out of range"))?;
        if self.len() < end {
            self.resize(end, 0);
        }
        if let Some(target) = self.get_mut(from..end) {
            target.copy_from_slice(data);
        }
        Ok(())
    }
}

/// An image file.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
}

impl ImageFile {
    /// Opens an image for reading and writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().read(true).write(true).open(path)? })
    }

    /// Makes a sparse image of `length` zero bytes; one that is there is replaced.
    pub fn create(path: &Path, length: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(length)?;
        Ok(Self { file })
    }
}

impl Medium for ImageFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let n = self.file.read_at(rest, offset + done as u64)?;
            if n == 0 {
                rest.fill(0);
                break;
            }
            done += n;
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}

/// Reads a medium from a position on.
pub(super) struct MediumReader<'a, M: Medium + ?Sized> {
    pub medium: &'a M,
    pub position: u64,
}

impl<M: Medium + ?Sized> io::Read for MediumReader<'_, M> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.medium.read_at(self.position, buffer)?;
        self.position = self.position.saturating_add(buffer.len() as u64);
        Ok(buffer.len())
    }
}
