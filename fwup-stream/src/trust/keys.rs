//! Public keys in the forms `fwup` accepts (fw-format §2).

use std::fmt;

use super::digest::to_hex;

/// Bytes of a public key.
const LENGTH: usize = 32;
/// Bytes read of a key file: base64 of a key, with padding.
const FILE_LENGTH: usize = 44;
/// Bytes base64 of a key needs at least: without padding.
const TEXT_LENGTH_MIN: usize = 43;

/// An Ed25519 public key. Any 32 bytes are taken; some of them verify nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey([u8; LENGTH]);

/// The text or file is not a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a public key: expected 32 raw bytes, or their standard base64 (43 characters, or 44 with its padding) at \
     the very start"
)]
pub struct KeyError;

impl PublicKey {
    /// Reads a key given as text, like the argument of `--public-key`.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(without_mark(text.as_bytes(), TEXT_LENGTH_MIN))
    }

    /// Reads a key from the bytes of a key file. Only the first 44 are looked at.
    pub fn from_file_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes = without_mark(bytes, TEXT_LENGTH_MIN);
        Self::from_bytes(bytes.get(..FILE_LENGTH).unwrap_or(bytes))
    }

    /// Returns the key's bytes.
    pub fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if let Ok(raw) = <[u8; LENGTH]>::try_from(bytes) {
            return Ok(Self(raw));
        }
        if bytes.len() < TEXT_LENGTH_MIN {
            return Err(KeyError);
        }
        decode_base64(bytes).map(Self).ok_or(KeyError)
    }
}

/// Drops the byte order mark with which some editors begin a text. Raw keys, which are shorter than `text_length`, may
/// begin with the same bytes.
pub(crate) fn without_mark(bytes: &[u8], text_length: usize) -> &[u8] {
    match bytes.strip_prefix(b"\xEF\xBB\xBF") {
        Some(rest) if rest.len() >= text_length => rest,
        _ => bytes,
    }
}

/// Decodes up to the first character outside the alphabet, as the reference does: what follows a key (a line
/// end, a comment) is not looked at. Library decoders take no such tail, hence the cut before the call.
fn decode_base64(bytes: &[u8]) -> Option<[u8; LENGTH]> {
    use base64::Engine as _;
    let is_digit = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'+' || **byte == b'/';
    let digits = bytes.iter().take_while(is_digit).count();
    let decoded = base64::engine::general_purpose::STANDARD_NO_PAD.decode(bytes.get(..digits)?).ok()?;
    decoded.try_into().ok()
}

/// Shows a short fingerprint.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: Vec<u8> = self.0.iter().take(4).copied().collect();
        write!(f, "PublicKey({}…)", to_hex(&start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_hides_no_key_and_a_raw_key_may_begin_like_one() {
        let key = PublicKey([9; LENGTH]);
        let text = format!(
            "\u{feff}{}\n",
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [9; LENGTH])
        );
        assert_eq!(PublicKey::from_file_bytes(text.as_bytes()).unwrap(), key);
        assert_eq!(PublicKey::from_text(&text).unwrap(), key);
        let mut raw = [7; LENGTH];
        raw[..3].copy_from_slice(b"\xEF\xBB\xBF");
        assert_eq!(PublicKey::from_file_bytes(&raw).unwrap().as_bytes(), &raw);
    }
}
