//! Offers: which are refused, what the application decides, and what the server is told.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::*;
use serde_json::json;

#[test]
fn an_update_without_any_key_is_refused_unasked() {
    let mut config = config();
    config.public_keys.clear();
    let mut device = Device::joined(config);
    let out = device.broadcast("update", update());
    let reason = "Refusing unverified firmware : no public keys available";
    assert_eq!(device.statuses(), [json!({"status": "failed", "reason": reason})]);
    assert!(matches!(&events(&out)[..], [Event::UpdateRefused { reason: told, .. }] if told == reason));
    // Keys arrive; the next offer goes through, with them.
    let out = device.broadcast("fwup_public_keys", json!({"keys": [KEY]}));
    assert_eq!(events(&out), [Event::PublicKeysReceived { count: 1 }]);
    device.start(json!({}));
    assert!(
        device
            .out
            .iter()
            .any(|output| matches!(output, Output::StartApply(start) if start.public_keys == [KEY]))
    );
}

#[test]
fn an_empty_or_unusable_key_list_never_clears() {
    let mut device = Device::joined(config());
    for keys in [
        json!([]),
        json!([1, null, {}]),
        json!(["", "short", "u1dJgAcnFUqREJB0shvP+bwDx8wOrVtoRlj7XsvF6D=="]),
    ] {
        let out = device.broadcast("fwup_public_keys", json!({"keys": keys}));
        assert!(matches!(&events(&out)[..], [Event::Malformed { .. }]), "{keys}");
    }
    for odd in [json!({}), json!({"keys": "x"}), json!(null), json!([])] {
        device.broadcast("fwup_public_keys", odd);
    }
    assert_eq!(device.link.status().counters.unusable_keys, 6);
    device.start(json!({}));
}

#[test]
fn keys_are_those_of_the_moment_the_offer_arrived_and_can_be_pinned() {
    const OTHER: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (accept, late) in [(true, OTHER), (false, KEY)] {
        let mut config = config();
        config.accept_server_keys = accept;
        let mut device = Device::joined(config);
        let offer = device.offer(json!({}));
        device.broadcast("fwup_public_keys", json!({"keys": [7, OTHER]}));
        device.command(Command::Decide { offer, decision: Decision::Apply });
        assert!(
            device.out.iter().any(|output| matches!(output, Output::StartApply(s) if s.public_keys == [KEY]))
        );
        device.input(Input::ApplyFailed { offer, reason: "x" });
        device.start(json!({}));
        assert!(
            matches!(device.out.iter().rfind(|output| matches!(output, Output::StartApply(_))), Some(Output::StartApply(s)) if s.public_keys == [late])
        );
    }
}

#[test]
fn messages_that_are_no_update_are_ignored() {
    let mut device = Device::joined(config());
    let mut not = update();
    not["update_available"] = json!(false);
    not["firmware_url"] = json!(null);
    not["firmware_meta"] = json!(null);
    assert_eq!(device.broadcast("update", not), []);
    for (field, value) in [
        ("firmware_url", json!(null)),
        ("firmware_url", json!("")),
        ("firmware_url", json!(5)),
        ("firmware_meta", json!(null)),
        ("firmware_meta", json!([])),
    ] {
        let mut bad = update();
        bad[field] = value;
        let out = device.broadcast("update", bad);
        assert!(matches!(&events(&out)[..], [Event::Malformed { .. }]), "{out:?}");
    }
    for odd in [json!(null), json!([]), json!(3), json!("x")] {
        let out = device.broadcast("update", odd);
        assert!(matches!(&events(&out)[..], [Event::Malformed { .. }]));
    }
    assert_eq!(device.statuses(), [] as [serde_json::Value; 0]);
    assert_eq!(device.link.status().counters.malformed_messages, 9);
}

#[test]
fn odd_fields_count_as_unknown() {
    let mut device = Device::joined(config());
    device.broadcast(
        "update",
        json!({"firmware_url": URL, "firmware_meta": {"uuid": "u", "version": 3}, "size": "-1", "checksum": "xyz", "deployment_id": "7"}),
    );
    let Some(Event::UpdateOffered { info, .. }) = device.events().pop() else { panic!() };
    assert_eq!(info.firmware, FirmwareMeta { uuid: "u".into(), ..FirmwareMeta::default() });
    assert_eq!((info.size, info.checksum, info.deployment_id), (None, None, None));
}

#[test]
fn an_offer_tells_all() {
    let mut device = Device::joined(config());
    device.offer(json!({"checksum": "AB".repeat(32)}));
    let Some(Event::UpdateOffered { info, .. }) = device.events().pop() else { panic!() };
    assert_eq!(info.firmware.uuid, NEW_UUID);
    assert_eq!(info.firmware.version, "1.0.0");
    assert_eq!(info.firmware.author.as_deref(), Some("me"));
    assert_eq!(info.firmware.misc, None);
    assert_eq!((info.size, info.deployment_id), (Some(1000), Some(7)));
    assert_eq!(info.checksum, Some("ab".repeat(32)));
    assert_eq!(device.statuses(), [json!({"status": "received"})]);
}

