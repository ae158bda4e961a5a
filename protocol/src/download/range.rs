//! `Content-Range` and entity tags (RFC 9110 §14.4, §8.8.3).

use crate::limits::MAX_ETAG_BYTES;

/// A `Content-Range` in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ContentRange {
    /// `bytes 5-9/10` or `bytes 5-9/*`.
    Part {
        /// The first byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// The size of the file.
        total: Option<u64>,
    },
    /// `bytes */10`: what was asked for lies outside.
    Outside {
        /// The size of the file.
        total: u64,
    },
}

/// Reads a `Content-Range`; anything that contradicts itself is refused. Servers that write the unit as in a request
/// (`bytes=5-9/10`) or leave the size out (`bytes 5-9`) are understood.
pub(super) fn content_range(value: &str) -> Option<ContentRange> {
    let value = value.trim();
    let (unit, rest) = value.split_at_checked(5)?;
    let rest = rest.strip_prefix(['=', ' ', ':'])?.trim();
    let (range, total) = rest.split_once('/').unwrap_or((rest, "*"));
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    if range == "*" {
        return Some(ContentRange::Outside { total: number(total)? });
    }
    let (start, last) = range.split_once('-')?;
    let (start, end) = (number(start)?, number(last)?.checked_add(1)?);
    let total = if total == "*" { None } else { Some(number(total)?) };
    if start >= end || total.is_some_and(|total| end > total) {
        return None;
    }
    Some(ContentRange::Part { start, end, total })
}

/// Returns a number of digits alone.
pub(super) fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Returns an entity tag that promises equal bytes, if it is one and short enough to remember.
pub(super) fn strong_etag(value: &str) -> Option<&str> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    let valid = inner.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    (valid && value.len() <= MAX_ETAG_BYTES).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_content_ranges() {
        let part = |start, end, total| Some(ContentRange::Part { start, end, total });
        assert_eq!(content_range("bytes 5-9/10"), part(5, 10, Some(10)));
        assert_eq!(content_range(" Bytes 0-0/* "), part(0, 1, None));
        assert_eq!(content_range("bytes=5-9/10"), part(5, 10, Some(10)));
        assert_eq!(content_range("bytes: 5-9/10"), part(5, 10, Some(10)));
        assert_eq!(content_range("bytes 5-9"), part(5, 10, None));
        assert_eq!(content_range("bytes */10"), Some(ContentRange::Outside { total: 10 }));
        for bad in [
            "",
            "bytes",
            "bytes5-9/10",
            "büte 5-9/10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes -9/10",
            "bytes 5-/10",
            "bytes +5-9/10",
            "items 5-9/10",
            "bytes */*",
            "bytes 0-18446744073709551615/*",
            "bytes 99999999999999999999-5/6",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_strong_short_tags_count() {
        assert_eq!(strong_etag("\"30CFA03\""), Some("\"30CFA03\""));
        assert_eq!(strong_etag("\"\""), Some("\"\""));
        for bad in ["", "\"", "30CFA03", "W/\"x\"", "\"a\r\nb\"", "\"a\"b\""] {
            assert_eq!(strong_etag(bad), None, "{bad}");
        }
        let at = alloc::format!("\"{}\"", "a".repeat(MAX_ETAG_BYTES - 2));
        assert!(strong_etag(&at).is_some());
        let past = alloc::format!("\"{}\"", "a".repeat(MAX_ETAG_BYTES - 1));
        assert!(strong_etag(&past).is_none());
    }
}
