//! The server's time, learned from refusals (spec §1.13).
//!
//! A signature is good from its second on for 90 seconds. A device whose clock is off in either
//! direction is refused, but the refusal carries the server's `Date`.

use crate::limits::{CLOCK_ROUNDING_SECONDS, CLOCK_TOLERANCE_SECONDS};
use crate::time::{Instant, UnixTime};

/// How far the wall clock may run away from the monotonic one before it counts as set anew.
const STEP_SECONDS: i64 = 5;

/// Knows the time to sign with.
#[derive(Default)]
pub(crate) struct Clock {
    learned: Option<Learned>,
}

/// The server's time and the device's clocks at that moment.
struct Learned {
    server: UnixTime,
    mono: Instant,
    wall: Option<UnixTime>,
}

impl Clock {
    /// Returns the time to sign with. Without any clock that is 1970, which the server refuses
    /// with its `Date`.
    pub(crate) fn time(&self, now: Instant, wall: Option<UnixTime>) -> UnixTime {
        // A device without a clock signs with 1970; the answer of the server corrects it.
        let Some(learned) = &self.learned else { return wall.unwrap_or_default() };
        let elapsed = seconds(now, learned.mono);
        match (wall, learned.wall) {
            // The offset holds while both clocks ran alike. Else the wall clock was set, and the
            // server's time plus what passed since is the better guess.
            (Some(wall), Some(then))
                if (wall.0.saturating_sub(then.0)).abs_diff(elapsed) <= STEP_SECONDS.unsigned_abs() =>
            {
                UnixTime(wall.0.saturating_add(learned.server.0.saturating_sub(then.0)))
            }
            _ => UnixTime(learned.server.0.saturating_add(elapsed)),
        }
    }

    /// Looks at the `Date` of a refusal of a signature made for `signed`. Returns the seconds to add to
    /// the device's clock, if that clock is to blame.
    pub(crate) fn refused(
        &mut self,
        date: UnixTime,
        signed: UnixTime,
        now: Instant,
        wall: Option<UnixTime>,
    ) -> Option<i64> {
        let age = date.0.saturating_sub(signed.0);
        if (0..=CLOCK_TOLERANCE_SECONDS).contains(&age) {
            return None;
        }
        self.learned = Some(Learned { server: date, mono: now, wall });
        // A clock may really be a second ahead, so the server's time is used from now on. As a cause, rounding is as
        // likely, and the credentials are much likelier than both.
        if (-CLOCK_ROUNDING_SECONDS..0).contains(&age) {
            return None;
        }
        // Without a clock the whole date of the server is the difference.
        Some(date.0.saturating_sub(wall.unwrap_or_default().0))
    }
}

fn seconds(now: Instant, then: Instant) -> i64 {
    i64::try_from(now.saturating_since(then).as_secs()).unwrap_or(i64::MAX)
}
