//! Header lines that HTTP does not allow, where real servers send them: downloads, the upgrade, `CONNECT`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nerves_hub_link_transport::limits::{HEAD_MAX, HEADERS_MAX};
use nerves_hub_link_transport::{
    Address, Exchange, ExchangeEvent, ExchangeRequest, Proxy, Socket, SocketEvent, SocketRequest, Tunnel,
};
use tungstenite::handshake::derive_accept_key;

/// Lines that are skipped.
const ODD: &[&[u8]] = &[
    b"X-Cache : HIT",
    b"X-Tab\t: HIT",
    b"no colon at all",
    b": no name",
    b"",
    b"Set-Cookie: a=\x01b; path=/",
    b"Set-Cookie: a=\x7f",
    b"X-Nul: a\0b",
    b"X-Return: a\rb",
    b"X-N\xc3\xa4me: a",
    b"X(Name): a",
    b"X-Folded: a\r\n  and more",
    b"X-Folded: a\r\n\tand more\r\n and yet more",
    b"X-Folded: a\r\n ",
    b"Content Length: 5",
];

/// Lines that decide where the answer ends or what the connection becomes.
const DECISIVE: &[&[u8]] = &[
    b"Content-Length : 5",
    b"Content-Length\t: 5",
    b"Content-Length\x0b: 5",
    b"content-length 5",
    b"Content-Length: 5\r\n 6",
    b"Content-Length: 5\r\n ",
    b"Content-Length: 5\x01",
    b" Content-Length: 5",
    b"X: a\r\n Content-Length: 5",
    b"X: a\rContent-Length: 5",
    b"\x01Content-Length: 5",
    b": Content-Length: 5",
    b"TRANSFER-ENCODING : chunked",
    b"Transfer-Encoding: chunked\x7f",
    b"Connection : close",
    b"Upgrade\0: websocket",
    b"Sec-WebSocket-Accept : x",
    b"Sec-WebSocket-Protocol: a\r\n b",
];

