//! Where the old content comes from.

use std::convert::Infallible;

use crate::limits::DATA_PIECE;

/// The old content that a delta refers to.
pub trait Source {
    /// Why it could not be read.
    type Error;

    /// Returns the bytes from `offset` on: as many as are at hand, at least one, none at and past the end.
    fn bytes_at(&mut self, offset: u64) -> Result<&[u8], Self::Error>;
}

impl Source for &[u8] {
    type Error = Infallible;

    fn bytes_at(&mut self, offset: u64) -> Result<&[u8], Infallible> {
        Ok(usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default())
    }
}

/// Old content that nobody has: zeros without an end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unknown;

static ZEROS: [u8; DATA_PIECE] = [0; DATA_PIECE];

impl Source for Unknown {
    type Error = Infallible;

    fn bytes_at(&mut self, _: u64) -> Result<&[u8], Infallible> {
        Ok(&ZEROS)
    }
}
