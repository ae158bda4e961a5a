//! The checksums a server may announce for a file or its parts (device-protocol §6.1).

use alloc::format;
use alloc::string::String;

use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub(crate) type Sha = [u8; 32];

/// SHA-256 over the bytes that pass by, and what it should be.
pub(crate) struct Checksum {
    so_far: Sha256,
    announced: Sha,
}

impl Checksum {
    pub(crate) fn new(announced: Sha) -> Self {
        Self { so_far: Sha256::new(), announced }
    }

    /// Adds the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.so_far.update(bytes);
    }

    /// Returns what is wrong, if the bytes so far are not those announced.
    pub(crate) fn mismatch(&self) -> Option<String> {
        let actual: Sha = self.so_far.clone().finalize().into();
        (actual != self.announced).then(|| {
            format!("SHA-256 is {} but the server announced {}", to_hex(&actual), to_hex(&self.announced))
        })
    }
}

/// Reads 64 hexadecimal digits of either case.
pub(crate) fn from_hex(text: &str) -> Option<Sha> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Writes lower-case hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use core::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_in_either_case_and_only_in_full() {
        let text = format!("00FFab{}", "1".repeat(58));
        let bytes = from_hex(&text).unwrap();
        assert_eq!(to_hex(&bytes), text.to_lowercase());
        let bad =
            [text.replacen('1', "", 1), format!("{text}1"), text.replace('a', "g"), text.replace("00", "é")];
        for bad in bad {
            assert_eq!(from_hex(&bad), None, "{bad}");
        }
    }
}
