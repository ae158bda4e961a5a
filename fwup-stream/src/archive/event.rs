//! What reading an archive comes to.

use super::header::EntryInfo;
#[cfg(doc)]
use crate::limits::DATA_PIECE;

/// What [`ArchiveReader::next`](super::ArchiveReader::next) found.
#[derive(Debug, PartialEq, Eq)]
pub enum ArchiveEvent<'a> {
    /// All input was taken; give more, or call [`ArchiveReader::finish`](super::ArchiveReader::finish).
    NeedInput,
    /// An entry begins. Its data follow.
    Entry(EntryInfo),
    /// Data of the entry, at most [`DATA_PIECE`] bytes, never empty.
    Data(&'a [u8]),
    /// The entry is complete and its checksum and sizes agree (not checked for a skipped entry).
    EntryEnd,
    /// The directory at the end was reached: no more entries. Further input is left alone.
    End,
}
