//! The wall's clock; the monotonic one is the loop's.

use std::time::{SystemTime, UNIX_EPOCH};

use nerves_hub_link_protocol::{Instant, Now, UnixTime};

/// Returns both times. A wall clock before 1970 is none.
pub(crate) fn at(mono: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let wall = wall.ok().and_then(|since| i64::try_from(since.as_secs()).ok()).map(UnixTime);
    Now { mono, wall }
}
