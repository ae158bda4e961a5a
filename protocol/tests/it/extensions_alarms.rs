//! Alarms told as they come and go (A8).

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const NOW: &str = "2026-11-23T14:39:17.000000Z";

fn alarms() -> Config {
    let mut config = config();
    config.extensions = no_extensions();
    config.extensions.alarms = true;
    config.heartbeat = Duration::ZERO;
    config
}

fn attach(device: &mut Device) {
    assert_eq!(device.invite(json!({"extensions": {"alarms": ["0.1.0"]}})), json!({"alarms": "0.1.0"}));
    device.accept(json!(["alarms"]));
}

/// A device that told its alarms, of which there are none.
fn synced(config: Config) -> Device {
    let mut device = Device::joined(config);
    attach(&mut device);
    assert_eq!(snapshot(&sync(&mut device)), json!([]));
    device
}

fn sync(device: &mut Device) -> Vec<Output> {
    device.extension("alarms:sync", json!({}))
}

fn snapshot(out: &[Output]) -> Value {
    let messages = extension_messages(out);
    assert_eq!((messages.len(), messages[0].0.as_str()), (1, "alarms:snapshot"), "{messages:?}");
    assert_eq!(messages[0].1.as_object().unwrap().len(), 1);
    messages[0].1["alarms"].clone()
}

fn raise(device: &mut Device, name: &str, description: &str) -> Vec<Output> {
    device.command(ExtensionCommand::RaiseAlarm { name: name.into(), description: description.into() }.into())
}

fn clear(device: &mut Device, name: &str) -> Vec<Output> {
    device.command(ExtensionCommand::ClearAlarm { name: name.into() }.into())
}

#[test]
fn a_sync_is_answered_with_all_alarms() {
    for mut config in in_both(alarms()) {
        config.firmware_auto_revert_detected = true;
        let mut device = Device::joined(config);
        raise(&mut device, "Elixir.App.Hot", "87 °C");
        device.pass(SECOND);
        attach(&mut device);
        assert_eq!(device.pass(5 * SECOND), [], "nothing before the server asks");
        let all = snapshot(&sync(&mut device));
        let names: Vec<&Value> = all.as_array().unwrap().iter().map(|alarm| &alarm["alarm"]).collect();
        assert_eq!(names, ["NervesHubLink.FirmwareReverted", "App.Hot"]);
        assert_eq!(all[1], json!({"alarm": "App.Hot", "description": "87 °C", "raised_at": NOW}));
        // Each is answered.
        assert_eq!(snapshot(&sync(&mut device)), all);
    }
}

#[test]
fn alarms_are_told_as_they_come_and_go() {
    for config in in_both(alarms()) {
        let mut device = synced(config);
        let out = raise(&mut device, "door", "open");
        let raised = |text: &str| {
            ("alarms:raised".to_owned(), json!({"alarm": "door", "description": text, "raised_at": NOW}))
        };
        assert_eq!(extension_messages(&out), [raised("open")]);
        device.pass(3 * SECOND);
        assert_eq!(raise(&mut device, "door", "open"), [], "nothing new");
        let out = raise(&mut device, "door", "wide open");
        assert_eq!(extension_messages(&out), [raised("wide open")], "raised when it was");
        let out = clear(&mut device, "door");
        assert_eq!(
            extension_messages(&out),
            [(
                "alarms:cleared".to_owned(),
                json!({"alarm": "door", "cleared_at": "2026-11-23T14:39:20.000000Z"})
            )]
        );
        assert_eq!(clear(&mut device, "door"), []);
    }
}

#[test]
fn the_links_own_alarms_are_told_too() {
    let mut device = synced(alarms());
    device.start(json!({}));
    let (event, payload) = extension_messages(&device.out).pop().unwrap();
    assert_eq!(
        (event.as_str(), &payload["alarm"]),
        ("alarms:raised", &json!("NervesHubLink.UpdateInProgress"))
    );
}

#[test]
fn a_reconnected_device_tells_all_again_and_keeps_the_times() {
    let mut device = synced(alarms());
    raise(&mut device, "door", "open");
    device.down(None);
    device.pass(Duration::from_millis(500));
    raise(&mut device, "hot", "87 °C");
    clear(&mut device, "door");
    raise(&mut device, "door", "again");
    device.come_back_after(1);
    attach(&mut device);
    let all = snapshot(&sync(&mut device));
    let alarms: Vec<(&str, &str)> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|alarm| (alarm["alarm"].as_str().unwrap(), alarm["raised_at"].as_str().unwrap()))
        .collect();
    assert_eq!(alarms[0], ("hot", "2026-11-23T14:39:17.500000Z"));
    assert_eq!(alarms.len(), 2);
}

