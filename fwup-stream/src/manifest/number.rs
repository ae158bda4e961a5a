//! Numbers as C reads them.

/// Reads the number at the start of `text` like `strtol` with base 0 (decimal, `0x` hex, leading `0` octal, a
/// sign, leading blanks): 0 without digits, clamped to the range, whatever follows ignored.
pub fn prefix(text: &str) -> i64 {
    parse(text).0
}

/// Like [`prefix`], with what follows the number and whether it fitted.
pub fn parse(text: &str) -> (i64, &str, bool) {
    let (negative, digits, radix) = split(text);
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (number, rest) = digits.split_at(end);
    if number.is_empty() {
        return (0, text, true);
    }
    let mut value: i64 = 0;
    for digit in number.chars().filter_map(|c| c.to_digit(radix)) {
        let digit = i64::from(digit);
        let next = value
            .checked_mul(i64::from(radix))
            .and_then(|value| if negative { value.checked_sub(digit) } else { value.checked_add(digit) });
        match next {
            Some(next) => value = next,
            None => return (if negative { i64::MIN } else { i64::MAX }, rest, false),
        }
    }
    (value, rest, true)
}

/// Reads a whole text like `strtoull` with base 0, where a minus sign is taken and wraps; `None` without
/// digits, with anything behind them, or out of range.
pub fn unsigned(text: &str) -> Option<u64> {
    let (negative, digits, radix) = split(text);
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    if end == 0 || end != digits.len() {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    Some(if negative { value.wrapping_neg() } else { value })
}

/// Reads a length like `strtod`, whole text, as bytes; `None` when it is no number or no possible length.
pub fn length(text: &str) -> Option<u64> {
    let text = trim(text);
    if text.is_empty() {
        return Some(0);
    }
    if text.contains(['x', 'X']) {
        return unsigned(text).filter(|value| *value < 1 << 53);
    }
    if !text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-')) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    // Every whole number below this bound is exact, and no file is longer (8 PiB).
    if !(0.0..9_007_199_254_740_992.0).contains(&value) {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the range was checked
    Some(value as u64)
}

/// Removes what C counts as leading blanks.
fn trim(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r'])
}

/// Cuts a number into sign, digits (and what follows) and base.
fn split(text: &str) -> (bool, &str, u32) {
    let trimmed = trim(text);
    let (negative, unsigned) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let hex = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X"));
    match hex {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => (negative, digits, 16),
        _ if unsigned.starts_with('0') => (negative, unsigned, 8),
        _ => (negative, unsigned, 10),
    }
}
