//! The way through a proxy: any cut of its answer, limits, and words that give nothing away.

use nerves_hub_link_transport::limits::{HEAD_MAX, INTERIM_MAX};
use nerves_hub_link_transport::{Address, AddressError, Proxy, TransportError, Tunnel, UrlError};

fn target() -> Address {
    Address::parse("wss://[2001:db8::1]:4000/path?token=SECRET").unwrap()
}

fn tunnel() -> Tunnel {
    Tunnel::new(&Proxy::parse("http://proxy.example:3128").unwrap(), &target())
}

#[test]
fn what_is_sent_names_host_and_port_alone() {
    let mut tunnel = tunnel();
    let sent = String::from_utf8(tunnel.transmit().to_vec()).unwrap();
    assert_eq!(sent, "CONNECT [2001:db8::1]:4000 HTTP/1.1\r\nHost: [2001:db8::1]:4000\r\n\r\n");
    tunnel.transmitted(8);
    assert!(tunnel.transmit().starts_with(b"[2001"));
    tunnel.transmitted(usize::MAX);
    assert!(tunnel.transmit().is_empty());
}

#[test]
fn the_answer_may_come_in_any_pieces_and_ends_where_it_ends() {
    let answer = b"HTTP/1.1 200 OK\r\nvia: 1.1 x\r\n\r\n";
    for size in 1..=answer.len() {
        let mut tunnel = tunnel();
        let pieces: Vec<bool> = answer.chunks(size).map(|piece| tunnel.receive(piece).unwrap()).collect();
        let (last, before) = pieces.split_last().unwrap();
        assert!(*last && before.iter().all(|open| !open), "{size}");
    }
    let error = tunnel().receive(b"HTTP/1.1 200 OK\r\n\r\nearly").unwrap_err();
    assert!(matches!(&error, TransportError::Http { why, .. } if why.contains("more than")), "{error}");
    assert!(tunnel().ended().to_string().contains("proxy.example:3128"));
}

#[test]
fn interim_answers_come_before_the_one_that_counts() {
    let answer =
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nx : y\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    for size in 1..=answer.len() {
        let mut tunnel = tunnel();
        let pieces: Vec<bool> = answer.chunks(size).map(|piece| tunnel.receive(piece).unwrap()).collect();
        let (last, before) = pieces.split_last().unwrap();
        assert!(*last && before.iter().all(|open| !open), "{size}");
    }
    let interim = |count| format!("{}HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 103 x\r\n\r\n".repeat(count));
    assert!(tunnel().receive(interim(INTERIM_MAX).as_bytes()).unwrap());
    let error = tunnel().receive(interim(INTERIM_MAX + 1).as_bytes()).unwrap_err();
    assert!(error.to_string().contains("interim"), "{error}");
    let error = tunnel().receive(b"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 403 no\r\n\r\n").unwrap_err();
    assert!(matches!(error, TransportError::Proxy { status: 403, .. }), "{error}");
}

