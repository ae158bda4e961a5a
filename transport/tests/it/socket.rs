//! The socket against scripted servers: whole, byte by byte and cut at random, plain and on TLS.

use crate::common::*;
use nerves_hub_link_transport::{Socket, SocketEvent, SocketRequest, TransportError};
use proptest::prelude::*;

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// What follows a good upgrade, what must be seen after `Up`, and what the client must send.
struct Scenario {
    name: &'static str,
    bytes: Vec<u8>,
    finish: Finish,
    seen: Vec<Seen>,
    sent: Vec<(u8, Vec<u8>)>,
}

fn failed(why: &str, code: u16) -> Seen {
    Seen::Failed(format!("{HOST} broke the WebSocket protocol: {why} (closed with {code})"))
}

fn closing(code: u16, why: &str) -> (u8, Vec<u8>) {
    (0x88, [&code.to_be_bytes()[..], why.as_bytes()].concat())
}

fn after_upgrade() -> Vec<Scenario> {
    let scenario = |name, bytes: &[&[u8]], seen: Vec<Seen>, sent| Scenario {
        name,
        bytes: bytes.concat(),
        finish: Finish::Stay,
        seen,
        sent,
    };
    let breach = |name, bytes: &[&[u8]], why: &str, code| Scenario {
        name,
        bytes: bytes.concat(),
        finish: Finish::Stay,
        seen: vec![failed(why, code)],
        sent: vec![closing(code, why)],
    };
    let close = |code: u16, reason: &str| frame(0x88, &[&code.to_be_bytes()[..], reason.as_bytes()].concat());
    let middle = "ä".repeat(300);
    vec![
        scenario("nothing", &[], vec![], vec![]),
        scenario(
            "texts",
            &[&frame(0x81, b"{}"), &frame(0x81, b""), &frame(0x81, middle.as_bytes())],
            vec![Seen::Text("{}".into()), Seen::Text(String::new()), Seen::Text(middle.clone())],
            vec![],
        ),
        scenario("binary", &[&frame(0x82, &[0, 159, 255])], vec![Seen::Binary(vec![0, 159, 255])], vec![]),
        scenario(
            "fragments, cut inside a character, with a ping between them",
            &[&frame(0x01, &[0xc3]), &frame(0x89, b"hi"), &frame(0x00, b""), &frame(0x80, &[0xa4, b'!'])],
            vec![Seen::Alive, Seen::Text("ä!".into())],
            vec![(0x8a, b"hi".to_vec())],
        ),
        scenario("ping", &[&frame(0x89, b"abc")], vec![Seen::Alive], vec![(0x8a, b"abc".to_vec())]),
        scenario("pong", &[&frame(0x8a, b"")], vec![Seen::Alive], vec![]),
        scenario(
            "close 1001 of a duplicate connection",
            &[&close(1001, "going away"), b"garbage after the close"],
            vec![Seen::Closed(Some(1001), "going away".into())],
            vec![closing(1001, "")],
        ),
        scenario(
            "close 1012 of a drain",
            &[&close(1012, "")],
            vec![Seen::Closed(Some(1012), String::new())],
            vec![closing(1012, "")],
        ),
        scenario(
            "close with no code",
            &[&frame(0x88, b"")],
            vec![Seen::Closed(None, String::new())],
            vec![(0x88, vec![])],
        ),
        breach(
            "masked",
            &[&[0x81, 0x82, 1, 2, 3, 4, 5, 6]],
            "a masked frame, which only clients may send",
            1002,
        ),
        breach(
            "RSV1",
            &[&frame(0xc1, b"x")],
            "a frame with reserved bits set, though no extension was agreed on",
            1002,
        ),
        breach("reserved opcode", &[&frame(0x83, b"x")], "a frame with a reserved opcode", 1002),
        breach("fragmented ping", &[&frame(0x09, b"x")], "a control frame in fragments", 1002),
        breach("long ping", &[&frame(0x89, &[0; 126])], "a control frame of more than 125 bytes", 1002),
        breach(
            "stray continuation",
            &[&frame(0x80, b"x")],
            "a continuation frame with nothing to continue",
            1002,
        ),
        breach(
            "message in a message",
            &[&frame(0x01, b"x"), &frame(0x81, b"y")],
            "a new message inside a fragmented one",
            1002,
        ),
        breach("half a close code", &[&frame(0x88, &[3])], "a close frame with half a code", 1002),
        breach("close 1005", &[&close(1005, "")], "the close code 1005, which must not be sent", 1002),
        breach("close reason", &[&frame(0x88, &[3, 232, 0xff])], "a close reason that is not UTF-8", 1007),
        breach("text", &[&frame(0x81, &[b'a', 0xff])], "a text message that is not UTF-8", 1007),
        breach(
            "text in fragments",
            &[&frame(0x01, &[0xc3]), &frame(0x80, b"x")],
            "a text message that is not UTF-8",
            1007,
        ),
        breach(
            "announced too big",
            &[&[0x82, 127, 0, 0, 0, 0, 0, 0x7a, 0x12, 1]],
            "a message of more than 8000000 bytes",
            1009,
        ),
        breach(
            "announced absurdly",
            &[&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255]],
            "a message of more than 8000000 bytes",
            1009,
        ),
        Scenario {
            name: "end with no close frame",
            bytes: frame(0x81, b"last"),
            finish: Finish::Clean,
            seen: vec![
                Seen::Text("last".into()),
                Seen::Failed(format!("{HOST} ended the connection without closing the socket first")),
            ],
            sent: vec![],
        },
        Scenario {
            name: "end inside a frame",
            bytes: vec![0x81, 5, b'a'],
            finish: Finish::Cut,
            seen: vec![Seen::Failed(format!("{HOST} ended the connection without closing the socket first"))],
            sent: vec![],
        },
    ]
}

