//! What a `meta.conf` says, as plain data.

use std::fmt;

/// A parsed `meta.conf`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Manifest {
    /// The `meta-*` options and other top-level strings, in the order of the text.
    pub strings: Vec<(String, String)>,
    /// Megabytes of write cache asked for (`block-cache-size-mb`), 8 by default.
    pub block_cache_size_mb: u64,
    /// The files in the archive, in the order of the text.
    pub resources: Vec<FileResource>,
    /// Partition tables of the MBR kind.
    pub mbrs: Vec<Mbr>,
    /// Partition tables of the GPT kind.
    pub gpts: Vec<Gpt>,
    /// U-Boot environment blocks.
    pub environments: Vec<UbootEnvironment>,
    /// What the archive can do, in the order of the text.
    pub tasks: Vec<Task>,
}

/// A file in the archive (`file-resource`).
#[derive(Clone, Debug, PartialEq, Default)]
pub struct FileResource {
    /// The resource's name; the entry is `data/NAME`, or `NAME` without its slash if it begins with one.
    pub name: String,
    /// Bytes of data and of hole in turn, beginning with data. Empty means a length of zero.
    pub length: Vec<u64>,
    /// The digest of the data, as written: 64 lower-case hex digits when it is valid.
    pub blake2b_256: Option<String>,
}

/// A partition table of the MBR kind.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Mbr {
    /// The section's title.
    pub name: String,
    /// The code of bytes 0 to 439, as hex digits.
    pub bootstrap_code: Option<String>,
    /// The disk signature at byte 440, as text.
    pub signature: Option<String>,
    /// The OSIP header's settings, when `include-osip` is on.
    pub osip: Option<Osip>,
    /// The partitions, by their number 0 to 11.
    pub partitions: Vec<MbrPartition>,
}

/// A partition of an MBR.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MbrPartition {
    /// 0 to 3 primary, 4 to 11 logical.
    pub number: u32,
    /// The first block, as text.
    pub block_offset: String,
    /// Blocks; 2147483647 when not given.
    pub block_count: i64,
    /// The type byte; -1 when not given.
    pub kind: i64,
    /// Marked bootable.
    pub boot: bool,
    /// Grows to the end of the destination.
    pub expand: bool,
}

/// An Intel OSIP header.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Osip {
    /// `osip-major`.
    pub major: i64,
    /// `osip-minor`.
    pub minor: i64,
    /// `osip-num-pointers`.
    pub num_pointers: i64,
    /// The images, by their number 0 to 14.
    pub images: Vec<OsipImage>,
}

/// An image of an OSIP header (`osii`).
#[derive(Clone, Debug, PartialEq, Default)]
pub struct OsipImage {
    /// The image's number.
    pub number: u32,
    /// `os-major`.
    pub os_major: i64,
    /// `os-minor`.
    pub os_minor: i64,
    /// `start-block-offset`.
    pub start_block_offset: i64,
    /// `ddr-load-address`.
    pub ddr_load_address: i64,
    /// `entry-point`.
    pub entry_point: i64,
    /// `image-size-blocks`.
    pub image_size_blocks: i64,
    /// `attribute`, 15 when not given.
    pub attribute: i64,
}

/// A partition table of the GPT kind.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Gpt {
    /// The section's title.
    pub name: String,
    /// The disk's GUID, as text.
    pub guid: Option<String>,
    /// The partitions.
    pub partitions: Vec<GptPartition>,
}

/// A partition of a GPT.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct GptPartition {
    /// 0 to 15.
    pub number: u32,
    /// The first block, as text.
    pub block_offset: String,
    /// Blocks.
    pub block_count: i64,
    /// The type's GUID, as text.
    pub kind: String,
    /// The partition's GUID, as text.
    pub guid: String,
    /// The partition's name.
    pub name: String,
    /// The flags, as text.
    pub flags: String,
    /// Grows to the end of the destination.
    pub expand: bool,
    /// Marked bootable.
    pub boot: bool,
}