#[test]
fn unusable_addresses_and_sizes_are_refused() {
    let refused = |change: serde_json::Value, http: bool| {
        let mut config = config();
        config.download.allow_http = http;
        config.download.max_size = 2000;
        let mut device = Device::joined(config);
        let mut update = update();
        for (key, value) in change.as_object().unwrap() {
            update[key] = value.clone();
        }
        device.broadcast("update", update);
        match device.events().pop() {
            Some(Event::UpdateRefused { reason, .. }) => {
                assert_eq!(device.statuses(), [json!({"status": "failed", "reason": reason})]);
                assert!(!reason.contains("TOPSECRET"));
                Some(reason)
            }
            _ => None,
        }
    };
    let ftp = refused(json!({"firmware_url": "ftp://h/x?TOPSECRET"}), true).unwrap();
    assert!(ftp.starts_with("Download failed : the address must begin with"), "{ftp}");
    assert!(refused(json!({"firmware_url": "http://h/x"}), false).unwrap().contains("only https"));
    let checksum = "AB".repeat(32);
    assert!(refused(json!({"firmware_url": "http://h/x", "checksum": checksum}), true).is_none());
    let unchecked = refused(json!({"firmware_url": "http://h/x"}), true).unwrap();
    assert!(unchecked.contains("only with a checksum"), "{unchecked}");
    assert!(refused(json!({"size": 2000}), true).is_none());
    assert!(refused(json!({"size": 2001}), true).unwrap().contains("2001 bytes"));
}

#[test]
fn an_ignored_update_is_reported_with_its_reason() {
    let mut device = Device::joined(config());
    for reason in ["", "machine is cutting"] {
        let offer = device.offer(json!({}));
        device.command(Command::Decide { offer, decision: Decision::Ignore { reason: reason.into() } });
        assert_eq!(device.statuses().pop().unwrap(), json!({"status": "ignored", "reason": reason}));
        assert_eq!(device.link.status().update, UpdateState::Idle);
        let again = device.link.command(device.now, Command::Decide { offer, decision: Decision::Apply });
        assert_eq!(again, Err(CommandError::UnknownOffer(offer)));
    }
}

fn reschedule(config: Config, delay: Duration, reason: Option<&str>) -> (Device, serde_json::Value) {
    let mut device = Device::joined(config);
    let offer = device.offer(json!({}));
    let decision = Decision::Reschedule { delay, reason: reason.map(String::from) };
    device.command(Command::Decide { offer, decision });
    let status = device.statuses().pop().unwrap();
    (device, status)
}

#[test]
fn a_rescheduled_update_waits_five_minutes_at_least() {
    let status = |delay, reason| reschedule(config(), Duration::from_secs(delay), reason).1;
    assert_eq!(status(600, None), json!({"status": "rescheduled", "delay_for": 600_000}));
    assert_eq!(
        status(0, Some("battery low")),
        json!({"status": "rescheduled", "delay_for": 300_000, "reason": "battery low"})
    );
    assert_eq!(status(u64::MAX, None)["delay_for"], 365_u64 * 24 * 3_600_000);
    let mut config = config();
    config.delay_unit = DelayUnit::Minutes;
    assert_eq!(reschedule(config, Duration::from_secs(601), None).1["delay_for"], 11);
}

#[test]
fn a_rescheduled_update_is_not_offered_again_too_early() {
    let (mut device, _) = reschedule(config(), Duration::from_secs(600), None);
    device.sends = true;
    for _ in 0..8 {
        device.beat();
    }
    let before = device.statuses().len();
    let out = device.broadcast("update", update());
    assert!(matches!(&events(&out)[..], [Event::UpdateRefused { .. }]));
    let statuses = device.statuses();
    assert_eq!(statuses.len(), before + 1, "no `received`: it counts as an attempt");
    assert_eq!(statuses.last().unwrap()["delay_for"], 600_000 - 8 * 30_000);
    // Another firmware isn't held.
    let mut other = update();
    other["firmware_meta"]["uuid"] = json!("other");
    let out = device.broadcast("update", other);
    assert!(matches!(&events(&out)[..], [Event::UpdateOffered { .. }]));
    let offer = OfferId(
        device
            .events()
            .iter()
            .filter_map(|e| match e {
                Event::UpdateOffered { offer, .. } => Some(offer.0),
                _ => None,
            })
            .max()
            .unwrap(),
    );
    device.command(Command::Decide { offer, decision: Decision::Ignore { reason: String::new() } });
    for _ in 0..12 {
        device.beat();
    }
    device.offer(json!({}));
}

