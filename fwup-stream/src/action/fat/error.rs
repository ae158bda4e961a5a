//! Why something on a FAT file system failed, in the words of `fwup` 1.16.0 (golden `fat-errors`).

use crate::disk::DiskError;

/// Why a function on a FAT file system failed. The texts are `fwup`'s, since scripts match them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FatError {
    /// An operation failed: `fat_mv(a): FATFS: Destination file already exists`.
    #[error("{context}({name}): {fault}")]
    Operation {
        /// What was being done: a function's name or, for writing and copying, a sentence.
        context: &'static str,
        /// The file it was done to; empty for `fat_mkfs`.
        name: String,
        /// What went wrong.
        #[source]
        fault: Fault,
    },
    /// Not all bytes of a piece fitted into a file.
    #[error(
        "Error writing file to FAT: {name}, expected {expected} bytes written, got {written} (maybe the disk is \
         full?)"
    )]
    Full {
        /// The file.
        name: String,
        /// Bytes of the piece.
        expected: usize,
        /// Bytes that went in.
        written: usize,
    },
    /// Not all bytes of a copy fitted into the file system.
    #[error("Error copying file to FAT")]
    CopyFull,
    /// The destination refused the range that a file system is to be made in.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What can go wrong on a FAT file system.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The destination could not be read or written.
    #[error("FATFS: A hard error occurred in the low level disk I/O layer")]
    Disk(#[from] DiskError),
    /// The file system contradicts itself: a chain that ends early or runs in a circle, a bad number.
    #[error("FATFS: Assertion failed (check for corruption)")]
    Corrupt,
    /// There is no such file.
    #[error("FATFS: Could not find the file")]
    NoFile,
    /// A folder on the way to the file does not exist.
    #[error("FATFS: Could not find the path")]
    NoPath,
    /// The name has a forbidden character, is empty or too long.
    #[error("FATFS: The path name format is invalid")]
    InvalidName,
    /// Read-only file, folder that is not empty, or no room for an entry.
    #[error("FATFS: Access denied due to prohibited access or directory full")]
    Denied,
    /// The target exists already.
    #[error("FATFS: Destination file already exists")]
    Exists,
    /// No boot sector of a FAT file system is where one was looked for.
    #[error("FATFS: There is no valid FAT volume")]
    NoFileSystem,
    /// No FAT layout has this size.
    #[error("FATFS: f_mkfs() aborted due to a parameter error. Try adjusting the partition size.")]
    BadSize,
}

impl Fault {
    /// Adds what was being done to which file.
    pub(super) fn during(self, context: &'static str, name: &str) -> FatError {
        FatError::Operation { context, name: name.to_owned(), fault: self }
    }
}
