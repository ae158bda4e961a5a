//! The exchange against scripted servers: whole, byte by byte and cut at random, plain and on TLS.

use crate::common::*;
use nerves_hub_link_transport::limits::{BODY_PIECE_MAX, RECEIVE_PENDING_MAX};
use nerves_hub_link_transport::{Exchange, ExchangeEvent, ExchangeRequest, TransportError};
use proptest::prelude::*;

fn exchange(link: Link) -> Exchange {
    let url = link.url(false);
    Exchange::new(&ExchangeRequest { url: &url, headers: &[], tls: Some(client_tls()) }).unwrap()
}

fn head(status: u16, headers: &[(&str, &str)]) -> Seen {
    Seen::Head(
        status,
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    )
}

fn body(bytes: &[u8]) -> Seen {
    Seen::Body(bytes.to_vec())
}

fn short(received: u64, expected: Option<u64>) -> Seen {
    Seen::Failed(match expected {
        Some(expected) => format!("the body from {HOST} broke off: {received} of {expected} bytes received"),
        None => format!("the body from {HOST} broke off: {received} bytes, the end never came, received"),
    })
}

fn not_http(why: &str) -> Seen {
    Seen::Failed(format!("{HOST} did not answer in HTTP/1.1: {why}"))
}

struct Scenario {
    name: &'static str,
    answer: Vec<u8>,
    finish: Finish,
    seen: Vec<Seen>,
    /// Where TLS knows more than TCP: a stream cut with no `close_notify`.
    seen_on_tls: Option<Vec<Seen>>,
}

