//! The target as the cache uses it: segments are read, runs of blocks written and checked.

use super::buffer::Buffer;
use super::cache::CacheOptions;
use super::io::DiskError;
use super::segment::{Blocks, Segment};
use super::target::{Extent, Target};
use super::{BLOCK, SEGMENT, SEGMENT_BYTES, reason};

/// A target, what is known about it, and how to write to it.
#[derive(Debug)]
pub(super) struct Store<T> {
    pub(super) target: T,
    pub(super) extent: Extent,
    options: CacheOptions,
    granularity: usize,
    scratch: Option<Buffer>,
    unsynced: bool,
    failed: Option<u64>,
}

impl<T: Target> Store<T> {
    pub(super) fn new(target: T, options: CacheOptions) -> Self {
        let extent = target.extent();
        // What is no power of two within a segment would be a mistake of the target; a whole segment
        // satisfies every medium.
        let granularity = Some(target.granularity().max(BLOCK)).filter(|bytes| bytes.is_power_of_two());
        let granularity = granularity.unwrap_or(SEGMENT).min(SEGMENT);
        Self { target, extent, options, granularity, scratch: None, unsynced: false, failed: None }
    }

    pub(super) fn options(&self) -> &CacheOptions {
        &self.options
    }

    /// Fails if a write has failed before: then no more writes are made.
    pub(super) fn check(&self) -> Result<(), DiskError> {
        self.failed.map_or(Ok(()), |offset| Err(DiskError::Write { offset }))
    }

    /// Forgets a write that failed.
    pub(super) fn forgive(&mut self) {
        self.failed = None;
    }

    /// Bytes of this segment before a hard end.
    pub(super) fn usable(&self, number: u64) -> usize {
        match self.extent {
            Extent::Hard(end) => {
                let left = end.saturating_sub(number.saturating_mul(SEGMENT_BYTES)).min(SEGMENT_BYTES);
                usize::try_from(left).unwrap_or(SEGMENT)
            }
            Extent::Unknown | Extent::Soft(_) => SEGMENT,
        }
    }

    /// Whether data at this address can be written as they are.
    pub(super) fn takes(&self, data: &[u8]) -> bool {
        data.as_ptr().align_offset(self.granularity) == 0
    }

    /// Makes all blocks of the segment known, from the medium or, when it was trimmed, as zeros.
    pub(super) fn complete(&mut self, segment: &mut Segment, trimmed: bool) -> Result<(), DiskError> {
        let usable = self.usable(segment.number);
        if segment.known.covers(Blocks::first(usable.div_ceil(BLOCK))) {
            return Ok(());
        }
        if trimmed {
            segment.complete_with_zeros();
            return Ok(());
        }
        self.with_scratch(|store, scratch| {
            let length = store.read(segment.number, scratch)?;
            segment.complete_from(scratch, length);
            Ok(())
        })
    }

    /// Copies a part of a segment as the medium holds it.
    pub(super) fn read_part(&mut self, number: u64, inside: usize, out: &mut [u8]) -> Result<(), DiskError> {
        self.with_scratch(|store, scratch| {
            store.read(number, scratch)?;
            if let Some(bytes) = scratch.get(inside..).and_then(|rest| rest.get(..out.len())) {
                out.copy_from_slice(bytes);
            }
            Ok(())
        })
    }

    /// Writes these blocks of a completed segment, each run of neighbours in one go, and nothing else.
    pub(super) fn write(&mut self, segment: &mut Segment, blocks: Blocks) -> Result<(), DiskError> {
        self.check()?;
        let usable = self.usable(segment.number);
        let whole = Blocks::first(usable.div_ceil(BLOCK));
        let offset = segment.number.saturating_mul(SEGMENT_BYTES);
        let outcome = self.with_scratch(|store, scratch| {
            let mut left = blocks.and(whole);
            if store.options.minimize_writes {
                left = store.changed(segment, left, left == whole, scratch);
            }
            let data = segment.data.bytes();
            left.runs().try_for_each(|run| store.write_run(offset, data, usable, run, scratch))
        });
        match outcome {
            Ok(()) => segment.written(blocks),
            Err(_) => self.failed = Some(offset),
        }
        outcome
    }

    /// Writes a whole segment that is not in the cache.
    pub(super) fn write_whole(&mut self, number: u64, data: &[u8]) -> Result<(), DiskError> {
        self.check()?;
        let offset = number.saturating_mul(SEGMENT_BYTES);
        let outcome = self.with_scratch(|store, scratch| {
            let same = store.options.minimize_writes
                && store.read(number, scratch).is_ok_and(|length| length == SEGMENT)
                && *scratch == *data;
            if same {
                return Ok(());
            }
            store.write_run(offset, data, SEGMENT, (0, SEGMENT / BLOCK), scratch)
        });
        if outcome.is_err() {
            self.failed = Some(offset);
        }
        outcome
    }