/// A U-Boot environment block.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct UbootEnvironment {
    /// The section's title.
    pub name: String,
    /// The first block, as text.
    pub block_offset: String,
    /// Blocks.
    pub block_count: i64,
    /// The first block of the second copy, as text.
    pub block_offset_redund: Option<String>,
}

/// Something the archive can do.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Task {
    /// The task's name.
    pub name: String,
    /// What must hold for the task to be chosen (`reqlist`).
    pub requirements: CallList,
    /// The older requirement on the start of partition 1; -1 when not used.
    pub require_partition1_offset: i64,
    /// Done first.
    pub on_init: CallList,
    /// Done as the archive's files come by, in archive order.
    pub on_resource: Vec<OnResource>,
    /// Done last.
    pub on_finish: CallList,
    /// Done once when anything failed.
    pub on_error: CallList,
}

/// What to do with a file of the archive.
#[derive(Clone, PartialEq, Default)]
pub struct OnResource {
    /// The resource's name.
    pub resource: String,
    /// The calls.
    pub calls: CallList,
    /// `delta-source-raw-offset`, as text, when given.
    pub delta_source_raw_offset: Option<String>,
    /// `delta-source-raw-count`.
    pub delta_source_raw_count: Option<i64>,
    /// `delta-source-raw-options`, when given.
    pub delta_source_raw_options: Option<String>,
    /// `delta-source-fat-offset`, as text, when given.
    pub delta_source_fat_offset: Option<String>,
    /// `delta-source-fat-path`, when given.
    pub delta_source_fat_path: Option<String>,
}

/// A flat list of calls as it stands in the text: a count, then that many strings, again and again
/// (fw-format §3.5). Kept flat because a malformed list is an error only when it is used.
#[derive(Clone, PartialEq, Default)]
pub struct CallList(pub Vec<String>);

impl fmt::Debug for CallList {
    /// Shows the list without the keys that `raw_write` is given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallList")
            .field(&self.0.iter().map(|text| without_secret(text)).collect::<Vec<_>>())
            .finish()
    }
}

impl fmt::Debug for OnResource {
    /// Shows everything but the key that decrypts a delta's source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnResource")
            .field("resource", &self.resource)
            .field("calls", &self.calls)
            .field("delta_source_raw_offset", &self.delta_source_raw_offset)
            .field("delta_source_raw_count", &self.delta_source_raw_count)
            .field("delta_source_raw_options", &self.delta_source_raw_options.as_deref().map(without_secret))
            .field("delta_source_fat_offset", &self.delta_source_fat_offset)
            .field("delta_source_fat_path", &self.delta_source_fat_path)
            .finish()
    }
}

/// The text up to the value of a `secret=` option.
fn without_secret(text: &str) -> String {
    const OPTION: &str = "secret=";
    match text.to_ascii_lowercase().find(OPTION).and_then(|at| text.get(..at + OPTION.len())) {
        Some(shown) => format!("{shown}(hidden)"),
        None => text.to_owned(),
    }
}

impl Manifest {
    /// Returns the file resource of that name.
    pub fn resource(&self, name: &str) -> Option<&FileResource> {
        self.resources.iter().find(|resource| resource.name == name)
    }

    /// Returns the U-Boot environment of that name.
    pub fn environment(&self, name: &str) -> Option<&UbootEnvironment> {
        self.environments.iter().find(|environment| environment.name == name)
    }

    /// Returns the MBR of that name.
    pub fn mbr(&self, name: &str) -> Option<&Mbr> {
        self.mbrs.iter().find(|mbr| mbr.name == name)
    }
}

impl FileResource {
    /// Returns the bytes of data in the archive (holes not counted). A sum that has no place in 64 bits is longer than
    /// any archive as it is.
    pub fn data_length(&self) -> u64 {
        self.length.iter().step_by(2).fold(0, |sum, part| sum.saturating_add(*part))
    }

    /// Returns the full size, holes included.
    pub fn full_length(&self) -> u64 {
        self.length.iter().fold(0, |sum, part| sum.saturating_add(*part))
    }
}
