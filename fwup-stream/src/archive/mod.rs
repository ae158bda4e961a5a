//! The container: a ZIP archive read strictly from front to back.

mod error;
mod header;
mod inflate;
mod reader;
mod search;
mod start;

pub use error::{ArchiveError, ArchiveErrorKind};
pub use header::EntryInfo;
pub use reader::{ArchiveEvent, ArchiveReader};
pub use start::{ArchiveStart, OpenedArchive, Purpose, SignatureState, StartError, StartProgress};
