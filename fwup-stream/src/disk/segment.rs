//! One segment of the destination in the cache.

use super::buffer::Buffer;
use super::{BLOCK, SEGMENT};

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
    /// Only streamed writes touched it.
    pub(crate) streamed: bool,
    /// When it was last read or written.
    pub(crate) last_use: u64,
    /// When it was last written.
    pub(crate) last_write: u64,
}

impl Segment {
    /// An empty segment over `data`, whose old content does not matter.
    pub(crate) fn new(number: u64, data: Buffer, now: u64) -> Self {
        let (known, dirty) = (Blocks::default(), Blocks::default());
        Self { number, data, known, dirty, streamed: true, last_use: now, last_write: 0 }
    }

    /// Says whether something in it is not on the medium yet.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty != Blocks::default()
    }

    /// Takes over the blocks not yet known from what the medium holds.
    pub(crate) fn complete_from(&mut self, medium: &[u8]) {
        let blocks = self.data.bytes_mut().chunks_exact_mut(BLOCK).zip(medium.chunks_exact(BLOCK));
        for (number, (mine, theirs)) in blocks.enumerate() {
            if !self.known.contains(number) {
                mine.copy_from_slice(theirs);
            }
        }
        self.known = Blocks::first(SEGMENT / BLOCK);
    }

    /// Fills the blocks not yet known with zeros.
    pub(crate) fn complete_with_zeros(&mut self) {
        for (number, block) in self.data.bytes_mut().chunks_exact_mut(BLOCK).enumerate() {
            if !self.known.contains(number) {
                block.fill(0);
            }
        }
        self.known = Blocks::first(SEGMENT / BLOCK);
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
    }
}
