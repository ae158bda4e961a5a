//! Extensions of the application's own: what passes through, and how much of it (device-protocol §5.1, A3).

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

fn both() -> [Config; 2] {
    in_both(weather())
}

#[test]
fn events_pass_through_as_json_text() {
    for config in both() {
        let mut device = Device::attached(config, json!(["weather"]));
        let payload = json!({"at": ["ä\"", null, 1.5, -3], "deep": {"b": true}});
        let out = device.extension("weather:ask:now", payload.clone());
        let [ExtensionEvent::Received { name, event, payload: text }] = &extension_events(&out)[..] else {
            panic!("{out:?}")
        };
        assert_eq!((name.as_str(), event.as_str()), ("weather", "ask:now"));
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), payload);
        let out = device.command(of_weather("report:now", r#"{"rain": [1, 2.5, "ä"]}"#).into());
        assert_eq!(
            extension_messages(&out),
            [("weather:report:now".to_owned(), json!({"rain": [1, 2.5, "ä"]}))]
        );
    }
}

#[test]
fn events_for_nobody_are_unknown() {
    let mut device = Device::attached(weather(), json!(["weather"]));
    for event in ["shiny:ask", "tides:ask", "weather", "", ":", "attached"] {
        let out = device.extension(event, json!({}));
        assert!(
            matches!(&events(&out)[..], [Event::Unknown { topic, .. }] if topic == "extensions"),
            "{out:?}"
        );
    }
    assert_eq!(device.link.status().counters.unknown_events, 6);
}

#[test]
fn payloads_of_own_extensions_are_bounded_both_ways() {
    let text = |length: usize| format!(r#"{{"t":"{}"}}"#, "x".repeat(length - 8));
    let mut device = Device::attached(weather(), json!(["weather"]));
    device.command(of_weather("report", &text(MAX_EXTENSION_PAYLOAD_BYTES)).into());
    let longer = text(MAX_EXTENSION_PAYLOAD_BYTES + 1);
    assert!(matches!(device.refusal(of_weather("report", &longer)), CommandError::Unusable(_)));
    for (length, fits) in [(MAX_EXTENSION_PAYLOAD_BYTES, true), (MAX_EXTENSION_PAYLOAD_BYTES + 1, false)] {
        let payload: Value = serde_json::from_str(&text(length)).unwrap();
        let out = device.extension("weather:ask", payload);
        assert_eq!(matches!(&events(&out)[..], [Event::Extension(_)]), fits);
        assert_eq!(matches!(&events(&out)[..], [Event::Malformed { .. }]), !fits);
    }
    for (length, fits) in [(MAX_NAME_CHARS, true), (MAX_NAME_CHARS + 1, false)] {
        let out = device.extension(&format!("weather:{}", "ä".repeat(length)), json!({}));
        assert_eq!(matches!(&events(&out)[..], [Event::Extension(_)]), fits);
        let own = of_weather(&"e".repeat(length), "{}");
        assert_eq!(device.link.command(device.now, own.into()).is_ok(), fits);
        device.drain();
    }
}

#[test]
fn pushes_that_can_not_be_sent_are_refused() {
    let mut device = Device::attached(weather(), json!(["weather"]));
    for (event, payload) in [
        ("", "{}"),
        ("a\"b", "{}"),
        ("ä", "{}"),
        ("attached", "{}"),
        ("detached", "{}"),
        ("error", "{}"),
        ("report", ""),
        ("report", "[]"),
        ("report", "{"),
        ("report", "{} {}"),
    ] {
        let refusal = device.refusal(of_weather(event, payload));
        assert!(matches!(refusal, CommandError::Unusable(_)) && !refusal.is_retryable(), "{event} {payload}");
    }
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
    assert!(matches!(device.refusal(of_weather("report", &deep)), CommandError::Unusable(_)));
    let other = ExtensionCommand::Push { name: "shiny".into(), event: "x".into(), payload: "{}".into() };
    assert_eq!(device.refusal(other), CommandError::UnknownExtension);
}

#[test]
fn pushes_past_the_limit_are_refused_while_the_network_is_slow() {
    let mut device = Device::attached(weather(), json!(["weather"]));
    device.sends = false;
    let credit = usize::try_from(SEND_CREDIT).unwrap();
    for _ in 0..credit + MAX_EXTENSION_PUSHES {
        device.command(of_weather("report", "{}").into());
    }
    let refusal = device.refusal(of_weather("report", "{}"));
    assert!(refusal == CommandError::Busy && refusal.is_retryable());
    // What waits is dropped with the extension, and only the last word is said.
    device.extension("detach", json!({"extensions": "all"}));
    device.sends = true;
    let socket = device.socket();
    let out = device.input(Input::SocketSent { socket, frames: SEND_CREDIT });
    assert_eq!(event_names(&extension_messages(&out)), ["weather:detached"]);
}
