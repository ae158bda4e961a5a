//! The write cache: segments, and when they reach the medium.
//!
//! Results are those of fwup (fw-format §9.2 to §9.6). Two things go beyond it and cannot be seen in the
//! image. In the last act (`on-finish`) nothing is written early, and at the end everything older is written
//! and synced before it follows, so that a loss of power at any moment leaves either the old or the new boot
//! slot selected, never a new one whose data are missing. And of a segment that was not streamed whole, only
//! what was changed is written.

use super::buffer::Buffer;
use super::flush::Pair;
use super::io::{DiskError, DiskIo, Twins};
use super::segment::{Blocks, Segment};
use super::store::Store;
use super::target::{Extent, Target};
use super::trimmed::{TRACKED_SEGMENTS, Trimmed};
use super::{BLOCK, SEGMENT, SEGMENT_BYTES, within};
use crate::limits::{CACHE_MEGABYTES_DEFAULT, CACHE_MEGABYTES_MAX, RECORD_HELD};

/// Segments in a megabyte of cache.
const SEGMENTS_PER_MEGABYTE: u64 = 8;
/// Buffers kept for use again; more would only hold memory.
const SPARE_BUFFERS: usize = 2;

/// The part of the cache, as a divisor, that a copy of a record kept twice may fill to be held back: both copies
/// then leave half of the cache to others.
const TWIN_SHARE: usize = 4;

/// How the cache behaves.
#[derive(Clone, Debug, Default)]
pub struct CacheOptions {
    /// Read back what was written and compare.
    pub verify_writes: bool,
    /// Skip writing what the medium holds already.
    pub minimize_writes: bool,
    /// Pass trims on to the medium.
    pub enable_trim: bool,
}

/// A cache of segments in front of a [`Target`].
#[derive(Debug)]
pub struct SegmentCache<T> {
    pub(super) store: Store<T>,
    pub(super) segments: Vec<Segment>,
    spare: Vec<Buffer>,
    capacity: usize,
    trimmed: Trimmed,
    /// Counts uses; the time of this cache.
    pub(super) clock: u64,
    /// Whether the last act has begun.
    pub(super) last_act: bool,
    /// Something of before the last act was written and not synced.
    pub(super) early_unsynced: bool,
    /// Records kept twice that were written.
    pub(super) pairs: Vec<Pair>,
    warnings: Vec<String>,
    /// Counts changes made otherwise than by FAT file systems.
    other_changes: u64,
}

impl<T: Target> SegmentCache<T> {
    /// Puts a cache of the default size in front of `target`.
    pub fn new(target: T, options: CacheOptions) -> Self {
        let mut cache = Self {
            store: Store::new(target, options),
            segments: Vec::new(),
            spare: Vec::new(),
            capacity: 0,
            trimmed: Trimmed::default(),
            clock: 0,
            last_act: false,
            early_unsynced: false,
            pairs: Vec::new(),
            warnings: Vec::new(),
            other_changes: 0,
        };
        cache.set_megabytes(CACHE_MEGABYTES_DEFAULT);
        cache
    }

    /// Sets how much the cache may hold (`block-cache-size-mb`); 0 means the default. Memory is taken only
    /// when needed.
    pub fn set_megabytes(&mut self, megabytes: u64) {
        let megabytes = if megabytes == 0 { CACHE_MEGABYTES_DEFAULT } else { megabytes };
        let segments = megabytes.min(CACHE_MEGABYTES_MAX) * SEGMENTS_PER_MEGABYTE;
        // At most the limit, which every `usize` holds.
        self.capacity = usize::try_from(segments).unwrap_or(usize::MAX);
    }

    /// Bytes the destination is known to have, 0 when not known; what partitions expand to.
    pub fn media_bytes(&self) -> u64 {
        match self.store.extent {
            Extent::Unknown => 0,
            Extent::Soft(bytes) | Extent::Hard(bytes) => bytes,
        }
    }

    /// Says that what is written from now on is the last act, which selects what boots next.
    pub fn begin_last_act(&mut self) {
        self.last_act = true;
    }

    /// Forgets everything that has not reached the medium, and any write error.
    pub fn discard(&mut self) {
        self.other_changes += 1;
        self.segments.clear();
        self.pairs.clear();
        self.trimmed = Trimmed::default();
        self.store.forgive();
        self.last_act = false;
    }

