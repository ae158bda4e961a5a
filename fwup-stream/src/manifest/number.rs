//! Numbers as C reads them.

/// Reads the number at the start of `text` like `strtol` with base 0 (decimal, `0x` hex, leading `0` octal, a
/// sign, leading blanks): 0 without digits, clamped to the range, whatever follows ignored.
pub fn prefix(text: &str) -> i64 {
    parse(text).0
}

/// Like [`prefix`], with what follows the number and whether it fitted.
pub fn parse(text: &str) -> (i64, &str, bool) {
    let trimmed = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let (negative, unsigned) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let hex = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X"));
    let (radix, digits) = match hex {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => (16, digits),
        _ if unsigned.starts_with('0') => (8, unsigned),
        _ => (10, unsigned),
    };
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
