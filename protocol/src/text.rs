//! Cutting the texts of peers to a bounded length.

use alloc::string::String;

/// Returns at most `chars` characters of `text`, the last one an ellipsis if something was cut.
pub(crate) fn cut(text: &str, chars: usize) -> String {
    // No text has more characters than bytes.
    if text.len() <= chars {
        return String::from(text);
    }
    if text.chars().nth(chars).is_none() {
        return String::from(text);
    }
    let mut cut: String = text.chars().take(chars.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Returns the beginning of a text: its whole characters among the first `bytes` bytes.
pub(crate) fn head(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    loop {
        // Ends at 0 at the latest, which is a boundary of every text.
        if let Some(head) = text.get(..end) {
            return head;
        }
        end = end.saturating_sub(1);
    }
}

/// Returns at most `bytes` bytes of `text`, which end with `mark` if something was cut.
pub(crate) fn cut_bytes(text: &str, bytes: usize, mark: &str) -> String {
    if text.len() <= bytes {
        return String::from(text);
    }
    let mut cut = String::from(head(text, bytes.saturating_sub(mark.len())));
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
