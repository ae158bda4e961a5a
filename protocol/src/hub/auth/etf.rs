//! The two Erlang terms a signature is made of (External Term Format, version 131).

use alloc::vec::Vec;

/// The greatest age the token states, in seconds. The server ignores it (device-protocol §2.3).
const MAX_AGE: i32 = 86_400;

/// Writes the tuple `{identifier, signed_at_ms, 86400}`.
pub(super) fn token_payload(identifier: &str, signed_at_ms: u64) -> Vec<u8> {
    let mut term = Vec::with_capacity(identifier.len() + 24);
    // Version, a small tuple of three.
    term.extend_from_slice(&[131, 104, 3]);
    term.push(109);
    // The configuration bounds the identifier far below 4 GiB.
    term.extend_from_slice(&u32::try_from(identifier.len()).unwrap_or(u32::MAX).to_be_bytes());
    term.extend_from_slice(identifier.as_bytes());
    integer(&mut term, signed_at_ms);
    term.push(98);
    term.extend_from_slice(&MAX_AGE.to_be_bytes());
    term
}

/// Writes an integer in the shortest of the three forms, as Erlang does.
fn integer(term: &mut Vec<u8>, value: u64) {
    if let Ok(small) = u8::try_from(value) {
        term.extend_from_slice(&[97, small]);
    } else if let Ok(medium) = i32::try_from(value) {
        term.push(98);
        term.extend_from_slice(&medium.to_be_bytes());
    } else {
        let bytes = value.to_le_bytes();
        let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        // A small big integer: length, sign, magnitude.
        term.extend_from_slice(&[110, u8::try_from(length).unwrap_or(8), 0]);
        term.extend(bytes.iter().take(length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_the_form_erlang_takes() {
        let write = |value| {
            let mut term = Vec::new();
            integer(&mut term, value);
            term
        };
        assert_eq!(write(0), [97, 0]);
        assert_eq!(write(255), [97, 255]);
        assert_eq!(write(256), [98, 0, 0, 1, 0]);
        assert_eq!(write(0x7fff_ffff), [98, 0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(write(0x8000_0000), [110, 4, 0, 0, 0, 0, 0x80]);
        assert_eq!(write(u64::MAX), [110, 8, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    }
}
