//! The container: a ZIP archive read strictly from front to back.

mod error;
mod event;
mod header;
mod inflate;
mod reader;
mod search;
mod start;
mod tally;

pub use error::{ArchiveError, ArchiveErrorKind};
pub use event::ArchiveEvent;
pub use header::EntryInfo;
pub use reader::ArchiveReader;
pub use start::{ArchiveStart, OpenedArchive, Purpose, SignatureState, StartError, StartProgress};
