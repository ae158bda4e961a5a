//! Alarms: when they are raised and cleared, each once.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::*;
use serde_json::json;

/// The alarms told since the last call: raised, or cleared.
fn told(device: &mut Device) -> Vec<(Alarm, bool)> {
    device.drain();
    let told = std::mem::take(&mut device.alarms);
    told.iter()
        .map(|event| match event {
            Event::AlarmRaised { alarm, .. } => (*alarm, true),
            Event::AlarmCleared { alarm } => (*alarm, false),
            _ => unreachable!(),
        })
        .collect()
}

fn raised(device: &Device) -> Vec<(Alarm, String)> {
    device.link.status().alarms.into_iter().map(|raised| (raised.alarm, raised.description)).collect()
}

#[test]
fn a_device_is_disconnected_from_the_start_until_the_socket_opens() {
    let mut device = Device::new(config());
    assert_eq!(raised(&device), [(Alarm::Disconnected, "not connected yet".into())]);
    assert_eq!(told(&mut device), [(Alarm::Disconnected, true)]);
    device.command(Command::Connect);
    let socket = device.socket();
    device.input(Input::SocketDown { socket, code: None, reason: "no route" });
    device.pass(Duration::from_secs(1));
    assert_eq!(told(&mut device), [], "told once");
    assert_eq!(raised(&device), [(Alarm::Disconnected, "no route".into())], "the newest reason");
    let socket = device.socket();
    device.input(Input::SocketUp { socket, interface: None });
    assert_eq!(told(&mut device), [(Alarm::Disconnected, false)]);
    assert_eq!(raised(&device), []);
    device.join();
    let since = device.now.mono;
    device.down(Some(1012));
    assert_eq!(told(&mut device), [(Alarm::Disconnected, true)]);
    assert_eq!(device.link.status().alarms[0].since, since);
    device.command(Command::Disconnect);
    assert_eq!(raised(&device), [(Alarm::Disconnected, "disconnected on request".into())]);
    assert_eq!(told(&mut device), []);
}

#[test]
fn an_update_in_progress_is_an_alarm_until_it_ended_in_any_way() {
    let mut device = Device::joined(config());
    told(&mut device);
    let offer = device.offer(json!({}));
    assert_eq!(told(&mut device), [], "not before the decision");
    device.command(Command::Decide { offer, decision: Decision::Apply });
    assert_eq!(told(&mut device), [(Alarm::UpdateInProgress, true)]);
    assert_eq!(raised(&device), [(Alarm::UpdateInProgress, NEW_UUID.into())]);
    device.input(Input::ApplyFailed { offer, reason: "x" });
    assert_eq!(told(&mut device), [(Alarm::UpdateInProgress, false)]);
    let (_, _) = device.start(json!({}));
    device.head(404, &[]);
    assert_eq!(told(&mut device), [(Alarm::UpdateInProgress, true), (Alarm::UpdateInProgress, false)]);
    let (offer, _) = device.start(json!({}));
    device.input(Input::ApplyDone { offer });
    assert_eq!(told(&mut device), [(Alarm::UpdateInProgress, true), (Alarm::UpdateInProgress, false)]);
    // Neither an ignored nor a refused one is in progress.
    let mut keyless = config();
    keyless.public_keys.clear();
    let mut device = Device::joined(keyless);
    told(&mut device);
    device.broadcast("update", update());
    assert_eq!(told(&mut device), []);
    let mut device = Device::joined(config());
    told(&mut device);
    device.offer_and_ignore();
    assert_eq!(told(&mut device), []);
}

#[test]
fn a_fall_back_from_bad_firmware_is_an_alarm_from_the_start_on() {
    let mut config = config();
    config.firmware_auto_revert_detected = true;
    let mut device = Device::joined(config);
    assert_eq!(
        told(&mut device),
        [(Alarm::Disconnected, true), (Alarm::FirmwareReverted, true), (Alarm::Disconnected, false)]
    );
    device.down(None);
    assert_eq!(told(&mut device), [(Alarm::Disconnected, true)]);
    assert_eq!(raised(&device)[0].0, Alarm::FirmwareReverted, "never cleared");
}

#[test]
fn a_twin_is_an_alarm_until_the_device_is_left_in_peace() {
    let mut device = Device::joined(config());
    for wait in [1, 1, 60] {
        device.down(Some(1001));
        device.come_back_after(wait);
    }
    assert!(raised(&device).iter().any(|(alarm, _)| *alarm == Alarm::DuplicateIdentity));
    told(&mut device);
    for _ in 0..20 {
        device.beat();
    }
    assert_eq!(told(&mut device), [(Alarm::DuplicateIdentity, false)]);
}

#[test]
fn the_client_hears_of_alarms_by_name() {
    struct Bell(Vec<(&'static str, bool, String)>);
    impl Client for Bell {
        fn alarm(&mut self, alarm: Alarm, raised: bool, description: &str) {
            self.0.push((alarm.name(), raised, description.into()));
        }
    }
    let mut bell = Bell(Vec::new());
    let mut device = Device::new(config());
    device.connect();
    for event in &device.alarms {
        client::deliver(&mut bell, device.link.running(), event);
    }
    assert_eq!(
        bell.0,
        [
            ("NervesHubLink.Disconnected", true, "not connected yet".into()),
            ("NervesHubLink.Disconnected", false, String::new())
        ]
    );
}
