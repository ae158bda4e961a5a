//! How often a firmware was tried on this device, so that a bad image can't loop for ever.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::limits::MAX_ATTEMPTS_REMEMBERED;
use crate::time::UnixTime;

/// When a firmware that was tried again and again is refused.
///
/// A start counts from the moment its applier is opened, so that a crash or a power cut counts too. It is forgotten
/// when that firmware runs and isn't known to be bad, and doesn't count when a download failed before the applier got
/// a byte: that is no fault of the image. Servers have a budget of their own (three attempts a day), but forget it when
/// a device joins with the new firmware, even if that then proves bad and falls back: this one remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptPolicy {
    /// Starts of one firmware after which it is refused. A push by hand is let through. Zero means no limit. Default 5.
    pub limit: u32,
    /// How long after its last start a firmware is forgotten, if the device has a clock. Default a week.
    pub forget_after: Duration,
}

impl Default for AttemptPolicy {
    fn default() -> Self {
        Self { limit: 5, forget_after: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// The starts of one firmware that did not end in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The firmware's UUID, or a short digest of one that can't be written as it is.
    pub uuid: String,
    /// How often it was started.
    pub starts: u32,
    /// When it was started last, if the device knew the time.
    pub last: Option<UnixTime>,
}

impl Attempt {
    /// Writes attempts as one line of text, `uuid:starts:time` each, at most some 1,600 bytes.
    pub fn list_to_text(attempts: &[Self]) -> String {
        let words = attempts.iter().map(|Self { uuid, starts, last }| {
            let last = last.map_or_else(String::new, |at| at.0.to_string());
            format!("{uuid}:{starts}:{last}")
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Reads such a line. What can't be read is left out: a damaged record must not stop a device.
    pub fn list_from_text(text: &str) -> Vec<Self> {
        text.split_ascii_whitespace().filter_map(Self::from_word).take(MAX_ATTEMPTS_REMEMBERED).collect()
    }

    fn from_word(word: &str) -> Option<Self> {
        let mut fields = word.split(':');
        let uuid = fields.next().filter(|uuid| is_plain(uuid))?;
        let starts = fields.next()?.parse().ok().filter(|starts| *starts > 0)?;
        let last = match fields.next()? {
            "" => None,
            seconds => Some(UnixTime(seconds.parse().ok()?)),
        };
        fields.next().is_none().then(|| Self { uuid: String::from(uuid), starts, last })
    }
}

/// Returns whether a UUID can be written as it is.
pub(crate) fn is_plain(uuid: &str) -> bool {
    (1..=64).contains(&uuid.len())
        && uuid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
