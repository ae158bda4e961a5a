//! The push reader: bytes in, entries and their data out.

use super::header::EntryInfo;

/// Reads a ZIP archive from front to back, from pieces of any size.
#[derive(Debug, Default)]
pub struct ArchiveReader {
    bytes: u64,
}

/// What [`ArchiveReader::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum ArchiveEvent<'a> {
    /// All input was taken; give more, or call [`ArchiveReader::finish`].
    NeedInput,
    /// An entry begins. Its data follow.
    Entry(EntryInfo),
    /// Data of the entry, at most [`crate::limits::DATA_PIECE`] bytes.
    Data(&'a [u8]),
    /// The entry is complete and its checksum and sizes agree (not checked for a skipped entry).
    EntryEnd,
    /// The directory at the end was reached: no more entries. Further input is left alone.
    End,
}

/// Why the archive cannot be read. Displays as the reference does where that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The first bytes are not those of a ZIP archive.
    #[error("Unrecognized archive format")]
    Unrecognized,
}

impl ArchiveError {
    /// Tells whether reading an entry's data failed. If not, the reference takes the error (in a header,
    /// between entries or in skipped data) as the end of the entries, except before the first one.
    pub fn in_data(&self) -> bool {
        false
    }
}

impl ArchiveReader {
    /// Makes a reader at the start of an archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what it needs off the front of `input` and returns the next event; `NeedInput` only when
    /// `input` is empty. After an error every call returns that error.
    pub fn next<'a>(&'a mut self, input: &mut &[u8]) -> Result<ArchiveEvent<'a>, ArchiveError> {
        let _ = input;
        Err(ArchiveError::Unrecognized)
    }

    /// Tells that the input ended: an error if that is too early (nothing at all, inside a header, inside an
    /// entry). A missing end directory is no error.
    pub fn finish(&mut self) -> Result<(), ArchiveError> {
        Err(ArchiveError::Unrecognized)
    }

    /// Skips the rest of the present entry: its data are not delivered and not checked. `EntryEnd` still
    /// comes. Without an entry does nothing.
    pub fn skip_entry(&mut self) {}

    /// Returns the number of bytes taken off the input so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes
    }
}
