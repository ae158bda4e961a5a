//! Bad input of every kind: each has its named outcome, and an update under way goes on whatever comes.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

/// What a bad message leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// `Event::Unknown`.
    Unknown,
    /// `Event::Malformed`.
    Malformed,
    /// Dropped and counted.
    Stale,
    /// An offer during an update, counted as such.
    Ignored,
}

/// Bad messages, and what comes of each while an update is downloaded.
fn table() -> Vec<(&'static str, String, Outcome)> {
    use Outcome::{Ignored, Malformed, Stale, Unknown};
    let device = |event: &str, payload: Value| json!([null, null, "device", event, payload]).to_string();
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    vec![
        ("an unknown topic", json!([null, null, "weather", "rain", {}]).to_string(), Unknown),
        (
            "a topic joined by nobody",
            json!([null, null, "console", "dn", {"data": "x"}]).to_string(),
            Unknown,
        ),
        ("an unknown event", device("dance", json!({"with": [1, null]})), Unknown),
        ("an empty event", device("", json!({})), Unknown),
        ("the device's own event", device("status_update", json!({"status": "completed"})), Unknown),
        ("an update of another type", device("update", json!([1])), Ignored),
        ("a second update", device("update", update()), Ignored),
        ("keys of another type", device("fwup_public_keys", json!({"keys": "x"})), Malformed),
        ("no keys", device("fwup_public_keys", json!({"keys": []})), Malformed),
        ("keys of null", device("fwup_public_keys", Value::Null), Malformed),
        ("a script of another type", device("scripts/run", json!({"ref": {}, "text": 5})), Malformed),
        ("a mode of another type", device("update_mode", json!("off")), Malformed),
        ("keys that are no text", device("fwup_public_keys", json!({"keys": [5, null, {}]})), Malformed),
        ("keys for archives of another type", device("archive_public_keys", json!({"keys": 7})), Malformed),
        ("an archive of another type", device("archive", json!("x")), Malformed),
        ("an archive without an address", device("archive", json!({"uuid": "x", "url": null})), Malformed),
        (
            "a second answer to the join",
            json!(["1", "1", "device", "phx_reply", {"status": "ok"}]).to_string(),
            Stale,
        ),
        ("deep nesting", format!(r#"[null,null,"device","fwup_public_keys",{deep}]"#), Malformed),
        ("no JSON", "{".to_owned(), Malformed),
        ("no list", r#"{"topic":"device"}"#.to_owned(), Malformed),
        ("four elements", r#"[null,null,"device","identify"]"#.to_owned(), Malformed),
        ("a topic of another type", r#"[null,null,7,"identify",{}]"#.to_owned(), Malformed),
        ("an event of null", r#"[null,null,"device",null,{}]"#.to_owned(), Malformed),
        (
            "a reply to nothing",
            json!([null, "4711", "device", "phx_reply", {"status": "ok", "response": {}}]).to_string(),
            Stale,
        ),
        (
            "a reply to nobody",
            json!(["4711", "4711", "device", "phx_reply", {"status": "ok", "response": {}}]).to_string(),
            Stale,
        ),
        ("an earlier join's end", json!(["4711", "4711", "device", "phx_close", {}]).to_string(), Stale),
        ("an earlier join's crash", json!(["4711", "4711", "device", "phx_error", {}]).to_string(), Stale),
        ("an answer nobody waits for", device("update_available", json!({"available": true})), Stale),
        ("a rejection nobody waits for", device("update_rejected", json!({"reason": "busy"})), Stale),
    ]
}

fn outcome(before: Counters, after: Counters, events: &[Event]) -> Outcome {
    let unknown = events.iter().any(|event| matches!(event, Event::Unknown { .. }));
    let malformed = events.iter().any(|event| matches!(event, Event::Malformed { .. }));
    let grew = [
        after.unknown_events - before.unknown_events,
        after.malformed_messages - before.malformed_messages,
        after.stale_messages - before.stale_messages,
        after.ignored_offers - before.ignored_offers,
    ];
    match (grew, unknown, malformed) {
        ([1, 0, 0, 0], true, false) => Outcome::Unknown,
        ([0, 1, 0, 0], false, true) => Outcome::Malformed,
        ([0, 0, 1, 0], false, false) => Outcome::Stale,
        ([0, 0, 0, 1], false, false) => Outcome::Ignored,
        other => panic!("counters and events disagree: {other:?}"),
    }
}

#[test]
fn every_bad_input_has_its_outcome_and_the_update_goes_on() {
    let mut device = Device::joined(config());
    let (offer, _) = device.start(json!({}));
    device.head(200, &[("Content-Length", "1000")]);
    device.chunk(&[1; 400]);
    let socket = device.socket();
    let sent = device.sent().len();
    for (what, text, expected) in table() {
        let before = device.link.status().counters;
        let out = device.input(Input::SocketText { socket, text: &text });
        assert_eq!(outcome(before, device.link.status().counters, &events(&out)), expected, "{what}");
        assert_eq!(device.link.status().connection, ConnectionState::Joined, "{what}");
        let updating = matches!(device.link.status().update, UpdateState::Downloading { received: 400, .. });
        assert!(updating, "{what}: {:?}", device.link.status().update);
    }
    assert_eq!(device.sent().len(), sent, "something bad was answered");
    device.chunk(&[2; 600]);
    device.end();
    let out = device.input(Input::ApplyDone { offer });
    assert!(events(&out).contains(&Event::UpdateCompleted { offer }));
}

#[test]
fn every_bad_input_is_survived_before_the_join_and_while_offline() {
    for (what, text, _) in table() {
        let mut device = Device::new(config());
        let socket = device.connect();
        device.input(Input::SocketText { socket, text: &text });
        device.join();
        assert_eq!(device.link.status().connection, ConnectionState::Joined, "{what}");
        device.down(None);
        let before = device.link.status().counters.stale_inputs;
        device.input(Input::SocketText { socket, text: &text });
        assert_eq!(device.link.status().counters.stale_inputs, before + 1, "{what}");
    }
}

#[test]
fn a_reply_with_an_unknown_status_refuses_the_join_and_it_is_tried_again() {
    for status in [json!("maybe"), json!(""), json!(5), Value::Null] {
        let mut device = Device::new(config());
        device.connect();
        let join = device.last_sent("phx_join");
        device.server(&json!([join[0], join[1], "device", "phx_reply", {"status": status, "response": {}}]));
        assert_ne!(device.link.status().connection, ConnectionState::Joined, "{status}");
        // Refused at once, or given up as unanswered when the reply can't be read.
        for _ in 0..20 {
            if device.last_sent("phx_join")[1] == join[1] {
                device.pass(Duration::from_secs(1));
            }
        }
        assert_ne!(device.last_sent("phx_join")[1], join[1], "{status}");
        device.join();
        assert_eq!(device.link.status().connection, ConnectionState::Joined, "{status}");
    }
}

#[test]
fn a_join_is_answered_once() {
    let mut device = Device::new(config());
    device.connect();
    device.join();
    let out = device.join();
    assert_eq!(out, []);
    assert_eq!(device.link.status().counters.stale_messages, 1);
    // Nor does a late refusal take it back.
    let join = device.last_sent("phx_join");
    let out =
        device.server(&json!([join[0], join[1], "device", "phx_reply", {"status": "error", "response": {}}]));
    assert_eq!(out, []);
    assert_eq!(device.link.status().counters.stale_messages, 2);
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
}

#[test]
fn huge_numbers_are_refused_or_belong_to_nobody() {
    let mut device = Device::joined(config());
    let socket = device.socket();
    for number in ["18446744073709551616", "1e30", "-9223372036854775809", "0.5"] {
        let text = format!(r#"["{number}",{number},"device","phx_reply",{{"status":"ok","response":{{}}}}]"#);
        device.input(Input::SocketText { socket, text: &text });
        assert_eq!(device.link.status().connection, ConnectionState::Joined, "{number}");
    }
    let counters = device.link.status().counters;
    assert_eq!(counters.stale_messages + counters.malformed_messages, 4);
    // A size that no disk has is refused with its reason.
    let mut huge = update();
    huge["size"] = json!(u64::MAX);
    device.broadcast("update", huge);
    let status = device.statuses().pop().unwrap();
    assert_eq!(status["status"], "failed");
    assert!(status["reason"].as_str().unwrap().contains("18446744073709551615 bytes"), "{status}");
    // So is one that is no number of bytes.
    for number in ["18446744073709551616", "-1", "1.5", "1e300", "0", "-9223372036854775809", "-0.0"] {
        let text = json!([null, null, "device", "update", update()]).to_string();
        let text = text.replace(&format!("\"size\":{}", update()["size"]), &format!("\"size\":{number}"));
        let out = device.input(Input::SocketText { socket, text: &text });
        let refused = events(&out).into_iter().find_map(|event| match event {
            Event::UpdateRefused { reason, .. } => Some(reason),
            _ => None,
        });
        let reason = refused.unwrap_or_else(|| panic!("{number} is offered: {out:?}"));
        assert!(reason.contains("the server announced a file of"), "{number}: {reason}");
    }
}

#[test]
fn keys_of_a_wrong_length_are_counted_and_the_others_used() {
    let mut device = Device::joined(config());
    let other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let keys = json!({"keys": ["", "AAAA", "not base64!", format!("{other}AA"), other, 5, null]});
    let out = device.broadcast("fwup_public_keys", keys);
    assert!(events(&out).contains(&Event::PublicKeysReceived { count: 1 }));
    assert_eq!(device.link.status().counters.unusable_keys, 6);
    let (_, _) = device.start(json!({}));
    let keys = device.out.iter().find_map(|output| match output {
        Output::StartApply(start) => Some(start.public_keys.clone()),
        _ => None,
    });
    assert_eq!(keys.unwrap(), [other]);
}
