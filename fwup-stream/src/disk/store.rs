//! The target as the cache uses it: segments are read, runs of blocks written and checked.

use std::io;

use super::buffer::{ALIGNMENT, Buffer};
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
                // At most a segment, which every `usize` holds.
                usize::try_from(left).unwrap_or(SEGMENT)
            }
            Extent::Unknown | Extent::Soft(_) => SEGMENT,
        }
    }

    /// Moves a soft end behind a segment that is read or written, as fwup does: partitions expand to it.
    pub(super) fn reach(&mut self, number: u64) {
        if let Extent::Soft(end) = &mut self.extent {
            // A segment whose end cannot be counted is refused when it is accessed.
            *end = (*end).max(number.saturating_add(1).saturating_mul(SEGMENT_BYTES));
        }
    }

    /// Whether data at this address can be written as they are: direct I/O wants whole pages of memory.
    pub(super) fn takes(data: &[u8]) -> bool {
        data.as_ptr().align_offset(ALIGNMENT) == 0
    }

    /// Makes all blocks of the segment known, from the medium or, when it was trimmed, as zeros.
    pub(super) fn complete(&mut self, segment: &mut Segment, trimmed: bool) -> Result<(), DiskError> {
        segment.discarded |= trimmed && self.options.enable_trim;
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
            let bytes = scratch.get(inside..).and_then(|rest| rest.get(..out.len()));
            let offset = number.saturating_mul(SEGMENT_BYTES);
            let outside = || DiskError::internal(offset, "bytes to read lie outside of their segment");
            out.copy_from_slice(bytes.ok_or_else(outside)?);
            Ok(())
        })
    }

    /// Writes these blocks of a completed segment, each run of neighbours in one go, and nothing else.
    pub(super) fn write(&mut self, segment: &mut Segment, blocks: Blocks) -> Result<(), DiskError> {
        self.check()?;
        self.reach(segment.number);
        let usable = self.usable(segment.number);
        let whole = Blocks::first(usable.div_ceil(BLOCK));
        let offset = segment.number.saturating_mul(SEGMENT_BYTES);
        let outcome = self.with_scratch(|store, scratch| {
            let mut left = blocks.and(whole);
            if store.options.minimize_writes && !segment.discarded {
                left = store.changed(segment, left, left == whole, scratch)?;
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
    pub(super) fn write_whole(&mut self, number: u64, data: &[u8], trimmed: bool) -> Result<(), DiskError> {
        self.check()?;
        self.reach(number);
        let offset = number.saturating_mul(SEGMENT_BYTES);
        let discarded = trimmed && self.options.enable_trim;
        let outcome = self.with_scratch(|store, scratch| {
            if store.options.minimize_writes
                && !discarded
                && store.compare(number, scratch)? == Some(SEGMENT)
                && *scratch == *data
            {
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
        self.check()?;
        if self.unsynced {
            let outcome = self.target.sync();
            outcome.map_err(|error| self.late(error, |reason| DiskError::Sync { reason }))?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Tells the medium that a range is no longer needed. That it refuses is told and no harm; that a write before
    /// has failed is.
    pub(super) fn trim(&mut self, offset: u64, length: u64) -> Result<Option<String>, DiskError> {
        match self.target.trim(offset, length).map_err(|error| earlier(error).map_err(|error| reason(&error)))
        {
            Ok(()) => Ok(None),
            Err(Err(reason)) => Ok(Some(reason)),
            Err(Ok(error)) => {
                self.note(&error);
                Err(error)
            }
        }
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
        self.reach(number);
        let usable = self.usable(number);
        let offset = number.saturating_mul(SEGMENT_BYTES);
        let (there, beyond) = out
            .split_at_mut_checked(usable)
            .ok_or_else(|| DiskError::internal(offset, "a segment does not fit into its memory"))?;
        let length = self.read_range(offset, there)?;
        there.iter_mut().skip(length).chain(beyond).for_each(|byte| *byte = 0);
        Ok(if length == usable { SEGMENT } else { length })
    }

    fn read_range(&mut self, offset: u64, out: &mut [u8]) -> Result<usize, DiskError> {
        let (mut done, length) = (0, out.len());
        while let Some(part) = out.get_mut(done..).filter(|part| !part.is_empty()) {
            match self.target.read_at(offset.saturating_add(done as u64), part) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) => {
                    return Err(self.late(error, |reason| DiskError::Read { length, offset, reason }));
                }
            }
        }
        Ok(done)
    }

    /// Reads what the medium holds, to write only what differs; nothing when it cannot be read, which writing
    /// may mend. That an earlier write has failed is an error here as everywhere.
    fn compare(&mut self, number: u64, scratch: &mut [u8]) -> Result<Option<usize>, DiskError> {
        match self.read(number, scratch) {
            Ok(length) => Ok(Some(length)),
            Err(DiskError::Read { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The blocks that differ from what the medium holds; all of them when `all_or_none` and one differs.
    fn changed(
        &mut self,
        segment: &Segment,
        blocks: Blocks,
        all_or_none: bool,
        scratch: &mut [u8],
    ) -> Result<Blocks, DiskError> {
        let Some(length) = self.compare(segment.number, scratch)? else { return Ok(blocks) };
        let mut same = Blocks::default();
        let pairs = segment.data.bytes().chunks_exact(BLOCK).zip(scratch.chunks_exact(BLOCK));
        for (number, _) in pairs.enumerate().filter(|(_, (mine, theirs))| mine == theirs) {
            same.insert(number, number + 1);
        }
        // What is not on the medium yet has to be written whatever it is.
        let left = blocks.without(same.and(Blocks::first(length / BLOCK)));
        Ok(if all_or_none && !left.is_empty() { blocks } else { left })
    }

    /// Writes one run of blocks of the segment that begins at `start`, from memory at the start of a page.
    fn write_run(
        &mut self,
        start: u64,
        segment: &[u8],
        usable: usize,
        (first, end): (usize, usize),
        scratch: &mut [u8],
    ) -> Result<(), DiskError> {
        let outside = || DiskError::internal(start, "blocks to write lie outside of their segment");
        let run = first.saturating_mul(BLOCK)..end.saturating_mul(BLOCK).min(usable);
        let wide =
            run.start - run.start % self.granularity..run.end.next_multiple_of(self.granularity).min(usable);
        let at = start.saturating_add(wide.start as u64);
        let wanted = segment.get(run.clone()).filter(|wanted| !wanted.is_empty()).ok_or_else(outside)?;
        let scratch = scratch.get_mut(..wide.len()).ok_or_else(outside)?;
        let inside = run.start - wide.start..run.end - wide.start;
        self.unsynced = true;
        let outcome = if wide == run && Self::takes(wanted) {
            self.target.write_at(at, wanted)
        } else {
            if wide != run {
                // The medium cannot write less. The neighbours must stay what they are on the medium, not what
                // the cache holds of them: that may have to come later.
                self.read_range(at, scratch)?;
            }
            scratch.get_mut(inside.clone()).ok_or_else(outside)?.copy_from_slice(wanted);
            self.target.write_at(at, scratch)
        };
        outcome.map_err(|error| self.late(error, |_| DiskError::Write { offset: start }))?;
        if self.options.verify_writes {
            if self.read_range(at, scratch).is_err() {
                return Err(DiskError::ReadBack { offset: start });
            }
            if scratch.get(inside) != Some(wanted) {
                return Err(DiskError::Verify { offset: start });
            }
        }
        Ok(())
    }

    /// The error for a failed call to the target: its own when it tells of an earlier write.
    fn late(&mut self, error: io::Error, other: impl FnOnce(String) -> DiskError) -> DiskError {
        match earlier(error) {
            Ok(earlier) => {
                self.note(&earlier);
                earlier
            }
            Err(error) => other(reason(&error)),
        }
    }

    /// Notes that an earlier write has failed, so that nothing more is written even if whoever made the call that
    /// told of it can do without an answer.
    fn note(&mut self, error: &DiskError) {
        if let DiskError::Write { offset } | DiskError::ReadBack { offset } | DiskError::Verify { offset } =
            error
        {
            self.failed = Some(*offset);
        }
    }
}

/// What became of an earlier write, when that is what an error tells.
fn earlier(error: io::Error) -> Result<DiskError, io::Error> {
    error.downcast()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may.
mod tests {
    use super::*;
    use crate::disk::MemoryTarget;

    #[test]
    fn blocks_outside_of_a_segment_are_an_error_and_never_count_as_written() {
        for verify_writes in [false, true] {
            for (usable, run) in [
                (SEGMENT, (SEGMENT / BLOCK, SEGMENT / BLOCK + 1)),
                (SEGMENT, (0, SEGMENT / BLOCK + 1)),
                (SEGMENT * 2, (0, SEGMENT / BLOCK + 1)),
                (BLOCK, (1, 2)),
                (SEGMENT, (usize::MAX, usize::MAX)),
                (SEGMENT, (7, 7)),
            ] {
                // With debug assertions it is a panic, without an error.
                let outcome = std::panic::catch_unwind(|| {
                    let options = CacheOptions { verify_writes, ..CacheOptions::default() };
                    let mut store = Store::new(MemoryTarget::with_hard_size(1 << 20), options);
                    let (data, mut scratch) = (Buffer::new(), Buffer::new());
                    store.write_run(0, data.bytes(), usable, run, scratch.bytes_mut())
                });
                match outcome {
                    Err(_) if cfg!(debug_assertions) => {}
                    Err(panic) => std::panic::resume_unwind(panic),
                    // The last block may be cut by the end of the medium.
                    Ok(Ok(())) => assert_eq!((usable, run), (SEGMENT, (0, SEGMENT / BLOCK + 1))),
                    Ok(Err(error)) => assert!(matches!(error, DiskError::Internal { .. }), "{error}"),
                }
            }
        }
    }
}