    /// Takes the warnings that came up, for whoever shows them.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    pub(super) fn position(&self, number: u64) -> Option<usize> {
        // The one made last is the one most often wanted.
        self.segments.iter().rposition(|segment| segment.number == number)
    }

    pub(super) fn sync(&mut self) -> Result<(), DiskError> {
        self.early_unsynced = false;
        self.store.sync()
    }

    /// Makes all blocks of the segment known.
    pub(super) fn complete(&mut self, at: usize) -> Result<(), DiskError> {
        let segment = self.segments.get_mut(at).ok_or_else(no_segment)?;
        self.store.complete(segment, self.trimmed.contains(segment.number))
    }

    /// Brings blocks of a segment to the medium.
    pub(super) fn write_out(&mut self, at: usize, blocks: Blocks) -> Result<(), DiskError> {
        self.store.check()?;
        self.complete(at)?;
        let segment = self.segments.get_mut(at).ok_or_else(no_segment)?;
        self.early_unsynced |= !segment.late().covers(blocks);
        self.store.write(segment, blocks)?;
        self.trimmed.remove(segment.number);
        Ok(())
    }

    /// Writes through the cache.
    pub(super) fn put(&mut self, offset: u64, data: &[u8], streamed: bool) -> Result<(), DiskError> {
        self.store.check()?;
        self.check_end(offset, data.len(), true)?;
        let early = streamed && !self.last_act;
        let (mut offset, mut data) = (offset, data);
        while !data.is_empty() {
            let (number, inside) = split(offset);
            let (now, rest) = data.split_at(data.len().min(SEGMENT - inside));
            if !(early && now.len() == SEGMENT && self.pass(number, now)?) {
                self.put_part(number, inside, now, early)?;
            }
            offset += now.len() as u64;
            data = rest;
        }
        Ok(())
    }

    /// Writes a whole segment past the cache, if that comes to the same; says whether it did.
    fn pass(&mut self, number: u64, data: &[u8]) -> Result<bool, DiskError> {
        let at = self.position(number);
        let held = at.and_then(|at| self.segments.get(at)).is_some_and(|segment| !segment.streamed);
        if held || self.store.usable(number) < SEGMENT || !Store::<T>::takes(data) {
            return Ok(false);
        }
        if let Some(at) = at {
            self.release(at);
        }
        self.early_unsynced = true;
        self.store.write_whole(number, data, self.trimmed.contains(number))?;
        self.trimmed.remove(number);
        Ok(true)
    }

    /// Writes a part of a segment.
    fn put_part(&mut self, number: u64, inside: usize, data: &[u8], early: bool) -> Result<(), DiskError> {
        let at = self.get(number)?;
        if !inside.is_multiple_of(BLOCK) || !data.len().is_multiple_of(BLOCK) {
            self.complete(at)?;
        }
        let whole = Blocks::first(self.store.usable(number).div_ceil(BLOCK));
        let segment = self.segments.get_mut(at).ok_or_else(no_segment)?;
        let place = segment.data.bytes_mut().get_mut(inside..inside + data.len());
        place.ok_or_else(|| outside(number))?.copy_from_slice(data);
        let mut blocks = Blocks::default();
        blocks.insert(inside / BLOCK, (inside + data.len()).div_ceil(BLOCK));
        segment.known = segment.known.or(blocks);
        segment.dirty = segment.dirty.or(blocks);
        segment.streamed &= early;
        if self.last_act {
            segment.note_act(blocks, self.clock);
        }
        if segment.streamed && segment.dirty.covers(whole) {
            self.write_out(at, whole)?;
            self.release(at);
        }
        Ok(())
    }

    /// Finds the segment or makes room for it, and returns its place.
    fn get(&mut self, number: u64) -> Result<usize, DiskError> {
        self.clock += 1;
        if let Some(at) = self.position(number) {
            if let Some(segment) = self.segments.get_mut(at) {
                segment.last_use = self.clock;
            }
            return Ok(at);
        }
        while self.segments.len() >= self.capacity {
            self.evict()?;
        }
        let data = self.spare.pop().unwrap_or_else(Buffer::new);
        self.segments.push(Segment::new(number, data, self.clock));
        Ok(self.segments.len() - 1)
    }

    /// Drops the least recently used segment, writing it first if needed. Segments of the last act and of
    /// records kept twice go only when nothing else is left; the former after everything older.
    fn evict(&mut self) -> Result<(), DiskError> {
        let oldest = self
            .segments
            .iter()
            .enumerate()
            .map(|(at, segment)| {
                let late = !segment.acts().is_empty();
                ((late || self.has_pair(segment.number), segment.last_use), at, late)
            })
            .min();
        let (_, at, late) = oldest.ok_or_else(no_segment)?;
        if self.segments.get(at).is_some_and(Segment::is_dirty) {
            self.complete(at)?;
            if late {
                self.write_early()?;
            }
            if let Some(blocks) = self.segments.get(at).map(Segment::unwritten) {
                self.write_out(at, blocks)?;
            }
        }
        self.release(at);
        Ok(())
    }

    fn release(&mut self, at: usize) {
        let segment = self.segments.swap_remove(at);
        if self.spare.len() < SPARE_BUFFERS {
            self.spare.push(segment.data);
        }
    }

    /// Reads a part of a segment, which gets into the cache only if it was there before.
    fn read_part(&mut self, number: u64, inside: usize, out: &mut [u8]) -> Result<(), DiskError> {
        if self.store.usable(number) == 0 {
            let start = number.saturating_mul(SEGMENT_BYTES);
            return Err(DiskError::PastEnd { offset: start + inside as u64, end: self.media_bytes() });
        }
        if let Some(at) = self.position(number) {
            self.complete(at)?;
            let segment = self.segments.get(at).ok_or_else(no_segment)?;
            let bytes = segment.data.bytes().get(inside..).and_then(|rest| rest.get(..out.len()));
            out.copy_from_slice(bytes.ok_or_else(|| outside(number))?);
        } else if self.trimmed.contains(number) {
            out.fill(0);
        } else {
            self.store.read_part(number, inside, out)?;
        }
        Ok(())
    }

    /// Refuses an access beyond a hard end.
    fn check_end(&mut self, offset: u64, length: usize, write: bool) -> Result<(), DiskError> {
        if write && offset > i64::MAX.unsigned_abs() {
            // A negative offset, as fwup tells it, but before anything is written.
            let offset = offset - offset % SEGMENT_BYTES;
            return Err(DiskError::Read { length: SEGMENT, offset, reason: "Invalid argument".to_owned() });
        }
        let end = offset.checked_add(length as u64);
        match (self.store.extent, end) {
            (Extent::Unknown | Extent::Soft(_), Some(_)) => Ok(()),
            (Extent::Hard(size), _) if !write && offset >= size && length > 0 => {
                Err(DiskError::PastEnd { offset, end: size })
            }
            (Extent::Hard(size), Some(end)) if end <= size => Ok(()),
            // Told where the segment begins, as every error of writing.
            (Extent::Hard(end), Some(to)) => {
                Err(DiskError::NoSpace { offset: offset - offset % SEGMENT_BYTES, to, end })
            }
            (_, None) => Err(DiskError::Write { offset: offset - offset % SEGMENT_BYTES }),
        }
    }
}

