//! What a function works on.

use std::path::PathBuf;

use super::fat::Mounts;
use crate::disk::{BLOCK_BYTES, DiskIo, SegmentCache, Target};
use crate::manifest::{Manifest, number};
use crate::options::ApplyEvent;
use crate::progress::Progress;

/// The destination as functions see it.
pub(crate) trait Medium: DiskIo {
    /// Whole blocks the destination is known to have, 0 when not known.
    fn media_blocks(&self) -> u64;
}

impl<T: Target> Medium for SegmentCache<T> {
    fn media_blocks(&self) -> u64 {
        self.media_bytes() / BLOCK_BYTES
    }
}

/// What does not change while a task runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// `--unsafe` was given.
    pub(crate) unsafe_allowed: bool,
    /// Hash large resources in a thread.
    pub(crate) threads: bool,
    /// Where `reboot_param` writes, when set.
    pub(crate) reboot_param_path: Option<PathBuf>,
    /// What child processes find in their environment beside what this process has.
    pub(crate) child_environment: Vec<(String, String)>,
}

/// Everything a function can reach.
pub(crate) struct Context<'a> {
    pub(crate) disk: &'a mut dyn Medium,
    /// The FAT file systems in use.
    pub(crate) fats: &'a mut Mounts,
    pub(crate) manifest: &'a Manifest,
    pub(crate) settings: &'a Settings,
    pub(crate) progress: &'a mut Progress,
    pub(crate) observer: &'a mut (dyn FnMut(ApplyEvent) + Send),
}

impl Context<'_> {
    /// Counts work done.
    pub(crate) fn done(&mut self, units: u64) {
        if let Some(report) = self.progress.add(units) {
            (self.observer)(ApplyEvent::Progress(report));
        }
    }
}

/// A block number or count as `strtoull` with base 0 reads it: what is no number is 0, as in fwup. Negative
/// numbers, which fwup wraps around, become a block no medium has.
pub(crate) fn blocks(text: &str) -> u64 {
    u64::try_from(number::prefix(text)).unwrap_or(u64::MAX)
}

/// The byte where a block begins. A block no medium can have becomes an offset none has.
pub(crate) fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK_BYTES)
}
