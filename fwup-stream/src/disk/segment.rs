//! One segment of the destination in the cache.

use super::buffer::Buffer;
use super::{BLOCK, SEGMENT};
use crate::limits::ACTS_IN_SEGMENT;

/// Blocks of a segment.
const BLOCKS: usize = SEGMENT / BLOCK;

/// One bit for each of the 256 blocks of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks([u64; 4]);

impl Blocks {
    /// The first `count` blocks.
    pub(crate) fn first(count: usize) -> Self {
        let mut blocks = Self::default();
        blocks.insert(0, count);
        blocks
    }

    /// Adds the blocks from `start` up to but not including `end`.
    pub(crate) fn insert(&mut self, start: usize, end: usize) {
        for (number, word) in self.0.iter_mut().enumerate() {
            let (low, high) = (start.max(number * 64), end.min(number * 64 + 64));
            if low < high {
                let ones = if high - low == 64 { u64::MAX } else { (1 << (high - low)) - 1 };
                *word |= ones << (low - number * 64);
            }
        }
    }

    /// Says whether the block is in.
    pub(crate) fn contains(self, block: usize) -> bool {
        self.0.get(block / 64).is_some_and(|word| word >> (block % 64) & 1 != 0)
    }

    /// Says whether all of `other` is in.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(mine, theirs)| mine & theirs == theirs)
    }

    /// Says whether nothing is in.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What is in either.
    pub(crate) fn or(self, other: Self) -> Self {
        self.with(other, |mine, theirs| mine | theirs)
    }

    /// What is in both.
    pub(crate) fn and(self, other: Self) -> Self {
        self.with(other, |mine, theirs| mine & theirs)
    }

    /// What is in this and not in `other`.
    pub(crate) fn without(self, other: Self) -> Self {
        self.with(other, |mine, theirs| mine & !theirs)
    }

    /// The ranges of neighbouring blocks, each from its first block up to but not including its end.
    pub(crate) fn runs(self) -> impl Iterator<Item = (usize, usize)> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let first = (from..BLOCKS).find(|block| self.contains(*block))?;
            from = (first..BLOCKS).find(|block| !self.contains(*block)).unwrap_or(BLOCKS);
            Some((first, from))
        })
    }

    fn with(self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        let mut out = self;
        for (mine, theirs) in out.0.iter_mut().zip(other.0) {
            *mine = join(*mine, theirs);
        }
        out
    }
}

/// What one call wrote in the last act.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act {
    pub(crate) blocks: Blocks,
    /// When.
    pub(crate) time: u64,
}

/// What the cache knows of one segment.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Its number: offset divided by the segment size.
    pub(crate) number: u64,
    pub(crate) data: Buffer,
    /// Blocks whose content is known.
    pub(crate) known: Blocks,
    /// Blocks written and not yet on the medium.
    pub(crate) dirty: Blocks,
    /// Blocks that the medium does not have yet, or that were trimmed: when anything of the segment is
    /// written, so are they, as zeros.
    pub(crate) absent: Blocks,
    /// The medium was told that it is trimmed: what it reads there may be another thing the next time.
    pub(crate) discarded: bool,
    /// Only streamed writes touched it.
    pub(crate) streamed: bool,
    /// When it was last read or written.
    pub(crate) last_use: u64,
    /// What the last act wrote, oldest first; no block is in two of them.
    acts: Vec<Act>,
    /// The last act wrote so much here that the order inside the segment is not kept.
    bulk: bool,
}

impl Segment {
    /// An empty segment over `data`, whose old content does not matter.
    pub(crate) fn new(number: u64, data: Buffer, now: u64) -> Self {
        let none = Blocks::default();
        Self {
            number,
            data,
            known: none,
            dirty: none,
            absent: none,
            discarded: false,
            streamed: true,
            last_use: now,
            acts: Vec::new(),
            bulk: false,
        }
    }

    /// Says whether something in it is not on the medium yet.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Everything that has to be written.
    pub(crate) fn unwritten(&self) -> Blocks {
        if self.is_dirty() { self.dirty.or(self.absent) } else { Blocks::default() }
    }

    /// What the last act wrote here, oldest first.
    pub(crate) fn acts(&self) -> &[Act] {
        &self.acts
    }

