//! When devices may be updated and how fast, and whether they keep to that, looked at by simple means.

use nerves_hub_link_protocol::{
    Maintenance, OfferId, RateLimit, RateWindow, UnixTime, UpdateInfo, Weekday, Window,
};

use super::dice::mix;
use super::scenario::{SECOND, Scenario, Variant};
use super::violation::Broken;

const DAYS: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];
/// Minutes of a day, and of a week.
const DAY: u16 = 1440;
const WEEK: u16 = 7 * DAY;
/// Minutes from one window to the next: all windows of a week that a device takes, so that none is far when
/// everything healed.
const CYCLE: u16 = 160;
/// How long a window is open.
const OPEN: u16 = 60;
/// Bytes that may come at once: a chunk for each of the requests that may be open, and one more.
const AT_ONCE: u64 = 4 * 16 * 1024;

/// Whether a device has a policy, and may get another: one of ten of a fleet.
pub(super) const fn has_policy(scenario: &Scenario, number: u32) -> bool {
    scenario.has(Variant::Policy) && (!scenario.fleet || number % 10 == 5)
}

/// Whether firmware may come at a certain speed only. Where bytes are moved, they come as they may.
pub(super) const fn has_speed(scenario: &Scenario, number: u32) -> bool {
    has_policy(scenario, number) && !scenario.has(Variant::Bytes)
}

/// The policy that a device has at first.
pub(super) fn first(scenario: &Scenario, number: u32) -> u32 {
    if scenario.fleet {
        // Windows, and 20 kB/s.
        return 5 | 1 << 3;
    }
    u32::try_from(mix(scenario.seed, number.into()) >> 32).unwrap_or(0)
}

/// When updates may begin under a policy.
pub(super) fn maintenance(kind: u32) -> Maintenance {
    let mut rules = Maintenance::default();
    let strict = match kind % 8 {
        0..5 => return rules,
        5 => false,
        6 => true,
        _ => {
            rules.without_clock = true;
            false
        }
    };
    (rules.by_hand_any_time, rules.requested_any_time) = (!strict, !strict);
    rules.utc_offset_minutes = if kind >> 5 & 1 == 0 { 0 } else { 345 };
    let shift = u16::try_from(kind >> 6 & 127).unwrap_or(0);
    rules.windows = (0..WEEK / CYCLE)
        .filter_map(|turn| {
            let at = turn * CYCLE + shift;
            let day = DAYS.get(usize::from(at / DAY % 7)).copied()?;
            Some(Window { day, start_minute: at % DAY, minutes: OPEN })
        })
        .collect();
    rules
}

/// How fast firmware may come under a policy.
pub(super) fn rate(kind: u32) -> RateLimit {
    let bytes_per_second = match kind >> 3 & 3 {
        0 => None,
        1 => Some(20_000),
        _ => Some(5_000),
    };
    let mut rate = RateLimit { bytes_per_second, ..RateLimit::default() };
    if kind >> 3 & 3 == 3 {
        rate.by_time =
            vec![RateWindow { start_minute: 1200, end_minute: 360, bytes_per_second: Some(40_000) }];
    }
    rate
}

/// Whether a window is open, or none is needed: by a table of all minutes of a week.
fn is_open(rules: &Maintenance, wall: UnixTime) -> bool {
    let mut table = vec![false; WEEK.into()];
    for window in &rules.windows {
        let day = DAYS.iter().position(|day| *day == window.day).unwrap_or(0);
        let start = day * usize::from(DAY) + usize::from(window.start_minute);
        for minute in start..start + usize::from(window.minutes) {
            if let Some(open) = table.get_mut(minute % usize::from(WEEK)) {
                *open = true;
            }
        }
    }
    // 1970 began on a Thursday.
    let minute = wall.0.div_euclid(60) + i64::from(rules.utc_offset_minutes) + 3 * i64::from(DAY);
    let minute = usize::try_from(minute.rem_euclid(WEEK.into())).unwrap_or(0);
    rules.windows.is_empty() || table.get(minute).copied().unwrap_or_default()
}

/// Looks whether an offer may reach the application now, or be put off for the time of day.
pub(super) fn judge(
    kind: u32,
    wall: Option<UnixTime>,
    info: &UpdateInfo,
    offer: Option<OfferId>,
) -> Result<(), Broken> {
    let rules = maintenance(kind);
    let free = info.by_hand && rules.by_hand_any_time || info.requested && rules.requested_any_time;
    let open = match wall {
        Some(wall) => is_open(&rules, wall),
        None => rules.windows.is_empty() || rules.without_clock,
    };
    match (offer, free || open) {
        (Some(offer), false) => Err(Broken::OutsideWindow(offer)),
        (None, true) => Err(Broken::WindowMissed),
        _ => Ok(()),
    }
}

/// How far bytes of a device are ahead of what its policy allows.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    left: i64,
    at: u64,
    kind: Option<u32>,
}

impl Bucket {
    /// Bytes came.
    pub fn came(&mut self, now: u64, kind: u32, bytes: u64) -> Result<(), Broken> {
        let limit = rate(kind);
        let by_time = limit.by_time.iter().filter_map(|window| window.bytes_per_second);
        // The fastest of the day: what counts when, the machine's own tests know.
        let Some(rate) = limit.bytes_per_second.into_iter().chain(by_time).max() else { return Ok(()) };
        let full = i64::try_from(rate / 4 + AT_ONCE).unwrap_or(i64::MAX);
        if self.kind.replace(kind) != Some(kind) {
            (self.left, self.at) = (full, now);
        }
        let grown = i64::try_from((now - self.at).min(3600 * SECOND) * rate / SECOND).unwrap_or(i64::MAX);
        // What is too little to count yet counts next time.
        if grown > 0 {
            (self.left, self.at) = (self.left.saturating_add(grown).min(full), now);
        }
        self.left -= i64::try_from(bytes).unwrap_or(i64::MAX);
        if self.left < 0 { Err(Broken::TooFast { bytes_per_second: rate }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_open_as_long_as_it_says() {
        let rules = maintenance(5);
        // The run of a day that a test can name: Monday, 5 January 1970.
        let monday = 4 * 86_400;
        let open: Vec<i64> =
            (0..320).filter(|minute| is_open(&rules, UnixTime(monday + minute * 60))).collect();
        assert_eq!(open.len(), 120);
        assert_eq!((open[0], open[59], open[60]), (0, 59, 160));
        assert!(is_open(&maintenance(0), UnixTime(monday + 100 * 60)));
    }
}
