//! The server's time, learned from refusals (device-protocol §1.13).
//!
//! A signature is good from its second on for 90 seconds. A device whose clock is off in either
//! direction is refused, but the refusal carries the server's `Date`.
//!
//! A signature for a time to come can be used by whoever holds it then, so a date is believed only from the configured
//! server, reached by TLS, and only if it is plausible.

use core::time::Duration;

use crate::limits::{
    CLOCK_DOUBTS, CLOCK_DRIFT_SECONDS, CLOCK_ROUNDING_SECONDS, CLOCK_TOLERANCE_SECONDS, RELEASED,
};
use crate::time::{Instant, UnixTime};

/// How far the wall clock may run away from the monotonic one before it counts as set anew.
const STEP_SECONDS: i64 = 5;

/// Knows the time to sign with.
#[derive(Default)]
pub(crate) struct Clock {
    learned: Option<Offset>,
    /// The time at which the server last accepted a signature, and when that was.
    accepted: Option<(UnixTime, Instant)>,
    /// Dates in a row that differed too much from it.
    doubts: u32,
}

/// The server's time and the device's clocks at that moment.
struct Offset {
    server: UnixTime,
    mono: Instant,
    wall: Option<UnixTime>,
}

/// Who sent a date.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The configured server, over TLS.
    Known,
    /// Anybody.
    Unknown,
}

/// The circumstances of a date.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) now: Instant,
    pub(crate) wall: Option<UnixTime>,
    pub(crate) source: Source,
    /// How long after the release dates are plausible.
    pub(crate) horizon: Duration,
}

/// What a date taught.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// Nothing worth telling.
    Nothing,
    /// The seconds to add to the device's clock, which is to blame.
    Offset(i64),
    /// The date differs, and is not believed.
    Doubt(Doubt),
}

/// Why a date is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Anybody could have sent it.
    Source,
    /// It is before the release of this software, or too long after it.
    Range,
    /// The device knew better a while ago.
    Drift,
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

    /// The server accepted a signature made for that time.
    pub(crate) fn accepted(&mut self, signed: UnixTime, now: Instant) {
        self.accepted = Some((signed, now));
        self.doubts = 0;
    }

    /// Looks at the `Date` of a refusal of a signature made for `signed`.
    pub(crate) fn refused(&mut self, date: UnixTime, signed: UnixTime, seen: Seen) -> Learned {
        let age = date.0.saturating_sub(signed.0);
        if (0..=CLOCK_TOLERANCE_SECONDS).contains(&age) {
            return Learned::Nothing;
        }
        if let Some(doubt) = self.doubt(date, seen) {
            return Learned::Doubt(doubt);
        }
        self.doubts = 0;
        self.learned = Some(Offset { server: date, mono: seen.now, wall: seen.wall });
        // A clock may really be a second ahead, so the server's time is used from now on. As a cause, rounding is as
        // likely, and the credentials are much likelier than both.
        if (-CLOCK_ROUNDING_SECONDS..0).contains(&age) {
            return Learned::Nothing;
        }
        // Without a clock the whole date of the server is the difference.
        Learned::Offset(date.0.saturating_sub(seen.wall.unwrap_or_default().0))
    }

    /// Returns why a date is not believed, if it isn't.
    fn doubt(&mut self, date: UnixTime, seen: Seen) -> Option<Doubt> {
        if seen.source == Source::Unknown {
            return Some(Doubt::Source);
        }
        let horizon = i64::try_from(seen.horizon.as_secs()).unwrap_or(i64::MAX);
        if date < RELEASED || date.0 > RELEASED.0.saturating_add(horizon) {
            return Some(Doubt::Range);
        }
        let near = |time: i64| date.0.abs_diff(time) <= CLOCK_DRIFT_SECONDS.unsigned_abs();
        let (time, at) = self.accepted?;
        let expected = time.0.saturating_add(seconds(seen.now, at));
        if near(expected) || seen.wall.is_some_and(|wall| near(wall.0)) || self.doubts >= CLOCK_DOUBTS {
            return None;
        }
        self.doubts += 1;
        Some(Doubt::Drift)
    }
}

fn seconds(now: Instant, then: Instant) -> i64 {
    i64::try_from(now.saturating_since(then).as_secs()).unwrap_or(i64::MAX)
}
