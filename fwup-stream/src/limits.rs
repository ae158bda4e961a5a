//! Every limit on what an archive may make this library hold, with its reason.

/// Bytes of data in one [`crate::archive::ArchiveEvent::Data`]: the segment of the write cache.
pub const DATA_PIECE: usize = 128 * 1024;

/// Bytes of an entry's name, as the reference allows (fw-format §1.4).
pub const ENTRY_NAME: usize = 511;

/// Smallest manifest in bytes (fw-format §1.4).
pub const MANIFEST_MIN: usize = 10;

/// Largest manifest in bytes (fw-format §1.4).
pub const MANIFEST_MAX: usize = 49_999;

/// Public keys considered; more are ignored with a warning (fw-format §2).
pub const PUBLIC_KEYS: usize = 10;

/// Arguments of a call, its name not counted (fw-format §3.2).
pub const CALL_ARGUMENTS: usize = 9;

/// Megabytes of write cache when the manifest does not say (fw-format §9.2).
pub const CACHE_MEGABYTES_DEFAULT: u64 = 8;

/// Most megabytes of write cache; a manifest that asks for more gets this. Results do not depend on it.
pub const CACHE_MEGABYTES_MAX: u64 = 64;

/// Blocks of a U-Boot environment, as in the reference (fw-format §16): just below 32 MiB. A change holds the
/// bytes of two copies and 4 bytes for each variable, 110 MiB in all at the worst; an environment of the usual
/// size, some hundred KiB at most, less than one MiB.
pub const UBOOT_BLOCKS_MAX: u64 = 65_534;

/// Bytes that all variables of a manifest may expand to: twenty times the largest manifest. Definitions
/// that double themselves would otherwise fill the memory.
pub const EXPANDED_MAX: usize = 1024 * 1024;

/// Bytes of a delta's target window, as fwup allows (fw-format §12.3): decoding holds one in memory.
pub const DELTA_WINDOW: usize = 64 * 1024 * 1024;

/// Bytes that the data, instructions and addresses of a delta's window may have beyond what they make. A delta
/// that is longer than its result has no use; encoders stay below but for a few bytes in each window.
pub const DELTA_OVERHEAD: usize = 1024 * 1024;

/// Bytes of memory that applying a delta may take by default: the window with its sections, and pieces of the source.
/// Windows of xdelta3's default size (8 MiB) fit; the file that makes a larger one is not trusted, only what
/// comes out of it. The command allows what fwup allows.
pub const DELTA_MEMORY: usize = 20 * 1024 * 1024;

/// The share of that memory, as a divisor, that the source may take: the rest is for the window.
pub const DELTA_SOURCE_SHARE: usize = 4;

/// Bytes of data that a delta's window may have left beyond the bytes that it still has to make: data that nothing can
/// use are refused as soon as they would take more memory than the window.
pub const DELTA_SURPLUS: usize = 64 * 1024;

/// Configuration files included within each other, as in the reference's parser. What includes itself ends
/// here.
pub const INCLUDE_DEPTH: usize = 10;

/// Configuration files included in all: far more than anyone has, so that files that include each other
/// twice end soon.
pub const INCLUDES: usize = 1000;

/// Bytes of a configuration with all it includes: hundreds of times the largest manifest.
pub const CONFIGURATION_BYTES: usize = 16 * 1024 * 1024;

/// Writes of the last act whose order is kept inside one segment of 128 KiB. A partition table and some boot
/// variables fit; more is the content of files, where order helps nobody and every sync costs time.
pub const ACTS_IN_SEGMENT: usize = 4;

/// Pairs of redundant records whose order of writing is kept. A manifest has room for far fewer.
pub const RECORD_PAIRS: usize = 1024;

/// Bytes of a record kept twice whose copies are held back until both are there: to write them in turns takes six
/// times as much memory. Larger ones are written at once, each between two syncs.
pub const RECORD_HELD: usize = 2 * 1024 * 1024;

/// Lengths in the list of a resource made with its holes, before the rest counts as data, as in the
/// reference.
pub const SPARSE_PIECES: usize = 254;

/// Bytes of a resource's name when an archive is made, as in the reference.
pub const CREATED_NAME_MAX: usize = 506;

/// Entries of an archive to sign: more than fit in a manifest.
pub const SIGN_ENTRIES: usize = 10_000;

/// Bytes of the directory of an archive to sign: that many entries with names and extra fields of usual
/// length.
pub const SIGN_DIRECTORY: u64 = 8 * 1024 * 1024;
