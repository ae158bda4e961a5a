//! Numbers as VCDIFF writes them: seven bits to a byte, the highest first (RFC 3284 §2).

use super::error::DeltaFault;

/// Takes a number off the front; `None` when it is cut.
pub(super) fn take(bytes: &mut &[u8]) -> Result<Option<u64>, DeltaFault> {
    let mut value: u64 = 0;
    let mut rest = *bytes;
    while let Some((byte, after)) = rest.split_first() {
        if value >> 57 != 0 {
            return Err(DeltaFault::Number);
        }
        value = value << 7 | u64::from(byte & 0x7f);
        rest = after;
        if byte & 0x80 == 0 {
            *bytes = rest;
            return Ok(Some(value));
        }
        // Zeros in front are no number's business and would let a number go on for ever.
        if bytes.len() - rest.len() >= LONGEST {
            return Err(DeltaFault::Number);
        }
    }
    Ok(None)
}

/// Bytes that 64 bits take.
const LONGEST: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_and_the_rest_stays() {
        let mut bytes: &[u8] = &[0xba, 0xef, 0x9a, 0x15, 7];
        assert_eq!(take(&mut bytes), Ok(Some(123_456_789)));
        assert_eq!(bytes, [7]);
    }

    #[test]
    fn what_is_cut_is_left_alone() {
        let mut bytes: &[u8] = &[0x81, 0x80];
        assert_eq!(take(&mut bytes), Ok(None));
        assert_eq!(bytes.len(), 2);
    }

    #[test]
    fn sixty_four_bits_fit_and_one_more_does_not() {
        let most = [0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(take(&mut &most[..]), Ok(Some(u64::MAX)));
        let more = [0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0];
        assert_eq!(take(&mut &more[..]), Err(DeltaFault::Number));
    }

    #[test]
    fn leading_zeros_end_somewhere() {
        let padded = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 5];
        assert_eq!(take(&mut &padded[..]), Ok(Some(5)));
        assert_eq!(take(&mut &[0x80; 10][..]), Err(DeltaFault::Number));
    }
}
