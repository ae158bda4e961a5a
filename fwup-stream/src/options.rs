//! What an application of firmware can be told, and what it tells.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::limits::DELTA_MEMORY;
use crate::progress::ProgressReport;
use crate::trust::PublicKey;

/// Answers `${NAME}` in a manifest; `None` when the variable is not set.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// How to apply an archive. The default wants a signature: give a key, or say that none is needed.
#[derive(Clone)]
#[non_exhaustive]
pub struct ApplyOptions {
    /// The task to run, or the beginning of its name; "upgrade" by default. The first task in the manifest
    /// that fits and whose requirements hold is taken.
    pub task: String,
    /// Keys any of which may have signed the firmware. When there are some, a signature is a must.
    pub public_keys: Vec<PublicKey>,
    /// Refuse to begin without any key; on by default.
    pub require_signature: bool,
    /// The progress reported at the start; 0 by default.
    pub progress_low: i32,
    /// The progress reported when everything is written; 100 by default.
    pub progress_high: i32,
    /// Answers `${NAME}` in the manifest; nothing is set by default.
    pub variables: Variables,
    /// Read every segment back after writing it and compare; off by default.
    pub verify_writes: bool,
    /// Skip writing segments that hold the same bytes already; off by default.
    pub minimize_writes: bool,
    /// Pass trims on to the medium; off by default.
    pub enable_trim: bool,
    /// Allow firmware to run commands and write files of this system; off by default.
    pub unsafe_allowed: bool,
    /// Stop once the signature holds, before anything is written: [`Applier::held`](crate::Applier::held) then returns the
    /// metadata, and [`Applier::proceed`](crate::Applier::proceed) goes on. Off by default.
    pub hold: bool,
    /// Hash large resources in a thread of their own; off by default. Everything else is the same. (To write in
    /// a thread too, give a [`WriteBehind`](crate::disk::WriteBehind) as destination.)
    pub threads: bool,
    /// Bytes of memory that applying a delta may take; [`DELTA_MEMORY`](crate::limits::DELTA_MEMORY) by default. A delta whose
    /// windows need more is refused before they are decoded. No window may make more than is left of its resource.
    pub delta_memory: usize,
    /// Where `reboot_param` writes; the usual places when not set.
    pub reboot_param_path: Option<PathBuf>,
    /// The archive's name for error texts; `None` for a stream.
    pub archive_name: Option<String>,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            task: "upgrade".to_owned(),
            public_keys: Vec::new(),
            require_signature: true,
            progress_low: 0,
            progress_high: 100,
            variables: Arc::new(|_| None),
            verify_writes: false,
            minimize_writes: false,
            enable_trim: false,
            unsafe_allowed: false,
            hold: false,
            threads: false,
            delta_memory: DELTA_MEMORY,
            reboot_param_path: None,
            archive_name: None,
        }
    }
}

impl fmt::Debug for ApplyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplyOptions")
            .field("task", &self.task)
            .field("public_keys", &self.public_keys)
            .field("require_signature", &self.require_signature)
            .finish_non_exhaustive()
    }
}

/// What happens while firmware is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApplyEvent {
    /// The progress rose.
    Progress(ProgressReport),
    /// The firmware says something: `info(TEXT)`.
    Info(String),
    /// Something is not as it should be, but the work goes on.
    Warning(String),
    /// Something only the curious want to know.
    Detail(String),
}
