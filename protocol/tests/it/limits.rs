//! Each bound that a peer can reach: at it, and one past it.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::json;

fn text(device: &mut Device, text: &str) -> Vec<Event> {
    let socket = device.socket();
    events(&device.input(Input::SocketText { socket, text }))
}

fn padded(length: usize) -> String {
    let head = "[null,null,\"device\",\"identify\",{\"pad\":\"";
    let tail = "\"}]";
    format!("{head}{}{tail}", "x".repeat(length - head.len() - tail.len()))
}

#[test]
fn a_message_may_be_as_long_as_the_limit() {
    let mut device = Device::joined(config());
    assert_eq!(text(&mut device, &padded(MAX_MESSAGE_BYTES)), [Event::Identify]);
    assert!(matches!(&text(&mut device, &padded(MAX_MESSAGE_BYTES + 1))[..], [Event::Malformed { .. }]));
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
}

#[test]
fn a_payload_may_be_as_long_as_the_limit() {
    let payload = |length: usize| {
        let keys = json!({"keys": [KEY], "pad": ""}).to_string();
        format!(
            "[null,null,\"device\",\"fwup_public_keys\",{}]",
            keys.replace("\"pad\":\"\"", &format!("\"pad\":\"{}\"", "x".repeat(length - keys.len())))
        )
    };
    let mut device = Device::joined(config());
    assert_eq!(text(&mut device, &payload(MAX_PAYLOAD_BYTES)), [Event::PublicKeysReceived { count: 1 }]);
    assert!(matches!(&text(&mut device, &payload(MAX_PAYLOAD_BYTES + 1))[..], [Event::Malformed { .. }]));
}

#[test]
fn deep_nesting_neither_overflows_nor_disconnects() {
    let mut device = Device::joined(config());
    for depth in [10, 127, 128, 1000, 1_000_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for event in ["archive", "update", "fwup_public_keys", "phx_reply", "phx_error"] {
            text(&mut device, &format!("[null,\"1\",\"device\",\"{event}\",{deep}]"));
        }
        text(&mut device, &deep);
        text(
            &mut device,
            &format!("[null,\"1\",\"device\",\"phx_reply\",{{\"status\":\"ok\",\"response\":{deep}}}]"),
        );
    }
    assert!(device.link.status().connection >= ConnectionState::Connected);
}

#[test]
fn names_and_texts_of_peers_are_cut() {
    let mut device = Device::joined(config());
    let name = "ä".repeat(MAX_NAME_CHARS);
    let known = text(&mut device, &json!([null, null, name, name, {}]).to_string());
    assert_eq!(known, [Event::Unknown { topic: name.clone(), event: name.clone() }]);
    let long = format!("{name}b");
    let cut = format!("{}…", "ä".repeat(MAX_NAME_CHARS - 1));
    let known = text(&mut device, &json!([null, null, long, long, {}]).to_string());
    assert_eq!(known, [Event::Unknown { topic: cut.clone(), event: cut }]);

    let mut device = Device::new(config());
    let socket = device.dialled(Command::Connect);
    device.input(Input::SocketUp { socket, interface: Some(&long) });
    let refused = json!(["1", "1", "device", "phx_reply", {"status": "error", "response": {"reason": "r".repeat(1000)}}]);
    let out = device.server(&refused);
    assert!(
        matches!(&events(&out)[..], [Event::JoinRefused { reason, .. }] if reason.chars().count() == MAX_TEXT_CHARS)
    );
    device.pass(Duration::from_secs(5));
    device.join();
    assert_eq!(
        device.last_sent("report_network_interface")[4]["interface"].as_str().unwrap().chars().count(),
        MAX_NAME_CHARS
    );
}

#[test]
fn metadata_is_cut() {
    let mut device = Device::joined(config());
    for (length, kept) in [(MAX_META_CHARS, MAX_META_CHARS), (MAX_META_CHARS + 1, MAX_META_CHARS)] {
        let mut update = update();
        update["firmware_meta"]["description"] = json!("d".repeat(length));
        update["firmware_meta"]["uuid"] = json!(length.to_string());
        device.broadcast("update", update);
        let Some(Event::UpdateOffered { info, .. }) = device.events().pop() else { panic!() };
        assert_eq!(info.firmware.description.unwrap().chars().count(), kept);
    }
}

