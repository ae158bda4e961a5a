//! Reading whole small files without trusting their size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Reads a file of at most `limit` bytes; returns `None` for a longer one.
pub(crate) fn read_limited(path: &Path, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}
