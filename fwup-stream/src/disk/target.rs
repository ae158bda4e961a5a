//! What a destination has to offer.

use std::io;

use super::BLOCK;

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
/// No access crosses a border between segments of 128 KiB. Accesses begin and end at multiples of the
/// [granularity](Self::granularity), cut only at a hard end; whatever was filled from front to back is written
/// in whole segments.
///
/// A target of one's own, here one that counts what another is given:
///
/// ```
/// use std::io;
///
/// use fwup_stream::disk::{Extent, MemoryTarget, Target};
/// use fwup_stream::{Applier, ApplyOptions};
/// # use fwup_stream::create::Builder;
/// # use fwup_stream::manifest::Configuration;
///
/// struct Counted {
///     disk: MemoryTarget,
///     bytes: usize,
/// }
///
/// impl Target for Counted {
///     fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
///         self.disk.read_at(offset, buffer)
///     }
///
///     fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
///         self.bytes += data.len();
///         self.disk.write_at(offset, data)
///     }
///
///     fn sync(&mut self) -> io::Result<()> {
///         self.disk.sync()
///     }
///
///     fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
///         self.disk.trim(offset, length)
///     }
///
///     fn extent(&self) -> Extent {
///         self.disk.extent()
///     }
/// }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let text = br#"file-resource hello { contents = "Hello!" }
/// #     task upgrade { on-resource hello { raw_write(1) } }"#;
/// # let archive = Builder::new().create(Configuration::parse(text, &|_| None)?, Vec::new())?;
///
/// let mut target = Counted { disk: MemoryTarget::with_hard_size(1 << 20), bytes: 0 };
/// let mut options = ApplyOptions::default();
/// options.require_signature = false;
/// let mut applier = Applier::new(options, &mut target)?;
/// applier.push(&archive)?;
/// applier.finish()?;
/// assert_eq!(target.disk.bytes(512, 6), b"Hello!");
/// assert!(target.bytes >= 512);
/// # Ok(())
/// # }
/// ```
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

    /// The bytes that are read and written together: a power of two from 512 (which it is when not told) to
    /// 131072. A device should name what it can write in one go, so that no write touches a neighbour.
    fn granularity(&self) -> usize {
        BLOCK
    }
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

    fn granularity(&self) -> usize {
        (**self).granularity()
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

    fn granularity(&self) -> usize {
        (**self).granularity()
    }
}
