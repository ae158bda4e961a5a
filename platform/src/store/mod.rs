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

mod error;
mod file;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::limits::{MANIFEST_MAX, STORE_NAME_MAX};
use crate::lock;
use error::io_error;

pub use error::StoreError;
pub use file::StoredFile;

/// The file that makes a folder one of ours, and its first line.
const MANIFEST: &str = "manifest";
const MAGIC: &str = "nerves-hub-link download 1";

/// A folder that holds one download at a time.
#[derive(Debug)]
pub struct DownloadStore {
    dir: PathBuf,
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
        Self { dir: dir.into() }
    }

    /// Returns the folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Looks whether downloads can be kept here, and creates the folder if need be.
    ///
    /// # Errors
    ///
    /// What is in the way.
    pub fn check(&self) -> Result<(), StoreError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.dir).map_err(io_error("create", &self.dir))?;
        let access = access(&self.dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK);
        access.map_err(|errno| io_error("write to", &self.dir)(errno.into()))
    }

    /// Opens a download with what is there of it. All other downloads in the folder are deleted first. The folder
    /// is locked against other programs until the download is dropped.
    pub fn open(&mut self, request: &StoreRequest) -> Result<StoredFile, StoreError> {
        check_name(&request.name)?;
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.dir).map_err(io_error("create", &self.dir))?;
        let lock = File::open(&self.dir).map_err(io_error("open", &self.dir))?;
        if !lock::try_exclusive(&lock).map_err(io_error("lock", &self.dir))? {
            return Err(StoreError::Busy { path: self.dir.clone() });
        }
        self.delete_others(&request.name)?;
        let dir = self.dir.join(&request.name);
        if !holds(&dir, request)? {
            self.create(&dir, request)?;
        }
        let file = StoredFile::open(dir, lock, request)?;
        self.check_space(&file, request)?;
        Ok(file)
    }

    fn delete_others(&self, name: &str) -> Result<(), StoreError> {
        for entry in fs::read_dir(&self.dir).map_err(io_error("list", &self.dir))? {
            let entry = entry.map_err(io_error("list", &self.dir))?;
            let path = entry.path();
            if entry.file_name() == name || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if manifest(&path)?.is_some() {
                fs::remove_dir_all(&path).map_err(io_error("delete", &path))?;
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
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&new).map_err(io_error("create", &new))?;
        let path = new.join(MANIFEST);
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let mut file = opened.map_err(io_error("create", &path))?;
        let text = format!("{MAGIC}\n{}\n", request.manifest);
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(io_error("write", &path))?;
        sync_dir(&new)?;
        fs::rename(&new, dir).map_err(io_error("create", dir))?;
        sync_dir(&self.dir)
    }

    fn check_space(&self, file: &StoredFile, request: &StoreRequest) -> Result<(), StoreError> {
        let Some(size) = request.size else { return Ok(()) };
        let there = file.lengths().iter().map(|(_, length)| length).sum();
        let needed = size.saturating_sub(there);
        let space = rustix::fs::statvfs(&self.dir).map_err(std::io::Error::from);
        let space = space.map_err(io_error("ask for the free space of", &self.dir))?;
        let available = space.f_bavail.saturating_mul(space.f_frsize);
        if needed > available {
            return Err(StoreError::NoSpace { path: self.dir.clone(), needed, available });
        }
        Ok(())
    }
}

/// Returns whether the folder holds what is asked for. One that holds something else of ours is deleted.
fn holds(dir: &Path, request: &StoreRequest) -> Result<bool, StoreError> {
    match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(StoreError::Io { what: "look at", path: dir.to_owned(), source }),
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(StoreError::Foreign { path: dir.to_owned() }),
    }
    match manifest(dir)? {
        Some(line) if line == request.manifest => Ok(true),
        // A damaged file system may have lost the manifest; that must not stop this update for ever.
        None if !only_parts(dir)? => Err(StoreError::Foreign { path: dir.to_owned() }),
        _ => fs::remove_dir_all(dir).map_err(io_error("delete", dir)).map(|()| false),
    }
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=STORE_NAME_MAX).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(StoreError::Name { name: name.chars().take(STORE_NAME_MAX).collect() })
}

/// Reads what a folder holds, if it is one of ours.
fn manifest(dir: &Path) -> Result<Option<String>, StoreError> {
    let path = dir.join(MANIFEST);
    let bytes = match crate::read_limited(&path, MANIFEST_MAX) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(StoreError::Io { what: "read", path, source }),
    };
    let text = String::from_utf8(bytes).unwrap_or_default();
    let line = text.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix('\n'));
    Ok(line.map(|line| line.trim_end_matches('\n').to_owned()))
}

/// Returns whether all that is in a folder has the names of ours.
fn only_parts(dir: &Path) -> Result<bool, StoreError> {
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let name = entry.map_err(io_error("list", dir))?.file_name();
        if name != MANIFEST && name.to_str().and_then(file::number).is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync", dir))
}
