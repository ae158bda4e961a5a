//! Downloads on disk that outlive a restart: a folder each, with a file for each part.
//!
//! ```text
//! <folder>/<name>/manifest      what the parts are of; a folder without it was not made here and is left alone
//! <folder>/<name>/part-00000
//! <folder>/<name>/part-00001
//! ```
//!
//! ```
//! use nerves_hub_link_platform::store::{DownloadStore, StoreRequest};
//!
//! let dir = std::env::temp_dir().join(format!("download-store-{}", std::process::id()));
//! let mut store = DownloadStore::new(&dir);
//! let request = StoreRequest::new("firmware-1", "size=5").size(5).parts(3, 2);
//! let mut file = store.open(&request)?;
//! file.write(0, b"hello")?;
//! file.commit(0)?;
//! drop(file);
//!
//! // After a restart.
//! let mut file = store.open(&request)?;
//! assert_eq!(file.lengths(), [(0, 3), (1, 2)]);
//! let mut buffer = [0; 10];
//! assert_eq!(file.read(3, &mut buffer)?, 2);
//! assert_eq!(&buffer[..2], b"lo");
//! file.clear()?;
//! # std::fs::remove_dir_all(dir).unwrap();
//! # Ok::<(), nerves_hub_link_platform::store::StoreError>(())
//! ```

mod bounds;
mod error;
mod file;
mod space;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::limits::{MANIFEST_MAX, STORE_NAME_MAX};
use crate::lock;
use crate::small_file::{self, read_limited, set_aside};
use bounds::Bounds;
use error::io_error;
use space::Probe;

pub use bounds::Kept;
pub use error::StoreError;
pub use file::StoredFile;
pub use space::{Reserve, Space};

/// The file that makes a folder one of ours, and its first line.
const MANIFEST: &str = "manifest";
const MAGIC: &str = "nerves-hub-link download 1";

/// A folder that holds one download at a time.
#[derive(Debug)]
pub struct DownloadStore {
    dir: PathBuf,
    bounds: Bounds,
}

/// A download to open.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreRequest {
    /// The name of its folder: 1 to 128 letters, digits, `_` and `-`.
    pub name: String,
    /// One line that says what it is of. What was kept under another is deleted.
    pub manifest: String,
    /// Bytes of the whole, if known, for which there must be space.
    pub size: Option<u64>,
    /// Bytes of a part; `u64::MAX` if there is only one.
    pub part_size: u64,
    /// How many parts there are.
    pub parts: u32,
}

impl StoreRequest {
    /// Builds a request for a file in one part whose size isn't known.
    pub fn new(name: impl Into<String>, manifest: impl Into<String>) -> Self {
        let (name, manifest) = (name.into(), manifest.into());
        Self { name, manifest, size: None, part_size: u64::MAX, parts: 1 }
    }

    /// Sets the size of the whole.
    #[must_use]
    pub const fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Cuts the file into so many parts of so many bytes.
    #[must_use]
    pub const fn parts(mut self, part_size: u64, parts: u32) -> Self {
        (self.part_size, self.parts) = (part_size, parts);
        self
    }
}