    /// Whether the order inside the segment is not kept.
    pub(crate) fn is_bulk(&self) -> bool {
        self.bulk
    }

    /// All blocks the last act wrote here.
    pub(crate) fn late(&self) -> Blocks {
        self.acts.iter().fold(Blocks::default(), |all, act| all.or(act.blocks))
    }

    /// Notes that the last act wrote these blocks now.
    pub(crate) fn note_act(&mut self, blocks: Blocks, time: u64) {
        if self.bulk || self.acts.len() >= ACTS_IN_SEGMENT || blocks.covers(Blocks::first(BLOCKS)) {
            let blocks = self.late().or(blocks);
            self.acts = vec![Act { blocks, time }];
            self.bulk = true;
            return;
        }
        self.forget_acts(blocks);
        self.acts.push(Act { blocks, time });
    }

    /// Notes that these blocks are on the medium.
    pub(crate) fn written(&mut self, blocks: Blocks) {
        self.dirty = self.dirty.without(blocks);
        self.absent = self.absent.without(blocks);
        self.forget_acts(blocks);
    }

    /// Takes over the blocks not yet known from the first `length` bytes, which the medium holds, and
    /// zeros.
    pub(crate) fn complete_from(&mut self, medium: &[u8], length: usize) {
        let blocks = self.data.bytes_mut().chunks_exact_mut(BLOCK).zip(medium.chunks_exact(BLOCK));
        for (number, (mine, theirs)) in blocks.enumerate() {
            if !self.known.contains(number) {
                mine.copy_from_slice(theirs);
            }
        }
        self.known = Blocks::first(BLOCKS);
        self.absent = self.known.without(Blocks::first(length / BLOCK));
    }

    /// Fills the blocks not yet known with zeros.
    pub(crate) fn complete_with_zeros(&mut self) {
        for (number, block) in self.data.bytes_mut().chunks_exact_mut(BLOCK).enumerate() {
            if !self.known.contains(number) {
                block.fill(0);
            }
        }
        self.absent = Blocks::first(BLOCKS).without(self.known);
        self.known = Blocks::first(BLOCKS);
    }

    fn forget_acts(&mut self, blocks: Blocks) {
        for act in &mut self.acts {
            act.blocks = act.blocks.without(blocks);
        }
        self.acts.retain(|act| !act.blocks.is_empty());
        self.bulk &= !self.acts.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sets_work_across_words() {
        let mut blocks = Blocks::default();
        blocks.insert(60, 130);
        assert!(!blocks.contains(59) && blocks.contains(60) && blocks.contains(129) && !blocks.contains(130));
        assert!(!blocks.contains(256));
        assert!(!blocks.covers(Blocks::first(61)));
        blocks.insert(0, 64);
        assert!(blocks.covers(Blocks::first(130)));
        assert!(!blocks.covers(Blocks::first(131)));
        blocks.insert(0, 256);
        assert!(blocks.covers(Blocks::first(256)));
        assert_eq!(blocks.runs().collect::<Vec<_>>(), [(0, 256)]);
    }

    #[test]
    fn runs_are_the_ranges_put_in() {
        let mut blocks = Blocks::default();
        assert_eq!(blocks.runs().count(), 0);
        for (first, end) in [(0, 1), (62, 66), (127, 128), (255, 256)] {
            blocks.insert(first, end);
        }
        assert_eq!(blocks.runs().collect::<Vec<_>>(), [(0, 1), (62, 66), (127, 128), (255, 256)]);
    }

    #[test]
    fn the_order_of_acts_is_kept_up_to_the_limit_and_not_one_more() {
        let mut segment = Segment::new(0, Buffer::new(), 0);
        let block = |number| {
            let mut blocks = Blocks::default();
            blocks.insert(number, number + 1);
            blocks
        };
        for number in 0..ACTS_IN_SEGMENT {
            segment.note_act(block(number), number as u64);
        }
        assert_eq!((segment.acts().len(), segment.is_bulk()), (ACTS_IN_SEGMENT, false));
        let before = segment.late();
        segment.note_act(block(100), 100);
        assert_eq!((segment.acts().len(), segment.is_bulk()), (1, true));
        assert_eq!(segment.late(), before.or(block(100)));
        segment.written(segment.late());
        assert_eq!((segment.acts().len(), segment.is_bulk()), (0, false));
    }
}