impl<T: Target> DiskIo for SegmentCache<T> {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.check_end(offset, buffer.len(), false)?;
        let (mut offset, mut buffer) = (offset, buffer);
        while !buffer.is_empty() {
            let (number, inside) = split(offset);
            let here = buffer.len().min(SEGMENT - inside);
            let (now, rest) = std::mem::take(&mut buffer).split_at_mut(here);
            let at = self.get(number)?;
            let mut wanted = Blocks::default();
            wanted.insert(inside / BLOCK, (inside + here).div_ceil(BLOCK));
            let knows = |blocks| self.segments.get(at).is_some_and(|segment| segment.known.covers(blocks));
            let (has_wanted, has_all) = (knows(wanted), knows(Blocks::first(SEGMENT / BLOCK)));
            if !has_wanted {
                self.complete(at)?;
            } else if !has_all && !self.trimmed.contains(number) {
                // fwup reads the rest of the segment here, which moves its end of a file.
                self.store.reach(number);
            }
            let segment = self.segments.get(at).ok_or_else(no_segment)?;
            now.copy_from_slice(
                segment.data.bytes().get(inside..inside + here).ok_or_else(|| outside(number))?,
            );
            offset += here as u64;
            buffer = rest;
        }
        Ok(())
    }

    fn read_uncached(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let (mut offset, mut buffer) = (offset, buffer);
        while !buffer.is_empty() {
            let (number, inside) = split(offset);
            let here = buffer.len().min(SEGMENT - inside);
            let (now, rest) = std::mem::take(&mut buffer).split_at_mut(here);
            self.read_part(number, inside, now)?;
            offset = offset.saturating_add(here as u64);
            buffer = rest;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8], streamed: bool) -> Result<(), DiskError> {
        self.other_changes += 1;
        self.put(offset, data, streamed)
    }

    fn write_fat(&mut self, offset: u64, data: &[u8], streamed: bool) -> Result<(), DiskError> {
        self.put(offset, data, streamed)
    }

    fn other_changes(&self) -> Option<u64> {
        Some(self.other_changes)
    }

    fn write_twin(&mut self, offset: u64, data: &[u8], twins: Twins) -> Result<(), DiskError> {
        self.other_changes += 1;
        if data.len() > RECORD_HELD.min(self.capacity / TWIN_SHARE * SEGMENT) {
            // Too large to wait until both are there. Alone between two syncs, one of the two is always whole.
            self.flush()?;
            self.put(offset, data, false)?;
            return self.flush();
        }
        self.put(offset, data, false)?;
        self.note_pair(offset, data.len(), twins);
        Ok(())
    }

    fn trim(&mut self, offset: u64, length: u64) -> Result<(), DiskError> {
        self.other_changes += 1;
        let first = offset.div_ceil(SEGMENT_BYTES);
        let end = offset.saturating_add(length) / SEGMENT_BYTES;
        if first >= end {
            return Ok(());
        }
        while let Some(at) = self.segments.iter().position(|segment| (first..end).contains(&segment.number)) {
            self.release(at);
        }
        self.trimmed.insert(first, end);
        // What a medium reads after a discard is anything, so that it is told only of what is known as trimmed, and
        // of nothing beyond its end.
        let end = end.min(TRACKED_SEGMENTS).min(match self.store.extent {
            Extent::Hard(bytes) => bytes / SEGMENT_BYTES,
            Extent::Unknown | Extent::Soft(_) => u64::MAX,
        });
        if self.store.options().enable_trim && first < end {
            let (start, length) = (first * SEGMENT_BYTES, (end - first) * SEGMENT_BYTES);
            if let Some(reason) = self.store.trim(start, length)? {
                self.warnings.push(format!("trim of {length} bytes at {start} failed: {reason}"));
            }
        }
        Ok(())
    }
}

