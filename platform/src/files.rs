//! Files that operators send to the device, and files sent to them.
//!
//! A received file grows under a name of its own and takes its place when it is complete and on the disk, so that there
//! is the old one or the new one and never a half. Everything stays in one folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat};
use std::os::fd::OwnedFd;

use crate::limits::FILE_NAME_MAX;
use crate::small_file::open_nonblocking;

/// How the names of unfinished files begin. No file can be sent under such a name.
const UNFINISHED: &str = ".nerves-hub-link-receiving-";

/// A folder that takes files.
#[derive(Debug)]
pub struct Inbox {
    path: PathBuf,
    folder: OwnedFd,
    last: u64,
}

/// A file that is being received. Dropping it removes what there is.
#[derive(Debug)]
pub struct Incoming {
    file: File,
    folder: OwnedFd,
    name: String,
    temporary: String,
    place: PathBuf,
    finished: bool,
}

/// A file that is being sent.
#[derive(Debug)]
pub struct Outgoing {
    file: File,
    path: PathBuf,
    name: String,
    size: u64,
}

/// Why a file can't be received or sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Its name is no plain file name.
    #[error("{0:?} is no plain file name")]
    Name(String),
    /// It is no regular file.
    #[error("{} is no regular file", .0.display())]
    Kind(PathBuf),
    /// The system refused something.
    #[error("cannot {doing} {}: {error}", path.display())]
    System {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl Inbox {
    /// Opens the folder, made if need be, and removes what earlier runs left unfinished.
    ///
    /// # Errors
    ///
    /// What could not be done with the folder.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FileError> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(system("create the folder", &path))?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = openat(CWD, &path, flags, Mode::empty());
        let folder = folder.map_err(|error| system("open the folder", &path)(error.into()))?;
        for entry in fs::read_dir(&path).map_err(system("read the folder", &path))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                // One that can't be removed is in nobody's way.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self { path, folder, last: 0 })
    }

    /// Begins a file.
    ///
    /// # Errors
    ///
    /// If its name leads elsewhere, or it can't be created.
    pub fn begin(&mut self, name: &str) -> Result<Incoming, FileError> {
        let place = self.path.join(name);
        let plain = matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(part)] if part == name)
            && !name.contains('\0')
            && name.len() <= FILE_NAME_MAX
            && !name.starts_with(UNFINISHED);
        if !plain {
            return Err(FileError::Name(name.to_owned()));
        }
        self.last += 1;
        let temporary = format!("{UNFINISHED}{}-{}", std::process::id(), self.last);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.folder, &temporary, flags, Mode::from_raw_mode(0o644));
        let file = file.map_err(|error| system("create", &self.path.join(&temporary))(error.into()))?;
        let folder = self.folder.try_clone().map_err(system("open the folder", &self.path))?;
        Ok(Incoming { file: file.into(), folder, name: name.to_owned(), temporary, place, finished: false })
    }
}

impl Incoming {
    /// Adds a piece.
    ///
    /// # Errors
    ///
    /// What the system said: no space, say.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), FileError> {
        self.file.write_all(piece).map_err(system("write", &self.place))
    }

    /// Puts the file in its place, in which another one may have been, once it is on the disk.
    ///
    /// # Errors
    ///
    /// What the system said. What was there before is there still, unless only its folder could not be made safe.
    pub fn finish(mut self) -> Result<PathBuf, FileError> {
        let trouble = |error: io::Error| system("store", &self.place)(error);
        self.file.sync_all().map_err(trouble)?;
        renameat(&self.folder, &self.temporary, &self.folder, &self.name)
            .map_err(|errno| trouble(errno.into()))?;
        self.finished = true;
        rustix::fs::fsync(&self.folder).map_err(|errno| trouble(errno.into()))?;
        Ok(self.place.clone())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.finished {
            let _ = unlinkat(&self.folder, &self.temporary, AtFlags::empty());
        }
    }
}

impl Outgoing {
    /// Opens a file to send.
    ///
    /// # Errors
    ///
    /// If it can't be read, or has no name or no size, as a device or a pipe.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FileError> {
        let path = path.into();
        // Not waiting for the other end, should it be a pipe.
        let file = open_nonblocking(&path, OpenOptions::new().read(true));
        let file = file.map_err(system("open", &path))?;
        let facts = file.metadata().map_err(system("read", &path))?;
        if !facts.is_file() {
            return Err(FileError::Kind(path));
        }
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let name = name.ok_or_else(|| FileError::Name(path.to_string_lossy().into_owned()))?;
        Ok(Self { file, path, name, size: facts.len() })
    }

    /// Returns the file's name, without its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its size in bytes when it was opened.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Reads the next bytes, exactly so many.
    ///
    /// # Errors
    ///
    /// If it can't be read, or became shorter.
    pub fn read(&mut self, bytes: usize) -> Result<Vec<u8>, FileError> {
        let mut piece = vec![0; bytes];
        self.file.read_exact(&mut piece).map_err(system("read", &self.path))?;
        Ok(piece)
    }
}

fn system(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |error| FileError::System { doing, path, error }
}
