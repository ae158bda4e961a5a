//! A small random generator, seeded by the caller, so that runs can be repeated.

/// SplitMix64 (Steele, Lea, Flood 2014). Good enough to spread delays; never used for keys.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 random bits.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        // The top 53 bits fill an f64's mantissa exactly.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit the mantissa")]
        let top = (self.next() >> 11) as f64;
        top / 9_007_199_254_740_992.0
    }
}
