//! Whether an entry is what was announced.

use super::error::ArchiveErrorKind as Kind;
use super::header::LocalHeader;

/// What was read of an entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// The checksum of the data.
    pub crc: crc32fast::Hasher,
    /// Bytes read from the archive.
    pub compressed: u64,
    /// Bytes of data.
    pub uncompressed: u64,
}

impl Tally {
    /// Returns the checksum of the data so far.
    pub(super) fn checksum(&self) -> u32 {
        self.crc.clone().finalize()
    }

    /// Compares what was read with what was announced, in the reference's order.
    pub(super) fn check(&self, announced: &LocalHeader) -> Result<(), Kind> {
        if self.compressed != announced.compressed {
            return Err(Kind::CompressedSize { read: self.compressed, expected: announced.compressed });
        }
        if self.uncompressed != announced.uncompressed {
            return Err(Kind::UncompressedSize { read: self.uncompressed, expected: announced.uncompressed });
        }
        let read = self.checksum();
        if read != announced.crc {
            return Err(Kind::Checksum { read, expected: announced.crc });
        }
        Ok(())
    }
}
