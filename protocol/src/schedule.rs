//! When updates may begin, and how fast they may come: plain data that the machine keeps to.

use alloc::vec::Vec;

use crate::error::ConfigError;
use crate::limits::{MAX_UTC_OFFSET_MINUTES, MAX_WINDOWS, MIN_RATE};

/// When updates may begin. Outside, the server is asked to offer them again when the next window begins, once and not
/// again and again, since each offer counts as an attempt (device-protocol §9.4). An update that began goes on past the
/// end of its window, and so does its reboot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// The windows of a week; none, the default, means any time. At most
    /// [`MAX_WINDOWS`](crate::limits::MAX_WINDOWS).
    pub windows: Vec<Window>,
    /// The windows' time zone: minutes east of UTC, −1439 to 1439. Default 0. Daylight saving is the application's: it
    /// can change the configuration.
    pub utc_offset_minutes: i16,
    /// Whether a person may push an update at any time. Default true.
    pub by_hand_any_time: bool,
    /// Whether the device may ask for an update at any time
    /// ([`Command::RequestUpdate`](crate::Command::RequestUpdate)). Default true.
    pub requested_any_time: bool,
    /// Whether updates may begin while the device doesn't know the time. Default false: they are put off by an hour.
    pub without_clock: bool,
}

/// A time of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The day it begins.
    pub day: Weekday,
    /// When it begins: minutes since midnight, 0 to 1439.
    pub start_minute: u16,
    /// How long it is: 1 to 10,080 minutes (a week). It may go on into the next days.
    pub minutes: u16,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// How fast firmware may come. Both count bytes of files, not of TLS around them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RateLimit {
    /// Bytes per second, at least [`MIN_RATE`](crate::limits::MIN_RATE); `None`, the default, for as fast as can be.
    pub bytes_per_second: Option<u64>,
    /// Other speeds at some times of the day; the first that fits counts. At most
    /// [`MAX_WINDOWS`](crate::limits::MAX_WINDOWS). While the device doesn't know the time, the slowest speed of all
    /// counts.
    pub by_time: Vec<RateWindow>,
    /// The time zone of those: minutes east of UTC, −1439 to 1439. Default 0.
    pub utc_offset_minutes: i16,
}

/// A time of every day, and how fast firmware may come then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateWindow {
    /// The first minute since midnight, 0 to 1439.
    pub start_minute: u16,
    /// The minute past the last, 0 to 1440. At or before `start_minute` it is one of the next day.
    pub end_minute: u16,
    /// Bytes per second, at least [`MIN_RATE`](crate::limits::MIN_RATE); `None` for as fast as can be.
    pub bytes_per_second: Option<u64>,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self {
            windows: Vec::new(),
            utc_offset_minutes: 0,
            by_hand_any_time: true,
            requested_any_time: true,
            without_clock: false,
        }
    }
}

impl Maintenance {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let sane = |window: &Window| window.start_minute < 1440 && (1..=10_080).contains(&window.minutes);
        let fits = self.windows.len() <= MAX_WINDOWS && self.windows.iter().all(sane);
        if fits && is_offset(self.utc_offset_minutes) { Ok(()) } else { Err(ConfigError::Maintenance) }
    }
}

impl RateLimit {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let fast = |rate: Option<u64>| rate.is_none_or(|rate| rate >= MIN_RATE);
        let sane = |window: &RateWindow| {
            window.start_minute < 1440 && window.end_minute <= 1440 && fast(window.bytes_per_second)
        };
        let fits = self.by_time.len() <= MAX_WINDOWS && self.by_time.iter().all(sane);
        let sound = fits && fast(self.bytes_per_second) && is_offset(self.utc_offset_minutes);
        if sound { Ok(()) } else { Err(ConfigError::RateLimit) }
    }
}

impl Weekday {
    /// Returns the days since Monday.
    pub(crate) const fn days(self) -> i64 {
        match self {
            Self::Monday => 0,
            Self::Tuesday => 1,
            Self::Wednesday => 2,
            Self::Thursday => 3,
            Self::Friday => 4,
            Self::Saturday => 5,
            Self::Sunday => 6,
        }
    }
}

const fn is_offset(minutes: i16) -> bool {
    minutes.unsigned_abs() <= MAX_UTC_OFFSET_MINUTES
}
