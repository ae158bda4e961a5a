//! What a destination has to offer.

use std::io;

/// How large a destination is, and what that means for writes (fw-format §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Not known: a new file. Writes anywhere are fine.
    Unknown,
    /// This many bytes now, but writes beyond are allowed: a file.
    Soft(u64),
    /// This many bytes and not one more: a device, or a file with a limit.
    Hard(u64),
}

/// Something firmware can be written to.
///
/// All accesses are whole segments of 128 KiB, cut only at a hard end.
pub trait Target {
    /// Reads from byte `offset` into `buffer` and returns how many bytes came; fewer than asked for only
    /// at the end of the medium.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `data` at byte `offset`.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Returns when everything written so far would survive a loss of power.
    fn sync(&mut self) -> io::Result<()>;

    /// Tells the medium that `length` bytes from `offset` are no longer needed. A hint: failing is no harm.
    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()>;

    /// How large the destination is.
    fn extent(&self) -> Extent;
}

impl<T: Target + ?Sized> Target for &mut T {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        (**self).write_at(offset, data)
    }

    fn sync(&mut self) -> io::Result<()> {
        (**self).sync()
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        (**self).trim(offset, length)
    }

    fn extent(&self) -> Extent {
        (**self).extent()
    }
}

impl<T: Target + ?Sized> Target for Box<T> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        (**self).write_at(offset, data)
    }

    fn sync(&mut self) -> io::Result<()> {
        (**self).sync()
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        (**self).trim(offset, length)
    }

    fn extent(&self) -> Extent {
        (**self).extent()
    }
}
