//! A disk that is full, or going bad.

use std::io::{self, ErrorKind};

use fwup_stream::disk::{Extent, Target};

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Writes that reach past this many bytes fail for want of space.
    FullAt(u64),
    /// This write, counted from 1, and all later ones fail.
    BadFromWrite(u64),
    /// This read, counted from 1, and all later ones fail.
    BadFromRead(u64),
    /// This sync, counted from 1, and all later ones fail.
    BadFromSync(u64),
}

/// A destination with a fault in front of another one.
#[derive(Debug)]
pub struct FaultTarget<T> {
    inner: T,
    fault: Fault,
    reads: u64,
    writes: u64,
    syncs: u64,
}

impl<T> FaultTarget<T> {
    /// Puts a fault in front of `inner`.
    pub fn new(inner: T, fault: Fault) -> Self {
        Self { inner, fault, reads: 0, writes: 0, syncs: 0 }
    }

    /// The destination behind.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T: Target> Target for FaultTarget<T> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        if matches!(self.fault, Fault::BadFromRead(from) if self.reads >= from) {
            return Err(bad());
        }
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writes += 1;
        match self.fault {
            Fault::FullAt(limit) if offset.saturating_add(data.len() as u64) > limit => {
                return Err(io::Error::new(ErrorKind::StorageFull, "no space left on the disk"));
            }
            Fault::BadFromWrite(from) if self.writes >= from => return Err(bad()),
            _ => {}
        }
        self.inner.write_at(offset, data)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        if matches!(self.fault, Fault::BadFromSync(from) if self.syncs >= from) {
            return Err(bad());
        }
        self.inner.sync()
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.trim(offset, length)
    }

    fn extent(&self) -> Extent {
        self.inner.extent()
    }
}

fn bad() -> io::Error {
    io::Error::other("input/output error of a disk that goes bad")
}
