//! Whether an update may begin now, and if not, when.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::Context;
use crate::event::UpdateInfo;
use crate::limits::{CLOCKLESS_WAIT, MAX_WINDOW_SPREAD, MIN_RESCHEDULE};
use crate::rng::Rng;
use crate::schedule::{Maintenance, Window};
use crate::time::UnixTime;

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 3600;
const WEEK: i64 = 7 * DAY;
/// 1970 began on a Thursday.
const EPOCH: i64 = 3 * DAY;

/// Returns how long an update has to wait, and why, if it may not begin now.
pub(super) fn wait(cx: &Context<'_>, info: &UpdateInfo, rng: &mut Rng) -> Option<(Duration, String)> {
    let maintenance = &cx.config.maintenance;
    let free =
        (info.by_hand && maintenance.by_hand_any_time) || (info.requested && maintenance.requested_any_time);
    if maintenance.windows.is_empty() || free {
        return None;
    }
    let Some(wall) = cx.wall else {
        let why = "the device does not know the time, so it can't tell whether updates may begin";
        return (!maintenance.without_clock).then(|| (CLOCKLESS_WAIT, String::from(why)));
    };
    let (left, window) = next(maintenance, wall)?;
    let wait = seconds(left).max(MIN_RESCHEDULE);
    // A fleet must not come back in one second.
    let spread = (seconds(i64::from(window.minutes) * MINUTE) / 4).min(MAX_WINDOW_SPREAD);
    let minutes = wait.as_secs().div_ceil(60);
    let why =
        format!("outside the maintenance window; the next begins in {} h {} min", minutes / 60, minutes % 60);
    Some((wait + spread.mul_f64(rng.unit()), why))
}

/// Returns the next window and the seconds until it begins, unless one is open.
fn next(maintenance: &Maintenance, wall: UnixTime) -> Option<(i64, Window)> {
    let local = wall.0.saturating_add(i64::from(maintenance.utc_offset_minutes) * MINUTE);
    let now = local.saturating_add(EPOCH).rem_euclid(WEEK);
    let start = |window: &Window| window.day.days() * DAY + i64::from(window.start_minute) * MINUTE;
    let is_open =
        |window: &Window| (now - start(window)).rem_euclid(WEEK) < i64::from(window.minutes) * MINUTE;
    if maintenance.windows.iter().any(is_open) {
        return None;
    }
    let left = |window: &Window| ((start(window) - now).rem_euclid(WEEK), *window);
    maintenance.windows.iter().map(left).min_by_key(|(left, _)| *left)
}

fn seconds(count: i64) -> Duration {
    // Counts are remainders of a week, which are never negative.
    Duration::from_secs(u64::try_from(count).unwrap_or_default())
}
