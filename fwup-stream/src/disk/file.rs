//! A file or block device as destination (fw-format §9.1).

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags, fallocate, ioctl_blkpbszget, ioctl_blksszget};
use rustix::io::Errno;

use super::discard::discard;
use super::target::{Extent, Target};
use super::{BLOCK, BLOCK_BYTES};

/// Physical sectors above this are optimal sizes rather than what is written in one go.
const PAGE: usize = 4096;
/// Any write permission. A file without is refused, even for the superuser.
const WRITE_BITS: u32 = 0o222;
/// The mode of new files, less the umask.
const NEW_FILE_MODE: u32 = 0o644;

/// How to open a destination.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// A hard end, in blocks of 512 bytes. A device only gets smaller by it.
    pub max_blocks: Option<u64>,
}

/// Why a destination cannot be opened. Displays as fwup does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    path: PathBuf,
    exists: bool,
    warnings: Vec<String>,
}

impl OpenError {
    /// What was worth telling before the opening failed.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        if self.exists {
            write!(
                f,
                "Cannot open '{path}' for output.\nCheck file permissions or the read-only tab if this is an SD Card."
            )
        } else {
            write!(f, "Cannot create '{path}'.\nCheck the path and permissions on the containing directory.")
        }
    }
}

impl std::error::Error for OpenError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Regular,
    Null,
    Device,
}

/// A destination that is a file or a block device.
///
/// ```
/// use fwup_stream::disk::{Extent, FileTarget, OpenOptions, Target};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("disk.img");
/// let target = FileTarget::open(&path, &OpenOptions { max_blocks: Some(2048) })?;
/// assert!(target.is_regular());
/// assert_eq!(target.extent(), Extent::Hard(1 << 20));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileTarget {
    file: File,
    kind: Kind,
    extent: Extent,
    granularity: usize,
    warnings: Vec<String>,
}

impl FileTarget {
    /// Opens the destination. A missing file is created, but never under `/dev/`.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, OpenError> {
        let metadata = std::fs::metadata(path).ok();
        let mut warnings = Vec::new();
        let opened = match &metadata {
            _ if path == Path::new("/dev/null") => {
                File::options().write(true).open(path).map(|file| (file, Kind::Null, Extent::Unknown))
            }
            Some(metadata) if !metadata.is_file() => {
                open_device(path, Some(metadata), options, &mut warnings)
            }
            None if path.starts_with("/dev") => open_device(path, None, options, &mut warnings),
            metadata => open_regular(path, metadata.as_ref(), options),
        };
        match opened {
            Ok((file, kind, extent)) => {
                let granularity = if kind == Kind::Device { sector_size(&file) } else { BLOCK };
                Ok(Self { file, kind, extent, granularity, warnings })
            }
            Err(_) => Err(OpenError { path: path.to_owned(), exists: metadata.is_some(), warnings }),
        }
    }

    /// Says whether this is a device rather than a file: there, writes are verified unless asked otherwise.
    pub fn is_device(&self) -> bool {
        self.kind == Kind::Device
    }

    /// Says whether this is a regular file, where trims mean nothing.
    pub fn is_regular(&self) -> bool {
        self.kind == Kind::Regular
    }

    /// Whether this is a block device; one whose kind is not told is treated as none.
    fn is_block(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device())
    }

    /// Takes what is worth telling about the opening.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }
}

impl Target for FileTarget {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.file.sync_data() {
            // What knows no syncing (character devices, /dev/null) has nothing to lose.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            outcome => outcome,
        }
    }

    /// Punches a hole, which the kernel turns into a discard where the device then reads zeros, or else has the
    /// blocks discarded.
    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        if self.kind != Kind::Device {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, flags, offset, length) {
            Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::NOSYS) if self.is_block() => {
                discard(&self.file, offset, length)
            }
            outcome => outcome.map_err(Into::into),
        }
    }

    fn extent(&self) -> Extent {
        self.extent
    }

    fn granularity(&self) -> usize {
        self.granularity
    }
}

/// Returns the bytes that a block device writes in one go: its physical sectors, as far as they are ordinary
/// ones, and never less than its logical ones, which direct I/O insists on. 512 for what is no block device.
pub fn sector_size(file: &File) -> usize {
    let bytes = |size: rustix::io::Result<u32>| size.ok().and_then(|size| usize::try_from(size).ok());
    let logical = bytes(ioctl_blksszget(file)).unwrap_or(BLOCK);
    let physical = bytes(ioctl_blkpbszget(file)).unwrap_or(BLOCK).min(PAGE);
    logical.max(physical).max(BLOCK)
}

fn open_regular(
    path: &Path,
    metadata: Option<&Metadata>,
    options: &OpenOptions,
) -> io::Result<(File, Kind, Extent)> {
    if metadata.is_some_and(|metadata| metadata.mode() & WRITE_BITS == 0) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut how = File::options();
    how.read(true).write(true).create(true).truncate(false).mode(NEW_FILE_MODE);
    let file = how.open(path)?;
    let extent = match (options.max_blocks, metadata.map_or(0, Metadata::len)) {
        (Some(blocks), _) => Extent::Hard(blocks.saturating_mul(BLOCK_BYTES)),
        (None, 0) => Extent::Unknown,
        (None, bytes) => Extent::Soft(bytes),
    };
    Ok((file, Kind::Regular, extent))
}

fn open_device(
    path: &Path,
    metadata: Option<&Metadata>,
    options: &OpenOptions,
    warnings: &mut Vec<String>,
) -> io::Result<(File, Kind, Extent)> {
    let is_block = metadata.is_some_and(|metadata| metadata.file_type().is_block_device());
    // A read-only descriptor, so that nothing that watches for writers wakes up. A pipe would wait for one.
    let mut look = File::options();
    look.read(true);
    if !is_block {
        look.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    }
    let size = look.open(path).and_then(|mut file| file.seek(SeekFrom::End(0))).unwrap_or_else(|_| {
        warnings.push(format!("Error determining the size of {}", path.display()));
        0
    });
    let limit = options.max_blocks.map(|blocks| blocks.saturating_mul(BLOCK_BYTES));
    let extent = match (size, limit) {
        (0, None) => Extent::Unknown,
        (0, Some(limit)) => Extent::Hard(limit),
        (size, limit) => Extent::Hard(limit.map_or(size, |limit| limit.min(size))),
    };
    let mut how = File::options();
    how.read(true).write(true);
    let mut direct = how.clone();
    direct.custom_flags(OFlags::DIRECT.bits().cast_signed());
    // Direct I/O keeps the order of writes and lets verification read the medium, not the page cache.
    let file = match direct.open(path) {
        Err(error) if is_block && error.raw_os_error() != Some(Errno::INVAL.raw_os_error()) => {
            return Err(error);
        }
        Err(_) => how.open(path)?,
        Ok(file) => file,
    };
    Ok((file, Kind::Device, extent))
}
