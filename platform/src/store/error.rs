//! What can go wrong with downloads on disk.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Why a download can't be kept, or read back. Each says what failed, on what, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The name asked for could lead out of the folder.
    #[error("{name:?} is no name for a download: it takes 1 to 128 letters, digits, '_' and '-'")]
    Name {
        /// The name.
        name: String,
    },
    /// Another program uses the folder.
    #[error("{path} is in use by another program; give each its own folder for downloads")]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Something has the name of a download, was not left by one, and can't be renamed.
    #[error(
        "{path} is in the way of a download and can't be renamed: {source}; move it, or give another folder"
    )]
    Foreign {
        /// What it is.
        path: PathBuf,
        /// Why it can't be renamed.
        source: std::io::Error,
    },
    /// The disk is too full.
    #[error(
        "{path} has {available} bytes left, of which {reserve} stay free, but the download needs {needed} more; free \
         some space"
    )]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes left for programs without privileges.
        available: u64,
        /// Bytes of these that downloads leave free.
        reserve: u64,
    },
    /// Bytes would leave a hole, or aren't there.
    #[error("{path} has {length} bytes, but {wanted} were expected; it was changed while in use")]
    Length {
        /// The part's file.
        path: PathBuf,
        /// Its length.
        length: u64,
        /// The length expected.
        wanted: u64,
    },
    /// A byte lies beyond the last part that can be.
    #[error("byte {offset} lies beyond the parts that {path} can hold")]
    Offset {
        /// The download's folder.
        path: PathBuf,
        /// Which byte.
        offset: u64,
    },
    /// The operating system said no.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Returns whether the disk is full, or a quota or the limit on the size of files is reached: what was kept is of no use
    /// and takes space.
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
            ),
            _ => false,
        }
    }
}

pub(super) fn io_error<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { what, path: path.to_owned(), source }
}