#[test]
fn silence_of_the_application_reschedules() {
    let mut device = Device::joined(config());
    let offer = device.offer(json!({}));
    device.beat();
    device.pass(Duration::from_secs(29));
    assert_eq!(device.link.status().update, UpdateState::Deciding { offer });
    device.pass(Duration::from_secs(1));
    assert_eq!(device.link.status().update, UpdateState::Idle);
    assert_eq!(device.statuses().pop().unwrap()["status"], "rescheduled");
    let late = device.link.command(device.now, Command::Decide { offer, decision: Decision::Apply });
    assert_eq!(late, Err(CommandError::UnknownOffer(offer)));
}

#[test]
fn a_repeated_offer_is_one_question_and_another_firmware_replaces_it() {
    let mut device = Device::joined(config());
    let offer = device.offer(json!({}));
    let mut fresh = update();
    fresh["firmware_url"] = json!("https://files.example/fresh.fw");
    assert_eq!(device.broadcast("update", fresh), []);
    let mut other = update();
    other["firmware_meta"]["uuid"] = json!("other");
    let out = device.broadcast("update", other);
    let Event::UpdateOffered { offer: second, .. } = &events(&out)[0] else { panic!() };
    let old = device.link.command(device.now, Command::Decide { offer, decision: Decision::Apply });
    assert_eq!(old, Err(CommandError::UnknownOffer(offer)));
    device.command(Command::Decide { offer: *second, decision: Decision::Apply });
    assert_eq!(device.link.status().currently_downloading_uuid.as_deref(), Some("other"));
}

/// Puts a device into a situation in which it answers an offer by itself, or just did.
type Situation = fn(&mut Device);

fn obstruct(device: &mut Device) {
    device.command(Command::InstallObstacle { reason: Some("the disk is gone".into()) });
}

fn decide(device: &mut Device, offer: OfferId, decision: Decision) {
    device.command(Command::Decide { offer, decision });
}

#[test]
fn who_hears_of_a_refusal_hears_when_the_next_offer_comes() {
    let offered = |device: &mut Device| drop(device.broadcast("update", update()));
    let table: [(&str, Situation); 9] = [
        ("a firmware that was tried too often", |device| {
            for _ in 0..5 {
                let (offer, _) = device.start(json!({}));
                device.input(Input::ApplyFailed { offer, reason: "bad image" });
            }
        }),
        ("an address that can't be used", |device| {
            let mut update = update();
            update["firmware_url"] = json!("ftp://h/x");
            device.broadcast("update", update);
        }),
        ("silence of the application", |device| {
            device.offer(json!({}));
            device.beat();
            device.pass(Duration::from_secs(30));
        }),
        ("the application asked for a pause", |device| {
            let offer = device.offer(json!({}));
            decide(device, offer, Decision::Reschedule { delay: Duration::from_secs(900), reason: None });
        }),
        ("an obstacle", obstruct),
        ("an obstacle while the application thought", |device| {
            let offer = device.offer(json!({}));
            obstruct(device);
            decide(device, offer, Decision::Apply);
        }),
        ("the window is closed", |device| {
            let mut settings = config();
            let window = Window { day: Weekday::Monday, start_minute: 0, minutes: 1 };
            settings.maintenance = Maintenance { windows: vec![window], ..Maintenance::default() };
            device.command(Command::Reconfigure(Box::new(settings)));
        }),
        ("a failure", |device| {
            let (offer, _) = device.start(json!({}));
            device.input(Input::ApplyFailed { offer, reason: "bad image" });
        }),
        ("a failure while there is an obstacle", |device| {
            let (offer, _) = device.start(json!({}));
            obstruct(device);
            device.input(Input::ApplyFailed { offer, reason: "bad image" });
        }),
    ];
    let mut put_off = Vec::new();
    for (name, situation) in table {
        let mut device = Device::joined(config());
        situation(&mut device);
        offered(&mut device);
        let told = device.events().into_iter().rev().find_map(|event| match event {
            Event::UpdateRefused { reason, retry_in, .. } | Event::UpdateFailed { reason, retry_in, .. } => {
                Some((reason, retry_in))
            }
            _ => None,
        });
        let Some((_, retry_in)) = told else { panic!("{name}: {:?}", device.events()) };
        let answer =
            device.statuses().into_iter().rev().find(|status| status["status"] != "received").unwrap();
        let delay = answer["delay_for"].as_u64().map(u128::from);
        assert_eq!(answer["status"] == "rescheduled", retry_in.is_some(), "{name}: {answer}");
        assert_eq!(delay, retry_in.map(|time| time.as_millis()), "{name}: {answer}");
        put_off.extend(retry_in.map(|_| name));
    }
    assert_eq!(put_off.len(), 6, "{put_off:?}");
}
