//! Percent-encoding, as browsers do it with what people and programs put into addresses.

use alloc::borrow::Cow;
use alloc::string::String;

/// Drops blanks and control characters at both ends, and tabs and line breaks everywhere.
pub(crate) fn without_breaks(text: &str) -> Cow<'_, str> {
    let text = text.trim_matches(|letter: char| letter <= ' ');
    let is_break = |letter: char| matches!(letter, '\t' | '\r' | '\n');
    if text.contains(is_break) { Cow::Owned(text.replace(is_break, "")) } else { Cow::Borrowed(text) }
}

/// Percent-encodes what may not stand in a path or query. Encoding the result again changes nothing.
pub(crate) fn target(text: &str) -> Cow<'_, str> {
    if text.bytes().all(may_stand) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        let mut utf8 = [0; 4];
        let utf8: &str = letter.encode_utf8(&mut utf8);
        if utf8.bytes().all(may_stand) {
            encoded.push(letter);
            continue;
        }
        for byte in utf8.bytes() {
            encoded.push('%');
            for digit in [byte >> 4, byte & 0xf] {
                encoded.extend(char::from_digit(digit.into(), 16).map(|digit| digit.to_ascii_uppercase()));
            }
        }
    }
    Cow::Owned(encoded)
}

const fn may_stand(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}
