//! Limits on what a FAT file system on the destination may make this code do.

/// File systems known at a time; the oldest is forgotten when another is needed (fw-format §15.5).
pub const MOUNTS: usize = 4;

/// Bytes of a path that count; the rest is cut, since `fwup` puts `N:/` in front and keeps 255 (fw-format §15.3).
pub const PATH_BYTES: usize = 252;

/// Bytes of a folder: 65536 entries, the limit of the format. Ends the walk through a folder whose chain of
/// clusters runs in a circle.
pub const FOLDER_BYTES: u32 = 0x0020_0000;

/// Bytes of a file: one less than 4 GiB, the largest size an entry can hold.
pub const FILE_BYTES: u32 = u32::MAX;

/// Short names with a numbered tail that are tried before giving up.
pub const SHORT_NAME_TRIES: u32 = 99;

/// Bytes of a search pattern; `fwup` never finds one as long as its buffer (fw-format §7).
pub const PATTERN_BYTES: usize = 4095;

/// Names of a file system's folders that are indexed: all of one folder as full as the format allows, in which a long
/// name takes at least two entries and counts twice. About 1.5 MiB at most; 10,000 names take 0.2.
pub const INDEXED_NAMES: usize = 65_536;

/// Folders of a file system that are indexed. Those used last stay.
pub const INDEXED_FOLDERS: usize = 32;
