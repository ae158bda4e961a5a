//! The digest of resources and manifests: BLAKE2b with 32 bytes of output (fw-format §4.2 and §5).

/// Bytes of a digest.
const LENGTH: usize = 32;

/// A digest being computed.
#[derive(Clone, Debug)]
pub struct Blake2b256(blake2b_simd::State);

impl Default for Blake2b256 {
    fn default() -> Self {
        Self::new()
    }
}

impl Blake2b256 {
    /// Begins a digest.
    pub fn new() -> Self {
        Self(blake2b_simd::Params::new().hash_length(LENGTH).to_state())
    }

    /// Adds data.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// Returns the digest of the data so far.
    pub fn finalize(&self) -> [u8; LENGTH] {
        let mut digest = [0; LENGTH];
        for (to, from) in digest.iter_mut().zip(self.0.finalize().as_bytes()) {
            *to = *from;
        }
        digest
    }

    /// Tells whether the digest so far is `expected`, compared as text in lower-case hex digits: upper case
    /// never matches, as in the reference.
    pub fn matches(&self, expected: &str) -> bool {
        to_hex(&self.finalize()) == expected
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
