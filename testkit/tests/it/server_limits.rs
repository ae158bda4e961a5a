//! The limits of the hub on real sockets, and requests in any pieces.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nerves_hub_link_testkit::limits::{CONNECTIONS, PROXY_REQUEST, REQUEST_HEAD, REQUEST_HEADERS};
use nerves_hub_link_testkit::server::{HubOptions, HubServer, ProxyServer};

const LONG: Duration = Duration::from_secs(60);

fn plain() -> HubServer {
    HubServer::start(HubOptions { tls: false, ..HubOptions::default() }).unwrap()
}

/// The status line that a request, sent in pieces of `step` bytes, is answered with.
fn answer_to(server: &HubServer, request: &str, step: usize) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in request.as_bytes().chunks(step) {
        // A refused request may be answered before it is complete.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

fn request_of(headers: usize, length: usize) -> String {
    let mut request = "GET /nothing HTTP/1.1\r\nconnection: close\r\n".to_owned();
    request.extend((1..headers).map(|n| format!("a{n}: b\r\n")));
    if length > 0 {
        // Makes the head exactly so long.
        let fill = length - request.len() - "x: \r\n\r\n".len();
        request.extend(["x: ", &"y".repeat(fill), "\r\n"]);
    }
    request.push_str("\r\n");
    request
}

#[test]
fn requests_may_come_byte_by_byte() {
    let server = plain();
    for step in [1, 3, 1000] {
        assert_eq!(answer_to(&server, &request_of(3, 0), step), "HTTP/1.1 301 Moved Permanently");
    }
}

#[test]
fn request_heads_have_a_limit() {
    let server = plain();
    let status = |request: &str| answer_to(&server, request, 100_000);
    assert_eq!(status(&request_of(REQUEST_HEADERS, 0)), "HTTP/1.1 301 Moved Permanently");
    assert_eq!(status(&request_of(REQUEST_HEADERS + 1, 0)), "HTTP/1.1 400 Bad Request");
    assert_eq!(request_of(1, REQUEST_HEAD).len(), REQUEST_HEAD);
    assert_eq!(status(&request_of(1, REQUEST_HEAD)), "HTTP/1.1 301 Moved Permanently");
    let endless = "GET / HTTP/1.1\r\nx: ".to_owned() + &"y".repeat(REQUEST_HEAD);
    assert_eq!(status(&endless), "HTTP/1.1 400 Bad Request");
}

#[test]
fn connections_have_a_limit() {
    let server = plain();
    let open = || {
        let socket = TcpStream::connect(server.address()).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket
    };
    let ask = |socket: &mut TcpStream| {
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
        socket.read_exact(&mut [0; 12])
    };
    let mut sockets: Vec<TcpStream> = (0..CONNECTIONS).map(|_| open()).collect();
    // Served, so all before it were accepted.
    ask(&mut sockets[CONNECTIONS - 1]).unwrap();
    assert!(ask(&mut open()).is_err(), "closed before a word");
    drop(sockets);
}

#[test]
fn requests_to_the_proxy_have_a_limit() {
    let proxy = ProxyServer::start("user", "pass").unwrap();
    let hub = plain();
    let answer = |length: usize| {
        let mut request = format!(
            "CONNECT localhost:{} HTTP/1.1\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\nx: ",
            hub.address().port()
        );
        request.push_str(&"y".repeat(length - request.len() - 4));
        request.push_str("\r\n\r\n");
        let mut tcp = TcpStream::connect(proxy.address()).unwrap();
        tcp.write_all(request.as_bytes()).unwrap();
        let mut byte = [0; 12];
        tcp.read_exact(&mut byte).map(|()| String::from_utf8_lossy(&byte).into_owned()).ok()
    };
    assert_eq!(answer(PROXY_REQUEST).as_deref(), Some("HTTP/1.1 200"));
    assert_eq!(answer(PROXY_REQUEST + 1), None, "closed without a word");
    assert_eq!(proxy.ways(), 1);
}
