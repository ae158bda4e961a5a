//! The container: a ZIP archive read strictly from front to back.

mod header;
mod inflate;
mod reader;
mod start;

pub use header::EntryInfo;
pub use reader::{ArchiveError, ArchiveEvent, ArchiveReader};
pub use start::{ArchiveStart, OpenedArchive, Purpose, SignatureState, StartError, StartProgress};
