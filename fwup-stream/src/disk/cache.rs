//! The write cache: segments, the order in which they reach the medium, and the switch at the end.
//!
//! Results are those of fwup (fw-format §9.2 to §9.6). Two things go beyond it and cannot be seen in the
//! image: in the last act (`on-finish`) nothing is written early, and at the end everything older is
//! written and synced before the segments of the last act follow one by one, a sync before each. So a
//! loss of power at any moment leaves either the old or the new boot slot selected, never a new one whose
//! data are missing.

use super::buffer::Buffer;
use super::io::{DiskError, DiskIo};
use super::segment::{Blocks, Segment};
use super::target::{Extent, Target};
use super::trimmed::Trimmed;
use super::{BLOCK, SEGMENT, SEGMENT_BYTES, reason};
use crate::limits::{CACHE_MEGABYTES_DEFAULT, CACHE_MEGABYTES_MAX};

/// Segments in a megabyte of cache.
const SEGMENTS_PER_MEGABYTE: u64 = 8;
/// Buffers kept for use again; more would only hold memory.
const SPARE_BUFFERS: usize = 2;

/// How the cache behaves.
#[derive(Clone, Debug, Default)]
pub struct CacheOptions {
    /// Read every segment back after writing it and compare.
    pub verify_writes: bool,
    /// Skip writing a segment that holds the same bytes already.
    pub minimize_writes: bool,
    /// Pass trims on to the medium.
    pub enable_trim: bool,
}

/// A cache of segments in front of a [`Target`].
#[derive(Debug)]
pub struct SegmentCache<T> {
    target: T,
    options: CacheOptions,
    segments: Vec<Segment>,
    spare: Vec<Buffer>,
    scratch: Option<Buffer>,
    capacity: usize,
    trimmed: Trimmed,
    extent: Extent,
    /// Counts uses; the time of this cache.
    clock: u64,
    /// When the last act began.
    last_act: Option<u64>,
    unsynced: bool,
    failed: Option<u64>,
    warnings: Vec<String>,
}

impl<T: Target> SegmentCache<T> {
    /// Puts a cache of the default size in front of `target`.
    pub fn new(target: T, options: CacheOptions) -> Self {
        let extent = target.extent();
        let mut cache = Self {
            target,
            options,
            segments: Vec::new(),
            spare: Vec::new(),
            scratch: None,
            capacity: 0,
            trimmed: Trimmed::default(),
            extent,
            clock: 0,
            last_act: None,
            unsynced: false,
            failed: None,
            warnings: Vec::new(),
        };
        cache.set_megabytes(CACHE_MEGABYTES_DEFAULT);
        cache
    }

    /// Sets how much the cache may hold (`block-cache-size-mb`); 0 means the default. Memory is taken only
    /// when needed.
    pub fn set_megabytes(&mut self, megabytes: u64) {
        let megabytes = if megabytes == 0 { CACHE_MEGABYTES_DEFAULT } else { megabytes };
        let segments = megabytes.min(CACHE_MEGABYTES_MAX) * SEGMENTS_PER_MEGABYTE;
        self.capacity = usize::try_from(segments).unwrap_or(usize::MAX);
    }

    /// Bytes the destination is known to have, 0 when not known; what partitions expand to.
    pub fn media_bytes(&self) -> u64 {
        match self.extent {
            Extent::Unknown => 0,
            Extent::Soft(bytes) | Extent::Hard(bytes) => bytes,
        }
    }

    /// Says that what is written from now on is the last act, which selects what boots next.
    pub fn begin_last_act(&mut self) {
        self.last_act = Some(self.clock);
    }

    /// Forgets everything that has not reached the medium, and any write error.
    pub fn discard(&mut self) {
        self.segments.clear();
        self.trimmed = Trimmed::default();
        self.failed = None;
        self.last_act = None;
    }

    /// Writes everything that is left, oldest use first, the last act's segments last and each after a
    /// sync, then syncs once more.
    pub fn flush(&mut self) -> Result<(), DiskError> {
        let mut order: Vec<_> = self
            .segments
            .iter()
            .filter(|segment| segment.is_dirty())
            .map(|segment| (self.in_last_act(segment), segment.last_use, segment.number))
            .collect();
        order.sort_unstable();
        // What has to be read to complete a segment is read before anything is written, and first for what
        // selects the next boot: if that fails, nothing has changed yet.
        for (_, _, number) in order.iter().rev() {
            if let Some(at) = self.position(*number) {
                self.complete(at)?;
            }
        }
        let last = order.last().map(|(_, _, number)| *number);
        for (switch, _, number) in order {
            if switch || Some(number) == last {
                self.sync()?;
            }
            if let Some(at) = self.position(number) {
                self.write_out(at)?;
            }
        }
        self.sync()
    }

