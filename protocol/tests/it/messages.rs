//! Reading messages: what counts, what is tolerated, what is refused.

use crate::common::*;
use nerves_hub_link_protocol::*;

fn text(text: &str) -> (Vec<Event>, Counters) {
    let mut device = Device::joined(config());
    let socket = device.socket();
    let out = device.input(Input::SocketText { socket, text });
    assert_eq!(device.link.status().connection, ConnectionState::Joined, "{text}");
    (events(&out), device.link.status().counters)
}

#[test]
fn a_message_is_five_values_and_more_are_ignored() {
    for good in [
        r#"[null,null,"device","identify",{}]"#,
        r#"["1",null,"device","identify",{}]"#,
        r#"[1,2,"device","identify",{}]"#,
        r#"[null,null,"device","identify",null]"#,
        r#"[null,null,"device","identify","text"]"#,
        r#"[null,null,"device","identify",{},6,[7]]"#,
        r#" [ null , null , "\u0064evice" , "identif\u0079" , { } ] "#,
    ] {
        assert_eq!(text(good).0, [Event::Identify], "{good}");
    }
}

#[test]
fn what_is_no_message_is_reported_and_forgotten() {
    for bad in [
        "",
        "{}",
        "null",
        "[]",
        "not json",
        r#"[null,null,"device","identify"]"#,
        r#"[null,null,"device","identify",{}"#,
        r#"[null,null,"device","identify",{}]]"#,
        r#"[null,null,5,"identify",{}]"#,
        r#"[null,null,"device",null,{}]"#,
        r#"[true,null,"device","identify",{}]"#,
        r#"[null,null,"device","identify",{"a":}]"#,
        r#"{"topic":"device","event":"identify","payload":{},"ref":null}"#,
    ] {
        let (events, counters) = text(bad);
        assert!(matches!(&events[..], [Event::Malformed { .. }]), "{bad}: {events:?}");
        assert_eq!(counters.malformed_messages, 1);
    }
}

#[test]
fn other_joins_and_replies_to_nobody_are_stale() {
    for stale in [
        r#"["2",null,"device","identify",{}]"#,
        r#"["01",null,"device","identify",{}]"#,
        r#"[1.5,null,"device","identify",{}]"#,
        r#"[-1,null,"device","identify",{}]"#,
        r#"["99999999999999999999999",null,"device","identify",{}]"#,
        r#"["1","99","device","phx_reply",{"status":"ok","response":{}}]"#,
        r#"[null,null,"device","phx_reply",{"status":"ok","response":{}}]"#,
        r#"[null,"1","console","phx_reply",{"status":"ok","response":{}}]"#,
    ] {
        let (events, counters) = text(stale);
        assert_eq!((events, counters.stale_messages), (vec![], 1), "{stale}");
    }
}

#[test]
fn a_reply_may_answer_with_anything() {
    for response in ["{}", "[]", "[\"geo\"]", "\"detach\"", "null", "1"] {
        let reply = format!(r#"["1","2","device","phx_reply",{{"status":"ok","response":{response}}}]"#);
        assert_eq!(text(&reply).0, []);
    }
    assert_eq!(text(r#"["1","2","device","phx_reply",{"status":"ok"}]"#).0, []);
    for bad in ["{}", "[]", "null", r#"{"status":1}"#] {
        let reply = format!(r#"["1","2","device","phx_reply",{bad}]"#);
        assert!(matches!(&text(&reply).0[..], [Event::Malformed { .. }]), "{bad}");
    }
}

#[test]
fn binary_messages_are_named_or_reported() {
    let mut device = Device::joined(config());
    let socket = device.socket();
    let push = b"\x00\x01\x06\x041deviceblob\x01\x02";
    let out = device.input(Input::SocketBinary { socket, data: push });
    assert_eq!(events(&out), [Event::Unknown { topic: "device".into(), event: "blob".into() }]);
    for bad in [&b""[..], b"\x00", b"\x09\x01", b"\x02\xff\xff"] {
        let out = device.input(Input::SocketBinary { socket, data: bad });
        assert!(matches!(&events(&out)[..], [Event::Malformed { .. }]));
    }
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
}

#[test]
fn binary_messages_count_like_text() {
    let mut device = Device::new(config());
    device.connect();
    let socket = device.socket();
    let reply = b"\x01\x01\x01\x06\x0211deviceok\x01\x02";
    assert_eq!(events(&device.input(Input::SocketBinary { socket, data: reply })), [Event::Joined]);
    let broadcast = b"\x02\x06\x08deviceidentify";
    assert_eq!(events(&device.input(Input::SocketBinary { socket, data: broadcast })), [Event::Identify]);
    let stale = b"\x00\x01\x06\x089deviceidentify";
    assert_eq!(events(&device.input(Input::SocketBinary { socket, data: stale })), []);
    assert_eq!(device.link.status().counters.stale_messages, 1);
    // Data is no map: an update in it is none.
    let update = b"\x02\x06\x06deviceupdate{}";
    let out = device.input(Input::SocketBinary { socket, data: update });
    assert!(matches!(&events(&out)[..], [Event::Malformed { reason }] if reason.contains("2 bytes of data")));
    let out = device.input(Input::SocketBinary { socket, data: b"\x02\x06\x09devicephx_reply" });
    assert_eq!(events(&out), []);
    let error = b"\x02\x06\x09devicephx_error";
    let out = device.input(Input::SocketBinary { socket, data: error });
    assert!(matches!(&events(&out)[..], [Event::ChannelLost { .. }]));
}

#[test]
fn a_link_moves_between_threads_and_is_small() {
    fn movable<T: Send + 'static>(_: &T) {}
    let link = Link::new(config(), 0, Now::default()).unwrap();
    movable(&link);
    // Thousands fit in one process; the rest of an idle machine is its configuration.
    assert!(size_of_val(&link) <= 2048, "{}", size_of_val(&link));
}
