//! Why an archive cannot be read.

use crate::internal::Internal;

/// Why the archive cannot be read. Displays as the reference does where that is known, and names the entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ArchiveError {
    kind: ArchiveErrorKind,
    in_data: bool,
    entry: Option<String>,
}

impl std::fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.kind.fmt(f)?;
        self.entry.as_ref().map_or(Ok(()), |entry| write!(f, " in '{entry}'"))
    }
}

/// See [`ArchiveError::kind`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveErrorKind {
    /// The first bytes are not those of a ZIP archive, or there are none.
    #[error("Unrecognized archive format")]
    Unrecognized,
    /// Something that cannot happen has happened.
    #[error(transparent)]
    Internal(#[from] Internal),
    /// The input ended inside a local header.
    #[error("Truncated ZIP file header")]
    TruncatedHeader,
    /// The input ended inside stored data.
    #[error("Truncated ZIP file data")]
    TruncatedData,
    /// The input ended inside compressed data.
    #[error("ZIP decompression failed (-5): the archive ends too early")]
    TruncatedDeflate,
    /// The input ended inside the descriptor behind the data.
    #[error("Truncated ZIP end-of-file record")]
    TruncatedDescriptor,
    /// The compressed data are broken.
    #[error("ZIP decompression failed (-3): the data are damaged")]
    BrokenDeflate,
    /// The compressed data have another size than announced.
    #[error("ZIP compressed data is wrong size (read {read}, expected {expected})")]
    CompressedSize {
        /// Bytes that were there.
        read: u64,
        /// Bytes announced.
        expected: u64,
    },
    /// The data have another size than announced.
    #[error("ZIP uncompressed data is wrong size (read {read}, expected {expected})")]
    UncompressedSize {
        /// Bytes that were there.
        read: u64,
        /// Bytes announced.
        expected: u64,
    },
    /// The checksum of the data is another than announced.
    #[error("ZIP bad CRC: 0x{read:x} should be 0x{expected:x}")]
    Checksum {
        /// The checksum of what was there.
        read: u32,
        /// The checksum announced.
        expected: u32,
    },
    /// The extra fields of a local header do not fit together.
    #[error("Malformed extra data in a ZIP file header")]
    MalformedExtra,
    /// A name is longer than any archive of the reference has.
    #[error(
        "ZIP entry name of {length} bytes is too long: at most {} are allowed",
        crate::limits::ENTRY_NAME
    )]
    NameTooLong {
        /// Bytes of the name.
        length: usize,
    },
    /// The data are encrypted.
    #[error("Encrypted file is unsupported")]
    Encrypted,
    /// The data are compressed by something else than deflate.
    #[error("Unsupported ZIP compression method ({method})")]
    Method {
        /// The method's number.
        method: u16,
    },
}

impl ArchiveError {
    pub(super) fn new(kind: ArchiveErrorKind, in_data: bool, entry: Option<String>) -> Self {
        Self { kind, in_data, entry }
    }

    /// Returns the name of the entry whose data could not be read.
    pub fn entry(&self) -> Option<&str> {
        self.entry.as_deref()
    }

    /// Returns what went wrong.
    pub fn kind(&self) -> &ArchiveErrorKind {
        &self.kind
    }

    /// Tells whether reading an entry's data failed. If not (in a header, between entries, in skipped data),
    /// the reference takes the error as the end of the entries, except before the first one.
    pub fn in_data(&self) -> bool {
        self.in_data
    }

    /// Tells whether this is no ZIP archive at all.
    pub(super) fn is_unrecognized(&self) -> bool {
        self.kind == ArchiveErrorKind::Unrecognized
    }
}