#[test]
fn times_are_left_out_while_the_clock_is_unknown_and_then_stay() {
    let mut device = Device::new(alarms());
    device.now.wall = None;
    device.connect();
    device.join();
    attach(&mut device);
    sync(&mut device);
    let out = raise(&mut device, "door", "open");
    assert_eq!(
        extension_messages(&out),
        [("alarms:raised".to_owned(), json!({"alarm": "door", "description": "open"}))]
    );
    let out = clear(&mut device, "door");
    assert_eq!(extension_messages(&out), [("alarms:cleared".to_owned(), json!({"alarm": "door"}))]);
    raise(&mut device, "door", "open");
    device.now.wall = Some(UnixTime(WALL));
    let first = snapshot(&sync(&mut device));
    assert_eq!(first[0]["raised_at"], NOW);
    // The clock is set again; the time of the alarm stays.
    device.now.wall = Some(UnixTime(WALL + 1000));
    assert_eq!(snapshot(&sync(&mut device)), first);
}

#[test]
fn no_more_messages_than_the_servers_bucket_takes() {
    let mut device = synced(alarms());
    device.pass(20 * SECOND);
    let at_once: usize =
        (0..30).map(|number| extension_messages(&raise(&mut device, &format!("{number}"), "")).len()).sum();
    assert_eq!(at_once, 10);
    assert_eq!(device.link.deadline().unwrap().why, Timer::AlarmMessages);
    // What comes and goes meanwhile need not be told.
    raise(&mut device, "flicker", "");
    clear(&mut device, "flicker");
    clear(&mut device, "29");
    assert_eq!(extension_messages(&device.pass(Duration::from_millis(999))).len(), 0);
    assert_eq!(extension_messages(&device.pass(Duration::from_millis(1))).len(), 1);
    let rest = extension_messages(&device.pass(60 * SECOND));
    assert_eq!(rest.len(), 18, "alarms 11 to 28");
    assert!(rest.iter().all(|(event, _)| event == "alarms:raised"));
}

#[test]
fn health_leaves_alarms_out_while_they_have_their_own_way() {
    let mut config = alarms();
    config.extensions.health = Some(HealthConfig::default());
    let mut device = Device::joined(config);
    device.invite(json!({"extensions": {"alarms": ["0.1.0"], "health": ["0.0.1"]}}));
    device.accept(json!(["health", "alarms"]));
    raise(&mut device, "door", "open");
    let report = |device: &mut Device, command: ExtensionCommand| {
        let messages = extension_messages(&device.command(command.into()));
        messages.into_iter().find(|(event, _)| event == "health:report").unwrap().1["value"]
            .get("alarms")
            .cloned()
    };
    let good = || ExtensionCommand::HealthReport(Box::default());
    assert_eq!(report(&mut device, good()), None);
    assert_eq!(report(&mut device, ExtensionCommand::HealthFailed { reason: "x".into() }), None);
    device.extension("detach", json!({"extensions": ["alarms"]}));
    let alarms = report(&mut device, good()).unwrap();
    assert_eq!(alarms["door"], "open");
}

#[test]
fn a_detached_device_keeps_its_alarms_to_itself() {
    let mut device = synced(alarms());
    device.extension("detach", json!({"extensions": "all"}));
    assert_eq!(raise(&mut device, "door", "open"), []);
    let out = device.extension("attach", json!({"extensions": "all"}));
    assert_eq!(extension_messages(&out).len(), 1, "only that it is attached");
    assert_eq!(snapshot(&sync(&mut device))[0]["alarm"], "door");
}

#[test]
fn a_snapshot_holds_as_many_alarms_as_there_can_be() {
    let mut device = synced(alarms());
    let name = "ä".repeat((MAX_ALARM_NAME_BYTES - 2) / 2);
    device.extension("detach", json!({"extensions": "all"}));
    for number in 0..MAX_ALARMS {
        raise(&mut device, &format!("{name}{number:02}"), &"x".repeat(2 * MAX_HEALTH_TEXT_CHARS));
    }
    device.extension("attach", json!({"extensions": "all"}));
    let all = snapshot(&sync(&mut device));
    assert_eq!(all.as_array().unwrap().len(), MAX_ALARMS);
    assert_eq!(all[0]["description"].as_str().unwrap().chars().count(), MAX_HEALTH_TEXT_CHARS);
}
