//! Decisions read off an input, and the places to cut a stream at.

/// Sizes of pieces; an input that says nothing gets the first.
const SIZES: [usize; 16] =
    [1, 2, 3, 5, 7, 16, 31, 64, 100, 512, 1000, 4096, 10_000, 16_384, 40_000, PIECE_MAX];

/// Bytes handed over in one piece at most, as by an adapter that reads 64 KiB at a time.
pub(super) const PIECE_MAX: usize = 65_536;

/// An input, read from the front. What is missing at its end reads as zero, so that a cut input is still one.
pub(super) struct Source<'a> {
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    pub(super) fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub(super) fn word(&mut self) -> u32 {
        u32::from(self.short()) | u32::from(self.short()) << 16
    }

    /// One of several.
    pub(super) fn pick<T: Copy + Default>(&mut self, from: &[T]) -> T {
        let index = usize::from(self.byte()).checked_rem(from.len()).unwrap_or_default();
        from.get(index).copied().unwrap_or_default()
    }

    /// Up to `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Bytes with their number in front, one byte for it.
    pub(super) fn block(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        self.take(length)
    }

    /// All that is left, up to `limit`.
    pub(super) fn rest(&mut self, limit: usize) -> &'a [u8] {
        let rest = self.take(limit);
        self.rest = &[];
        rest
    }

    /// Two bytes: four sizes of pieces, used in turn.
    pub(super) fn cuts(&mut self) -> Cuts {
        let [low, high] = [self.byte(), self.byte()];
        let sizes = [low & 15, low >> 4, high & 15, high >> 4];
        Cuts { sizes: sizes.map(|at| SIZES.get(usize::from(at)).copied().unwrap_or(1)), next: 0 }
    }
}

/// Where a stream is cut.
#[derive(Clone, Debug)]
pub(super) struct Cuts {
    sizes: [usize; 4],
    next: usize,
}

impl Cuts {
    /// The largest pieces there are.
    pub(super) fn whole() -> Self {
        Self { sizes: [PIECE_MAX; 4], next: 0 }
    }

    /// Takes the next piece off the front; `None` when nothing is left.
    pub(super) fn next<'a>(&mut self, data: &mut &'a [u8]) -> Option<&'a [u8]> {
        if data.is_empty() {
            return None;
        }
        let size = self.sizes.get(self.next % self.sizes.len()).copied().unwrap_or(1);
        self.next += 1;
        let (piece, rest) = data.split_at(size.clamp(1, data.len()));
        *data = rest;
        Some(piece)
    }
}

/// What passed by, without keeping it: its length and checksum.
#[derive(Clone, Debug, Default)]
pub(super) struct Passed {
    length: u64,
    checksum: crc32fast::Hasher,
}

impl Passed {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.checksum.update(bytes);
    }

    pub(super) fn sum(&self) -> (u64, u32) {
        (self.length, self.checksum.clone().finalize())
    }
}