/// The error for a segment that was found and is not there.
fn no_segment() -> DiskError {
    DiskError::internal(0, "a segment of the cache was lost")
}

/// The error for bytes outside of their segment.
fn outside(number: u64) -> DiskError {
    DiskError::internal(
        number.saturating_mul(SEGMENT_BYTES),
        "bytes in the cache lie outside of their segment",
    )
}

/// The segment that holds the byte, and the byte's place in it.
fn split(offset: u64) -> (u64, usize) {
    (offset / SEGMENT_BYTES, within(offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryTarget;

    #[test]
    fn bytes_that_are_not_copied_do_not_count_as_known() {
        // A piece that reaches past its segment; with debug assertions it is a panic, without an error.
        let outcome = std::panic::catch_unwind(|| {
            let mut cache = SegmentCache::new(MemoryTarget::new(), CacheOptions::default());
            let outcome = cache.put_part(0, SEGMENT - BLOCK, &[7; 2 * BLOCK], false);
            let known = cache.segments.first().is_some_and(Segment::is_dirty);
            (outcome, known)
        });
        match outcome {
            Err(_) if cfg!(debug_assertions) => {}
            Err(panic) => std::panic::resume_unwind(panic),
            Ok((outcome, known)) => {
                assert!(matches!(outcome, Err(DiskError::Internal { .. })) && !known, "{outcome:?}");
            }
        }
    }

    #[test]
    fn a_manifest_cannot_ask_for_more_cache_than_the_limit() {
        let mut cache = SegmentCache::new(MemoryTarget::new(), CacheOptions::default());
        assert_eq!(cache.capacity, 64);
        cache.set_megabytes(CACHE_MEGABYTES_MAX);
        let most = cache.capacity;
        cache.set_megabytes(CACHE_MEGABYTES_MAX + 1);
        assert_eq!((most, cache.capacity), (512, 512));
        cache.set_megabytes(0);
        assert_eq!(cache.capacity, 64);
    }
}
