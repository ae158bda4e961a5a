//! The alarm of a device that no update service has answered for days.

use std::time::Duration;

use crate::common::{Device, WALL, config, events};
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const DAY_SECONDS: i64 = 24 * 3600;

fn quiet(days: u32) -> Config {
    let mut config = config();
    config.heartbeat = Duration::ZERO;
    config.wait_for_network = false;
    // Few attempts, as days pass.
    (config.backoff.min, config.backoff.max) = (Duration::from_secs(3600), Duration::from_secs(3600));
    config.freeze_alarm = DAY * days;
    config
}

fn raised(device: &Device) -> Option<String> {
    let alarms = device.link.status().alarms;
    alarms.into_iter().find(|it| it.alarm == Alarm::UpdatesFrozen).map(|it| it.description)
}

fn reminders(out: &[Output]) -> usize {
    events(out).iter().filter(|event| matches!(event, Event::UpdatesFrozen { .. })).count()
}

fn kept(out: &[Output]) -> Option<History> {
    let histories = out.iter().rev().filter_map(|output| match output {
        Output::SaveHistory { history } => Some(history),
        _ => None,
    });
    histories.map(|history| History::from_text(&history.to_text())).next()
}

/// A device that starts with a history and finds no server.
fn started(config: &Config, history: Option<History>, wall: Option<i64>) -> Device {
    let mut config = config.clone();
    config.history = history.unwrap_or_default();
    let now = Now { mono: Instant::from_micros(5_000_000), wall: wall.map(UnixTime) };
    let mut device = Device::new(config.clone());
    device.now = now;
    device.link = Link::new(config, 7, now).unwrap();
    device.command(Command::Connect);
    device
}

/// The present attempt to connect, or the next, succeeds.
fn up(device: &mut Device) {
    while device.link.connection_state() != ConnectionState::Dialing {
        let wait = device.link.deadline().unwrap().at - device.now.mono;
        device.pass(wait);
    }
    let socket = device.socket();
    device.input(Input::SocketUp { socket, interface: Some("eth0") });
}

#[test]
fn the_alarm_comes_after_so_many_days_without_an_answer_and_not_a_second_earlier() {
    let mut device = started(&quiet(7), None, Some(WALL));
    device.pass((DAY * 7).saturating_sub(SECOND));
    assert_eq!(raised(&device), None);
    let out = device.pass(SECOND);
    assert_eq!(raised(&device).unwrap(), "no update service has answered this device for 7 days");
    let told = device
        .alarms
        .iter()
        .filter(|event| matches!(event, Event::AlarmRaised { alarm: Alarm::UpdatesFrozen, .. }));
    assert_eq!((told.count(), reminders(&out)), (1, 0));
}

#[test]
fn it_is_repeated_daily_with_the_days_and_ends_with_an_accepted_join() {
    let mut device = started(&quiet(2), None, None);
    device.pass(DAY * 2);
    for days in 3..6 {
        let out = device.pass(DAY);
        assert_eq!(reminders(&out), 1);
        assert_eq!(
            raised(&device).unwrap(),
            format!("no update service has answered this device for {days} days")
        );
    }
    up(&mut device);
    assert!(raised(&device).is_some(), "an open socket shows no update service");
    device.join();
    assert_eq!(raised(&device), None);
    assert_eq!(device.alarms.last(), Some(&Event::AlarmCleared { alarm: Alarm::UpdatesFrozen }));
}

#[test]
fn a_refused_join_shows_none_and_heartbeats_of_an_accepted_one_do() {
    let mut config = quiet(1);
    config.heartbeat = Duration::from_secs(30);
    let mut device = Device::joined(config.clone());
    for _ in 0..3 * 24 * 120 {
        device.beat();
    }
    assert_eq!(raised(&device), None);
    // A day of refusals.
    let mut device = started(&quiet(1), None, None);
    up(&mut device);
    let refused = json!({"status": "error", "response": {"reason": "no such device"}});
    for hour in 0..24 {
        assert_eq!(raised(&device), None, "{hour}");
        let join = device.last_sent("phx_join");
        device.server(&json!([join[0], join[1], "device", "phx_reply", refused]));
        device.pass(Duration::from_secs(3600));
    }
    assert!(raised(&device).is_some());
}

