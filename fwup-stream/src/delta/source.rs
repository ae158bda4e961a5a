//! Where the old content comes from.

use std::convert::Infallible;

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
