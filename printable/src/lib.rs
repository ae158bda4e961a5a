//! Foreign text made fit for one line of a log or a terminal.
//!
//! A server, a network and a firmware archive choose names, versions and reasons freely. Printed as they are, a line break
//! forges further lines, an escape sequence changes what the terminal shows, and a bidirectional control reorders it.
//! This crate is the only place that decides which characters those are. Every sink passes its text through it: logs,
//! terminals, environments of child processes, status files.
//!
//! Escaping twice changes nothing, so a sink need not know whether its caller has already done it.

#![no_std]

extern crate alloc;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write as _};

/// Returns whether a character changes how other text is shown, or is not shown at all: control characters (C0, DEL, C1),
/// bidirectional controls, line and paragraph separators, zero-width characters and tags.
pub fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Returns a text as one line: hidden characters as `\n`, `\r`, `\t` or `\u{…}` with their number in hexadecimal.
///
/// A backslash stays as it is.
///
/// ```
/// use nerves_hub_link_printable::escape;
///
/// assert_eq!(escape("1.0\n12:00 update failed"), r"1.0\n12:00 update failed");
/// assert_eq!(escape("\u{1b}[2J"), r"\u{1b}[2J");
/// assert_eq!(escape("Gerät 7"), "Gerät 7");
/// ```
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len().saturating_add(16));
    text.chars().for_each(|letter| push(&mut escaped, letter));
    Cow::Owned(escaped)
}

/// Returns bytes as one line: as [`escape`], and bytes that are no UTF-8 as `\xff`.
///
/// ```
/// assert_eq!(nerves_hub_link_printable::escape_bytes(b"a\xffb\n"), r"a\xffb\n");
/// ```
pub fn escape_bytes(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = core::str::from_utf8(bytes) {
        return escape(text);
    }
    let mut escaped = String::with_capacity(bytes.len().saturating_add(16));
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|letter| push(&mut escaped, letter));
        for byte in chunk.invalid() {
            let _ = write!(escaped, "\\x{byte:02x}"); // A String takes everything.
        }
    }
    Cow::Owned(escaped)
}

/// Returns a text as one line of at most `max` bytes. Of a longer text the middle is left out, with a note of how much:
/// what a peer puts into a sentence can't push the rest of the sentence out.
///
/// With a `max` too small for the note, less than 48, only the note remains.
///
/// ```
/// let text = "x".repeat(1_000_000) + ": wrong size";
/// let line = nerves_hub_link_printable::line(&text, 100);
/// assert!(line.starts_with("xxx") && line.contains("bytes left out") && line.ends_with("x: wrong size"));
/// assert!(line.len() <= 100);
/// ```
pub fn line(text: &str, max: usize) -> Cow<'_, str> {
    // Escaping never shortens.
    if text.len() <= max {
        let escaped = escape(text);
        if escaped.len() <= max {
            return escaped;
        }
    }
    let room = max.saturating_sub(NOTE_MAX);
    let head = fitting(text.chars(), room - room / 2);
    let rest = text.get(head..).unwrap_or_default(); // `head` is a boundary between characters.
    let tail = fitting(rest.chars().rev(), room / 2);
    let middle = rest.len() - tail;
    let (head, tail) = (text.get(..head).unwrap_or_default(), rest.get(middle..).unwrap_or_default());
    Cow::Owned(format!("{}… ({middle} bytes left out) …{}", escape(head), escape(tail)))
}

/// Longest note of [`line`]: the words and twenty digits.
const NOTE_MAX: usize = 48;

/// Returns the bytes of the first characters whose escaped form fits `room`.
fn fitting(letters: impl Iterator<Item = char>, room: usize) -> usize {
    let mut left = room;
    let mut bytes = 0;
    for letter in letters {
        match left.checked_sub(escaped_len(letter)) {
            Some(rest) => left = rest,
            None => break,
        }
        bytes += letter.len_utf8();
    }
    bytes
}

fn escaped_len(letter: char) -> usize {
    match letter {
        '\n' | '\r' | '\t' => 2,
        letter if is_hidden(letter) => letter.escape_unicode().len(),
        letter => letter.len_utf8(),
    }
}

fn push(text: &mut String, letter: char) {
    match letter {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        letter if is_hidden(letter) => text.extend(letter.escape_unicode()),
        letter => text.push(letter),
    }
}

/// A text that is escaped while it is formatted, for use inside `format!`.
///
/// ```
/// use nerves_hub_link_printable::Escaped;
///
/// assert_eq!(format!("offered {}", Escaped("1\r2")), r"offered 1\r2");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(self.0))
    }
}
