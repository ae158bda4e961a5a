//! How fast firmware comes: when the next bytes may be read.

use core::time::Duration;

use crate::limits::RATE_BURST;
use crate::number::as_u64;
use crate::schedule::{RateLimit, RateWindow};
use crate::time::{Instant, UnixTime};

/// Remembers how far ahead of the allowed speed the bytes are (the generic cell rate algorithm).
#[derive(Default)]
pub(crate) struct Pace {
    /// When the bytes so far would be through at the allowed speed.
    through: Instant,
}

impl Pace {
    /// Bytes came. Returns when to read on, if not at once.
    pub(crate) fn came(
        &mut self,
        now: Instant,
        wall: Option<UnixTime>,
        limit: &RateLimit,
        bytes: usize,
    ) -> Option<Instant> {
        let rate = rate(limit, wall)?;
        let micros = as_u64(bytes).saturating_mul(1_000_000).checked_div(rate)?;
        self.through = self.through.max(now) + Duration::from_micros(micros);
        let ahead = self.through.saturating_since(now).checked_sub(RATE_BURST)?;
        (!ahead.is_zero()).then(|| now + ahead)
    }
}

/// Returns the speed allowed at a time, in bytes per second.
fn rate(limit: &RateLimit, wall: Option<UnixTime>) -> Option<u64> {
    let Some(wall) = wall else {
        let slowest = limit.by_time.iter().filter_map(|window| window.bytes_per_second).min();
        return [limit.bytes_per_second, slowest].into_iter().flatten().min();
    };
    let local = wall.0.saturating_add(i64::from(limit.utc_offset_minutes) * 60);
    let minute = local.rem_euclid(24 * 3600) / 60;
    let covers = |window: &&RateWindow| {
        let (start, end) = (i64::from(window.start_minute), i64::from(window.end_minute));
        if start < end { (start..end).contains(&minute) } else { minute >= start || minute < end }
    };
    limit.by_time.iter().find(covers).map_or(limit.bytes_per_second, |window| window.bytes_per_second)
}
