//! How often a device tries a firmware, and how it remembers that.

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const DAY: i64 = 24 * 3600;

fn starts(out: &[Output]) -> Vec<(String, u32)> {
    let last = saved(out).pop().expect("nothing was saved");
    last.into_iter().map(|attempt| (attempt.uuid, attempt.starts)).collect()
}

fn attempt(uuid: &str, starts: u32, last: i64) -> Attempt {
    Attempt { uuid: uuid.into(), starts, last: Some(UnixTime(last)) }
}

/// Starts an update and lets the applier fail.
fn fail(device: &mut Device) {
    let (offer, _) = device.start(json!({}));
    device.input(Input::ApplyFailed { offer, reason: "bad image" });
}

#[test]
fn a_start_is_saved_before_the_applier_is_opened() {
    let mut device = Device::joined(config());
    let offer = device.offer(json!({}));
    let out = device.command(Command::Decide { offer, decision: Decision::Apply });
    let at = |wanted: fn(&Output) -> bool| out.iter().position(wanted).unwrap();
    let save = at(|output| matches!(output, Output::SaveAttempts { .. }));
    assert!(save < at(|output| matches!(output, Output::StartApply(_))));
    let seconds = device.now.wall.unwrap().0;
    assert_eq!(saved(&out), [vec![attempt(NEW_UUID, 1, seconds)]]);
}

#[test]
fn an_image_that_fails_again_and_again_is_refused_and_another_is_not() {
    let mut device = Device::joined(config());
    for _ in 0..5 {
        fail(&mut device);
    }
    let before = device.statuses().len();
    let out = device.broadcast("update", update());
    let reason = refusal(&out).unwrap();
    assert!(reason.contains("started 5 times") && reason.chars().count() <= MAX_REASON_CHARS, "{reason}");
    assert_eq!(device.statuses()[before..], [json!({"status": "ignored", "reason": reason})]);
    // A person may try, and so may another firmware.
    let out = device.broadcast("update", {
        let mut by_hand = update();
        by_hand["deployment_id"] = Value::Null;
        by_hand
    });
    assert!(matches!(&events(&out)[..], [Event::UpdateOffered { info, .. }] if info.by_hand));
    let Some(Event::UpdateOffered { offer, .. }) = device.events().pop() else { panic!() };
    device.command(Command::Decide { offer, decision: Decision::Apply });
    device.input(Input::ApplyFailed { offer, reason: "bad image" });
    assert_eq!(starts(&device.out), [(NEW_UUID.to_owned(), 6)]);
    device.offer(json!({"firmware_meta": {"uuid": "other"}}));
}

/// What the next join announces.
fn announced(device: &mut Device) -> Value {
    if device.link.status().connection == ConnectionState::Joined {
        device.down(None);
    }
    device.pass(std::time::Duration::from_secs(1));
    let socket = device.socket();
    device.input(Input::SocketUp { socket, interface: None });
    let join = device.last_sent("phx_join");
    device.join();
    join[4]["fwup_version"].clone()
}

/// A device whose delta could not be applied, and what it remembers.
fn without_deltas() -> (Device, Vec<Attempt>) {
    let mut device = Device::joined(config());
    assert_eq!(announced(&mut device), "1.16.0");
    let (offer, _) = device.start(json!({}));
    let out = device.input(Input::DeltaFailed { offer, reason: "checksum mismatch" });
    let told = |event: &Event| matches!(event, Event::UpdateFailed { reason, .. } if reason.contains("checksum mismatch"));
    assert!(events(&out).iter().any(told), "{out:?}");
    assert_eq!(announced(&mut device), "1.0.0", "a version without deltas");
    // The full image is written.
    let (offer, _) = device.start(json!({}));
    device.input(Input::ApplyDone { offer });
    let remembered = saved(&device.out).pop().unwrap();
    let text = Attempt::list_to_text(&remembered);
    (device, Attempt::list_from_text(&text))
}

