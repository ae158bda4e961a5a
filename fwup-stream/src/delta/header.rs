//! The header of a delta (RFC 3284 §4.1).

use super::error::{Compressor, DeltaFault};
use super::varint;

const MAGIC: [u8; 3] = [0xd6, 0xc3, 0xc4];
const COMPRESSOR: u8 = 1;
const CODE_TABLE: u8 = 2;
const APPLICATION: u8 = 4;

/// The header of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes that follow for the application that made the delta; ignored.
    pub application: u64,
}

impl Header {
    /// Reads a header from the beginning of a delta; `None` when more bytes are needed, at most 16.
    ///
    /// # Errors
    ///
    /// It is no VCDIFF delta, or one that needs what fwup does not have either: a secondary compressor or a
    /// code table of its own.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, DeltaFault> {
        if bytes.iter().zip(MAGIC).any(|(byte, magic)| *byte != magic) {
            return Err(DeltaFault::Magic);
        }
        let mut rest = bytes.get(MAGIC.len()..).unwrap_or_default();
        let Some(version) = byte(&mut rest) else { return Ok(None) };
        if version != 0 {
            return Err(DeltaFault::Version(version));
        }
        let Some(bits) = byte(&mut rest) else { return Ok(None) };
        if bits & !(COMPRESSOR | CODE_TABLE | APPLICATION) != 0 {
            return Err(DeltaFault::HeaderBits(bits));
        }
        if bits & COMPRESSOR != 0 {
            let number = byte(&mut rest);
            return number.map_or(Ok(None), |number| Err(DeltaFault::Compressor(Compressor(number))));
        }
        if bits & CODE_TABLE != 0 {
            return Err(DeltaFault::CodeTable);
        }
        let mut application = 0;
        if bits & APPLICATION != 0 {
            match varint::take(&mut rest)? {
                Some(length) => application = length,
                None => return Ok(None),
            }
        }
        Ok(Some(Self { application }))
    }
}

/// Takes a byte off the front.
pub(super) fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_refused() {
        let read = Header::read;
        assert_eq!(read(&[0xd6, 0xc3, 0xc4, 0, 0, 1]), Ok(Some(Header { application: 0 })));
        let long = [0xd6, 0xc3, 0xc4, 0, 4, 0x81, 0x00, b'x'];
        assert_eq!(read(&long), Ok(Some(Header { application: 128 })));
        for cut in 0..7 {
            assert_eq!(read(&long[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(read(b"\xd6\xc3\xc5"), Err(DeltaFault::Magic));
        assert_eq!(read(b"x"), Err(DeltaFault::Magic));
        assert_eq!(read(&[0xd6, 0xc3, 0xc4, 0x53]), Err(DeltaFault::Version(0x53)));
        assert_eq!(read(&[0xd6, 0xc3, 0xc4, 0, 8]), Err(DeltaFault::HeaderBits(8)));
        assert_eq!(read(&[0xd6, 0xc3, 0xc4, 0, 2]), Err(DeltaFault::CodeTable));
        for (number, name) in [(1, "DJW Static Huffman"), (2, "LZMA"), (16, "FGK Adaptive Huffman")] {
            assert_eq!(read(&[0xd6, 0xc3, 0xc4, 0, 1]), Ok(None));
            let fault = read(&[0xd6, 0xc3, 0xc4, 0, 1, number]).unwrap_err();
            assert!(fault.to_string().contains(name), "{fault}");
        }
    }
}
