//! How much a folder of downloads may hold.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::{StoreError, io_error};
use super::space::{Probe, Reserve};
use crate::limits::{ARCHIVE_BYTES_MAX, ARCHIVES_LISTED_MAX, ARCHIVES_MAX};
use crate::small_file::folder_of;

/// A file that was kept, and what had to go for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// Where the file is.
    pub path: PathBuf,
    /// Older files that were deleted, the oldest first.
    pub dropped: Vec<PathBuf>,
}

/// The bounds of a folder.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) reserve: Reserve,
    pub(super) probe: Probe,
    pub(super) files: usize,
    pub(super) bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        let (reserve, probe) = (Reserve::default(), Probe::default());
        Self { reserve, probe, files: ARCHIVES_MAX, bytes: ARCHIVE_BYTES_MAX }
    }
}

/// A file kept earlier.
struct Old {
    path: PathBuf,
    changed: SystemTime,
    bytes: u64,
}

impl Bounds {
    /// Checks that so many bytes fit and leave the reserve free.
    pub(super) fn check(&self, folder: &Path, needed: u64) -> Result<(), StoreError> {
        let space = self.probe.ask(folder).map_err(io_error("ask for the free space of", folder))?;
        let reserve = self.reserve.of(space.total);
        if space.available.checked_sub(needed).is_some_and(|left| left >= reserve) {
            return Ok(());
        }
        Err(StoreError::NoSpace { path: folder.to_owned(), needed, available: space.available, reserve })
    }

    /// Deletes the oldest files kept in a folder until no more are left than it may hold. The newest one stays in any case.
    pub(super) fn prune(&self, newest: &Path, extension: &str) -> Vec<PathBuf> {
        // What can't be listed or deleted is no reason to lose the newest one. It is tried again at the next.
        let mut old = fs::read_dir(folder_of(newest)).map_or_else(
            |_| Vec::new(),
            |entries| {
                let files =
                    entries.take(ARCHIVES_LISTED_MAX).filter_map(|entry| kept(&entry.ok()?, extension));
                files.filter(|file| file.path != newest).collect::<Vec<_>>()
            },
        );
        old.sort_by(|one, other| one.changed.cmp(&other.changed).then_with(|| one.path.cmp(&other.path)));
        let size = fs::symlink_metadata(newest).map_or(0, |found| found.len());
        let mut bytes = old.iter().map(|file| file.bytes).fold(size, u64::saturating_add);
        let mut files = old.len() + 1;
        let mut dropped = Vec::new();
        for file in old {
            if files <= self.files && bytes <= self.bytes {
                break;
            }
            if fs::remove_file(&file.path).is_ok() {
                files -= 1;
                bytes = bytes.saturating_sub(file.bytes);
                dropped.push(file.path);
            }
        }
        dropped
    }
}

/// Returns a file that has the name of one that was kept: a download's, whose key has an underscore.
fn kept(entry: &fs::DirEntry, extension: &str) -> Option<Old> {
    let path = entry.path();
    let stem = path.file_stem().and_then(OsStr::to_str)?;
    let ours = stem.contains('_') && super::check_name(stem).is_ok();
    if !ours || path.extension().is_none_or(|end| end != extension) {
        return None;
    }
    let found = entry.metadata().ok().filter(fs::Metadata::is_file)?;
    Some(Old { changed: found.modified().unwrap_or(SystemTime::UNIX_EPOCH), bytes: found.len(), path })
}