#[test]
fn after_a_delta_that_failed_full_images_are_asked_for_until_an_update_succeeded() {
    let (_, remembered) = without_deltas();
    // A restart with the same firmware remembers it.
    let mut config = config();
    config.past_attempts.clone_from(&remembered);
    let mut device = Device::joined(config.clone());
    assert_eq!(announced(&mut device), "1.0.0");
    // The new firmware runs, and isn't known to be good yet.
    config.firmware.uuid = NEW_UUID.into();
    config.firmware_validated = Some(false);
    let mut device = Device::joined(config.clone());
    assert_eq!(announced(&mut device), "1.0.0");
    let out = device.command(Command::FirmwareValidated);
    assert_eq!(saved(&out), [vec![]]);
    assert_eq!(announced(&mut device), "1.16.0");
    // Or it was found good at the start.
    config.firmware_validated = Some(true);
    assert_eq!(announced(&mut Device::joined(config)), "1.16.0");
}

#[test]
fn a_failure_that_a_full_image_would_not_cure_changes_nothing() {
    let mut device = Device::joined(config());
    fail(&mut device);
    assert_eq!(announced(&mut device), "1.16.0");
    // Nor does a firmware that calls itself like the mark.
    let mut config = config();
    config.past_attempts = vec![];
    let mut device = Device::joined(config);
    device.start(json!({"firmware_meta": {"uuid": "no-deltas"}}));
    assert_ne!(starts(&device.out)[0].0, "no-deltas");
}

#[test]
fn the_mark_finds_room_in_a_full_list() {
    let mut config = config();
    config.past_attempts =
        (0..MAX_ATTEMPTS_REMEMBERED).map(|n| attempt(&format!("u{n}"), 1, 1_795_000_000)).collect();
    let mut device = Device::joined(config);
    let (offer, _) = device.start(json!({}));
    let out = device.input(Input::DeltaFailed { offer, reason: "x" });
    let kept = saved(&out).pop().unwrap();
    assert_eq!(kept.len(), MAX_ATTEMPTS_REMEMBERED);
    assert_eq!((kept[0].uuid.as_str(), kept.last().unwrap().uuid.as_str()), ("no-deltas", "u15"));
}

/// The reasons why connections ended.
fn ends(out: &[Output]) -> Vec<String> {
    let reason = |event| match event {
        Event::Disconnected { reason, .. } => Some(reason),
        _ => None,
    };
    events(out).into_iter().filter_map(reason).collect()
}

#[test]
fn after_a_delta_that_failed_the_device_connects_again_once_to_say_so() {
    let mut device = Device::joined(config());
    device.sends = false;
    let (offer, _) = device.start(json!({}));
    device.input(Input::DeltaFailed { offer, reason: "checksum mismatch" });
    assert_eq!(ends(&device.out), [] as [&str; 0], "the failure is reported first");
    assert_eq!(device.statuses().pop().unwrap()["status"], "failed");
    device.sends = true;
    // A socket that never takes the report holds it up for a moment only.
    let out = device.pass(REBOOT_GRACE);
    let reasons = ends(&out);
    assert!(matches!(&reasons[..], [reason] if reason.contains("full images")), "{reasons:?}");
    let waits = events(&out)
        .into_iter()
        .any(|event| matches!(event, Event::Disconnected { retry_in: Some(wait), .. } if !wait.is_zero()));
    assert!(waits, "the ordinary wait between connections");
    assert_eq!(announced(&mut device), "1.0.0");
    // A server that sends another delta all the same is told nothing new.
    device.out.clear();
    let (offer, _) = device.start(json!({}));
    device.input(Input::DeltaFailed { offer, reason: "checksum mismatch" });
    device.pass(REBOOT_GRACE);
    assert_eq!(ends(&device.out), [] as [&str; 0]);
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
}