fn scenarios() -> Vec<Scenario> {
    let scenario = |name, answer: &str, finish, seen| Scenario {
        name,
        answer: answer.as_bytes().to_vec(),
        finish,
        seen,
        seen_on_tls: None,
    };
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunked_head = || head(200, &[("transfer-encoding", "chunked")]);
    let long = "0123456789abcdef".repeat(5000);
    vec![
        scenario(
            "200",
            &format!("{ok}content-length: 5\r\n\r\nhelloEXTRA"),
            Finish::Stay,
            vec![head(200, &[("content-length", "5")]), body(b"hello"), Seen::End],
        ),
        scenario(
            "200, long",
            &format!("{ok}content-length: 80000\r\n\r\n{long}"),
            Finish::Stay,
            vec![head(200, &[("content-length", "80000")]), body(long.as_bytes()), Seen::End],
        ),
        scenario(
            "200, empty",
            &format!("{ok}content-length: 0\r\n\r\n"),
            Finish::Stay,
            vec![head(200, &[("content-length", "0")]), Seen::End],
        ),
        scenario(
            "206",
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/5\r\nContent-Length: 3\r\nETag: \"a\"\r\n\r\nllo",
            Finish::Stay,
            vec![
                head(206, &[("content-range", "bytes 2-4/5"), ("content-length", "3"), ("etag", "\"a\"")]),
                body(b"llo"),
                Seen::End,
            ],
        ),
        scenario(
            "404",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot found",
            Finish::Stay,
            vec![head(404, &[("content-length", "9")]), body(b"not found"), Seen::End],
        ),
        scenario(
            "416",
            "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-range: bytes */5\r\ncontent-length: 0\r\n\r\n",
            Finish::Stay,
            vec![head(416, &[("content-range", "bytes */5"), ("content-length", "0")]), Seen::End],
        ),
        scenario(
            "302, not followed",
            "HTTP/1.1 302 Found\r\nlocation: /other?x=1\r\ncontent-length: 4\r\n\r\nhere",
            Finish::Stay,
            vec![head(302, &[("location", "/other?x=1"), ("content-length", "4")]), body(b"here"), Seen::End],
        ),
        scenario(
            "302, empty",
            "HTTP/1.1 302 Found\r\nlocation: /o\r\ncontent-length: 0\r\n\r\n",
            Finish::Stay,
            vec![head(302, &[("location", "/o"), ("content-length", "0")]), Seen::End],
        ),
        scenario("204", "HTTP/1.1 204 No Content\r\n\r\n", Finish::Stay, vec![head(204, &[]), Seen::End]),
        scenario(
            "304",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
            Finish::Stay,
            vec![head(304, &[("content-length", "7")]), Seen::End],
        ),
        scenario(
            "interim responses",
            &format!(
                "HTTP/1.1 100 Continue\r\nx: y\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n{ok}content-length: 1\r\n\r\nx"
            ),
            Finish::Stay,
            vec![head(200, &[("content-length", "1")]), body(b"x"), Seen::End],
        ),
        scenario(
            "bare line feeds",
            "HTTP/1.1 200 OK\ncontent-length: 1\n\nx",
            Finish::Stay,
            vec![head(200, &[("content-length", "1")]), body(b"x"), Seen::End],
        ),
        scenario(
            "chunked",
            &format!("{chunked}3;name=value\r\nhel\r\n2\r\nlo\r\n0\r\nchecksum: 1\r\n\r\n"),
            Finish::Stay,
            vec![chunked_head(), body(b"hello"), Seen::End],
        ),
        scenario(
            "chunked, empty",
            &format!("{chunked}0\r\n\r\n"),
            Finish::Stay,
            vec![chunked_head(), Seen::End],
        ),
        scenario(
            "chunked, long",
            &format!("{chunked}13880\r\n{long}\r\n0\r\n\r\n"),
            Finish::Stay,
            vec![chunked_head(), body(long.as_bytes()), Seen::End],
        ),
        scenario(
            "chunked, last empty line missing",
            &format!("{chunked}2\r\nhi\r\n0\r\n"),
            Finish::Cut,
            vec![chunked_head(), body(b"hi"), Seen::End],
        ),
        scenario(
            "chunked, cut between chunks",
            &format!("{chunked}2\r\nhi\r\n"),
            Finish::Clean,
            vec![chunked_head(), body(b"hi"), short(2, None)],
        ),
        scenario(
            "chunked, cut in a chunk",
            &format!("{chunked}5\r\nhi"),
            Finish::Cut,
            vec![chunked_head(), body(b"hi"), short(2, None)],
        ),
        scenario(
            "chunked, no number",
            &format!("{chunked}zz\r\nhi\r\n"),
            Finish::Stay,
            vec![chunked_head(), not_http("chunk length cannot be read as a number")],
        ),
        scenario(
            "until the end",
            &format!("{ok}\r\nall of it"),
            Finish::Clean,
            vec![head(200, &[]), body(b"all of it"), Seen::End],
        ),
        Scenario {
            name: "until the end, cut",
            answer: format!("{ok}\r\nall of i").into_bytes(),
            finish: Finish::Cut,
            seen: vec![head(200, &[]), body(b"all of i"), Seen::End],
            seen_on_tls: Some(vec![head(200, &[]), body(b"all of i"), short(8, None)]),
        },
        scenario(
            "HTTP/1.0 until the end",
            "HTTP/1.0 200 OK\r\n\r\nold",
            Finish::Clean,
            vec![head(200, &[]), body(b"old"), Seen::End],
        ),
        scenario(
            "short body, ended politely",
            &format!("{ok}content-length: 10\r\n\r\n1234"),
            Finish::Clean,
            vec![head(200, &[("content-length", "10")]), body(b"1234"), short(4, Some(10))],
        ),
        scenario(
            "short body, cut",
            &format!("{ok}content-length: 10\r\n\r\n123456789"),
            Finish::Cut,
            vec![head(200, &[("content-length", "10")]), body(b"123456789"), short(9, Some(10))],
        ),
        scenario(
            "no body of the promised one",
            &format!("{ok}content-length: 18446744073709551615\r\n\r\n"),
            Finish::Cut,
            vec![head(200, &[("content-length", "18446744073709551615")]), short(0, Some(u64::MAX))],
        ),
        scenario(
            "no answer",
            "",
            Finish::Clean,
            vec![Seen::Failed(format!("{HOST} ended the connection before its answer was complete"))],
        ),
        scenario(
            "half a head",
            "HTTP/1.1 200 OK\r\ncontent-le",
            Finish::Cut,
            vec![Seen::Failed(format!("{HOST} ended the connection before its answer was complete"))],
        ),
        scenario(
            "garbage",
            "\u{16}\u{3}\u{1} what is this",
            Finish::Stay,
            vec![not_http("the answer does not start with HTTP/1.")],
        ),
        scenario(
            "HTTP/2",
            "HTTP/2 200 OK\r\n\r\n",
            Finish::Stay,
            vec![not_http("the answer does not start with HTTP/1.")],
        ),
        scenario(
            "HTTP/1.7",
            "HTTP/1.7 200 OK\r\n\r\n",
            Finish::Stay,
            vec![not_http("http parse fail: invalid HTTP version")],
        ),
        scenario(
            "status 99",
            "HTTP/1.1 099 No\r\n\r\n",
            Finish::Stay,
            vec![not_http("http parse fail: invalid status code: 099")],
        ),
        scenario(
            "a length that is no length",
            "HTTP/1.1 200 OK\r\ncontent-length 5\r\n\r\n",
            Finish::Stay,
            vec![not_http("its content-length header is malformed")],
        ),
        scenario(
            "bad length",
            &format!("{ok}content-length: -1\r\n\r\n"),
            Finish::Stay,
            vec![not_http("content-length header not a number")],
        ),
        scenario(
            "two lengths",
            &format!("{ok}content-length: 1\r\ncontent-length: 2\r\n\r\n"),
            Finish::Stay,
            vec![not_http("conflicting content-length headers")],
        ),
        scenario(
            "a coding not asked for",
            &format!("{ok}transfer-encoding: gzip, chunked\r\n\r\n"),
            Finish::Stay,
            vec![not_http("the body has a transfer coding other than chunked, which was not asked for")],
        ),
        scenario(
            "an upgrade not asked for",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            Finish::Stay,
            vec![not_http("101 was answered to a request that asked for no upgrade")],
        ),
    ]
}

