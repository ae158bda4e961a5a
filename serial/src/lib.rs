//! Serial numbers that identify no device (device-identity §7).
//!
//! Boards leave the factory with zeros, erased memory or a text of their firmware's vendor in the place of a serial number.
//! Devices that share one would all be one device on the server. The list is used wherever an identifier comes from
//! outside: by the crate that reads a device's identity and by the one that connects with it, which don't know each other.

#![no_std]

extern crate alloc;

use alloc::string::String;

/// The placeholders, in lower case, letters and digits only.
const PLACEHOLDERS: [&str; 44] = [
    "0123456789abcdef",
    "1234567890abcdef",
    "123456789abcdef",
    "123456789abcdef0",
    "baseboardserialnumber",
    "changeme",
    "chassisserialnumber",
    "default",
    "defaultserial",
    "defaultserialnumber",
    "defaultstring",
    "empty",
    "invalid",
    "na",
    "nil",
    "nodata",
    "none",
    "noserial",
    "noserialnumber",
    "notapplicable",
    "notavailable",
    "notdefined",
    "notpresent",
    "notprovided",
    "notset",
    "notspecified",
    "null",
    "oem",
    "placeholder",
    "serial",
    "serialno",
    "serialnumber",
    "sn",
    "system",
    "systemserialnumber",
    "tbd",
    "tobefilled",
    "tobefilledbyoem",
    "unassigned",
    "unconfigured",
    "undefined",
    "unknown",
    "unset",
    "unspecified",
];

/// Digits that count up in a row, from 0 or 1, before they are taken for a placeholder. Shorter ones are in use.
const COUNTING_MIN: usize = 8;

/// Letters `f` or `x` alone, before they are taken for erased memory or a form that nobody filled in. One or two may be a name.
const ERASED_MIN: usize = 4;

/// Returns whether a serial number is one that many devices share: empty, zeros, erased memory, digits that count up, or
/// a factory text. Case, blanks, quotes, punctuation and control characters don't count.
///
/// ```
/// use nerves_hub_link_serial::is_placeholder;
///
/// assert!(is_placeholder("To Be Filled By O.E.M."));
/// assert!(is_placeholder("\"00000000\""));
/// assert!(!is_placeholder("00000001"));
/// ```
pub fn is_placeholder(serial: &str) -> bool {
    let plain: String = serial.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let only = |letter: char| plain.chars().all(|c| c == letter);
    let erased = plain.len() >= ERASED_MIN && (only('f') || only('x'));
    // Without any letter it is empty.
    only('0') || erased || counts_up(&plain) || PLACEHOLDERS.contains(&plain.as_str())
}

/// Returns whether a text is `0123456789…` or `123456789…`, 0 after 9.
fn counts_up(text: &str) -> bool {
    let mut digits = text.chars().map(|letter| letter.to_digit(10));
    let Some(Some(mut last @ (0 | 1))) = digits.next() else { return false };
    text.len() >= COUNTING_MIN
        && digits.all(|digit| {
            let goes_on = digit == Some((last + 1) % 10);
            last = digit.unwrap_or(last);
            goes_on
        })
}
