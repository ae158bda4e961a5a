//! What is written at the end, in which order, and what is synced in between.
//!
//! First comes everything that was written before the last act, then, each after a sync, what the last act
//! wrote, in its order. Only blocks that were written go to the medium: a torn write cannot take with it a
//! neighbour in the same segment.

use super::DiskIo;
use super::cache::SegmentCache;
use super::io::{DiskError, Twins};
use super::segment::Blocks;
use super::target::Target;
use super::{BLOCK, SEGMENT, SEGMENT_BYTES, within};
use crate::limits::RECORD_PAIRS;

/// A record that is kept twice.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    /// Where the copy written last is.
    newest: u64,
    size: usize,
    twins: Twins,
    time: u64,
    late: bool,
}

/// A step of the flush.
#[derive(Debug)]
struct Step {
    phase: Phase,
    time: u64,
    /// Its order to neighbours does not matter.
    bulk: bool,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Early,
    EarlyPair,
    LastAct,
}

#[derive(Debug)]
enum What {
    Blocks(u64, Blocks),
    Pair(Pair, Option<Taken>),
}

/// The copy that readers take before anything is written.
#[derive(Debug)]
struct Taken {
    /// Whether it is the one that will be the newest.
    is_newest: bool,
    content: Vec<u8>,
}

impl<T: Target> SegmentCache<T> {
    /// Writes everything that is left: what the last act wrote at the end and in its order, each after a
    /// sync, the rest before it, oldest use first. Then syncs once more.
    pub fn flush(&mut self) -> Result<(), DiskError> {
        // What has to be read to complete a segment is read before anything is written, and first for what
        // selects the next boot: if that fails, nothing has changed yet.
        let mut dirty: Vec<_> = self
            .segments
            .iter()
            .filter(|segment| segment.is_dirty())
            .map(|segment| (!segment.acts().is_empty(), segment.last_use, segment.number))
            .collect();
        dirty.sort_unstable();
        for (_, _, number) in dirty.iter().rev() {
            // Nothing is evicted here.
            let lost = || {
                DiskError::internal(number.saturating_mul(SEGMENT_BYTES), "a segment of the cache was lost")
            };
            let at = self.position(*number).ok_or_else(lost)?;
            self.complete(at)?;
        }
        let steps = self.steps()?;
        let last = steps.len().checked_sub(1);
        let mut after_bulk = false;
        for (number, step) in steps.into_iter().enumerate() {
            let ordered = step.phase > Phase::Early && !(after_bulk && step.bulk);
            if ordered || Some(number) == last {
                self.sync()?;
            }
            after_bulk = step.bulk;
            match step.what {
                What::Blocks(number, blocks) => self.write_blocks(number, blocks)?,
                What::Pair(pair, taken) => self.write_pair(&pair, taken)?,
            }
        }
        self.pairs.clear();
        self.sync()
    }

    /// Notes that a copy of a record kept twice was written.
    pub(super) fn note_pair(&mut self, offset: u64, size: usize, twins: Twins) {
        let places = [offset, twins.other];
        let (low, high) = (offset.min(twins.other), offset.max(twins.other));
        self.pairs.retain(|pair| !(places.contains(&pair.newest) && places.contains(&pair.twins.other)));
        // Copies that overlap protect nothing.
        if high - low >= size as u64 && self.pairs.len() < RECORD_PAIRS {
            let (time, late) = (self.clock, self.last_act);
            self.pairs.push(Pair { newest: offset, size, twins, time, late });
        }
    }

    /// Whether the segment has a part of a record kept twice.
    pub(super) fn has_pair(&self, number: u64) -> bool {
        self.pairs.iter().any(|pair| {
            [pair.newest, pair.twins.other].iter().any(|place| !part(*place, pair.size, number).is_empty())
        })
    }

    /// Writes all that is older than the last act, and syncs it.
    pub(super) fn write_early(&mut self) -> Result<(), DiskError> {
        for at in 0..self.segments.len() {
            let Some(segment) = self.segments.get(at).filter(|segment| segment.is_dirty()) else { continue };
            if !segment.dirty.without(segment.late()).is_empty() {
                self.complete(at)?;
                let Some(segment) = self.segments.get(at) else { continue };
                let (number, early) = (segment.number, segment.unwritten().without(segment.late()));
                self.write_blocks(number, early)?;
            }
        }
        if self.early_unsynced { self.sync() } else { Ok(()) }
    }

    /// The steps of the flush, in order.
    fn steps(&mut self) -> Result<Vec<Step>, DiskError> {
        let mut steps = Vec::new();
        for pair in std::mem::take(&mut self.pairs) {
            if self.is_dirty(pair.newest, pair.size) && self.is_dirty(pair.twins.other, pair.size) {
                let taken = self.taken(&pair)?;
                let phase = if pair.late { Phase::LastAct } else { Phase::EarlyPair };
                let time = pair.time;
                self.pairs.push(pair.clone());
                steps.push(Step { phase, time, bulk: false, what: What::Pair(pair, taken) });
            }
        }
        for segment in self.segments.iter().filter(|segment| segment.is_dirty()) {
            let number = segment.number;
            let paired = self.paired(number);
            let early = segment.unwritten().without(segment.late()).without(paired);
            let early = Step {
                phase: Phase::Early,
                time: segment.last_use,
                bulk: false,
                what: What::Blocks(number, early),
            };
            let late = segment.acts().iter().map(|act| Step {
                phase: Phase::LastAct,
                time: act.time,
                bulk: segment.is_bulk(),
                what: What::Blocks(number, act.blocks.without(paired)),
            });
            steps.extend(std::iter::once(early).chain(late));
        }
        steps.retain(|step| !matches!(step.what, What::Blocks(_, blocks) if blocks.is_empty()));
        steps.sort_by_key(|step| (step.phase, step.time));
        Ok(steps)
    }

