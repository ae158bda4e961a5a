//! PEM as people's editors and tools leave it.

use std::borrow::Cow;

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// Drops byte order marks: at the beginning, and where files were put together. A section behind one would not be seen.
///
/// # Errors
///
/// UTF-16, in words.
pub(crate) fn text(bytes: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err("it is UTF-16 text; save it as plain text (UTF-8)");
    }
    if !bytes.windows(MARK.len()).any(|window| window == MARK) {
        return Ok(Cow::Borrowed(bytes));
    }
    let (mut rest, mut clean) = (bytes, Vec::with_capacity(bytes.len()));
    while let Some((first, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(MARK) {
            rest = behind;
        } else {
            clean.push(*first);
            rest = behind;
        }
    }
    Ok(Cow::Owned(clean))
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn byte_order_marks_are_dropped_wherever_they_are() {
        let marked = "\u{feff}-----BEGIN A-----\n\u{feff}-----BEGIN B-----\n";
        assert_eq!(&*text(marked.as_bytes()).unwrap(), b"-----BEGIN A-----\n-----BEGIN B-----\n");
        assert_eq!(&*text(b"\xEF\xBB").unwrap(), b"\xEF\xBB");
        assert!(text(b"\xFF\xFE-\0").unwrap_err().contains("UTF-16"));
        assert!(text(b"\xFE\xFF\0-").is_err());
    }
}
