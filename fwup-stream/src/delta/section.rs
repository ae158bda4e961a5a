//! A section of a window: bytes that are used up from the front.

use super::error::DeltaFault;
use super::varint;

/// Where the bytes of a section are that were not used yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) at: usize,
    pub(super) end: usize,
}

/// A section being read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// The memory it is in.
    bytes: &'a [u8],
    place: &'a mut Place,
}

impl<'a> Section<'a> {
    pub(super) const fn new(bytes: &'a [u8], place: &'a mut Place) -> Self {
        Self { bytes, place }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.place.at..self.place.end).unwrap_or_default()
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = self.rest().first().copied()?;
        self.place.at += 1;
        Some(byte)
    }

    /// The next number; `None` when it is cut.
    pub(super) fn number(&mut self) -> Result<Option<u64>, DeltaFault> {
        let mut rest = self.rest();
        let number = varint::take(&mut rest)?;
        self.place.at = self.place.end - rest.len();
        Ok(number)
    }
}

impl Place {
    /// Bytes not used yet.
    pub(super) const fn left(self) -> usize {
        self.end - self.at
    }
}