fn run(link: Link, cuts: &Cuts, scenario: &Scenario) {
    let mut socket = socket(link);
    let bytes = [upgraded().as_bytes(), &scenario.bytes].concat();
    let (seen, peer) = answer(&mut socket, link, &mut cuts.clone(), &bytes, scenario.finish);
    let context = format!("{} on {link:?} with {cuts:?}", scenario.name);
    let mut expected = vec![Seen::Up];
    expected.extend(scenario.seen.iter().cloned());
    assert_eq!(seen, expected, "{context}");
    assert_eq!(frames_sent(&peer), scenario.sent, "{context}");
    let ended = matches!(seen.last(), Some(Seen::Failed(_) | Seen::Closed(..)));
    if link != Link::Plain {
        assert_eq!(peer.got_close_notify, ended, "{context}");
    }
    if ended {
        assert_eq!(socket.poll(), None, "{context}");
        assert_eq!(socket.send_text("late"), Err(TransportError::NotOpen), "{context}");
    }
}

/// Answers other than a good upgrade, and what must be seen.
fn refusals() -> Vec<(&'static str, Vec<u8>, Finish, Seen)> {
    let reason = "no certificate pair or shared secrets connection settings were provided";
    let bad = |why: &str| Seen::Failed(format!("{HOST} answered the WebSocket upgrade wrongly: {why}"));
    let not_http = |why: &str| Seen::Failed(format!("{HOST} did not answer in HTTP/1.1: {why}"));
    let without = |header: &str| {
        upgraded()
            .split_inclusive("\r\n")
            .filter(|line| !line.starts_with(header))
            .collect::<String>()
            .into_bytes()
    };
    let with = |header: &str| upgraded().replace("\r\n\r\n", &format!("\r\n{header}\r\n\r\n")).into_bytes();
    vec![
        (
            "401 with a reason",
            format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: 71\r\nNH-Connection-Error-Reason: {reason}\r\n\r\n{reason}")
                .into_bytes(),
            Finish::Stay,
            Seen::Refused(
                401,
                vec![header("content-length", "71"), header("nh-connection-error-reason", reason)],
                reason.as_bytes().to_vec(),
            ),
        ),
        (
            "401, empty, date kept",
            b"HTTP/1.1 401 Unauthorized\r\ndate: Mon, 23 Nov 2026 14:44:44 GMT\r\ncontent-length: 0\r\n\r\n".to_vec(),
            Finish::Stay,
            Seen::Refused(
                401,
                vec![header("date", "Mon, 23 Nov 2026 14:44:44 GMT"), header("content-length", "0")],
                vec![],
            ),
        ),
        (
            "301 to the documentation",
            b"HTTP/1.1 301 Moved Permanently\r\ncontent-length: 0\r\nlocation: https://docs.nerves-hub.org/\r\n\r\n".to_vec(),
            Finish::Stay,
            Seen::Refused(
                301,
                vec![header("content-length", "0"), header("location", "https://docs.nerves-hub.org/")],
                vec![],
            ),
        ),
        (
            "503 with Retry-After, chunked body",
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n"
                .to_vec(),
            Finish::Stay,
            Seen::Refused(
                503,
                vec![header("retry-after", "7"), header("transfer-encoding", "chunked")],
                b"busy".to_vec(),
            ),
        ),
        (
            "403 until the end of the stream",
            b"HTTP/1.1 403 Forbidden\r\n\r\nno".to_vec(),
            Finish::Clean,
            Seen::Refused(403, vec![], b"no".to_vec()),
        ),
        (
            "a refusal cut short still counts",
            b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 100\r\n\r\n<html".to_vec(),
            Finish::Cut,
            Seen::Refused(502, vec![header("content-length", "100")], b"<html".to_vec()),
        ),
        ("no answer", Vec::new(), Finish::Clean, Seen::Failed(format!("{HOST} ended the connection before its answer was complete"))),
        (
            "half an answer",
            b"HTTP/1.1 101 Switching".to_vec(),
            Finish::Cut,
            Seen::Failed(format!("{HOST} ended the connection before its answer was complete")),
        ),
        ("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), Finish::Stay, not_http("the answer does not start with HTTP/1.")),
        ("zeros", vec![0; 64], Finish::Stay, not_http("the answer does not start with HTTP/1.")),
        ("wrong accept", upgraded().replace(&accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").into_bytes(), Finish::Stay, bad("the Sec-WebSocket-Accept header does not answer our key")),
        ("no accept", without("sec-websocket-accept"), Finish::Stay, bad("the Sec-WebSocket-Accept header does not answer our key")),
        ("no upgrade", without("upgrade"), Finish::Stay, bad("no \"Upgrade: websocket\" header")),
        ("no connection", without("connection"), Finish::Stay, bad("no \"Connection: Upgrade\" header")),
        ("an extension", with("sec-websocket-extensions: permessage-deflate"), Finish::Stay, bad("an extension that was not offered")),
        ("a subprotocol", with("sec-websocket-protocol: chat"), Finish::Stay, bad("a subprotocol that was not offered")),
    ]
}

fn run_refusal(link: Link, cuts: &Cuts, (name, bytes, finish, expected): &(&str, Vec<u8>, Finish, Seen)) {
    let mut socket = socket(link);
    let (seen, _) = answer(&mut socket, link, &mut cuts.clone(), bytes, *finish);
    assert_eq!(seen, std::slice::from_ref(expected), "{name} on {link:?} with {cuts:?}");
}

/// A server that refuses and never comes to an end still refuses: status and headers say what to do.
#[test]
fn a_refusal_that_never_ends_counts_once_the_time_is_over() {
    for (rest, body) in [
        ("content-length: 100\r\n\r\nbusy", "busy"),
        ("transfer-encoding: chunked\r\n\r\n4\r\nbusy\r\n5\r\ntod", "busytod"),
        ("\r\n", ""),
    ] {
        let mut socket = socket(Link::Plain);
        socket.out_of_time();
        assert_eq!(socket.poll(), None, "nothing came");
        socket.receive(format!("HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\n{rest}").as_bytes());
        assert_eq!(socket.poll(), None, "more may come");
        socket.out_of_time();
        let Some(SocketEvent::Refused { status: 503, headers, body: told }) = socket.poll() else {
            panic!("{rest:?} is not told")
        };
        assert_eq!((&headers[0], told.as_slice()), (&header("retry-after", "7"), body.as_bytes()));
        assert_eq!(socket.poll(), None);
    }
    let mut open = socket(Link::Plain);
    open.receive(upgraded().as_bytes());
    assert_eq!(open.poll(), Some(SocketEvent::Up));
    open.out_of_time();
    assert_eq!(open.poll(), None, "an open socket has all the time there is");
}

#[test]
fn every_scenario_whole_and_byte_by_byte() {
    for link in LINKS {
        for cuts in [Cuts::whole(), Cuts::bytewise()] {
            for scenario in after_upgrade() {
                run(link, &cuts, &scenario);
            }
            for refusal in refusals() {
                run_refusal(link, &cuts, &refusal);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_scenario_cut_at_random(
        sizes in prop::collection::vec(1usize..400, 1..12),
        which in any::<prop::sample::Index>(),
        link in prop::sample::select(LINKS.to_vec()),
    ) {
        let cuts = Cuts::of(sizes);
        let scenarios = after_upgrade();
        let refusals = refusals();
        let index = which.index(scenarios.len() + refusals.len());
        match scenarios.get(index) {
            Some(scenario) => run(link, &cuts, scenario),
            None => run_refusal(link, &cuts, &refusals[index - scenarios.len()]),
        }
    }

    /// Whatever a server says after the upgrade, nothing panics and the cut of the bytes changes nothing.
    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        sizes in prop::collection::vec(1usize..50, 1..12),
        upgrade in any::<bool>(),
    ) {
        let bytes = if upgrade { [upgraded().as_bytes(), &bytes].concat() } else { bytes };
        let mut outcomes = [Cuts::whole(), Cuts::bytewise(), Cuts::of(sizes)].map(|mut cuts| {
            answer(&mut socket(Link::Plain), Link::Plain, &mut cuts, &bytes, Finish::Cut).0
        });
        prop_assert_eq!(&outcomes[0], &outcomes[1]);
        prop_assert_eq!(&outcomes[1], &outcomes[2]);
        let last = outcomes[0].pop();
        let final_event = matches!(last, Some(Seen::Failed(_) | Seen::Closed(..) | Seen::Refused(..)));
        prop_assert!(final_event, "{:?}", last);
    }
}

#[test]
fn the_upgrade_request_is_what_the_server_expects() {
    let headers = [
        header("x-nh-alg", "NH1-HMAC-sha256-1000-32"),
        header("X-NH-Key", "nhp_key"),
        header("x-two", "1"),
        header("x-two", "2"),
    ];
    let request = SocketRequest {
        url: "ws://hub.test:4000/device-socket/websocket?vsn=2.0.0",
        headers: &headers,
        tls: None,
    };
    let mut socket = Socket::new(&request, RANDOM).unwrap();
    let sent = String::from_utf8(socket.transmit().to_vec()).unwrap();
    let (line, rest) = sent.split_once("\r\n").unwrap();
    assert_eq!(line, "GET /device-socket/websocket?vsn=2.0.0 HTTP/1.1");
    let mut lines: Vec<&str> = rest.strip_suffix("\r\n\r\n").unwrap().split("\r\n").collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "connection: Upgrade",
            "host: hub.test:4000",
            "sec-websocket-key: BwcHBwcHBwcHBwcHBwcHBw==",
            "sec-websocket-version: 13",
            "upgrade: websocket",
            "x-nh-alg: NH1-HMAC-sha256-1000-32",
            "x-nh-key: nhp_key",
            "x-two: 1",
            "x-two: 2",
        ]
    );
}

#[test]
fn headers_that_would_break_the_request_are_refused_by_name() {
    for (name, value) in [
        ("Connection", "close"),
        ("upgrade", "h2c"),
        ("Host", "elsewhere"),
        ("Origin", "https://hub.test"),
        ("Sec-WebSocket-Key", "x"),
        ("sec-websocket-protocol", "chat"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("x-a", "SECRET\r\nx-b: c"),
        ("x-a", "SECRET\n"),
        ("x-a", "SECRET\0"),
        ("x-a\r\nx-b", "SECRET"),
        ("x a", "SECRET"),
        ("", "SECRET"),
    ] {
        let headers = [header(name, value)];
        let request = SocketRequest { url: "ws://hub.test/", headers: &headers, tls: None };
        let error = Socket::new(&request, RANDOM).unwrap_err();
        assert!(
            matches!(&error, TransportError::Header { name: found, .. } if found == name),
            "{name}: {error:?}"
        );
        assert!(!error.is_retryable());
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error}");
    }
}

#[test]
fn closing_first_waits_for_the_peer() {
    for link in LINKS {
        let mut socket = socket(link);
        let mut peer = link.peer();
        let mut step = 0;
        let seen =
            converse(&mut socket, &mut peer, &mut Cuts::whole(), Finish::Stay, |socket, peer, seen| {
                if step == 0 && find(&peer.inbox, b"\r\n\r\n").is_some() {
                    step = 1;
                    peer.send(upgraded());
                } else if step == 1 && seen == [Seen::Up] {
                    step = 2;
                    // 1005 must not be sent; a reason is cut at 123 bytes, between characters.
                    socket.close(1005, &"ä".repeat(62));
                    socket.close(1001, "a second call does nothing");
                    assert_eq!(socket.send_text("late"), Err(TransportError::NotOpen));
                } else if step == 2 {
                    step = 3;
                    peer.send([frame(0x81, b"crossing"), frame(0x88, &1000u16.to_be_bytes())].concat());
                }
                false
            });
        assert_eq!(seen, [Seen::Up, Seen::Closed(Some(1000), String::new())]);
        assert_eq!(frames_sent(&peer), [closing(1000, &"ä".repeat(61))]);
    }
}

#[test]
fn an_end_after_our_close_is_a_close() {
    let mut socket = socket(Link::Plain);
    socket.receive(upgraded().as_bytes());
    assert_eq!(Machine::poll(&mut socket), Some(Seen::Up));
    socket.close(1000, "bye");
    socket.receive_eof();
    let mut seen = Vec::new();
    drain(&mut socket, &mut seen);
    assert_eq!(seen, [Seen::Closed(None, String::new())]);
}

#[test]
fn closing_before_the_upgrade_gives_up_at_once() {
    let mut socket = socket(Link::Tls13);
    assert_eq!(socket.send_text("early"), Err(TransportError::NotOpen));
    socket.close(1000, "");
    let mut seen = Vec::new();
    drain(&mut socket, &mut seen);
    assert_eq!(seen, [Seen::Closed(None, String::new())]);
}

#[test]
fn the_same_random_bytes_send_the_same_stream() {
    let stream = |random| {
        let mut socket =
            Socket::new(&SocketRequest { url: "ws://hub.test/", headers: &[], tls: None }, random).unwrap();
        socket.receive(upgraded().as_bytes());
        while socket.poll().is_some() {}
        socket.send_text("one").unwrap();
        socket.send_text("one").unwrap();
        Machine::take_out(&mut socket)
    };
    let mut other = RANDOM;
    other[31] = 9;
    let first = stream(RANDOM);
    assert_eq!(first, stream(RANDOM));
    assert_ne!(first, stream(other));
    let frames = &first[find(&first, b"\r\n\r\n").unwrap() + 4..];
    let (one, two) = frames.split_at(frames.len() / 2);
    assert_ne!(one, two, "each frame has a mask of its own");
}

#[test]
fn debug_shows_no_query_header_or_message() {
    let headers = [header("authorization", "SECRET")];
    let url = "wss://hub.test/socket?token=SECRET";
    let request = SocketRequest { url, headers: &headers, tls: Some(client_tls()) };
    let mut socket = Socket::new(&request, RANDOM).unwrap();
    let texts = [
        format!("{request:?}"),
        format!("{socket:?}"),
        format!("{:?} {0}", socket.address()),
        format!("{:?}", nerves_hub_link_transport::SocketEvent::Text("SECRET".into())),
        format!(
            "{:?}",
            nerves_hub_link_transport::SocketEvent::Refused {
                status: 302,
                headers: vec![header("location", "https://x/?SECRET")],
                body: b"SECRET".to_vec(),
            }
        ),
    ];
    for text in &texts {
        assert!(!text.contains("SECRET"), "{text}");
    }
    assert!(texts[0].contains("authorization") && texts[1].contains("hub.test/socket?..."), "{texts:?}");
    socket.receive_eof();
    let failed = socket.poll().unwrap();
    assert!(!format!("{failed:?}").contains("SECRET"));
}
