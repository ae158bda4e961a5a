//! Log lines for the server (device-protocol A4).

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;

use crate::time::UnixMicros;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How grave it is.
    pub level: LogLevel,
    /// The text; cut at [`MAX_LOG_BYTES`](crate::limits::MAX_LOG_BYTES). Must hold no secret, and must not be about
    /// sending lines to the server, or each line would bring forth another.
    pub message: String,
    /// Facts beside it, such as the module it comes from. At most
    /// [`MAX_LOG_META`](crate::limits::MAX_LOG_META), each cut at 128 bytes of name and 512 of value; `time` is the
    /// link's own.
    pub meta: BTreeMap<String, String>,
    /// When it was written; `None` for now. Lines of a time before the device knew the clock are given the right one
    /// once it does, and wait until then.
    pub time: Option<UnixMicros>,
}

/// How grave a line is. Graver ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For those who search for a fault. The lowest: as the least level to send it means all.
    Debug,
    /// The normal course of things.
    #[default]
    Info,
    /// Normal, but worth attention.
    Notice,
    /// Something may go wrong.
    Warning,
    /// Something went wrong.
    Error,
    /// A part is broken.
    Critical,
    /// Somebody must act at once.
    Alert,
    /// Nothing works.
    Emergency,
}

/// How log lines are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingConfig {
    /// The least level that is sent. Default [`LogLevel::Info`].
    pub level: LogLevel,
    /// Lines that wait to be sent; older ones are dropped, and how many is told. Default 1,000, at most
    /// [`MAX_LOG_LINES`](crate::limits::MAX_LOG_LINES).
    pub max_lines: usize,
    /// How often lines are sent to servers that take batches; at least every 60 s. Default 60 s.
    pub interval: Duration,
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self { level: LogLevel::Info, max_lines: 1000, interval: Duration::from_secs(60) }
    }
}

impl LogLine {
    /// Builds a line of now without facts beside it.
    pub fn new(level: LogLevel, message: impl Into<String>) -> Self {
        Self { level, message: message.into(), meta: BTreeMap::new(), time: None }
    }
}

impl LogLevel {
    /// Returns the server's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }
}
