//! The local file header of an entry.

/// What the local header of an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EntryInfo {
    /// The entry's name. Bytes that are not UTF-8 are replaced; such a name matches no resource.
    pub name: String,
    /// Bytes of data; `None` when the header leaves it to the data descriptor.
    pub uncompressed_size: Option<u64>,
    /// Bytes in the archive; `None` when the header leaves it to the data descriptor.
    pub compressed_size: Option<u64>,
    /// Seconds since 1970. The extended timestamp wins over the DOS time, which is taken as UTC.
    pub mtime: Option<i64>,
    /// The name ends in a slash.
    pub is_directory: bool,
}
