//! Points in time for people, from the two clocks a device is given.

use alloc::format;
use alloc::string::String;

use crate::http::date;
use crate::limits::EARLIEST_CLOCK;
use crate::time::{Instant, UnixMicros, UnixTime};

const SECOND: i64 = 1_000_000;

/// What the wall clock would show at points of the monotonic one: finer than the whole seconds it is told in, never
/// going back on its own, and right for what happened before the device knew the time.
#[derive(Clone, Copy, Default)]
pub(super) struct Times {
    /// Microseconds between the two clocks, if the device believes its wall clock.
    offset: Option<i64>,
}

impl Times {
    /// Looks at both clocks.
    pub(super) fn look(&mut self, now: Instant, wall: Option<UnixTime>) {
        let Some(wall) = wall.filter(|wall| wall.0 >= EARLIEST_CLOCK) else {
            self.offset = None;
            return;
        };
        // Whole seconds are told, so this is at most one second too little.
        let offset = wall.0.saturating_mul(SECOND).saturating_sub(micros(now));
        let known = self.offset.filter(|known| offset > known.saturating_sub(SECOND));
        self.offset = Some(known.map_or(offset, |known| known.max(offset)));
    }

    /// Returns whether the device knows the time.
    pub(super) const fn are_known(self) -> bool {
        self.offset.is_some()
    }

    /// Returns what the wall clock shows at a point of the monotonic one, if the device knows the time.
    pub(super) fn at(self, at: Instant) -> Option<UnixMicros> {
        self.offset.map(|offset| UnixMicros(micros(at).saturating_add(offset)))
    }

    /// As [`Times::at`], as text.
    pub(super) fn text(self, at: Instant) -> Option<String> {
        iso(self.at(at)?)
    }

    /// Returns the time where one must be given: of a device that doesn't know it, the time since its clock began, as
    /// if that had been in 1970, which is what such devices believe.
    pub(super) fn text_or_since_start(self, at: Instant) -> String {
        // Empty for a monotonic clock that is past the year 9999, which has no text.
        self.text(at).or_else(|| iso(UnixMicros(micros(at)))).unwrap_or_default()
    }
}

/// Writes a time as ISO 8601 in UTC, if its year has four digits.
pub(super) fn iso(time: UnixMicros) -> Option<String> {
    let text = date::iso(time.0.div_euclid(SECOND))?;
    Some(format!("{text}.{:06}Z", time.0.rem_euclid(SECOND)))
}

fn micros(at: Instant) -> i64 {
    i64::try_from(at.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: i64 = 1_795_444_757;

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn times_are_finer_than_the_clock_and_never_go_back_on_their_own() {
        let mut times = Times::default();
        let mut last = UnixMicros(0);
        // The second begins 300 ms after the monotonic one.
        for micros in (0..5_000_000).step_by(70_000) {
            times.look(
                at(micros),
                Some(UnixTime(WALL + i64::try_from(micros).unwrap().div_euclid(1_000_000))),
            );
            let now = times.at(at(micros)).unwrap();
            assert!(now > last);
            last = now;
        }
        assert_eq!(last, UnixMicros(WALL * SECOND + 4_970_000));
    }

    #[test]
    fn a_clock_that_is_set_moves_all_times() {
        let mut times = Times::default();
        times.look(at(1), None);
        assert_eq!((times.are_known(), times.text(at(1))), (false, None));
        // What a clock without battery shows after the start is not believed.
        times.look(at(2), Some(UnixTime(EARLIEST_CLOCK - 1)));
        assert!(!times.are_known());
        times.look(at(5 * 1_000_000), Some(UnixTime(WALL)));
        assert_eq!(times.at(at(0)), Some(UnixMicros((WALL - 5) * SECOND)));
        times.look(at(5 * 1_000_000), Some(UnixTime(WALL - 100)));
        assert_eq!(times.at(at(0)), Some(UnixMicros((WALL - 105) * SECOND)));
        times.look(at(5 * 1_000_000), Some(UnixTime(WALL + 100)));
        assert_eq!(times.at(at(0)), Some(UnixMicros((WALL + 95) * SECOND)));
        times.look(at(6 * 1_000_000), None);
        assert!(!times.are_known());
    }

    #[test]
    fn texts_are_iso_8601() {
        assert_eq!(iso(UnixMicros(1_786_496_523_456_789)).unwrap(), "2026-08-12T01:02:03.456789Z");
        assert_eq!(iso(UnixMicros(-1)).unwrap(), "1969-12-31T23:59:59.999999Z");
        assert_eq!(iso(UnixMicros(i64::MAX)), None);
        assert_eq!(Times::default().text_or_since_start(at(1_500_000)), "1970-01-01T00:00:01.500000Z");
    }
}
