//! An upgrade to try, and how to tell what a disk boots.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use fwup_stream::ApplyOptions;

use super::super::image::Image;

/// What a device does with its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It runs the old firmware, which is whole.
    Old,
    /// It runs the new firmware, which is whole.
    New,
    /// The boot environment is damaged, which its checksum shows: no slot is selected.
    Damaged(String),
    /// What it starts is not whole, or nobody's firmware.
    Bricked(String),
}

/// Boots a disk, as a device would. What booting writes is written.
pub type Judge = Arc<dyn Fn(&mut Image) -> State + Send + Sync>;

/// An upgrade: the disk before, the archive, and what may become of it.
#[derive(Clone)]
pub struct Case {
    /// What reports call it.
    pub name: String,
    /// The disk before.
    pub before: Image,
    /// Bytes of the disk.
    pub length: u64,
    /// The archive.
    pub archive: Arc<[u8]>,
    /// The task and the keys.
    pub options: ApplyOptions,
    /// Tells what boots.
    pub judge: Judge,
    /// Whether the upgrade goes through. One that does not leaves the old firmware at any moment.
    pub is_sound: bool,
    /// Whether a loss of power may damage the boot environment: there is one copy of it, of several sectors.
    pub may_be_damaged: bool,
    /// Bytes that no write may touch: the slot that runs.
    pub protected: Vec<Range<u64>>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("length", &self.length).finish_non_exhaustive()
    }
}
