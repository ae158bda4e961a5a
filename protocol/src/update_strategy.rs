//! How firmware gets from the server to the applier.

use crate::error::ConfigError;
use crate::limits::{MAX_CONCURRENT_PARTS, MAX_PART_SIZE, MIN_PART_SIZE};

/// How firmware gets from the server to the applier (device-protocol §6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum UpdateStrategy {
    /// Straight to the applier, which writes while bytes come. Needs no space; a restart of the device begins
    /// again.
    #[default]
    Streaming,
    /// First into a file, which is resumed after a restart, then to the applier.
    Caching,
    /// First into files of a part each, verified one by one as the server announced them, then to the applier. A
    /// restart resumes after the last verified part.
    Parts(PartsConfig),
}

/// The rules of [`UpdateStrategy::Parts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartsConfig {
    /// Bytes of a part, 1 KiB to 1 GiB. Servers announce checksums of 1 MiB each, the default; with any other size
    /// they don't fit, and the file is taken as one part.
    pub part_size: u32,
    /// How often a part may be received that doesn't match its checksum, at least 1. Default 3.
    pub max_part_attempts: u32,
    /// Requests at a time, 1 to [`MAX_CONCURRENT_PARTS`](crate::limits::MAX_CONCURRENT_PARTS). Default 1.
    pub max_concurrent_parts: u32,
}

impl PartsConfig {
    pub(crate) const fn validate(&self) -> Result<(), ConfigError> {
        let size = MIN_PART_SIZE <= self.part_size && self.part_size <= MAX_PART_SIZE;
        let requests = 1 <= self.max_concurrent_parts && self.max_concurrent_parts <= MAX_CONCURRENT_PARTS;
        if size && requests && self.max_part_attempts > 0 { Ok(()) } else { Err(ConfigError::Parts) }
    }
}

impl Default for PartsConfig {
    fn default() -> Self {
        Self { part_size: 1024 * 1024, max_part_attempts: 3, max_concurrent_parts: 1 }
    }
}
