//! The destination: what a target must offer, and the cache in front of it.

mod behind;
mod buffer;
mod cache;
pub(crate) mod cipher;
mod discard;
mod file;
mod flush;
mod io;
mod memory;
mod mounts;
mod segment;
mod store;
mod target;
mod trimmed;

pub use behind::WriteBehind;
pub use cache::{CacheOptions, SegmentCache};
pub use cipher::CipherError;
pub use file::{FileTarget, OpenError, OpenOptions, sector_size};
pub use io::{DiskError, DiskIo, Twins};
pub use memory::MemoryTarget;
pub use mounts::{UnmountError, unmount_all};
pub use target::{Extent, Target};

/// Bytes in a block, the unit of every offset in a manifest.
pub const BLOCK: usize = 512;

/// Bytes in a segment, the unit in which the destination is read and written (fw-format §9.2).
pub const SEGMENT: usize = 128 * 1024;

/// [`BLOCK`] for arithmetic on offsets.
pub const BLOCK_BYTES: u64 = 512;

/// [`SEGMENT`] for arithmetic on offsets.
pub(crate) const SEGMENT_BYTES: u64 = 128 * 1024;

/// The place of a byte in its segment.
pub(crate) fn within(offset: u64) -> usize {
    // Less than a segment, which every `usize` holds.
    usize::try_from(offset % SEGMENT_BYTES).unwrap_or(SEGMENT)
}

/// The system's words for an error, without Rust's "(os error N)" at the end.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text.get(..at).unwrap_or(&text).to_owned(),
        None => text,
    }
}
