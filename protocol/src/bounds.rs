//! How often a server can make the device do what wears it out, and what is remembered to count that.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::error::ConfigError;
use crate::limits::{FAILURE_PAUSE, MAX_BOUND, MAX_FAILURE_PAUSE, OVERWRITES_PER_DAY, REBOOTS_PER_HOUR};
use crate::time::UnixTime;

/// Bounds on what any server, or any number of firmwares, can make the device do. Zero means no bound.
///
/// The times count while the device runs, and while it is off if its clock says for how long. The time that a reboot
/// takes which the machine ordered does not count. So neither a reboot nor a clock that is wrong or jumps lifts a bound
/// early.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// Reboots within an hour: those the server orders, which are refused beyond it, and those after an update, which
    /// wait. At most [`MAX_BOUND`]. Default [`REBOOTS_PER_HOUR`].
    pub reboots_per_hour: u32,
    /// Updates within a day that may begin to overwrite the other slot, whether they succeed or fail. Offers beyond it are
    /// put off, by hand or not. At most [`MAX_BOUND`]. Default [`OVERWRITES_PER_DAY`].
    pub overwrites_per_day: u32,
    /// How long offers are put off, whatever firmware they name, after an update that failed once its bytes reached the
    /// applier; doubled with each that follows, up to [`MAX_FAILURE_PAUSE`]. A firmware that
    /// proves good ends that, a day without failure, or [`Command::ForgetHistory`](crate::Command::ForgetHistory). At most
    /// [`MAX_FAILURE_PAUSE`]; zero means no pause. Default [`FAILURE_PAUSE`].
    pub failure_pause: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            reboots_per_hour: REBOOTS_PER_HOUR,
            overwrites_per_day: OVERWRITES_PER_DAY,
            failure_pause: FAILURE_PAUSE,
        }
    }
}

impl Bounds {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let fits = self.reboots_per_hour <= MAX_BOUND
            && self.overwrites_per_day <= MAX_BOUND
            && self.failure_pause <= MAX_FAILURE_PAUSE;
        if fits { Ok(()) } else { Err(ConfigError::Bounds) }
    }
}

/// What happened lately and counts towards [`Bounds`], for
/// [`Output::SaveHistory`](crate::Output::SaveHistory) and [`Config::history`](crate::Config::history).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct History {
    /// When this was written, if the device knew the time.
    pub at: Option<UnixTime>,
    /// Whether the device was about to reboot, as the machine ordered.
    pub rebooting: bool,
    /// Whether what happened before is not known, as nothing can be kept. Not written as text. The device then refuses
    /// to reboot on a server's order soon after the start, as often as the bound asks for.
    pub unknown: bool,
    /// How long ago each reboot was ordered, oldest first, in whole seconds.
    pub reboots: Vec<Duration>,
    /// How long ago updates began to overwrite the other slot, oldest first, in whole seconds.
    pub writes: Vec<Duration>,
    /// How many updates failed in a row.
    pub failures: u32,
    /// How long ago the last of them failed.
    pub failed: Duration,
    /// How long ago an update service last showed itself, in whole seconds; `None` if it never did.
    pub contact: Option<Duration>,
}

impl History {
    /// Builds the history of a device that can't remember one.
    pub fn unknown() -> Self {
        Self { unknown: true, ..Self::default() }
    }

    /// Writes the history as one line of text, at most some 2,500 bytes. Empty if there is nothing to remember.
    pub fn to_text(&self) -> String {
        let mut words = Vec::new();
        if let Some(at) = self.at {
            words.push(format!("at:{}", at.0));
        }
        if self.rebooting {
            words.push(String::from("rebooting:1"));
        }
        let facts = words.len();
        for (name, ages) in [("reboots", &self.reboots), ("writes", &self.writes)] {
            if !ages.is_empty() {
                words.push(format!("{name}:{}", ages_to_text(ages)));
            }
        }
        if self.failures > 0 {
            words.push(format!("failures:{}", self.failures));
            words.push(format!("failed:{}", self.failed.as_secs()));
        }
        if let Some(contact) = self.contact {
            words.push(format!("contact:{}", contact.as_secs()));
        }
        if words.len() == facts {
            return String::new();
        }
        words.join(" ")
    }

    /// Reads such a line. What can't be read is left out: a damaged record must not stop a device.
    pub fn from_text(text: &str) -> Self {
        let mut history = Self::default();
        for (name, value) in text.split_ascii_whitespace().filter_map(|word| word.split_once(':')) {
            match name {
                "at" => history.at = value.parse().ok().map(UnixTime),
                "rebooting" => history.rebooting = value == "1",
                "reboots" => history.reboots = ages_from_text(value),
                "writes" => history.writes = ages_from_text(value),
                "failures" => history.failures = value.parse().unwrap_or(0),
                "failed" => history.failed = Duration::from_secs(value.parse().unwrap_or(0)),
                "contact" => history.contact = value.parse().ok().map(Duration::from_secs),
                _ => {}
            }
        }
        history
    }
}

/// The most entries of a list.
pub(crate) fn most() -> usize {
    usize::try_from(MAX_BOUND).unwrap_or(usize::MAX)
}

fn ages_to_text(ages: &[Duration]) -> String {
    ages.iter().map(|age| age.as_secs().to_string()).collect::<Vec<_>>().join(",")
}

/// Reads a list of ages, the newest of them if there are too many.
fn ages_from_text(text: &str) -> Vec<Duration> {
    let mut ages: Vec<_> =
        text.rsplit(',').take(most()).filter_map(|age| age.parse().ok().map(Duration::from_secs)).collect();
    ages.reverse();
    ages
}