#[test]
fn a_web_page_is_no_way_through() {
    let page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n";
    for end in [page.len(), page.len() + 6] {
        let error = tunnel().receive(&[page.as_slice(), b"<html>"].concat()[..end]).unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("login page"), "{error}");
    }
    // Lengths mean nothing in the answer to CONNECT.
    assert!(
        tunnel().receive(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n").unwrap()
    );
    assert!(tunnel().receive(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").unwrap());
}

#[test]
fn a_refusal_and_nonsense_are_told_apart() {
    let error = tunnel().receive(b"HTTP/1.1 407 no\r\n\r\n").unwrap_err();
    let (proxy, target) = ("proxy.example:3128".to_owned(), "[2001:db8::1]:4000".to_owned());
    assert!(error.is_retryable() && error.to_string().contains("it wants a user and a password"), "{error}");
    assert_eq!(error, TransportError::Proxy { proxy, target, status: 407, credentials: false });
    let proxy = Proxy::parse("http://user:s3cret@proxy.example:3128").unwrap();
    let error =
        Tunnel::new(&proxy, &self::target()).receive(b"HTTP/1.1 407 no\r\n\r\n").unwrap_err().to_string();
    assert!(error.ends_with("it rejects the user and the password given"), "{error}");
    for (status, words) in [
        (403, "its rules forbid it"),
        (405, "does not know CONNECT"),
        (501, "does not know CONNECT"),
        (429, "no more connections"),
        (502, "can't reach the server"),
        (503, "can't reach the server"),
        (504, "can't reach the server"),
    ] {
        let answer = format!("HTTP/1.1 {status} x\r\n\r\n");
        let text = tunnel().receive(answer.as_bytes()).unwrap_err().to_string();
        assert!(text.contains(words) && text.starts_with("the proxy proxy.example:3128 refused"), "{text}");
    }
    assert!(matches!(tunnel().receive(b"SSH-2.0").unwrap_err(), TransportError::Http { .. }));
}

#[test]
fn the_answer_is_bounded() {
    let head = |length: usize| {
        let fixed = b"HTTP/1.1 200 OK\r\na: \r\n\r\n".len();
        format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(length - fixed)).into_bytes()
    };
    assert!(tunnel().receive(&head(HEAD_MAX)).unwrap());
    let endless = &head(HEAD_MAX * 2)[..=HEAD_MAX];
    assert!(!tunnel().receive(&endless[..HEAD_MAX - 1]).unwrap());
    assert!(matches!(
        tunnel().receive(&endless[..HEAD_MAX]).unwrap_err(),
        TransportError::HeadTooLarge { .. }
    ));
    assert!(matches!(tunnel().receive(endless).unwrap_err(), TransportError::HeadTooLarge { .. }));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(97));
    assert!(matches!(tunnel().receive(many.as_bytes()).unwrap_err(), TransportError::TooManyHeaders { .. }));
}

#[test]
fn addresses_of_proxies_and_their_credentials() {
    for (url, place) in [
        ("http://proxy:3128", "proxy:3128"),
        ("proxy:3128", "proxy:3128"),
        ("http://user:p@ss%3Aword@proxy", "proxy"),
        ("HTTP://u@[::1]:8080/", "[::1]:8080"),
        ("[::1]:3128", "[::1]:3128"),
        ("u:p@[::1]:3128", "[::1]:3128"),
        ("http://[fe80::1%25eth0]:3128", "[fe80::1%25eth0]:3128"),
        ("http://proxy:3128/ignored?too", "proxy:3128"),
        ("http://u:p/s?s#w@proxy:3128", "proxy:3128"),
    ] {
        assert_eq!(Proxy::parse(url).unwrap().address().authority(), place, "{url}");
    }
    let proxy = Proxy::parse("http://user:p@ss%3Aw%zz@proxy").unwrap();
    let sent = String::from_utf8(Tunnel::new(&proxy, &target()).transmit().to_vec()).unwrap();
    // user:p@ss:w%zz
    assert!(sent.contains("\r\nProxy-Authorization: Basic dXNlcjpwQHNzOncleno=\r\n"), "{sent}");
    for bare in ["http://::1:3128", "::1:3128", "::1", "http://user:secret@fe80::1", "user:secret@::1:3128"] {
        let error = Proxy::parse(bare).unwrap_err();
        assert!(matches!(error, AddressError::Unusable { why: UrlError::Brackets, .. }), "{bare}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    for bad in [
        "http://user:secret@[::1",
        "http://user:secret@proxy:port",
        "http://user:secret@pro xy",
        "//user:secret@proxy",
        "user:secret@http://proxy",
        "https://user:secret@proxy",
        "socks5://user:secret@proxy",
        "http://user:secret@",
        "http://user:secret@proxy:0",
    ] {
        let error = Proxy::parse(bad).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(!matches!(error, AddressError::Unusable { why: UrlError::User, .. }), "{error}");
    }
}