fn run(link: Link, cuts: &Cuts, scenario: &Scenario) {
    let mut exchange = exchange(link);
    assert!(exchange.wants_input());
    let (seen, peer) = answer(&mut exchange, link, &mut cuts.clone(), &scenario.answer, scenario.finish);
    let context = format!("{} on {link:?} with {cuts:?}", scenario.name);
    let expected = match &scenario.seen_on_tls {
        Some(seen) if link != Link::Plain => seen,
        _ => &scenario.seen,
    };
    assert_eq!(&seen, expected, "{context}");
    assert!(!exchange.wants_input(), "{context}");
    assert_eq!(exchange.poll(), None, "{context}");
    assert_eq!(peer.got_close_notify, link != Link::Plain, "{context}");
}

#[test]
fn every_scenario_whole_and_byte_by_byte() {
    for link in LINKS {
        for cuts in [Cuts::whole(), Cuts::bytewise()] {
            for scenario in scenarios() {
                run(link, &cuts, &scenario);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_scenario_cut_at_random(
        sizes in prop::collection::vec(1usize..3000, 1..12),
        which in any::<prop::sample::Index>(),
        link in prop::sample::select(LINKS.to_vec()),
    ) {
        let scenarios = scenarios();
        run(link, &Cuts::of(sizes), &scenarios[which.index(scenarios.len())]);
    }

    /// Whatever a server answers, nothing panics and the cut of the bytes changes nothing.
    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(
        start in prop::sample::select(vec![
            "", "HTTP/1.1 ", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        ]),
        rest in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\r\n0123 :;a".to_vec())], 0..120),
        sizes in prop::collection::vec(1usize..20, 1..12),
    ) {
        let bytes = [start.as_bytes(), &rest].concat();
        let outcomes = [Cuts::whole(), Cuts::bytewise(), Cuts::of(sizes)].map(|mut cuts| {
            answer(&mut exchange(Link::Plain), Link::Plain, &mut cuts, &bytes, Finish::Cut).0
        });
        prop_assert_eq!(&outcomes[0], &outcomes[1]);
        prop_assert_eq!(&outcomes[1], &outcomes[2]);
        prop_assert!(matches!(outcomes[0].last(), Some(Seen::Failed(_) | Seen::End)));
    }
}

#[test]
fn the_request_carries_the_given_headers_and_closes() {
    let headers =
        [("Range", "bytes=5-"), ("If-Range", "\"etag\""), ("User-Agent", "NHL/1"), ("X-Retry-Number", "0")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut exchange = Exchange::new(&ExchangeRequest {
        url: "http://[::1]:9000/fw?sig=a%2Fb",
        headers: &headers,
        tls: None,
    })
    .unwrap();
    assert_eq!((exchange.address().host.as_str(), exchange.address().port), ("::1", 9000));
    let sent = String::from_utf8(exchange.transmit().to_vec()).unwrap();
    let (line, rest) = sent.split_once("\r\n").unwrap();
    assert_eq!(line, "GET /fw?sig=a%2Fb HTTP/1.1");
    let mut lines: Vec<&str> = rest.strip_suffix("\r\n\r\n").unwrap().split("\r\n").collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "accept-encoding: identity",
            "connection: close",
            "host: [::1]:9000",
            "if-range: \"etag\"",
            "range: bytes=5-",
            "user-agent: NHL/1",
            "x-retry-number: 0",
        ]
    );
}

#[test]
fn reserved_headers_and_line_breaks_are_refused() {
    for (name, value) in
        [("host", "x"), ("Connection", "keep-alive"), ("Content-Length", "1"), ("x", "a\r\nb: c")]
    {
        let headers = [(name.to_owned(), value.to_owned())];
        let error = Exchange::new(&ExchangeRequest { url: "http://hub.test/", headers: &headers, tls: None })
            .unwrap_err();
        assert!(matches!(&error, TransportError::Header { name: found, .. } if found == name), "{error:?}");
    }
}

#[test]
fn https_without_tls_settings_is_refused() {
    let error =
        Exchange::new(&ExchangeRequest { url: "https://hub.test/", headers: &[], tls: None }).unwrap_err();
    assert_eq!(error, TransportError::TlsMissing { host: "hub.test".into() });
}

/// A slow consumer: nothing is wanted while a piece waits, and what waits is bounded.
#[test]
fn input_is_not_wanted_while_body_waits() {
    let mut exchange =
        Exchange::new(&ExchangeRequest { url: "http://hub.test/", headers: &[], tls: None }).unwrap();
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
    let mut bytes = head.to_vec();
    bytes.resize(RECEIVE_PENDING_MAX, b'x');
    exchange.receive(&bytes);
    assert!(!exchange.wants_input());
    assert!(matches!(exchange.poll(), Some(ExchangeEvent::Head { status: 200, .. })));
    let mut left = RECEIVE_PENDING_MAX - head.len();
    while left > 0 {
        assert!(!exchange.wants_input(), "{left} bytes wait");
        let Some(ExchangeEvent::Body(piece)) = exchange.poll() else { panic!("{left} bytes wait") };
        assert!(piece.len() <= BODY_PIECE_MAX);
        left -= piece.len();
    }
    assert!(!exchange.wants_input(), "only poll knows that nothing is left");
    assert_eq!(exchange.poll(), None);
    assert!(exchange.wants_input());
}

#[test]
fn debug_shows_no_query_or_header() {
    let headers = [("authorization".to_owned(), "SECRET".to_owned())];
    let request =
        ExchangeRequest { url: "http://hub.test/fw?sig=SECRET#SECRET", headers: &headers, tls: None };
    let exchange = Exchange::new(&request).unwrap();
    let event =
        ExchangeEvent::Head { status: 302, headers: vec![("location".to_owned(), "/?SECRET".to_owned())] };
    for text in [
        format!("{request:?}"),
        format!("{exchange:?}"),
        format!("{event:?}"),
        format!("{:?}", ExchangeEvent::Body(b"SECRET")),
    ] {
        assert!(!text.contains("SECRET") && !text.contains("83, 69"), "{text}");
    }
    let bad =
        ExchangeRequest { url: "gopher://me:SECRET@hub.test/fw?sig=SECRET", headers: &headers, tls: None };
    let error = Exchange::new(&bad).unwrap_err();
    for text in [format!("{bad:?}"), format!("{error}"), format!("{error:?}")] {
        assert!(!text.contains("SECRET"), "{text}");
    }
}