#[test]
fn the_server_is_asked_for_a_sign_that_it_saw_the_report_which_is_never_sent_twice() {
    let mut device = Device::joined(config());
    let (offer, _) = device.start(json!({}));
    let out = device.input(Input::DeltaFailed { offer, reason: "checksum mismatch" });
    assert_eq!(device.statuses().pop().unwrap()["status"], "failed");
    assert_eq!(ends(&device.out), [] as [&str; 0]);
    let out = [out, device.pass(std::time::Duration::ZERO)].concat();
    let beat =
        sent(&out).into_iter().rfind(|message| message[3] == "heartbeat").expect("a heartbeat at once");
    let out =
        device.server(&json!([null, beat[1], "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    assert_eq!(ends(&out).len(), 1, "no further wait");
    // On the next connection a full image may be offered at once, which the report must not end.
    device.out.clear();
    assert_eq!(announced(&mut device), "1.0.0");
    device.pass(std::time::Duration::ZERO);
    assert_eq!(device.statuses(), [] as [serde_json::Value; 0]);
}

#[test]
fn a_device_that_announces_no_deltas_anyway_stays_connected() {
    for version in ["1.0.0", ""] {
        let mut config = config();
        config.fwup_version = version.into();
        let mut device = Device::joined(config);
        let (offer, _) = device.start(json!({}));
        device.input(Input::DeltaFailed { offer, reason: "checksum mismatch" });
        device.pass(REBOOT_GRACE);
        assert_eq!(ends(&device.out), [] as [&str; 0], "{version:?}");
    }
}

#[test]
fn deltas_that_fail_do_not_use_up_the_starts_of_their_firmware_but_not_without_end() {
    let mut device = Device::joined(config());
    let fail = |device: &mut Device| {
        if device.link.status().connection != ConnectionState::Joined {
            announced(device);
        }
        let (offer, _) = device.start(json!({}));
        device.input(Input::DeltaFailed { offer, reason: "checksum mismatch" });
    };
    for failures in 1..=MAX_DELTA_FAILURES {
        fail(&mut device);
        assert_eq!(starts(&device.out), [("no-deltas".to_owned(), failures)]);
    }
    for counted in 1..=5 {
        fail(&mut device);
        let marks = ("no-deltas".to_owned(), MAX_DELTA_FAILURES + counted);
        assert_eq!(starts(&device.out), [marks, (NEW_UUID.to_owned(), counted)]);
    }
    assert!(refusal(&device.broadcast("update", update())).is_some());
}

#[test]
fn the_applier_is_told_what_it_installs() {
    let mut device = Device::joined(config());
    device.start(json!({"size": 1234}));
    let start = device.out.iter().rev().find_map(|output| match output {
        Output::StartApply(start) => Some(start.clone()),
        _ => None,
    });
    let start = start.unwrap();
    assert_eq!((start.uuid.as_str(), start.size), (NEW_UUID, Some(1234)));
    assert!(!start.version.is_empty());
}

#[test]
fn a_server_that_does_not_say_who_pushes_gets_no_exception() {
    let mut device = Device::joined(config());
    for _ in 0..5 {
        fail(&mut device);
    }
    let mut unsaid = update();
    unsaid.as_object_mut().unwrap().remove("deployment_id");
    assert!(refusal(&device.broadcast("update", unsaid)).is_some());
}

#[test]
fn attempts_survive_a_restart_and_end_when_the_firmware_proved_good() {
    let old = |starts| vec![attempt("older", 2, WALL), attempt(NEW_UUID, starts, WALL)];
    let mut config = config();
    config.past_attempts = old(5);
    let mut device = Device::joined(config.clone());
    assert!(refusal(&device.broadcast("update", update())).is_some(), "remembered");
    // The new firmware runs, but isn't known to be good: an image that falls back again must not be forgotten.
    config.firmware.uuid = NEW_UUID.into();
    config.firmware_validated = Some(false);
    let mut device = Device::new(config.clone());
    assert_eq!(saved(&device.drain()), [] as [Vec<Attempt>; 0]);
    let out = device.command(Command::FirmwareValidated);
    assert_eq!(saved(&out), [vec![attempt("older", 2, WALL)]]);
    // Where it is good, or nobody can tell, running is success.
    for validated in [None, Some(true)] {
        config.firmware_validated = validated;
        let mut device = Device::new(config.clone());
        assert_eq!(saved(&device.drain()), [vec![attempt("older", 2, WALL)]]);
    }
}

#[test]
fn a_crash_during_the_update_counts() {
    let mut config = config();
    for expected in 1..=5 {
        let mut device = Device::joined(config.clone());
        device.start(json!({}));
        assert_eq!(starts(&device.out), [(NEW_UUID.to_owned(), expected)]);
        // The power goes; the next machine gets what was saved.
        config.past_attempts = saved(&device.out).pop().unwrap();
    }
    let mut device = Device::joined(config);
    assert!(refusal(&device.broadcast("update", update())).is_some());
}

#[test]
fn a_download_that_never_began_is_no_fault_of_the_image() {
    let mut device = Device::joined(config());
    for _ in 0..10 {
        device.start(json!({}));
        device.head(404, &[]);
        assert_eq!(starts(&device.out), []);
    }
    // With the first byte it counts, whatever ends it.
    device.start(json!({}));
    device.head(200, &[("content-length", "1000")]);
    device.chunk(&[0; 10]);
    device.head(200, &[]);
    let fetch = device.fetch().fetch;
    device.link.body(device.now, fetch, &[0; 2000]);
    device.drain();
    assert!(device.failure().contains("more than"));
    assert_eq!(starts(&device.out), [(NEW_UUID.to_owned(), 1)]);
}

#[test]
fn old_attempts_are_forgotten_by_age_and_by_number() {
    let mut config = config();
    config.past_attempts = vec![attempt(NEW_UUID, 5, WALL - 7 * DAY + 1)];
    let mut device = Device::joined(config.clone());
    assert!(refusal(&device.broadcast("update", update())).is_some());
    config.past_attempts = vec![attempt(NEW_UUID, 5, WALL - 7 * DAY)];
    let mut device = Device::joined(config.clone());
    assert_eq!(refusal(&device.broadcast("update", update())), None);
    assert_eq!(starts(&device.out), []);
    // Without a time nothing is forgotten by age.
    config.past_attempts = vec![Attempt { uuid: NEW_UUID.into(), starts: 5, last: None }];
    let mut device = Device::joined(config.clone());
    assert!(refusal(&device.broadcast("update", update())).is_some());
    config.past_attempts = vec![attempt(NEW_UUID, 5, 0)];
    let mut device = Device::new(config.clone());
    device.now.wall = None;
    device.connect();
    device.join();
    assert!(refusal(&device.broadcast("update", update())).is_some());
    // As many as fit, and one more.
    let many = |count: usize| (0..count).map(|n| attempt(&format!("u{n}"), 1, WALL)).collect::<Vec<_>>();
    config.past_attempts = many(MAX_ATTEMPTS_REMEMBERED);
    let mut device = Device::joined(config.clone());
    fail(&mut device);
    let kept = starts(&device.out);
    assert_eq!(kept.len(), MAX_ATTEMPTS_REMEMBERED);
    assert_eq!((kept[0].0.as_str(), kept[MAX_ATTEMPTS_REMEMBERED - 1].0.as_str()), ("u1", NEW_UUID));
    config.past_attempts = many(MAX_ATTEMPTS_REMEMBERED + 1);
    let mut device = Device::joined(config);
    fail(&mut device);
    assert_eq!(starts(&device.out)[0].0, "u2");
}

#[test]
fn a_limit_of_zero_means_none() {
    let mut config = config();
    config.attempts.limit = 0;
    config.past_attempts = vec![attempt(NEW_UUID, 1000, WALL)];
    let mut device = Device::joined(config);
    device.offer(json!({}));
}

#[test]
fn attempts_are_written_as_a_line_and_read_back_whatever_it_holds() {
    let list = vec![attempt(NEW_UUID, 3, WALL), Attempt { uuid: "u".into(), starts: 1, last: None }];
    let text = Attempt::list_to_text(&list);
    assert_eq!(text, format!("{NEW_UUID}:3:{WALL} u:1:"));
    assert_eq!(Attempt::list_from_text(&text), list);
    assert_eq!(Attempt::list_from_text(""), []);
    let damaged = "a:1: :2: b c:x: d:0: e:1:y f:1:2:3 \u{e4}:1: g:2:-5 h:99999999999: \0";
    assert_eq!(
        Attempt::list_from_text(damaged),
        [
            Attempt { uuid: "a".into(), starts: 1, last: None },
            Attempt { uuid: "g".into(), starts: 2, last: Some(UnixTime(-5)) },
        ]
    );
    let many = "a:1: ".repeat(MAX_ATTEMPTS_REMEMBERED + 1);
    assert_eq!(Attempt::list_from_text(&many).len(), MAX_ATTEMPTS_REMEMBERED);
    // A UUID from the server that would break the line is remembered by its digest, and recognised.
    for odd in ["a b", "x:1", "", "\u{e4}", &"u".repeat(65)] {
        let mut device = Device::joined(config());
        for _ in 0..5 {
            let (offer, _) = device.start(json!({"firmware_meta": {"uuid": odd}}));
            device.input(Input::ApplyFailed { offer, reason: "x" });
        }
        let list = saved(&device.out).pop().unwrap();
        assert_eq!(Attempt::list_from_text(&Attempt::list_to_text(&list)), list);
        let mut again = update();
        again["firmware_meta"]["uuid"] = json!(odd);
        assert!(refusal(&device.broadcast("update", again)).is_some(), "{odd}");
    }
}
