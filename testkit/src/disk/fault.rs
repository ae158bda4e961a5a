//! A disk that is full, slow, or going bad.

use std::io::{self, ErrorKind};

use fwup_stream::disk::{Extent, Target};

use super::layout::BLOCK;

/// What is wrong with a disk. Calls are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Writes that reach past this many bytes fail for want of space.
    FullAt(u64),
    /// This write, and all later ones, fail.
    BadFromWrite(u64),
    /// This read, and all later ones, fail.
    BadFromRead(u64),
    /// This sync, and all later ones, fail.
    BadFromSync(u64),
    /// This write fails, later ones do not.
    BadWrite(u64),
    /// This read fails, later ones do not.
    BadRead(u64),
    /// This sync fails, later ones do not.
    BadSync(u64),
    /// Reads that touch a byte from the first up to but not including the second fail, until it is written.
    Unreadable(u64, u64),
    /// Each call takes this many ticks, which are counted and not waited for.
    Slow {
        /// For a read.
        read: u32,
        /// For a write.
        write: u32,
        /// For a sync.
        sync: u32,
    },
}

/// A destination with faults in front of another one.
///
/// Of a write that fails the first half of its sectors is written all the same: nobody knows what a disk has
/// done when it reports an error. A full disk takes nothing.
#[derive(Debug, Clone)]
pub struct FaultTarget<T> {
    inner: T,
    faults: Vec<Fault>,
    reads: u64,
    writes: u64,
    syncs: u64,
    ticks: u64,
}

impl<T> FaultTarget<T> {
    /// Puts a fault in front of `inner`.
    pub fn new(inner: T, fault: Fault) -> Self {
        Self { faults: vec![fault], ..Self::sound(inner) }
    }

    /// Puts none in front of it: faults come later.
    pub fn sound(inner: T) -> Self {
        Self { inner, faults: Vec::new(), reads: 0, writes: 0, syncs: 0, ticks: 0 }
    }

    /// Adds a fault.
    pub fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Takes all faults away. Counts go on.
    pub fn heal(&mut self) {
        self.faults.clear();
    }

    /// Reads, writes and syncs so far, those that failed included.
    pub fn calls(&self) -> [u64; 3] {
        [self.reads, self.writes, self.syncs]
    }

    /// Ticks that all calls together took.
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// The destination behind.
    pub fn into_inner(self) -> T {
        self.inner
    }

    /// The destination behind.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// The destination behind, to change it.
    pub fn inner_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    fn has(&self, which: impl Fn(&Fault) -> bool) -> bool {
        self.faults.iter().any(which)
    }

    fn wait(&mut self, ticks: impl Fn(&Fault) -> u32) {
        let all: u64 = self.faults.iter().map(|fault| u64::from(ticks(fault))).sum();
        self.ticks = self.ticks.saturating_add(all);
    }
}

impl<T: Target> Target for FaultTarget<T> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        self.wait(|fault| if let Fault::Slow { read, .. } = fault { *read } else { 0 });
        let (number, end) = (self.reads, offset.saturating_add(buffer.len() as u64));
        let fails = self.has(|fault| match *fault {
            Fault::BadFromRead(from) => number >= from,
            Fault::BadRead(one) => number == one,
            Fault::Unreadable(from, to) => from < to && offset < to && from < end,
            _ => false,
        });
        if fails { Err(bad()) } else { self.inner.read_at(offset, buffer) }
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writes += 1;
        self.wait(|fault| if let Fault::Slow { write, .. } = fault { *write } else { 0 });
        let (number, end) = (self.writes, offset.saturating_add(data.len() as u64));
        if self.has(|fault| matches!(*fault, Fault::FullAt(limit) if end > limit)) {
            return Err(io::Error::new(ErrorKind::StorageFull, "no space left on the disk"));
        }
        let fails = self.has(|fault| match *fault {
            Fault::BadFromWrite(from) => number >= from,
            Fault::BadWrite(one) => number == one,
            _ => false,
        });
        if fails {
            let sector = usize::try_from(BLOCK).unwrap_or(512);
            let half = data.get(..data.len() / sector / 2 * sector).unwrap_or_default();
            if !half.is_empty() {
                self.inner.write_at(offset, half)?;
            }
            return Err(bad());
        }
        self.inner.write_at(offset, data)?;
        // A disk gives a bad sector that is written another place.
        for fault in &mut self.faults {
            if let Fault::Unreadable(from, to) = fault {
                if offset <= *from {
                    *from = end.max(*from);
                } else if end >= *to {
                    *to = offset.min(*to);
                }
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        self.wait(|fault| if let Fault::Slow { sync, .. } = fault { *sync } else { 0 });
        let number = self.syncs;
        let fails = self.has(|fault| match *fault {
            Fault::BadFromSync(from) => number >= from,
            Fault::BadSync(one) => number == one,
            _ => false,
        });
        if fails { Err(bad()) } else { self.inner.sync() }
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.trim(offset, length)
    }

    fn extent(&self) -> Extent {
        self.inner.extent()
    }

    fn granularity(&self) -> usize {
        self.inner.granularity()
    }
}

fn bad() -> io::Error {
    io::Error::other("input/output error of a disk that goes bad")
}
