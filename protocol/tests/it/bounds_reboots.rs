//! How often a server can make a device reboot.

use std::time::Duration;

use crate::common::{Device, WALL, events, sent};
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A device whose connection lasts without heartbeats.
fn config() -> Config {
    let mut config = crate::common::config();
    config.heartbeat = Duration::ZERO;
    config
}

/// What was saved last, as the next start reads it.
fn kept(out: &[Output]) -> Option<History> {
    let histories = out.iter().rev().filter_map(|output| match output {
        Output::SaveHistory { history } => Some(history),
        _ => None,
    });
    let text = histories.map(History::to_text).next()?;
    assert!(!text.contains('\n'));
    Some(History::from_text(&text))
}

fn reboots(out: &[Output]) -> usize {
    out.iter().filter(|output| matches!(output, Output::Reboot { .. })).count()
}

/// How long until the next order is obeyed, if this one was refused.
fn refused(out: &[Output]) -> Option<Duration> {
    events(out).into_iter().find_map(|event| match event {
        Event::RebootRefused { retry_in, .. } => Some(retry_in),
        _ => None,
    })
}

/// The server's order to reboot right after a join.
fn order(device: &mut Device) -> Vec<Output> {
    device.broadcast("reboot", json!({}))
}

/// A device that starts with a history, after so many seconds of the wall clock.
fn started(config: &Config, history: Option<History>, wall: Option<i64>) -> Device {
    let mut config = config.clone();
    config.history = history.unwrap_or_default();
    let now = Now { mono: Instant::from_micros(5_000_000), wall: wall.map(UnixTime) };
    let mut device = Device::new(config.clone());
    device.now = now;
    device.link = Link::new(config, 7, now).unwrap();
    device.connect();
    device.join();
    device
}

/// Boots and orders a reboot at once, again and again. Returns how many were obeyed and what was kept last.
fn storm(config: &Config, boots: u32, wall: impl Fn(u32) -> Option<i64>) -> (usize, Option<History>) {
    let (mut obeyed, mut history) = (0, None);
    for boot in 0..boots {
        let mut device = started(config, history.clone(), wall(boot));
        order(&mut device);
        obeyed += reboots(&device.out);
        history = kept(&device.out).or(history);
    }
    (obeyed, history)
}

#[test]
fn a_server_that_orders_a_reboot_at_every_join_is_obeyed_so_often_an_hour() {
    let limit = usize::try_from(REBOOTS_PER_HOUR).unwrap();
    // Each boot takes a second of the clock.
    let clock = |boot| Some(WALL + i64::from(boot));
    assert_eq!(storm(&config(), REBOOTS_PER_HOUR, clock).0, limit, "as often as allowed");
    let (obeyed, history) = storm(&config(), REBOOTS_PER_HOUR * 3, clock);
    assert_eq!(obeyed, limit, "and not once more");
    // The server is told by an alarm, and no reboot is announced.
    let mut device = started(&config(), history, clock(100));
    device.out.clear();
    let out = order(&mut device);
    assert_eq!(sent(&out), [] as [serde_json::Value; 0]);
    let wait = refused(&out).unwrap();
    assert!(wait <= HOUR && wait + 5 * MINUTE > HOUR, "{wait:?}");
    let raised =
        |device: &Device| device.link.status().alarms.iter().any(|it| it.alarm == Alarm::RebootsRefused);
    assert!(raised(&device));
    // It is obeyed again when the hour is over, to the second, and the alarm has ended.
    device.pass(wait.saturating_sub(Duration::from_secs(1)));
    assert!(raised(&device) && refused(&order(&mut device)).is_some());
    device.pass(Duration::from_secs(1));
    assert!(!raised(&device));
    assert_eq!(reboots(&order(&mut device)), 1);
}

#[test]
fn the_count_is_kept_before_the_reboot() {
    let mut device = Device::joined(config());
    let out = order(&mut device);
    let save = out.iter().position(|output| matches!(output, Output::SaveHistory { .. })).unwrap();
    assert!(matches!(&out[save + 1..], [Output::Reboot { .. }]), "{out:?}");
}

#[test]
fn no_clock_that_jumps_or_is_missing_lifts_the_bound() {
    let limit = usize::try_from(REBOOTS_PER_HOUR).unwrap();
    let day = 24 * 3600;
    for (name, wall) in [
        (
            "forward",
            Box::new(|boot: u32| Some(WALL + i64::from(boot) * day)) as Box<dyn Fn(u32) -> Option<i64>>,
        ),
        ("back", Box::new(|boot| Some(WALL - i64::from(boot) * day))),
        ("none", Box::new(|_| None)),
        ("in 1970", Box::new(|_| Some(5))),
        ("set and unset", Box::new(|boot| (boot % 2 == 0).then(|| WALL + i64::from(boot) * day))),
    ] {
        let (obeyed, history) = storm(&config(), REBOOTS_PER_HOUR, &wall);
        assert_eq!(obeyed, limit, "{name}");
        // After the last of them, the clock of the device that runs jumps as well.
        let mut device = started(&config(), history, wall(REBOOTS_PER_HOUR));
        for jump in 1..5 {
            assert!(refused(&order(&mut device)).is_some(), "{name}");
            device.now.wall = wall(REBOOTS_PER_HOUR + jump).map(UnixTime);
        }
    }
}