    /// Looks on the medium which copy a reader would take now; none when neither is sound.
    fn taken(&mut self, pair: &Pair) -> Result<Option<Taken>, DiskError> {
        let mut copies = [vec![0; pair.size], vec![0; pair.size]];
        for (copy, place) in copies.iter_mut().zip([pair.newest, pair.twins.other]) {
            for (number, inside, range) in parts(place, pair.size) {
                let part = copy.get_mut(range);
                let part =
                    part.ok_or_else(|| DiskError::internal(place, "a part of a record lies outside of it"))?;
                self.store.read_part(number, inside, part)?;
            }
        }
        let [newest, other] = copies;
        let newer = pair.twins.newer;
        let is_newest = if pair.twins.preferred {
            newer([&newest, &other]).map(|taken| taken == 0)
        } else {
            newer([&other, &newest]).map(|taken| taken == 1)
        };
        Ok(is_newest.map(|is_newest| Taken { is_newest, content: if is_newest { newest } else { other } }))
    }

    /// Writes both copies so that at any moment one that readers take is whole and has the old content or the new:
    /// first the new content where readers do not look, as just newer than what they take; then over what they
    /// took; then, one after the other, what has to be there in the end.
    fn write_pair(&mut self, pair: &Pair, taken: Option<Taken>) -> Result<(), DiskError> {
        let (newest, other) = (pair.newest, pair.twins.other);
        let Some(taken) = taken else {
            self.write_copy(newest, pair.size)?;
            self.sync()?;
            return self.write_copy(other, pair.size);
        };
        let (mut best, mut last) = (vec![0; pair.size], vec![0; pair.size]);
        self.read(newest, &mut best)?;
        self.read(other, &mut last)?;
        let (free, free_end, used, used_end) =
            if taken.is_newest { (other, &last, newest, &best) } else { (newest, &best, other, &last) };
        let free_now = (pair.twins.succeed)(&best, &taken.content);
        let used_now = (pair.twins.disguise)(&best, used_end);
        self.put_copy(free, &free_now)?;
        self.sync()?;
        self.put_copy(used, &used_now)?;
        for (place, now, end) in [(free, &free_now, free_end), (used, &used_now, used_end)] {
            if now != end {
                self.sync()?;
                self.put_copy(place, end)?;
            }
        }
        Ok(())
    }

    fn put_copy(&mut self, place: u64, content: &[u8]) -> Result<(), DiskError> {
        self.put(place, content, false)?;
        self.write_copy(place, content.len())
    }

    fn write_copy(&mut self, place: u64, size: usize) -> Result<(), DiskError> {
        for (number, _, _) in parts(place, size) {
            self.write_blocks(number, part(place, size, number))?;
        }
        Ok(())
    }

    /// Whether all of the range waits to be written.
    fn is_dirty(&self, place: u64, size: usize) -> bool {
        parts(place, size).all(|(number, _, _)| {
            let segment = self.position(number).and_then(|at| self.segments.get(at));
            segment.is_some_and(|segment| segment.dirty.covers(part(place, size, number)))
        })
    }

    /// The blocks of the segment that belong to pairs.
    fn paired(&self, number: u64) -> Blocks {
        self.pairs
            .iter()
            .flat_map(|pair| [(pair.newest, pair.size), (pair.twins.other, pair.size)])
            .fold(Blocks::default(), |all, (place, size)| all.or(part(place, size, number)))
    }

    /// Brings blocks of a segment to the medium. One that had to make room for another meanwhile is there already.
    fn write_blocks(&mut self, number: u64, blocks: Blocks) -> Result<(), DiskError> {
        self.position(number).map_or(Ok(()), |at| self.write_out(at, blocks))
    }
}

/// The segments of a range, with where it begins in each and which of its bytes these are.
fn parts(place: u64, size: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let offset = place.saturating_add(done as u64);
        let inside = within(offset);
        let here = (size - done).min(SEGMENT - inside);
        let range = done..done + here;
        done += here;
        (here > 0).then_some((offset / SEGMENT_BYTES, inside, range))
    })
}

/// The blocks of a segment that a range covers.
fn part(place: u64, size: usize, segment: u64) -> Blocks {
    let mut blocks = Blocks::default();
    for (_, inside, range) in parts(place, size).filter(|(number, _, _)| *number == segment) {
        blocks.insert(inside / BLOCK, (inside + range.len()).div_ceil(BLOCK));
    }
    blocks
}
