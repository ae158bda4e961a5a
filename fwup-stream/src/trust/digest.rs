//! The digest of resources and manifests: BLAKE2b with 32 bytes of output (fw-format §4.2 and §5).

use std::sync::OnceLock;
use std::time::Instant;

use blake2::digest::Digest as _;
use blake2::digest::consts::U32;

/// Bytes of a digest.
const LENGTH: usize = 32;
/// Bytes hashed to find out which way is the faster: less than a tenth of a millisecond.
const TRIAL: usize = 16 * 1024;

/// A digest being computed.
#[derive(Clone, Debug)]
pub struct Blake2b256(Way);

/// The ways to compute it. Which is faster cannot be told from what a processor offers.
#[derive(Clone, Debug)]
enum Way {
    /// With the processor's ordinary instructions.
    Plain(Box<blake2::Blake2b<U32>>),
    /// With its wide ones, if it has them.
    Wide(Box<blake2b_simd::State>),
}

impl Default for Blake2b256 {
    fn default() -> Self {
        Self::new()
    }
}

impl Blake2b256 {
    /// Begins a digest.
    pub fn new() -> Self {
        Self(Way::plain())
    }

    /// Begins a digest of much data, in the way that is faster on this processor.
    pub fn of_much() -> Self {
        static WIDE: OnceLock<bool> = OnceLock::new();
        let wide = *WIDE.get_or_init(|| Way::wide().trial() < Way::plain().trial());
        Self(if wide { Way::wide() } else { Way::plain() })
    }

    /// Adds data.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// Returns the digest of the data so far.
    pub fn finalize(&self) -> [u8; LENGTH] {
        let mut digest = [0; LENGTH];
        match &self.0 {
            Way::Plain(state) => digest = (**state).clone().finalize().into(),
            Way::Wide(state) => {
                for (to, from) in digest.iter_mut().zip(state.finalize().as_bytes()) {
                    *to = *from;
                }
            }
        }
        digest
    }

    /// Tells whether the digest so far is `expected`, compared as text in lower-case hex digits: upper case
    /// never matches, as in the reference.
    pub fn matches(&self, expected: &str) -> bool {
        to_hex(&self.finalize()) == expected
    }
}

impl Way {
    fn plain() -> Self {
        Self::Plain(Box::default())
    }

    fn wide() -> Self {
        Self::Wide(Box::new(blake2b_simd::Params::new().hash_length(LENGTH).to_state()))
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Plain(state) => state.update(data),
            Self::Wide(state) => {
                state.update(data);
            }
        }
    }

    /// How long it takes: the better of two, since the first warms up.
    fn trial(mut self) -> std::time::Duration {
        let data = [0; TRIAL];
        let mut time = || {
            let start = Instant::now();
            self.update(&data);
            start.elapsed()
        };
        time().min(time())
    }
}

/// Tells whether a digest in a manifest can be used: it is 64 bytes long. (Whether they are hex digits shows
/// in the comparison.)
pub fn is_digest(text: &str) -> bool {
    text.len() == LENGTH * 2
}

/// Writes bytes as lower-case hex digits.
pub fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_come_to_the_same() {
        let data: Vec<u8> = (0..1000_u32).map(|number| number.to_le_bytes()[0]).collect();
        for length in [0, 1, 127, 128, 129, 1000] {
            let digests = [Way::plain(), Way::wide()].map(|way| {
                let mut digest = Blake2b256(way);
                data[..length].chunks(100).for_each(|piece| digest.update(piece));
                digest.finalize()
            });
            assert_eq!(digests[0], digests[1], "{length} bytes");
        }
        let mut much = Blake2b256::of_much();
        much.update(b"abc");
        assert!(much.matches("bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"));
    }
}
