//! MessagePack instead of JSON: the same device, other bytes.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::MAX_MESSAGE_BYTES;
use nerves_hub_link_protocol::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn binary() -> Config {
    let mut config = config();
    config.serializer = Serializer::MsgPack;
    config
}

#[test]
fn a_device_joins_and_updates_in_messagepack() {
    let mut device = Device::new(binary());
    device.connect();
    assert_eq!(device.dial().url, "wss://hub.example/device-socket/websocket?vsn=3.0.0");
    device.join();
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
    device.start(json!({"size": 4}));
    device.head(200, &[]);
    device.chunk(b"abcd");
    device.end();
    let texts = device.out.iter().filter(|output| matches!(output, Output::Send { .. })).count();
    assert_eq!(texts, 0);
    let statuses: Vec<Value> = device.statuses().iter().map(|status| status["status"].clone()).collect();
    assert_eq!(statuses, ["received", "started"]);
}

#[test]
fn a_server_without_it_is_spoken_to_in_json_for_ever_after() {
    let mut device = Device::new(binary());
    device.command(Command::Connect);
    let socket = device.socket();
    let out = device.input(Input::SocketRefused { socket, status: 403, headers: &[], body: b"" });
    assert!(matches!(&events(&out)[0], Event::Refused { explanation, .. } if explanation.contains("JSON")));
    device.pass(Duration::from_secs(1));
    assert_eq!(device.dial().url, "wss://hub.example/device-socket/websocket?vsn=2.0.0");
    let socket = device.socket();
    device.input(Input::SocketUp { socket, interface: None });
    device.join();
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
    assert!(!device.out.iter().any(|output| matches!(output, Output::SendBinary { .. })));
    device.dialled(Command::Reconnect);
    assert!(device.dial().url.ends_with("vsn=2.0.0"));
    // Another refusal is nothing new.
    let socket = device.socket();
    let out = device.input(Input::SocketRefused { socket, status: 403, headers: &[], body: b"" });
    assert!(matches!(&events(&out)[0], Event::Refused { explanation, .. } if !explanation.contains("JSON")));
}

#[test]
fn other_refusals_change_nothing() {
    for status in [401, 404, 429, 500, 503] {
        let mut device = Device::new(binary());
        device.command(Command::Connect);
        let socket = device.socket();
        device.input(Input::SocketRefused { socket, status, headers: &[], body: b"" });
        device.pass(Duration::from_secs(1));
        assert_ne!(device.socket(), socket);
        assert!(device.dial().url.ends_with("vsn=3.0.0"), "{status}");
    }
}

#[test]
fn a_redirect_keeps_the_version() {
    let mut device = Device::new(binary());
    device.command(Command::Connect);
    let socket = device.socket();
    let headers = [("location", "wss://other.example/device-socket/websocket")];
    device.input(Input::SocketRefused { socket, status: 307, headers: &headers, body: b"" });
    assert_eq!(device.dial().url, "wss://other.example/device-socket/websocket?vsn=3.0.0");
}

#[test]
fn a_status_that_must_arrive_outlives_the_change_of_language() {
    let mut device = Device::joined(binary());
    device.offer_and_ignore();
    device.down(None);
    device.pass(Duration::from_secs(1));
    let socket = device.socket();
    device.input(Input::SocketRefused { socket, status: 403, headers: &[], body: b"" });
    device.out.clear();
    device.come_back_after(2);
    assert_eq!(device.statuses(), [json!({"status": "ignored", "reason": ""})]);
    assert!(!device.out.iter().any(|output| matches!(output, Output::SendBinary { .. })));
}

#[test]
fn text_is_refused_and_forgotten() {
    let mut device = Device::joined(binary());
    let socket = device.socket();
    let text = r#"[null,null,"device","identify",{}]"#;
    let out = device.input(Input::SocketText { socket, text });
    assert!(matches!(&events(&out)[..], [Event::Malformed { reason }] if reason.contains("MessagePack")));
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
}