#[test]
fn nobody_who_did_not_prove_who_it_is_counts() {
    for insecure in [false, true] {
        let mut config = quiet(1);
        config.host = "ws://localhost:4000".to_owned();
        config.insecure_plain_hub = insecure;
        let mut device = Device::joined(config);
        device.pass(DAY.saturating_sub(SECOND));
        device.broadcast("identify", json!({}));
        device.pass(DAY / 2);
        assert_eq!(raised(&device).is_some(), !insecure);
    }
}

#[test]
fn zero_means_no_alarm_and_more_than_a_year_is_refused() {
    let mut device = Device::joined(quiet(1));
    device.command(Command::Disconnect);
    device.pass(DAY * 3);
    assert_eq!(raised(&device), None, "offline on purpose");
    let mut device = started(&quiet(0), None, Some(WALL));
    assert_eq!(reminders(&device.pass(DAY * 10)), 0);
    assert_eq!(raised(&device), None);
    let mut config = config();
    config.freeze_alarm = MAX_FREEZE_ALARM;
    assert_eq!(config.check(), Ok(()));
    config.freeze_alarm += SECOND;
    assert_eq!(config.check(), Err(ConfigError::FreezeAlarm));
    assert_eq!(Config::new("h", config.auth.clone(), config.firmware.clone()).freeze_alarm, FREEZE_ALARM);
}

#[test]
fn restarts_do_not_hide_it_even_without_a_clock() {
    // Each boot lasts long enough for what is known to be stored, and no longer.
    let (mut history, mut boots) = (None, 0);
    loop {
        let mut device = started(&quiet(7), history, None);
        device.pass(CONTACT_SAVE_INTERVAL);
        if raised(&device).is_some() {
            break;
        }
        history = kept(&device.out);
        assert!(history.is_some());
        boots += 1;
        assert!(boots < 40);
    }
    assert_eq!(boots, 7 * 4 - 1);
}

#[test]
fn the_time_that_the_device_was_off_counts_after_a_grace_to_connect() {
    let mut device = started(&quiet(7), None, Some(WALL));
    up(&mut device);
    device.join();
    device.pass(CONTACT_SAVE_INTERVAL);
    let history = kept(&device.out);
    assert!(history.is_some());
    let mut device = started(&quiet(7), history.clone(), Some(WALL + 30 * DAY_SECONDS));
    device.pass(FREEZE_GRACE.saturating_sub(SECOND));
    assert_eq!(raised(&device), None);
    device.pass(SECOND);
    assert_eq!(raised(&device).unwrap(), "no update service has answered this device for 30 days");
    // One that connects in time never raises it.
    let mut device = started(&quiet(7), history.clone(), Some(WALL + 30 * DAY_SECONDS));
    up(&mut device);
    device.join();
    device.pass(FREEZE_GRACE);
    assert_eq!(raised(&device), None);
    // A clock that is set later shows the time just as well; one that is years behind shows nothing.
    let mut device = started(&quiet(7), history.clone(), None);
    device.pass(FREEZE_GRACE);
    assert_eq!(raised(&device), None);
    device.now.wall = Some(UnixTime(WALL + 30 * DAY_SECONDS));
    device.pass(CONTACT_SAVE_INTERVAL);
    assert!(raised(&device).is_some());
    let mut device = started(&quiet(7), history, Some(1000));
    device.pass(DAY);
    assert_eq!(raised(&device), None);
}

#[test]
fn a_device_stores_it_four_times_a_day_and_no_more() {
    let mut device = Device::joined(quiet(7));
    device.out.clear();
    let out = device.pass(DAY * 10);
    let saves = out.iter().filter(|output| matches!(output, Output::SaveHistory { .. })).count();
    assert_eq!(saves, 40);
    assert_eq!(kept(&out).unwrap().contact.map(|age| age >= DAY * 9), Some(true));
}

#[test]
fn a_damaged_record_counts_from_the_start() {
    for text in ["contact:", "contact:x", "contact:-1", "contact:99999999999999999999999"] {
        let mut device = started(&quiet(1), Some(History::from_text(text)), Some(WALL));
        device.pass(DAY.saturating_sub(SECOND));
        assert_eq!(raised(&device), None, "{text}");
    }
    let mut device = started(&quiet(1), Some(History::from_text(&format!("contact:{}", u64::MAX))), None);
    device.pass(FREEZE_GRACE);
    assert!(raised(&device).is_some());
}
