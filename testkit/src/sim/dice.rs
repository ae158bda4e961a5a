//! Where a run takes its choices from: a seed, or the bytes of a fuzzer.

/// SplitMix64 (Steele, Lea, Flood 2014): small, quick, the same everywhere. Never for keys.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Builds a generator.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Builds one of many generators that a seed stands for. What one draws doesn't move the others.
    pub fn of(seed: u64, stream: u64, number: u64) -> Self {
        Self(mix(mix(seed ^ 0x5851_F42D_4C95_7F2D, stream), number))
    }

    /// Returns the next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        finish(self.0)
    }

    /// Returns a number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The high half of a product: the bias of 2^-32 at worst matters to nobody here.
        let high = (u128::from(self.bits()) * u128::from(end)) >> 64;
        u64::try_from(high).unwrap_or(0)
    }

    /// Returns a number from `low` to `high`, both included.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Returns true once in `n` on average.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns a number in (0, 1].
    pub fn unit(&mut self) -> f64 {
        // The top 53 bits fill an f64's mantissa exactly.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit the mantissa")]
        let top = ((self.bits() >> 11) + 1) as f64;
        top / 9_007_199_254_740_992.0
    }

    /// Returns 32 bits.
    pub fn word(&mut self) -> u32 {
        u32::try_from(self.bits() >> 32).unwrap_or(0)
    }
}

/// Mixes a number into another.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    finish(a.rotate_left(23) ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Choices that make a scenario. Bytes that run out read as zeros, so that a cut input is still one, and small
/// changes stay small.
#[derive(Debug, Clone)]
pub enum Dice<'a> {
    /// As many as wanted.
    Seed(Rng),
    /// Read from the front.
    Bytes(&'a [u8]),
}

impl Dice<'_> {
    /// Returns whether nothing but zeros follows.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Bytes([]))
    }

    /// Returns the next byte.
    pub fn byte(&mut self) -> u8 {
        match self {
            Self::Seed(rng) => u8::try_from(rng.bits() >> 56).unwrap_or(0),
            Self::Bytes(bytes) => {
                let (first, rest) = bytes.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest));
                *bytes = rest;
                first
            }
        }
    }

    /// Returns the next two bytes.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Returns the next four bytes.
    pub fn word(&mut self) -> u32 {
        u32::from(self.short()) | u32::from(self.short()) << 16
    }

    /// Returns one of several.
    pub fn pick<T: Copy + Default>(&mut self, from: &[T]) -> T {
        let index = usize::from(self.byte()).checked_rem(from.len()).unwrap_or_default();
        from.get(index).copied().unwrap_or_default()
    }
}
