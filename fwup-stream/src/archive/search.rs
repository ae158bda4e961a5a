//! Finding the end of stored data whose size stands only behind them.

use super::header::le;

/// The signature word of a data descriptor.
pub(super) const DESCRIPTOR_WORD: [u8; 4] = *b"PK\x07\x08";

/// Holds back what may be the start of a data descriptor.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// At most one descriptor.
    held: Vec<u8>,
    /// Bytes let go, at most one descriptor.
    released: Vec<u8>,
}

/// What a step of searching came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Bytes taken off the input.
    pub taken: usize,
    /// What they are.
    pub found: Found,
}

/// See [`Step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// What was taken is data.
    Data,
    /// What was taken is held back, and this many bytes held back before, to be had from
    /// [`Search::released`], are data after all (maybe none).
    Held(usize),
    /// What was taken completes the descriptor; the data are complete.
    Descriptor,
}

impl Search {
    pub(super) fn reset(&mut self) {
        self.held.clear();
        self.released.clear();
    }

    pub(super) fn released(&self) -> &[u8] {
        &self.released
    }

    /// Looks at the front of `input` (not empty). `crc` and `length` are those of all data found so far.
    pub(super) fn step(&mut self, input: &[u8], zip64: bool, crc: u32, length: u64) -> Step {
        if self.held.is_empty() {
            let data = possible_start(input);
            if data > 0 {
                return Step { taken: data, found: Found::Data };
            }
        }
        let wanted = if zip64 { 24 } else { 16 };
        for (index, byte) in input.iter().enumerate() {
            self.held.push(*byte);
            let starts = is_descriptor_start(&self.held);
            if starts && self.held.len() < wanted {
                continue;
            }
            let found = if starts && is_descriptor(&self.held, zip64, crc, length) {
                Found::Descriptor
            } else {
                Found::Held(self.release())
            };
            return Step { taken: index + 1, found };
        }
        Step { taken: input.len(), found: Found::Held(0) }
    }

    /// Lets go of the held bytes up to the next possible start.
    fn release(&mut self) -> usize {
        let keep = 1 + possible_start(self.held.get(1..).unwrap_or_default());
        self.released.clear();
        self.released.extend(self.held.drain(..keep));
        keep
    }
}

/// Returns where a signature word may begin; the length if nowhere.
fn possible_start(bytes: &[u8]) -> usize {
    (0..bytes.len()).find(|at| bytes.get(*at..).is_some_and(is_descriptor_start)).unwrap_or(bytes.len())
}

fn is_descriptor_start(bytes: &[u8]) -> bool {
    bytes.iter().zip(DESCRIPTOR_WORD).all(|(byte, expected)| *byte == expected)
}

fn is_descriptor(bytes: &[u8], zip64: bool, crc: u32, length: u64) -> bool {
    let (size, mask) = if zip64 { (8, u64::MAX) } else { (4, u64::from(u32::MAX)) };
    le(bytes, 4, 4) == Some(u64::from(crc))
        && le(bytes, 8, size) == Some(length & mask)
        && le(bytes, 8 + size, size) == Some(length & mask)
}