#[test]
fn reasons_are_cut_where_servers_cut_them() {
    let mut device = Device::joined(config());
    for (length, kept) in [(MAX_REASON_CHARS, MAX_REASON_CHARS), (MAX_REASON_CHARS + 1, MAX_REASON_CHARS)] {
        let offer = device.offer(json!({}));
        let reason = "ü".repeat(length);
        device.command(Command::Decide { offer, decision: Decision::Ignore { reason } });
        assert_eq!(device.statuses().pop().unwrap()["reason"].as_str().unwrap().chars().count(), kept);
    }
}

#[test]
fn keys_are_held_up_to_the_limit() {
    let mut device = Device::joined(config());
    for (sent, held) in [(MAX_PUBLIC_KEYS, MAX_PUBLIC_KEYS), (MAX_PUBLIC_KEYS + 1, MAX_PUBLIC_KEYS)] {
        let out = device.broadcast("fwup_public_keys", json!({"keys": vec![KEY; sent]}));
        assert_eq!(events(&out), [Event::PublicKeysReceived { count: held }]);
    }
    assert_eq!(device.link.status().counters.unusable_keys, 1);
}

#[test]
fn sends_in_flight_are_bounded_per_socket() {
    let mut device = Device::new(config());
    device.sends = false;
    device.connect();
    device.join();
    // The join and the interface are out.
    let mut flying = 2;
    for _ in 0..20 {
        let offer = device.offer(json!({}));
        device.command(Command::Decide { offer, decision: Decision::Ignore { reason: String::new() } });
    }
    assert_eq!(device.sent().len(), usize::try_from(SEND_CREDIT).unwrap());
    let socket = device.socket();
    while flying < 42 {
        let before = device.sent().len();
        device.input(Input::SocketSent { socket, frames: 1 });
        flying += 1;
        assert!(device.sent().len() <= before + 1);
    }
    assert_eq!(device.sent().len(), 42);
    // Reporting more than was sent gives no more credit.
    device.input(Input::SocketSent { socket, frames: u32::MAX });
    for _ in 0..20 {
        device.offer_and_ignore();
    }
    assert_eq!(device.sent().len(), 42 + usize::try_from(SEND_CREDIT).unwrap());
}

#[test]
fn a_socket_that_takes_nothing_is_given_up() {
    let mut config = config();
    config.heartbeat = Duration::ZERO;
    let mut device = Device::new(config);
    device.sends = false;
    let socket = device.connect();
    device.join();
    assert_eq!(device.link.deadline().unwrap().why, Timer::Send);
    device.pass(SEND_TIMEOUT.saturating_sub(Duration::from_millis(1)));
    assert_eq!(device.socket(), socket);
    let out = device.pass(Duration::from_millis(1));
    assert!(matches!(out[0], Output::HangUp { .. }));
}

#[test]
fn held_reports_are_bounded_and_the_newest_stay() {
    let held = |count: usize| {
        let mut device = Device::new(config());
        device.connect();
        device.join();
        device.sends = false;
        let fill = usize::try_from(SEND_CREDIT).unwrap() / 2;
        for _ in 0..fill {
            device.offer_and_ignore();
        }
        for number in 0..count {
            let offer = device.offer(json!({}));
            let reason = number.to_string();
            device.command(Command::Decide { offer, decision: Decision::Ignore { reason } });
        }
        let dropped = device.link.status().counters.dropped_pushes;
        device.sends = true;
        let socket = device.socket();
        device.input(Input::SocketSent { socket, frames: SEND_CREDIT });
        (dropped, device.statuses().pop().unwrap())
    };
    // Each offer makes two reports, of which `received` gives way first.
    assert_eq!(held(MAX_HELD_PUSHES / 2), (0, json!({"status": "ignored", "reason": "31"})));
    let (dropped, last) = held(MAX_HELD_PUSHES / 2 + 1);
    assert_eq!((dropped, &last["reason"]), (2, &json!("32")));
    let (dropped, last) = held(MAX_HELD_PUSHES * 2);
    assert_eq!((dropped, &last["reason"]), (192, &json!("127")));
}

