//! The container: a ZIP archive read and written strictly from front to back.

mod error;
mod event;
mod header;
mod inflate;
mod reader;
mod search;
mod start;
mod tally;
mod writer;

pub use error::{ArchiveError, ArchiveErrorKind};
pub use event::ArchiveEvent;
pub use header::EntryInfo;
pub(crate) use header::{FIXED_LENGTH, LocalHeader, le};
pub use reader::ArchiveReader;
pub use start::{ArchiveStart, OpenedArchive, Purpose, SignatureState, StartError, StartProgress};
pub use writer::{ArchiveWriter, DosTime, EntryHeader, EntryTotals};