    /// Returns when everything written would survive a loss of power.
    pub(super) fn sync(&mut self) -> Result<(), DiskError> {
        if self.unsynced {
            self.target.sync().map_err(|error| late(error, |reason| DiskError::Sync { reason }))?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Lends the scratch segment, whose memory is taken only when first needed.
    fn with_scratch<R>(&mut self, run: impl FnOnce(&mut Self, &mut [u8]) -> R) -> R {
        let mut scratch = self.scratch.take().unwrap_or_else(Buffer::new);
        let result = run(self, scratch.bytes_mut());
        self.scratch = Some(scratch);
        result
    }

    /// Reads the usable part of a segment and returns how much the medium has of it; what is past the end of
    /// a file is zeros.
    fn read(&mut self, number: u64, out: &mut [u8]) -> Result<usize, DiskError> {
        let usable = self.usable(number);
        let offset = number.saturating_mul(SEGMENT_BYTES);
        let length = self.read_range(offset, out.get_mut(..usable).unwrap_or_default())?;
        if let Some(rest) = out.get_mut(length..) {
            rest.fill(0);
        }
        Ok(if length == usable { SEGMENT } else { length })
    }

    fn read_range(&mut self, offset: u64, out: &mut [u8]) -> Result<usize, DiskError> {
        let (mut done, length) = (0, out.len());
        while let Some(part) = out.get_mut(done..).filter(|part| !part.is_empty()) {
            match self.target.read_at(offset.saturating_add(done as u64), part) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) => return Err(late(error, |reason| DiskError::Read { length, offset, reason })),
            }
        }
        Ok(done)
    }

    /// The blocks that differ from what the medium holds; all of them when `all_or_none` and one differs.
    fn changed(
        &mut self,
        segment: &Segment,
        blocks: Blocks,
        all_or_none: bool,
        scratch: &mut [u8],
    ) -> Blocks {
        let Ok(length) = self.read(segment.number, scratch) else { return blocks };
        let mut same = Blocks::default();
        let pairs = segment.data.bytes().chunks_exact(BLOCK).zip(scratch.chunks_exact(BLOCK));
        for (number, _) in pairs.enumerate().filter(|(_, (mine, theirs))| mine == theirs) {
            same.insert(number, number + 1);
        }
        // What is not on the medium yet has to be written whatever it is.
        let left = blocks.without(same.and(Blocks::first(length / BLOCK)));
        if all_or_none && !left.is_empty() { blocks } else { left }
    }

    /// Writes one run of blocks of the segment that begins at `start`.
    fn write_run(
        &mut self,
        start: u64,
        segment: &[u8],
        usable: usize,
        (first, end): (usize, usize),
        scratch: &mut [u8],
    ) -> Result<(), DiskError> {
        let run = first * BLOCK..(end * BLOCK).min(usable);
        let wide =
            run.start - run.start % self.granularity..run.end.next_multiple_of(self.granularity).min(usable);
        let at = start.saturating_add(wide.start as u64);
        let mut data = segment.get(wide.clone()).unwrap_or_default();
        if wide != run {
            // The medium cannot write less. The neighbours must stay what they are on the medium, not what
            // the cache holds of them: that may have to come later.
            self.read_range(at, scratch.get_mut(wide.clone()).unwrap_or_default())?;
            if let (Some(to), Some(from)) = (scratch.get_mut(run.clone()), segment.get(run.clone())) {
                to.copy_from_slice(from);
            }
            data = scratch.get(wide.clone()).unwrap_or_default();
        }
        self.unsynced = true;
        self.target
            .write_at(at, data)
            .map_err(|error| late(error, |_| DiskError::Write { offset: start }))?;
        if self.options.verify_writes {
            let back = scratch.get_mut(wide).unwrap_or_default();
            if self.read_range(at, back).is_err() {
                return Err(DiskError::ReadBack { offset: start });
            }
            if scratch.get(run.clone()) != segment.get(run) {
                return Err(DiskError::Verify { offset: start });
            }
        }
        Ok(())
    }
}

/// The error for a failed call to the target: its own when it tells of an earlier write.
fn late(error: std::io::Error, other: impl FnOnce(String) -> DiskError) -> DiskError {
    match error.downcast::<DiskError>() {
        Ok(earlier) => earlier,
        Err(error) => other(reason(&error)),
    }
}