#[test]
fn a_caller_that_never_polls_loses_the_connection_not_the_memory() {
    let mut device = Device::joined(config());
    let socket = device.socket();
    for _ in 0..10 * MAX_OUTPUTS {
        device
            .link
            .handle(device.now, Input::SocketText { socket, text: "[null,null,\"device\",\"identify\",{}]" });
    }
    assert_eq!(device.link.command(device.now, Command::Reconnect), Err(CommandError::Undrained));
    let out = device.drain();
    assert_eq!(events(&out).iter().filter(|event| **event == Event::Identify).count(), MAX_OUTPUTS);
    assert_eq!(out.len(), MAX_OUTPUTS + 2);
    assert!(matches!(out[MAX_OUTPUTS], Output::HangUp { .. }));
    device.come_back_after(1);
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
}

#[test]
fn timers_do_not_pile_orders_up_either() {
    let mut device = Device::new(config());
    device.link.command(device.now, Command::Connect).unwrap();
    for socket in 0..10_000 {
        device.now.mono = device.now.mono + Duration::from_secs(100);
        device.link.handle(device.now, Input::Tick);
        device
            .link
            .handle(device.now, Input::SocketDown { socket: SocketId(socket), code: None, reason: "" });
    }
    let out = device.drain();
    assert!(out.len() <= MAX_OUTPUTS + 8, "{}", out.len());
    device.pass(Duration::from_secs(200));
    assert!(matches!(device.out.last(), Some(Output::Dial(_) | Output::Event(_))));
}

#[test]
fn the_newest_answers_to_pushes_are_told_from_others() {
    // So many pushes stay unanswered; then the server answers the oldest or the one after it.
    let detached = |unanswered: usize, answered: usize| {
        let mut config = config();
        config.extensions = no_extensions();
        let versions = vec!["1.0.0".to_owned()];
        config.extensions.third_party = vec![ThirdPartyExtension { name: "weather".into(), versions }];
        let mut device = Device::attached(config, json!(["weather"]));
        let first = device.sent().len();
        for _ in 0..unanswered {
            let (name, event, payload) = ("weather".into(), "report".into(), "{}".into());
            device.command(ExtensionCommand::Push { name, event, payload }.into());
        }
        let push = device.sent()[first + answered].clone();
        let error = json!({"status": "error", "response": "detach"});
        device.server(&json!([push[0], push[1], "extensions", "phx_reply", error]));
        !device.link.extensions()[0].attached
    };
    assert!(detached(MAX_TAGS, 0), "at the limit the oldest is known");
    assert!(!detached(MAX_TAGS + 1, 0), "past it, it is forgotten");
    assert!(detached(MAX_TAGS + 1, 1));
}

#[test]
fn progress_waits_for_its_interval_to_the_millisecond() {
    for (wait, reported) in
        [(PROGRESS_INTERVAL.saturating_sub(Duration::from_millis(1)), false), (PROGRESS_INTERVAL, true)]
    {
        let mut device = Device::joined(config());
        let (offer, _) = device.start(json!({"size": 100}));
        device.head(200, &[]);
        device.input(Input::ApplyProgress { offer, percent: 10 });
        let before = device.sent().len();
        device.pass(wait);
        device.input(Input::ApplyProgress { offer, percent: 20 });
        let said = device.sent()[before..].iter().filter(|message| message[3] == "fwup_progress").count();
        assert_eq!(said, usize::from(reported), "after {wait:?}");
    }
}

#[test]
fn what_derives_a_key_is_bounded() {
    let made = |iterations: u32, key_length: u32| {
        let mut config = config();
        let Auth::SharedSecret(secret) = &mut config.auth else { panic!() };
        (secret.iterations, secret.key_length) = (iterations, key_length);
        Link::new(config, 0, Now::default()).err()
    };
    assert_eq!(made(MAX_KEY_ITERATIONS, MAX_KEY_LENGTH), None);
    assert_eq!(made(MAX_KEY_ITERATIONS + 1, 32), Some(ConfigError::KeyDerivation));
    assert_eq!(made(1000, MAX_KEY_LENGTH + 1), Some(ConfigError::KeyDerivation));
}
