//! The bounds of this crate, each with its reason.

/// Largest U-Boot environment accepted, in bytes: 65,534 blocks, the most `fwup` allows.
pub const ENV_SIZE_MAX: u64 = 65_534 * 512;

/// Smallest U-Boot environment accepted, in bytes: header, one pair and the end fit nowhere smaller.
pub const ENV_SIZE_MIN: u64 = 16;

/// Longest `fw_env.config` read, in bytes. Real ones have two lines.
pub const ENV_CONFIG_MAX: u64 = 64 * 1024;

/// Longest key-value file read, in bytes. Real ones hold some dozens of lines.
pub const STORE_FILE_MAX: u64 = 1024 * 1024;

/// Longest text that tells one start of the system from another, in bytes. Linux's has 37.
pub const BOOT_ID_MAX: u64 = 128;

/// Time after a boot in which the first look at the boot environment is believed to show what the boot started with.
/// A check of a large file system takes minutes; nobody has written other firmware by then.
pub const FIRST_LOOK_MAX: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// Longest table of mounts read, in bytes. Hosts of containers have thousands of lines.
pub const MOUNTINFO_MAX: u64 = 1024 * 1024;

/// Levels of device-mapper devices followed below the root file system.
pub const ROOT_DEPTH_MAX: usize = 8;

/// Longest slot name kept in a note, in characters. Real ones have one.
pub const NOTE_WORD_MAX: usize = 32;

/// Bytes of a boot environment that a note of ours leaves free. An update sets about ten variables of its slot; with a UUID
/// and long descriptions they stay below.
pub const NOTE_RESERVE: usize = 1024;

/// How often a locked medium is tried before giving up; `udev` holds its locks for milliseconds.
pub const LOCK_TRIES: u32 = 20;

/// Wait between two tries at a locked medium.
pub const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// How often a new file is created while another program creates one of its name.
pub const CREATE_TRIES: u32 = 8;

/// Time a shell has to end after its terminal was closed, before it is killed. Shells write their history then.
pub const SHELL_GRACE: std::time::Duration = std::time::Duration::from_secs(2);

/// How often a shell without a terminal is looked at before it is killed, where the kernel doesn't tell of its end.
pub const HANG_UP_TRIES: u32 = 20;

/// Wait between two such looks.
pub const HANG_UP_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// Shells that may be ending at a time; further ones are killed at once.
pub const ENDING_SHELLS_MAX: usize = 8;

/// Longest name of a received file, in bytes: what Linux file systems take.
pub const FILE_NAME_MAX: usize = 255;

/// Longest name of a download's folder, in bytes. File systems take 255.
pub const STORE_NAME_MAX: usize = 128;

/// Longest manifest of a download read, in bytes. Ours have two lines.
pub const MANIFEST_MAX: u64 = 4096;

/// Bytes of a partition that downloads leave free at least: enough for a log, a state file and whoever has to look.
pub const RESERVE_MIN: u64 = 16 * 1024 * 1024;

/// The share of a small partition, as a divisor, that is enough instead.
pub const RESERVE_SMALL: u64 = 4;

/// Bytes of a partition that downloads leave free at most, however large it is.
pub const RESERVE_MAX: u64 = 512 * 1024 * 1024;

/// Percent of a partition that downloads leave free, between those two.
pub const RESERVE_PERCENT: u64 = 5;

/// Bytes of a download after which the free space is asked for again. Small beside the reserve, as others write meanwhile.
pub const SPACE_CHECK_EVERY: u64 = 1024 * 1024;

/// Archives kept in a folder by default; the oldest go. A deployment has one.
pub const ARCHIVES_MAX: usize = 8;

/// Bytes of all archives kept in a folder by default.
pub const ARCHIVE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes of an archive within which its signature and its manifest must be complete. A manifest has 50 kB at most, so that
/// even one that is badly packed ends long before.
pub const ARCHIVE_START_MAX: u64 = 256 * 1024;

/// Files of a folder of archives looked at when the oldest are dropped. We make no more than a few.
pub const ARCHIVES_LISTED_MAX: usize = 10_000;

/// Parts of a download held open for writing. As many are received at a time at most; one more is opened anew.
pub const OPEN_PARTS_MAX: usize = 8;

/// Bytes of a kept download read at a time to check it.
pub const READ_PIECE_MAX: usize = 64 * 1024;

/// Most bytes read of a file in `/proc` or `/sys`. What is looked for stands at its beginning.
pub const PROC_FILE_MAX: u64 = 64 * 1024;

/// Thermal zones looked at for a temperature.
pub const THERMAL_ZONES_MAX: u32 = 16;

/// Network interfaces told. Hosts of containers have hundreds.
pub const INTERFACES_MAX: usize = 16;

/// Network interfaces whose traffic is told: with two numbers each they leave room for all others among the 20 that
/// servers keep (device-protocol A7).
pub const TRAFFIC_INTERFACES_MAX: usize = 4;

/// Links that are followed from the path of a store to its file, as many as the kernel follows (path_resolution(7)).
pub const LINKS_MAX: u32 = 40;

/// Damaged files or folders of one name that are kept for a person to examine.
pub const ASIDE_MAX: u32 = 5;