    /// Takes the warnings that came up, for whoever shows them.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn in_last_act(&self, segment: &Segment) -> bool {
        self.last_act.is_some_and(|began| segment.is_dirty() && segment.last_write > began)
    }

    fn position(&self, number: u64) -> Option<usize> {
        self.segments.iter().position(|segment| segment.number == number)
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        if self.unsynced {
            self.target.sync().map_err(|error| DiskError::Sync { reason: reason(&error) })?;
            self.unsynced = false;
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

    /// Drops the least recently used segment, writing it first if needed. Segments of the last act go only
    /// when nothing else is left, and after a sync.
    fn evict(&mut self) -> Result<(), DiskError> {
        let oldest = self
            .segments
            .iter()
            .enumerate()
            .map(|(at, segment)| ((self.in_last_act(segment), segment.last_use), at))
            .min();
        let Some(((switch, _), at)) = oldest else { return Ok(()) };
        if self.segments.get(at).is_some_and(Segment::is_dirty) {
            if switch {
                self.sync()?;
            }
            self.write_out(at)?;
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

    /// Bytes of this segment before a hard end.
    fn usable(&self, number: u64) -> usize {
        match self.extent {
            Extent::Hard(end) => {
                let left = end.saturating_sub(number.saturating_mul(SEGMENT_BYTES)).min(SEGMENT_BYTES);
                usize::try_from(left).unwrap_or(SEGMENT)
            }
            Extent::Unknown | Extent::Soft(_) => SEGMENT,
        }
    }

    /// Reads a part of a segment, which gets into the cache only if it was there before.
    fn read_part(&mut self, number: u64, inside: usize, out: &mut [u8]) -> Result<(), DiskError> {
        let (usable, start) = (self.usable(number), number.saturating_mul(SEGMENT_BYTES));
        if usable == 0 {
            let offset = start.saturating_add(inside as u64);
            return Err(DiskError::PastEnd { offset, end: self.media_bytes() });
        }
        if let Some(at) = self.position(number) {
            self.complete(at)?;
            let bytes = self.segments.get(at).and_then(|segment| segment.data.bytes().get(inside..));
            copy(bytes.unwrap_or_default(), out);
        } else if self.trimmed.contains(number) {
            out.fill(0);
        } else {
            let mut scratch = self.scratch.take().unwrap_or_else(Buffer::new);
            let outcome = read_segment(&mut self.target, number, scratch.bytes_mut(), usable);
            copy(scratch.bytes().get(inside..).unwrap_or_default(), out);
            self.scratch = Some(scratch);
            outcome?;
        }
        Ok(())
    }

    /// Makes all blocks of the segment known, from the medium unless it was trimmed.
    fn complete(&mut self, at: usize) -> Result<(), DiskError> {
        let Some(number) = self.segments.get(at).map(|segment| segment.number) else { return Ok(()) };
        let usable = self.usable(number);
        let Some(segment) = self.segments.get_mut(at) else { return Ok(()) };
        if segment.known.covers(Blocks::first(usable.div_ceil(BLOCK))) {
            return Ok(());
        }
        if self.trimmed.contains(number) {
            segment.complete_with_zeros();
            return Ok(());
        }
        let mut scratch = self.scratch.take().unwrap_or_else(Buffer::new);
        let outcome = read_segment(&mut self.target, number, scratch.bytes_mut(), usable);
        if outcome.is_ok() {
            segment.complete_from(scratch.bytes());
        }
        self.scratch = Some(scratch);
        outcome
    }

    /// Brings a dirty segment to the medium.
    fn write_out(&mut self, at: usize) -> Result<(), DiskError> {
        if let Some(offset) = self.failed {
            return Err(DiskError::Write { offset });
        }
        self.complete(at)?;
        let Some(number) = self.segments.get(at).map(|segment| segment.number) else { return Ok(()) };
        let usable = self.usable(number);
        let Some(segment) = self.segments.get_mut(at) else { return Ok(()) };
        let offset = number.saturating_mul(SEGMENT_BYTES);
        let data = segment.data.bytes().get(..usable).unwrap_or_default();
        let mut scratch = self.scratch.take().unwrap_or_else(Buffer::new);
        let check = scratch.bytes_mut();
        let same = self.options.minimize_writes
            && read_segment(&mut self.target, number, check, usable).is_ok()
            && check.get(..usable) == Some(data);
        let mut outcome = Ok(());
        if !same {
            self.unsynced = true;
            if self.target.write_at(offset, data).is_err() {
                outcome = Err(DiskError::Write { offset });
            } else if self.options.verify_writes {
                if read_segment(&mut self.target, number, check, usable).is_err() {
                    outcome = Err(DiskError::ReadBack { offset });
                } else if check.get(..usable) != Some(data) {
                    outcome = Err(DiskError::Verify { offset });
                }
            }
        }
        self.scratch = Some(scratch);
        if outcome.is_err() {
            self.failed = Some(offset);
        } else {
            segment.dirty = Blocks::default();
            self.trimmed.remove(number);
        }
        outcome
    }

    /// Refuses an access beyond a hard end; lets a soft end move.
    fn check_end(&mut self, offset: u64, length: usize, write: bool) -> Result<(), DiskError> {
        let end = offset.checked_add(length as u64);
        match (self.extent, end) {
            (Extent::Unknown, Some(_)) => Ok(()),
            (Extent::Soft(size), Some(end)) => {
                if write {
                    self.extent = Extent::Soft(size.max(end));
                }
                Ok(())
            }
            (Extent::Hard(size), _) if !write && offset >= size && length > 0 => {
                Err(DiskError::PastEnd { offset, end: size })
            }
            (Extent::Hard(size), Some(end)) if end <= size => Ok(()),
            _ => Err(DiskError::Write { offset }),
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
            if !self.segments.get(at).is_some_and(|segment| segment.known.covers(wanted)) {
                self.complete(at)?;
            }
            if let Some(bytes) =
                self.segments.get(at).and_then(|segment| segment.data.bytes().get(inside..inside + here))
            {
                now.copy_from_slice(bytes);
            }
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
        if let Some(offset) = self.failed {
            return Err(DiskError::Write { offset });
        }
        self.check_end(offset, data.len(), true)?;
        let (mut offset, mut data) = (offset, data);
        while !data.is_empty() {
            let (number, inside) = split(offset);
            let (now, rest) = data.split_at(data.len().min(SEGMENT - inside));
            let at = self.get(number)?;
            if inside % BLOCK != 0 || now.len() % BLOCK != 0 {
                self.complete(at)?;
            }
            let whole = Blocks::first(self.usable(number).div_ceil(BLOCK));
            let early = streamed && self.last_act.is_none();
            let mut full = false;
            if let Some(segment) = self.segments.get_mut(at) {
                if let Some(place) = segment.data.bytes_mut().get_mut(inside..inside + now.len()) {
                    place.copy_from_slice(now);
                }
                let (first, end) = (inside / BLOCK, (inside + now.len()).div_ceil(BLOCK));
                segment.known.insert(first, end);
                segment.dirty.insert(first, end);
                segment.streamed &= early;
                segment.last_write = self.clock;
                full = segment.streamed && segment.dirty.covers(whole);
            }
            if full {
                self.write_out(at)?;
                self.release(at);
            }
            offset += now.len() as u64;
            data = rest;
        }
        Ok(())
    }

    fn trim(&mut self, offset: u64, length: u64) -> Result<(), DiskError> {
        let first = offset.div_ceil(SEGMENT_BYTES);
        let end = offset.saturating_add(length) / SEGMENT_BYTES;
        if first >= end {
            return Ok(());
        }
        while let Some(at) = self.segments.iter().position(|segment| (first..end).contains(&segment.number)) {
            self.release(at);
        }
        self.trimmed.insert(first, end);
        if self.options.enable_trim {
            let (start, length) = (first * SEGMENT_BYTES, (end - first) * SEGMENT_BYTES);
            if let Err(error) = self.target.trim(start, length) {
                self.warnings.push(format!("trim of {length} bytes at {start} failed: {}", reason(&error)));
            }
        }
        Ok(())
    }
}

/// Reads the usable part of a segment; what is past the end of a file is zeros.
fn read_segment<T: Target>(
    target: &mut T,
    number: u64,
    out: &mut [u8],
    usable: usize,
) -> Result<(), DiskError> {
    let offset = number.saturating_mul(SEGMENT_BYTES);
    let mut done = 0;
    while let Some(part) = out.get_mut(done..usable).filter(|part| !part.is_empty()) {
        match target.read_at(offset + done as u64, part) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) => {
                return Err(DiskError::Read { length: usable, offset, reason: reason(&error) });
            }
        }
    }
    if let Some(rest) = out.get_mut(done..) {
        rest.fill(0);
    }
    Ok(())
}

/// Copies as many bytes as there is room for.
fn copy(from: &[u8], to: &mut [u8]) {
    if let Some(from) = from.get(..to.len()) {
        to.copy_from_slice(from);
    }
}

/// The segment that holds the byte, and the byte's place in it.
fn split(offset: u64) -> (u64, usize) {
    (offset / SEGMENT_BYTES, usize::try_from(offset % SEGMENT_BYTES).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryTarget;

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
