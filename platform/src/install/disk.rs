//! Not writing to the wrong disk (linux-agent §7).

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::limits::PROC_FILE_MAX;
use crate::lock;
use crate::small_file::read_limited;

/// Which disk updates go to, and whether it may be a real one.
///
/// ```
/// use nerves_hub_link_platform::install::DiskPolicy;
/// let policy = DiskPolicy::new("/dev/mmcblk0").allow_block_device(true);
/// assert_eq!(policy.path(), std::path::Path::new("/dev/mmcblk0"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPolicy {
    path: PathBuf,
    block_device: bool,
    fixed_size: bool,
}

/// Why a disk may not be written to. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskRefused {
    /// There is nothing at the path. An update never creates its disk.
    #[error(
        "the disk {path} does not exist; an update never creates it, so check the path or create the image first"
    )]
    Missing {
        /// The path asked for.
        path: PathBuf,
    },
    /// A block device, which was not allowed in as many words.
    #[error(
        "{path} is a block device, and writing to one must be allowed explicitly \
         (the setting is `allow_block_device`): an update overwrites parts of it"
    )]
    BlockDevice {
        /// The path asked for.
        path: PathBuf,
    },
    /// Neither a regular file nor a block device.
    #[error("{path} is {what}; firmware goes to a regular file or a block device")]
    NotADisk {
        /// The path asked for.
        path: PathBuf,
        /// What is there instead.
        what: &'static str,
    },
    /// Something else came to be at the path while it was opened.
    #[error("{path} was replaced while it was being opened; nothing was written")]
    Replaced {
        /// The path asked for.
        path: PathBuf,
    },
    /// Another program, perhaps another update, holds the disk.
    #[error("{path} is locked by another program (another update?); try again later")]
    Locked {
        /// The path asked for.
        path: PathBuf,
    },
    /// The operating system said no.
    #[error("cannot open the disk {path} for writing: {source}")]
    Open {
        /// The path asked for.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

impl DiskRefused {
    /// Returns whether the same update may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Locked { .. } | Self::Replaced { .. })
    }
}

impl DiskPolicy {
    /// Builds a policy for the disk at `path` that refuses block devices.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), block_device: false, fixed_size: false }
    }

    /// Says whether the disk may be a block device.
    #[must_use]
    pub const fn allow_block_device(mut self, allow: bool) -> Self {
        self.block_device = allow;
        self
    }

    /// Says whether an image file is full at its present size, as a device is. Otherwise it may grow,
    /// since images are often made only as long as what was written to them.
    #[must_use]
    pub const fn fixed_size(mut self, fixed: bool) -> Self {
        self.fixed_size = fixed;
        self
    }

    pub(crate) const fn is_fixed_size(&self) -> bool {
        self.fixed_size
    }

    /// Returns the path of the disk.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks without opening it that the disk is there, allowed and can be written, for a check that speaks early. Opening
    /// a block device for writing would make `udev` look at it anew.
    pub fn check(&self) -> Result<(), DiskRefused> {
        let metadata = self.stat()?;
        let failed = |source| DiskRefused::Open { path: self.path.clone(), source };
        access(&self.path, Access::READ_OK | Access::WRITE_OK).map_err(|errno| failed(errno.into()))?;
        if metadata.file_type().is_block_device() {
            let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
            // Where the kernel tells nothing, opening the device will.
            let is = |fact: &str, text: &[u8]| {
                let path = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/{fact}"));
                matches!(read_limited(&path, PROC_FILE_MAX), Ok(Some(found)) if found.trim_ascii() == text)
            };
            for (fact, text, why) in [
                ("ro", &b"1"[..], "the block device is read-only"),
                ("size", b"0", "the block device has no medium"),
            ] {
                if is(fact, text) {
                    return Err(failed(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, why)));
                }
            }
        }
        Ok(())
    }

    /// Opens the disk for reading and writing, and locks it until it is closed.
    pub fn open(&self) -> Result<LockedDisk, DiskRefused> {
        let path = || self.path.clone();
        let failed = |source| DiskRefused::Open { path: path(), source };
        // Looked at before it is opened: opening a tape or a watchdog already does something.
        let expected = self.stat()?;
        let file = OpenOptions::new().read(true).write(true).open(&self.path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if identity(&found) != identity(&expected) {
            return Err(DiskRefused::Replaced { path: path() });
        }
        let Some(held) = lock::whole(&file).map_err(failed)? else {
            return Err(DiskRefused::Locked { path: path() });
        };
        Ok(LockedDisk { file, _held: held })
    }

    fn stat(&self) -> Result<Metadata, DiskRefused> {
        let path = self.path.clone();
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(DiskRefused::Missing { path });
            }
            Err(source) => return Err(DiskRefused::Open { path, source }),
        };
        let kind = metadata.file_type();
        if kind.is_block_device() && !self.block_device {
            return Err(DiskRefused::BlockDevice { path });
        }
        if kind.is_file() || kind.is_block_device() {
            return Ok(metadata);
        }
        let what = if kind.is_dir() {
            "a directory"
        } else if kind.is_char_device() {
            "a character device"
        } else if kind.is_fifo() {
            "a pipe"
        } else {
            "a socket"
        };
        Err(DiskRefused::NotADisk { path, what })
    }
}

/// An open disk. Other writers of ours are kept away until it is dropped.
#[derive(Debug)]
pub struct LockedDisk {
    file: File,
    _held: lock::Held,
}

impl Deref for LockedDisk {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl DerefMut for LockedDisk {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.file
    }
}

fn identity(metadata: &Metadata) -> (u64, u64, u64) {
    (metadata.dev(), metadata.ino(), metadata.rdev())
}
