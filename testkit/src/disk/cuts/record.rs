//! What an application of firmware does to a disk, in order.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fwup_stream::disk::{Extent, Target};

use super::super::image::Image;
use super::super::loss::Pending;
use super::super::medium::Medium;

/// One call that changes what a disk holds or may lose.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// A write or a trim.
    Change(Pending),
    /// Everything before is safe.
    Sync,
}

/// A disk that never fails and remembers what was done to it. Clones are the same disk, so that one can be
/// given away and the other asked afterwards.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Mutex<Recording>>);

#[derive(Debug)]
struct Recording {
    image: Image,
    length: u64,
    sector: u64,
    ops: Vec<Op>,
    reads: u64,
}

impl Recorder {
    pub(super) fn new(image: Image, length: u64, sector: u64) -> Self {
        Self(Arc::new(Mutex::new(Recording { image, length, sector, ops: Vec::new(), reads: 0 })))
    }

    /// What is on the disk now, what was done, and how often it was read.
    pub(super) fn take(&self) -> (Image, Vec<Op>, u64) {
        let mut recording = self.lock();
        (recording.image.clone(), std::mem::take(&mut recording.ops), recording.reads)
    }

    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for Recorder {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut recording = self.lock();
        recording.reads += 1;
        let have = usize::try_from(recording.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = have.min(buffer.len());
        recording.image.read_at(offset, buffer.get_mut(..n).unwrap_or_default())?;
        Ok(n)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut recording = self.lock();
        if offset.saturating_add(data.len() as u64) > recording.length {
            return Err(io::ErrorKind::StorageFull.into());
        }
        recording.image.write_at(offset, data)?;
        recording.ops.push(Op::Change(Pending::Write { offset, data: data.to_vec() }));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.lock().ops.push(Op::Sync);
        Ok(())
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let trim = Pending::Trim { offset, length };
        let mut recording = self.lock();
        trim.apply(&mut recording.image)?;
        recording.ops.push(Op::Change(trim));
        Ok(())
    }

    fn extent(&self) -> Extent {
        Extent::Hard(self.lock().length)
    }

    fn granularity(&self) -> usize {
        usize::try_from(self.lock().sector).unwrap_or(512)
    }
}
