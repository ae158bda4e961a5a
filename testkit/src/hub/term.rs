//! The token's payload: the 3-tuple in Erlang's external term format (device-protocol §2.3).

/// Writes `{identifier, signed_at_ms, 86400}`.
pub(super) fn encode(identifier: &str, signed_at_ms: u64) -> Vec<u8> {
    let mut out = vec![131, 104, 3, 109];
    let length = u32::try_from(identifier.len()).unwrap_or(u32::MAX);
    out.extend(length.to_be_bytes());
    out.extend(identifier.as_bytes());
    if let Ok(small) = u8::try_from(signed_at_ms) {
        out.extend([97, small]);
    } else if let Ok(int) = i32::try_from(signed_at_ms) {
        out.push(98);
        out.extend(int.to_be_bytes());
    } else {
        let bytes = signed_at_ms.to_le_bytes();
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        out.extend([110, u8::try_from(used).unwrap_or(8), 0]);
        out.extend(bytes.iter().take(used));
    }
    out.push(98);
    out.extend(86_400_i32.to_be_bytes());
    out
}

/// Reads the tuple: the identifier and the time of signing in milliseconds. `None` for anything that
/// is not exactly such a tuple.
pub(crate) fn decode(bytes: &[u8]) -> Option<(String, i128)> {
    let rest = bytes.strip_prefix(&[131, 104, 3, 109])?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (identifier, rest) = rest.split_at_checked(length)?;
    let identifier = core::str::from_utf8(identifier).ok()?.to_owned();
    let (signed_at, rest) = integer(rest)?;
    let (_max_age, rest) = integer(rest)?;
    rest.is_empty().then_some((identifier, signed_at))
}

fn integer(bytes: &[u8]) -> Option<(i128, &[u8])> {
    match bytes {
        [97, value, rest @ ..] => Some((i128::from(*value), rest)),
        [98, rest @ ..] => {
            let (value, rest) = rest.split_first_chunk::<4>()?;
            Some((i128::from(i32::from_be_bytes(*value)), rest))
        }
        [110, length, sign, rest @ ..] => {
            // Eight bytes of magnitude hold every time there is.
            let length = usize::from(*length);
            if length > 8 {
                return None;
            }
            let (magnitude, rest) = rest.split_at_checked(length)?;
            let value = magnitude.iter().rev().fold(0_i128, |sum, byte| (sum << 8) | i128::from(*byte));
            Some((if *sign == 0 { value } else { -value }, rest))
        }
        _ => None,
    }
}