/// A head with a line in front, in the middle and at the end.
fn heads(status: &str, headers: &[&[u8]], odd: &[u8]) -> Vec<Vec<u8>> {
    (0..=headers.len())
        .map(|at| {
            let mut lines: Vec<&[u8]> = headers.to_vec();
            // An empty line would end the head.
            if !odd.is_empty() {
                lines.insert(at, odd);
            }
            let mut head = format!("HTTP/1.1 {status}\r\n").into_bytes();
            for line in lines {
                head.extend_from_slice(line);
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(b"\r\n");
            head
        })
        .collect()
}

/// Status, headers and body.
type Downloaded = (u16, Vec<(String, String)>, Vec<u8>);

/// What a download makes of an answer: status, headers and body, or an error.
fn download(answer: &[u8], size: usize) -> Result<Downloaded, String> {
    let mut exchange = Exchange::new(&ExchangeRequest { url: "http://h/", headers: &[], tls: None }).unwrap();
    let (mut head, mut body) = ((0, Vec::new()), Vec::new());
    for piece in answer.chunks(size) {
        exchange.receive(piece);
        while let Some(event) = exchange.poll() {
            match event {
                ExchangeEvent::Head { status, headers } => head = (status, headers),
                ExchangeEvent::Body(bytes) => body.extend_from_slice(bytes),
                ExchangeEvent::End => return Ok((head.0, head.1, body)),
                ExchangeEvent::Failed(error) => return Err(error.to_string()),
            }
        }
    }
    panic!("no end of {:?}", String::from_utf8_lossy(answer));
}

/// What the upgrade makes of an answer.
fn upgrade(answer: &[u8], size: usize) -> SocketEvent {
    let mut socket =
        Socket::new(&SocketRequest { url: "ws://h/", headers: &[], tls: None }, [7; 32]).unwrap();
    for piece in answer.chunks(size) {
        socket.receive(piece);
        if let Some(event) = socket.poll() {
            return event;
        }
    }
    panic!("nothing came of {:?}", String::from_utf8_lossy(answer));
}

/// What a tunnel makes of an answer.
fn tunnel(answer: &[u8], size: usize) -> Result<bool, String> {
    let target = Address::parse("wss://hub.test/").unwrap();
    let mut tunnel = Tunnel::new(&Proxy::parse("http://proxy.test").unwrap(), &target);
    let mut open = false;
    for piece in answer.chunks(size) {
        assert!(!open);
        open = tunnel.receive(piece).map_err(|error| error.to_string())?;
    }
    Ok(open)
}

fn accept() -> Vec<u8> {
    format!("Sec-WebSocket-Accept: {}", derive_accept_key(STANDARD.encode([7; 16]).as_bytes())).into_bytes()
}

#[test]
fn malformed_lines_are_skipped_and_the_rest_counts() {
    let accept = accept();
    for odd in ODD {
        for size in [1, 2, 7, usize::MAX] {
            for head in heads("200 OK", &[b"ETag: \"a\"", b"Content-Length: 5"], odd) {
                let (status, headers, body) = download(&[&head, b"hello".as_slice()].concat(), size).unwrap();
                let expected =
                    [("etag", "\"a\""), ("content-length", "5")].map(|(a, b)| (a.to_owned(), b.to_owned()));
                assert_eq!(
                    (status, &headers[..], &body[..]),
                    (200, &expected[..], &b"hello"[..]),
                    "{head:?}"
                );
            }
            for head in heads("101 ok", &[b"Connection: Upgrade", b"Upgrade: websocket", &accept], odd) {
                assert_eq!(upgrade(&head, size), SocketEvent::Up, "{:?}", String::from_utf8_lossy(&head));
            }
            for head in heads("200 OK", &[b"Via: x"], odd) {
                assert_eq!(tunnel(&head, size), Ok(true), "{:?}", String::from_utf8_lossy(&head));
            }
        }
    }
}

#[test]
fn malformed_lines_that_decide_about_the_connection_end_it() {
    let accept = accept();
    for odd in DECISIVE {
        let refused = |error: &str| error.contains("header is malformed");
        for size in [1, 2, usize::MAX] {
            for head in heads("200 OK", &[b"ETag: \"a\"", b"X: y"], odd) {
                let error = download(&[&head, b"hello".as_slice()].concat(), size).unwrap_err();
                assert!(refused(&error), "{:?}: {error}", String::from_utf8_lossy(odd));
                assert!(refused(&tunnel(&head, size).unwrap_err()), "{:?}", String::from_utf8_lossy(odd));
            }
            for head in heads("101 ok", &[b"Connection: Upgrade", b"Upgrade: websocket", &accept], odd) {
                let SocketEvent::Failed(error) = upgrade(&head, size) else { panic!("{odd:?}") };
                assert!(refused(&error.to_string()), "{:?}: {error}", String::from_utf8_lossy(odd));
            }
        }
    }
}

#[test]
fn skipped_lines_count_towards_the_limits() {
    let lines =
        |count: usize| format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "odd\r\n".repeat(count));
    assert!(download(lines(HEADERS_MAX - 1).as_bytes(), 1).is_ok());
    assert!(download(lines(HEADERS_MAX).as_bytes(), 1).unwrap_err().contains("more than"));
    let long = |total: usize| {
        let fixed = "HTTP/1.1 200 OK\r\nodd \r\nContent-Length: 0\r\n\r\n".len();
        format!("HTTP/1.1 200 OK\r\nodd {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(total - fixed))
    };
    assert!(download(long(HEAD_MAX).as_bytes(), 1000).is_ok());
    assert!(download(long(HEAD_MAX + 1).as_bytes(), 1000).unwrap_err().contains("over the limit"));
}

#[test]
fn addresses_in_any_encoding_are_kept() {
    let location = |value: &[u8]| {
        let head = [b"HTTP/1.1 302 Found\r\nLocation: ".as_slice(), value, b"\r\nContent-Length: 0\r\n\r\n"]
            .concat();
        let (_, headers, _) = download(&head, usize::MAX).unwrap();
        headers.into_iter().find(|(name, _)| name == "location").unwrap().1
    };
    assert_eq!(location("/grün".as_bytes()), "/grün");
    assert_eq!(location(b"/gr\xfcn"), "/gr%FCn");
}