#[test]
fn a_message_may_be_as_long_as_the_limit() {
    let mut device = Device::joined(binary());
    let socket = device.socket();
    let mut message = |length: usize| {
        let mut data = rmp_serde::to_vec(&json!([null, null, "device", "identify", null])).unwrap();
        data.pop();
        data.push(0xdb);
        let text = length - data.len() - 4;
        data.extend(u32::try_from(text).unwrap().to_be_bytes());
        data.resize(length, b'x');
        events(&device.input(Input::SocketBinary { socket, data: &data }))
    };
    assert_eq!(message(MAX_MESSAGE_BYTES), [Event::Identify]);
    assert!(matches!(&message(MAX_MESSAGE_BYTES + 1)[..], [Event::Malformed { .. }]));
}

/// What a server may say; `None` is a second that passes.
fn scripts() -> impl Strategy<Value = Vec<Option<Value>>> {
    let payload = prop_oneof![
        Just(json!({})),
        Just(json!({"keys": [KEY, 5, "x"]})),
        Just(json!({"status": "ok", "response": {}})),
        Just(json!({"status": "error", "response": {"reason": "unmatched topic"}})),
        Just(json!({"status": "error", "response": [1, 2.5, null]})),
        Just(json!({"mode": "off", "reason": "busy", "delay_for": 5, "ref": "x", "text": "y"})),
        Just(json!("text")),
        Just(json!(null)),
        any::<i64>().prop_map(|size| {
            let mut update = update();
            update["size"] = json!(size);
            update
        }),
        any::<String>().prop_map(|text| json!({ text: [true, {"reason": "a"}] })),
    ];
    let event = prop_oneof![
        Just("update"),
        Just("phx_reply"),
        Just("phx_error"),
        Just("phx_close"),
        Just("fwup_public_keys"),
        Just("identify"),
        Just("reboot"),
        Just("update_mode"),
        Just("update_available"),
        Just("update_rejected"),
        Just("scripts/run"),
        Just("archive"),
    ];
    let reference = || prop_oneof![2 => Just(Value::Null), 3 => (1_u64..6).prop_map(|n| json!(n.to_string())), 1 => any::<i64>().prop_map(Value::from)];
    let topic = prop_oneof![6 => Just("device"), 1 => Just("phoenix"), 1 => Just("console")];
    let message = (reference(), reference(), topic, event, payload)
        .prop_map(|(join, number, topic, event, payload)| json!([join, number, topic, event, payload]));
    proptest::collection::vec(prop_oneof![5 => message.prop_map(Some), 1 => Just(None)], 0..30)
}

/// Outputs with messages in place of bytes, and addresses without version.
fn neutral(out: &[Output]) -> Vec<String> {
    out.iter()
        .map(|output| match output {
            Output::Send { .. } | Output::SendBinary { .. } => {
                format!("{}", sent(std::slice::from_ref(output))[0])
            }
            // The codecs have words of their own for what they can't read.
            Output::Event(Event::Malformed { .. }) => String::from("malformed"),
            other => format!("{other:?}").replace("vsn=3.0.0", "vsn=2.0.0"),
        })
        .collect()
}

fn run(config: Config, script: &[Option<Value>]) -> (Vec<String>, Counters) {
    let mut device = Device::joined(config);
    for step in script {
        match step {
            Some(message) => {
                device.server(message);
            }
            None => {
                device.pass(Duration::from_secs(1));
            }
        }
        if let Some(Event::UpdateOffered { offer, .. }) = device.events().last() {
            let _ =
                device.link.command(device.now, Command::Decide { offer: *offer, decision: Decision::Apply });
            device.drain();
        }
    }
    (neutral(&device.out), device.link.status().counters)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_drive_the_machine_alike(script in scripts()) {
        prop_assert_eq!(run(config(), &script), run(binary(), &script));
    }

    #[test]
    fn no_bytes_cost_the_connection(messages in proptest::collection::vec(any::<Vec<u8>>(), 0..20)) {
        let mut device = Device::joined(binary());
        let socket = device.socket();
        for data in &messages {
            device.input(Input::SocketBinary { socket, data });
            let mut framed = vec![0x95, 0xc0, 0xc0, 0xa6];
            framed.extend(b"device\xa6update");
            framed.extend(data);
            device.input(Input::SocketBinary { socket, data: &framed });
        }
        prop_assert_eq!(device.link.status().connection, ConnectionState::Joined);
    }
}
