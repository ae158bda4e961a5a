//! Cutting the texts of peers to a bounded length.

use crate::sure::Sure as _;
use alloc::string::String;

/// Returns at most `chars` characters of `text`, the last one an ellipsis if something was cut.
pub(crate) fn cut(text: &str, chars: usize) -> String {
    // No text has more characters than bytes.
    if text.len() <= chars {
        return String::from(text);
    }
    let mut ends = text.char_indices().map(|(at, _)| at);
    let Some(last) = ends.nth(chars.saturating_sub(1)) else { return String::from(text) };
    if ends.next().is_none() {
        return String::from(text);
    }
    let mut cut = String::from(text.get(..last).sure("it is where a character begins"));
    cut.push('…');
    cut
}

/// Returns the last place at or before a byte where a text can be cut.
pub(crate) fn boundary(text: &str, at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).sure("0 is a boundary")
}

/// Returns at most `bytes` bytes of `text`, which end with `mark` if something was cut.
pub(crate) fn cut_bytes(text: &str, bytes: usize, mark: &str) -> String {
    if text.len() <= bytes {
        return String::from(text);
    }
    let end = boundary(text, bytes.saturating_sub(mark.len()));
    let mut cut = String::from(text.get(..end).sure("it is a boundary"));
    cut.push_str(mark);
    cut
}

/// Appends the decimal digits of small counts with a singular or plural noun.
pub(crate) fn count(number: u64, noun: &str) -> String {
    alloc::format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::{cut, cut_bytes};

    #[test]
    fn cuts_bytes_at_character_boundaries() {
        assert_eq!(cut_bytes("äöü", 6, "."), "äöü");
        assert_eq!(cut_bytes("äöüx", 6, "."), "äö.");
    }

    #[test]
    fn cuts_at_character_boundaries_and_only_past_the_limit() {
        assert_eq!(cut("gerät", 5), "gerät");
        assert_eq!(cut("geräte", 5), "gerä…");
        assert_eq!(cut("", 5), "");
        assert_eq!(cut("äöü", 1), "…");
        assert_eq!(cut("ä", 1), "ä");
    }
}
