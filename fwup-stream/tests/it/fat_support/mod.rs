//! What the tests of the FAT file systems share: a destination in memory, a reader of the golden cases, and
//! a look at the outcome that does not use the code under test.

pub mod case;
pub mod check;

use std::collections::{BTreeMap, BTreeSet};

use fwup_stream::disk::{DiskError, DiskIo};

const SEGMENT: usize = 128 * 1024;

/// A regular file behind a cache of segments that never runs full: what fw-format §9.2 and §9.6 say of trim,
/// of the end of the file and of errors shows, and the order of writes does not.
#[derive(Default)]
pub struct Disk {
    pub image: Vec<u8>,
    cache: BTreeMap<usize, Vec<u8>>,
    trimmed: BTreeSet<usize>,
    /// Reads and writes so far.
    pub calls: usize,
    /// Writes fail from this call on.
    pub fail_after: Option<usize>,
    /// The first block of every write, and whether it was streamed.
    pub streamed: Vec<(u64, bool)>,
    /// Nobody counts what changes, so that file systems keep no index.
    pub uncounted: bool,
    others: u64,
}

impl Disk {
    pub fn new(image: Vec<u8>) -> Self {
        Disk { image, ..Self::default() }
    }

    /// The image after the final flush.
    pub fn finish(mut self) -> Vec<u8> {
        for (index, segment) in std::mem::take(&mut self.cache) {
            let start = index * SEGMENT;
            if self.image.len() < start + SEGMENT {
                self.image.resize(start + SEGMENT, 0);
            }
            self.image[start..start + SEGMENT].copy_from_slice(&segment);
        }
        self.image
    }

    fn segment(&self, index: usize) -> Vec<u8> {
        let mut bytes = vec![0; SEGMENT];
        if !self.trimmed.contains(&index) {
            let start = (index * SEGMENT).min(self.image.len());
            let end = (start + SEGMENT).min(self.image.len());
            bytes[..end - start].copy_from_slice(&self.image[start..end]);
        }
        bytes
    }
}

impl DiskIo for Disk {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.calls += 1;
        let mut offset = usize::try_from(offset).unwrap();
        for byte_run in buffer.chunks_mut(512) {
            let (index, within) = (offset / SEGMENT, offset % SEGMENT);
            assert!(within + byte_run.len() <= SEGMENT, "whole sectors only");
            match self.cache.get(&index) {
                Some(segment) => byte_run.copy_from_slice(&segment[within..within + byte_run.len()]),
                None if self.trimmed.contains(&index) => byte_run.fill(0),
                None => {
                    let held = self.image.get(offset..).unwrap_or(&[]);
                    let held = &held[..held.len().min(byte_run.len())];
                    byte_run.fill(0);
                    byte_run[..held.len()].copy_from_slice(held);
                }
            }
            offset += byte_run.len();
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8], streamed: bool) -> Result<(), DiskError> {
        self.others += 1;
        self.write_fat(offset, data, streamed)
    }

    fn other_changes(&self) -> Option<u64> {
        (!self.uncounted).then_some(self.others)
    }

    fn write_fat(&mut self, offset: u64, data: &[u8], streamed: bool) -> Result<(), DiskError> {
        self.calls += 1;
        if self.fail_after.is_some_and(|limit| self.calls > limit) {
            return Err(DiskError::Write { offset });
        }
        self.streamed.push((offset / 512, streamed));
        let mut offset = usize::try_from(offset).unwrap();
        for piece in data.chunks(512) {
            let (index, within) = (offset / SEGMENT, offset % SEGMENT);
            if !self.cache.contains_key(&index) {
                let segment = self.segment(index);
                self.cache.insert(index, segment);
            }
            self.cache.get_mut(&index).unwrap()[within..within + piece.len()].copy_from_slice(piece);
            offset += piece.len();
        }
        Ok(())
    }

    fn trim(&mut self, offset: u64, length: u64) -> Result<(), DiskError> {
        self.others += 1;
        let start = usize::try_from(offset).unwrap().div_ceil(SEGMENT);
        let end = usize::try_from(offset + length).unwrap() / SEGMENT;
        for index in start..end {
            self.cache.remove(&index);
            self.trimmed.insert(index);
        }
        Ok(())
    }
}
