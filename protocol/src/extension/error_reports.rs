//! Reports of errors for the server (device-protocol A5).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::time::UnixMicros;

/// An error that happened. Must hold no secret. Texts are cut to what servers keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorReport {
    /// The kind of error: `panic`, `error`, `exit`, …; 128 bytes. Empty means `error`.
    pub kind: String,
    /// What happened, on one line; 2,048 bytes. Servers group reports by it, with numbers and addresses removed.
    pub reason: String,
    /// The whole text; 8,192 bytes.
    pub message: Option<String>,
    /// Who noticed.
    pub source: ErrorSource,
    /// A key to group by instead of kind, reason and frames; 256 bytes.
    pub fingerprint: Option<String>,
    /// Where it happened, innermost first; the first 30 count. Names should stay the same from build to build.
    pub frames: Vec<ErrorFrame>,
    /// Facts beside it; 32 with those of [`ErrorReportsConfig::context`], of 128 bytes of name and 512 of value each.
    /// Servers show `uptime_ms`, `free_memory_bytes` and `reboot_count` with their units.
    pub context: BTreeMap<String, String>,
    /// When it happened; `None` for now. A report of a time before the device knew the clock waits until it does.
    pub time: Option<UnixMicros>,
    /// The firmware it happened in, if that isn't the one that runs.
    pub firmware_uuid: Option<String>,
}

/// Who noticed an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorSource {
    /// The log, a panic hook, or the like.
    Logger,
    /// A handler that reports on purpose.
    #[default]
    Manual,
}

/// A place in the code. Everything may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFrame {
    /// The module, such as `agent::loop`; 512 bytes.
    pub module: Option<String>,
    /// The function; 512 bytes.
    pub function: Option<String>,
    /// The file; 512 bytes.
    pub file: Option<String>,
    /// The line in the file.
    pub line: Option<u32>,
}

/// How error reports are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReportsConfig {
    /// Reports that wait to be sent; older ones are dropped, and how many is told. Default 100, at most
    /// [`MAX_ERROR_REPORTS`](crate::limits::MAX_ERROR_REPORTS).
    pub max_reports: usize,
    /// How often reports are sent; at least every 60 s. Default 60 s.
    pub interval: Duration,
    /// Facts to put beside every report that doesn't have them itself;
    /// [`ExtensionCommand::ErrorContext`](crate::ExtensionCommand::ErrorContext) replaces them.
    pub context: BTreeMap<String, String>,
}

impl Default for ErrorReportsConfig {
    fn default() -> Self {
        Self { max_reports: 100, interval: Duration::from_secs(60), context: BTreeMap::new() }
    }
}

impl ErrorReport {
    /// Builds a report of now without further facts.
    pub fn new(kind: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { kind: kind.into(), reason: reason.into(), ..Self::default() }
    }
}

impl ErrorSource {
    /// Returns the server's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logger => "logger",
            Self::Manual => "manual",
        }
    }
}
