//! Text from bytes that are cut anywhere.

use alloc::string::String;
use alloc::vec::Vec;

/// Reads UTF-8 piece by piece. Invalid bytes become U+FFFD, as many as for the whole at once; a character that is
/// not complete waits for its rest.
#[derive(Default)]
pub(super) struct Utf8 {
    /// The beginning of a character, at most three bytes.
    start: Vec<u8>,
}

impl Utf8 {
    /// Appends what `bytes` say.
    pub(super) fn push(&mut self, bytes: &[u8], text: &mut String) {
        let mut rest = bytes;
        // A character that began earlier grows by single bytes until it is one, or can't become one.
        while !self.start.is_empty()
            && let Some((byte, after)) = rest.split_first()
        {
            self.start.push(*byte);
            match core::str::from_utf8(&self.start) {
                Ok(character) => {
                    text.push_str(character);
                    self.start.clear();
                }
                Err(error) if error.error_len().is_none() => {}
                // The new byte doesn't belong to it: what there was is invalid, and the byte is read again.
                Err(_) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.start.clear();
                    continue;
                }
            }
            rest = after;
        }
        let mut left = rest.len();
        for chunk in rest.utf8_chunks() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            left = left.saturating_sub(chunk.valid().len() + invalid.len());
            let begins =
                left == 0 && core::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if begins {
                self.start.extend_from_slice(invalid);
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
    }

    /// Returns whether a character waits for its rest.
    pub(super) const fn is_unfinished(&self) -> bool {
        !self.start.is_empty()
    }

    /// Ends the text: a character that never became complete counts as invalid.
    pub(super) fn finish(&mut self, text: &mut String) {
        if !self.start.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            self.start.clear();
        }
    }
}