#[test]
fn a_device_without_a_clock_counts_the_time_it_runs() {
    let (_, history) = storm(&config(), REBOOTS_PER_HOUR, |_| None);
    // It is switched off after a bit more than twenty minutes, three times.
    let mut history = history;
    for _ in 0..3 {
        let mut device = started(&config(), history.clone(), None);
        assert!(refused(&order(&mut device)).is_some());
        device.pass(HISTORY_INTERVAL + MINUTE);
        history = kept(&device.out).or(history);
    }
    let mut device = started(&config(), history, None);
    assert!(refused(&order(&mut device)).is_some(), "three quarters of an hour");
    device.pass(HISTORY_INTERVAL);
    let history = kept(&device.out);
    assert_eq!(reboots(&order(&mut started(&config(), history, None))), 1);
}

#[test]
fn the_time_that_somebody_had_it_switched_off_counts_where_a_clock_shows_it() {
    let (_, history) = storm(&config(), REBOOTS_PER_HOUR, |_| Some(WALL));
    // The boot after the reboot; then the power is cut.
    let device = started(&config(), history, Some(WALL + 60));
    let after = kept(&device.out);
    assert!(after.is_some());
    let restart = |wall| order(&mut started(&config(), after.clone(), wall));
    assert!(refused(&restart(Some(WALL + 60 + 3000))).is_some());
    assert_eq!(reboots(&restart(Some(WALL + 60 + 3700))), 1);
    // A clock that is set a while after the start shows it just as well.
    let mut device = started(&config(), after, None);
    assert!(refused(&order(&mut device)).is_some());
    device.now.wall = Some(UnixTime(WALL + 60 + 3700));
    assert_eq!(reboots(&order(&mut device)), 1);
}

#[test]
fn a_history_that_is_lost_or_damaged_stops_nobody() {
    for text in ["", "reboots:", "reboots:x,,-1", "at:x rebooting:2 reboots:99999999999999999999", "\u{0}"] {
        let history = History::from_text(text);
        assert_eq!(reboots(&order(&mut started(&config(), Some(history), Some(WALL)))), 1, "{text:?}");
    }
    let many: Vec<_> = (0..=MAX_BOUND).map(|age| (MAX_BOUND - age).to_string()).collect();
    let history = History::from_text(&format!("reboots:{}", many.join(",")));
    assert_eq!(history.reboots.len(), usize::try_from(MAX_BOUND).unwrap());
    assert_eq!(history.reboots.last(), Some(&Duration::ZERO), "the newest are kept");
    let mut device = started(&config(), Some(history), Some(WALL));
    assert!(refused(&order(&mut device)).is_some());
    // Ages beyond all bounds are old.
    let history = History::from_text(&format!("reboots:{}", u64::MAX));
    assert_eq!(reboots(&order(&mut started(&config(), Some(history), Some(WALL)))), 1);
}

#[test]
fn a_device_that_can_keep_nothing_refuses_orders_soon_after_its_start() {
    let mut quiet = config();
    quiet.history = History::unknown();
    let mut device = Device::joined(quiet);
    let spacing = REBOOT_WINDOW / REBOOTS_PER_HOUR;
    let wait = refused(&order(&mut device)).unwrap();
    assert_eq!(wait, spacing);
    device.pass(wait.saturating_sub(Duration::from_secs(1)));
    assert!(refused(&order(&mut device)).is_some());
    device.pass(Duration::from_secs(1));
    assert_eq!(reboots(&order(&mut device)), 1);
    // The reboot after an update is not the server's alone to cause: the firmware was signed.
    let mut config = config();
    config.history = History::unknown();
    let mut device = Device::joined(config);
    let (offer, _) = device.start(json!({}));
    assert_eq!(reboots(&device.input(Input::ApplyDone { offer })), 1);
}

#[test]
fn the_reboot_after_an_update_waits_where_there_were_too_many() {
    let (_, history) = storm(&config(), REBOOTS_PER_HOUR, |_| Some(WALL));
    let mut device = started(&config(), history, Some(WALL));
    let (offer, _) = device.start(json!({}));
    let out = device.input(Input::ApplyDone { offer });
    let delayed = events(&out).into_iter().find_map(|event| match event {
        Event::RebootDelayed { retry_in, .. } => Some(retry_in),
        _ => None,
    });
    let wait = delayed.unwrap();
    assert_eq!(reboots(&out), 0);
    assert_eq!(device.statuses().pop().unwrap()["status"], "completed");
    assert!(refused(&order(&mut device)).is_some(), "nor does an order bring it about");
    let end = device.now.mono + wait;
    while device.now.mono < end {
        assert_eq!(reboots(&device.out), 0);
        let next = device.link.deadline().unwrap().at.min(end);
        device.pass(next - device.now.mono);
    }
    assert_eq!(reboots(&device.out), 1);
}

#[test]
fn an_order_that_comes_twice_is_one_reboot_and_the_bound_can_be_set() {
    let mut device = Device::joined(config());
    device.sends = false;
    for _ in 0..=REBOOTS_PER_HOUR {
        assert_eq!(refused(&order(&mut device)), None);
    }
    device.sends = true;
    let out = device.pass(REBOOT_GRACE);
    assert_eq!(reboots(&out), 1);
    assert_eq!(kept(&out).unwrap().reboots.len(), 1);
    let mut config = config();
    config.bounds.reboots_per_hour = 1;
    assert_eq!(storm(&config, 5, |_| Some(WALL)).0, 1);
    config.bounds.reboots_per_hour = 0;
    assert_eq!(storm(&config, 200, |_| Some(WALL)).0, 200);
    config.bounds.reboots_per_hour = MAX_BOUND;
    assert_eq!(storm(&config, MAX_BOUND + 5, |_| Some(WALL)).0, usize::try_from(MAX_BOUND).unwrap());
    config.bounds.reboots_per_hour = MAX_BOUND + 1;
    assert_eq!(config.check(), Err(ConfigError::Bounds));
}
