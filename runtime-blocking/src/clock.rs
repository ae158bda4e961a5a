//! The machine's clocks: monotonic since the start, and the wall's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nerves_hub_link_protocol::{Instant, Now, UnixTime};

/// Reads both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }

    pub(crate) fn mono(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 is none.
        let wall = wall.ok().and_then(|since| i64::try_from(since.as_secs()).ok()).map(UnixTime);
        Now { mono: self.mono(), wall }
    }

    /// The time from now to `at`, rounded up so that waiting for it never falls short.
    pub(crate) fn until(&self, at: Instant) -> Duration {
        let left = at.saturating_since(self.mono());
        if left.is_zero() { left } else { left + Duration::from_micros(1) }
    }
}