impl DownloadStore {
    /// Uses a folder, which is created when a download is opened. Anything in it that no download left there is
    /// left alone.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), bounds: Bounds::default() }
    }

    /// Sets the space that downloads leave free on the partition. It is looked at before a download and while it is written.
    #[must_use]
    pub const fn reserve(mut self, reserve: Reserve) -> Self {
        self.bounds.reserve = reserve;
        self
    }

    /// Sets how many files, and bytes of them, [`StoredFile::keep_as`] leaves in the folder: the oldest are deleted, but never
    /// the one that was just kept. Default [`ARCHIVES_MAX`](crate::limits::ARCHIVES_MAX) and
    /// [`ARCHIVE_BYTES_MAX`](crate::limits::ARCHIVE_BYTES_MAX).
    #[must_use]
    pub const fn keep_at_most(mut self, files: usize, bytes: u64) -> Self {
        (self.bounds.files, self.bounds.bytes) = (files, bytes);
        self
    }

    /// Asks for the space of a folder in another way than by `statvfs(3)`: for file systems that report it wrongly, and for
    /// tests.
    #[must_use]
    pub fn ask_for_space(
        mut self,
        ask: impl Fn(&Path) -> std::io::Result<Space> + Send + Sync + 'static,
    ) -> Self {
        self.bounds.probe = Probe::new(ask);
        self
    }

    /// Returns the folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Checks that downloads can be kept here, and creates the folder if need be. If the partition is fuller than its reserve
    /// allows, what is left of earlier downloads is deleted first.
    ///
    /// # Errors
    ///
    /// What is in the way.
    pub fn check(&self) -> Result<(), StoreError> {
        self.make()?;
        let access = access(&self.dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK);
        access.map_err(|errno| io_error("write to", &self.dir)(errno.into()))?;
        if self.bounds.check(&self.dir, 1).is_err_and(|error| error.is_full()) {
            let lock = File::open(&self.dir).map_err(io_error("open", &self.dir))?;
            if lock::wait_exclusive(&lock).map_err(io_error("lock", &self.dir))? {
                // No name is empty.
                self.delete_others("")?;
            }
        }
        self.bounds.check(&self.dir, 1)
    }

    /// Opens a download with what is there of it. All other downloads in the folder are deleted first. The folder
    /// is locked against other programs until the download is dropped.
    ///
    /// What is damaged costs what it held: what has the name of a download and can't be used is renamed to `NAME.damaged`, and
    /// the download starts over.
    pub fn open(&mut self, request: &StoreRequest) -> Result<StoredFile, StoreError> {
        check_name(&request.name)?;
        self.make()?;
        let lock = File::open(&self.dir).map_err(io_error("open", &self.dir))?;
        if !lock::wait_exclusive(&lock).map_err(io_error("lock", &self.dir))? {
            return Err(StoreError::Busy { path: self.dir.clone() });
        }
        self.delete_others(&request.name)?;
        let dir = self.dir.join(&request.name);
        let lengths = match holds(&dir, request) {
            // What can't be surveyed is set aside below.
            Contents::Wanted => file::survey(&dir, request).ok(),
            Contents::Other => {
                // What can't be deleted is set aside below.
                let _ = fs::remove_dir_all(&dir);
                None
            }
            Contents::Nothing | Contents::Foreign => None,
        };
        if let Err(error) = self.check_space(lengths.as_deref().unwrap_or_default(), request) {
            if lengths.is_some() {
                // What can't be completed only takes space.
                fs::remove_dir_all(&dir).map_err(io_error("delete", &dir))?;
            }
            return Err(error);
        }
        let lengths = if let Some(lengths) = lengths {
            lengths
        } else {
            clear_away(&dir)?;
            self.create(&dir, request)?;
            Vec::new()
        };
        Ok(StoredFile::new(dir, lock, request, lengths, self.bounds.clone()))
    }

    fn make(&self) -> Result<(), StoreError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.dir).map_err(|error| {
            // The system only says that something exists.
            let error = match fs::symlink_metadata(&self.dir) {
                Ok(found) if found.is_symlink() => std::io::Error::new(
                    ErrorKind::NotADirectory,
                    "it is a link that leads to no folder; delete it, or give another folder",
                ),
                Ok(found) if !found.is_dir() => std::io::Error::new(
                    ErrorKind::NotADirectory,
                    "it exists and is no folder; delete it, or give another folder",
                ),
                _ => error,
            };
            io_error("create", &self.dir)(error)
        })
    }

    fn delete_others(&self, name: &str) -> Result<(), StoreError> {
        for entry in fs::read_dir(&self.dir).map_err(io_error("list", &self.dir))? {
            let entry = entry.map_err(io_error("list", &self.dir))?;
            let path = entry.path();
            if entry.file_name() == name || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            // One that can't be deleted takes space and does no other harm: if it takes too much, that is reported.
            if manifest(&path).is_some() {
                let _ = fs::remove_dir_all(&path);
            } else if path.extension().is_some_and(|end| end == "new") {
                // Left by a power loss before its manifest was written. Anything else in it would keep it.
                let _ = fs::remove_dir(&path);
            }
        }
        Ok(())
    }

    /// Makes the folder, which has its manifest from the moment it has its name.
    fn create(&self, dir: &Path, request: &StoreRequest) -> Result<(), StoreError> {
        let new = dir.with_extension("new");
        if only_parts(&new) {
            // What is left is set aside next.
            let _ = fs::remove_dir_all(&new);
        }
        clear_away(&new)?;
        DirBuilder::new().mode(0o700).create(&new).map_err(io_error("create", &new))?;
        let path = new.join(MANIFEST);
        let text = format!("{MAGIC}\n{}\n", request.manifest);
        small_file::replace(&path, text.as_bytes(), 0o600)
            .map_err(|failed| io_error(failed.what, &failed.path)(failed.source))?;
        fs::rename(&new, dir).map_err(io_error("create", dir))?;
        sync_dir(&self.dir)
    }

    fn check_space(&self, lengths: &[(u32, u64)], request: &StoreRequest) -> Result<(), StoreError> {
        let there = lengths.iter().map(|(_, length)| *length).fold(0, u64::saturating_add);
        // Foreign files may have made more of it than there is. Of a file whose size nobody knows there is at least another byte.
        let needed = request.size.map_or(1, |size| size.saturating_sub(there));
        if needed == 0 { Ok(()) } else { self.bounds.check(&self.dir, needed) }
    }
}

/// What has the name of a download.
enum Contents {
    /// Nothing.
    Nothing,
    /// The download asked for.
    Wanted,
    /// Another download, or the remains of one.
    Other,
    /// Something that no download left there, or that can't be examined.
    Foreign,
}

fn holds(dir: &Path, request: &StoreRequest) -> Contents {
    match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Contents::Nothing,
        Ok(found) if found.is_dir() => {}
        Ok(_) | Err(_) => return Contents::Foreign,
    }
    match manifest(dir) {
        Some(line) if line == request.manifest => Contents::Wanted,
        Some(_) => Contents::Other,
        // A damaged file system may have lost the manifest.
        None if only_parts(dir) => Contents::Other,
        None => Contents::Foreign,
    }
}

/// Makes sure that nothing has a name of ours: whatever is there is set aside.
fn clear_away(path: &Path) -> Result<(), StoreError> {
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(());
    }
    let moved = set_aside(path);
    moved.map(drop).map_err(|source| StoreError::Foreign { path: path.to_owned(), source })
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=STORE_NAME_MAX).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(StoreError::Name { name: name.chars().take(STORE_NAME_MAX).collect() })
}

/// Reads what a folder holds, if it is one of ours. A manifest that can't be read, or is damaged, says nothing.
fn manifest(dir: &Path) -> Option<String> {
    let bytes = read_limited(&dir.join(MANIFEST), MANIFEST_MAX).ok()??;
    let line = std::str::from_utf8(&bytes).ok()?.strip_prefix(MAGIC)?.strip_prefix('\n')?;
    Some(line.trim_end_matches('\n').to_owned())
}

/// Returns whether a folder can be read and all that is in it has the names of ours.
fn only_parts(dir: &Path) -> bool {
    let ours = |name: &OsStr| name == MANIFEST || name.to_str().and_then(file::number).is_some();
    // A link to a folder is not one of ours.
    fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir())
        && fs::read_dir(dir)
            .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| ours(&entry.file_name()))))
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync", dir))
}
