//! What is an address, where it leads, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use nerves_hub_link_url::{MAX_URL_BYTES, Url, UrlError};
use proptest::prelude::*;

fn read(text: &str) -> String {
    Url::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}")).to_http()
}

fn refused(text: &str) -> UrlError {
    Url::parse(text).expect_err(text)
}

#[test]
fn reads_addresses() {
    assert_eq!(read("HTTPS://Hub.Example"), "https://hub.example/");
    assert_eq!(read("wss://hub:4001/a/b?c=d#e"), "https://hub:4001/a/b?c=d");
    assert_eq!(read("ws://[::1]:80?x"), "http://[::1]:80/?x");
    assert_eq!(read("http://h:"), "http://h/");
    assert_eq!(read("http://h#top"), "http://h/");
    assert_eq!(read("http://[FE80::1%eth0]/"), "http://[fe80::1%25eth0]/");
    assert_eq!(read("http://[fe80::1%25Eth0]/"), "http://[fe80::1%25Eth0]/");
    assert_eq!(read("https://xn--hb-xka.example/"), "https://xn--hb-xka.example/");
}

#[test]
fn parts_are_ready_for_a_connection() {
    let url = Url::parse("wss://[2001:DB8::1]/x?y").unwrap();
    assert_eq!((url.is_tls(), url.host(), url.port(), url.target()), (true, "2001:db8::1", 443, "/x?y"));
    let url = Url::parse("http://Hub.Example:0080").unwrap();
    assert_eq!((url.is_tls(), url.host(), url.port(), url.target()), (false, "hub.example", 80, "/"));
    assert_eq!(Url::parse("http://[fe80::1%25Eth0]").unwrap().host(), "fe80::1%Eth0");
}

#[test]
fn what_browsers_encode_is_encoded_once() {
    assert_eq!(read("http://h/a b/ü.fw?q=ü x"), "http://h/a%20b/%C3%BC.fw?q=%C3%BC%20x");
    assert_eq!(read("http://h/<a>`b`\"c\"{d}|e^f\\g"), "http://h/%3Ca%3E%60b%60%22c%22%7Bd%7D%7Ce%5Ef%5Cg");
    assert_eq!(read("http://h/?<a>`b`\"c\"{d}|e^f\\g"), "http://h/?%3Ca%3E%60b%60%22c%22%7Bd%7D%7Ce%5Ef%5Cg");
    assert_eq!(read("http://h/\u{1}\u{7f}\u{1F600}"), "http://h/%01%7F%F0%9F%98%80");
    for kept in
        ["http://h/a%20b%c3%BC", "http://h/100%", "http://h/%zz?%", "http://h/~!$&'()*+,;=:@[]-._?/?'[]"]
    {
        assert_eq!(read(kept), kept);
    }
    assert_eq!(read("http://h/a%20b c"), "http://h/a%20b%20c");
}

#[test]
fn blanks_around_and_breaks_inside_are_dropped() {
    assert_eq!(read(" \r\n\thttp://h/x \n\0"), "http://h/x");
    assert_eq!(read("ht\ntp://h\r\n.example/a\tb"), "http://h.example/ab");
}

#[test]
fn refuses_what_is_no_address() {
    for (text, error) in [
        ("", UrlError::Scheme),
        ("hub.example", UrlError::Scheme),
        ("/x", UrlError::Scheme),
        ("http:h", UrlError::Scheme),
        ("http:/h", UrlError::Scheme),
        ("http:\\\\h", UrlError::Scheme),
        ("ftp://hub.example", UrlError::Scheme),
        (" x http://h", UrlError::Scheme),
        ("http://", UrlError::Host),
        ("http:///x", UrlError::Host),
        ("http://h h/", UrlError::Host),
        ("http://h\\x/", UrlError::Host),
        ("http://h%41/", UrlError::Host),
        ("http://h\u{1}/", UrlError::Host),
        ("http://<h>/", UrlError::Host),
        ("http://hüb/", UrlError::HostNotAscii),
        ("http://h\u{3002}x/", UrlError::HostNotAscii),
        ("http://::1", UrlError::Brackets),
        ("http://::1:3128/x", UrlError::Brackets),
        ("http://2001:db8::7:443", UrlError::Brackets),
        ("http://::ffff:10.0.0.1:80", UrlError::Brackets),
        ("http://fe80::1%eth0", UrlError::Brackets),
        ("http://a:b:c", UrlError::Brackets),
        ("http://g:b:c", UrlError::Port),
        ("http://[::1", UrlError::Ipv6),
        ("http://[::1]x", UrlError::Host),
        ("http://[]", UrlError::Ipv6),
        ("http://[abcd]", UrlError::Ipv6),
        ("http://[1.2.3.4]", UrlError::Ipv6),
        ("http://[[::1]]", UrlError::Ipv6),
        ("http://[::1%]", UrlError::Ipv6),
        ("http://[::1%e/]", UrlError::Ipv6),
        ("http://[2%]/", UrlError::Ipv6),
        ("http://h:0", UrlError::Port),
        ("http://h:65536", UrlError::Port),
        ("http://h:+1", UrlError::Port),
        ("http://h:1 /", UrlError::Port),
        ("http://h:1:2/", UrlError::Port),
        ("http://u:p@h", UrlError::User),
        ("http://good.example\\@evil.example/", UrlError::User),
    ] {
        assert_eq!(refused(text), error, "{text:?}");
    }
}

#[test]
fn bounds_the_length() {
    let at = format!("http://h/{}", "a".repeat(MAX_URL_BYTES - 9));
    assert_eq!(read(&at).len(), MAX_URL_BYTES);
    assert_eq!(refused(&format!("{at}a")), UrlError::TooLong);
    assert_eq!(refused(&" ".repeat(MAX_URL_BYTES + 1)), UrlError::TooLong);
    // Schemes of WebSocket are shorter than those the address may be written with.
    assert_eq!(refused(&at.replace("http", "ws").replace("/a", "/aaa")), UrlError::TooLong);
    // What is encoded grows.
    let at = format!("https://h/{}", " ".repeat((MAX_URL_BYTES - 10) / 3) + "x");
    assert!(read(&at).len() <= MAX_URL_BYTES);
    assert_eq!(refused(&at.replace('x', "  x")), UrlError::TooLong);
}

#[test]
fn resolves_locations() {
    let base = Url::parse("https://h:1/a/b/c?q=1").unwrap();
    let resolve = |location| base.resolve(location).unwrap().to_http();
    assert_eq!(resolve("http://other/x"), "http://other/x");
    assert_eq!(resolve("//other/x"), "https://other/x");
    assert_eq!(resolve("/x?y"), "https://h:1/x?y");
    assert_eq!(resolve("x"), "https://h:1/a/b/x");
    assert_eq!(resolve("../x"), "https://h:1/a/x");
    assert_eq!(resolve("../../../../x"), "https://h:1/x");
    assert_eq!(resolve("./"), "https://h:1/a/b/");
    assert_eq!(resolve("?z"), "https://h:1/a/b/c?z");
    assert_eq!(resolve(""), "https://h:1/a/b/c?q=1");
    assert_eq!(resolve("#top"), "https://h:1/a/b/c?q=1");
    assert_eq!(resolve(" /ü b?c d \r\n"), "https://h:1/%C3%BC%20b?c%20d");
    assert_eq!(resolve("/a%20b"), "https://h:1/a%20b");
    assert_eq!(resolve("\\\\evil.example/x"), "https://h:1/a/b/%5C%5Cevil.example/x");
    assert_eq!(base.resolve("mailto:a"), Err(UrlError::Scheme));
    assert_eq!(base.resolve("//"), Err(UrlError::Host));
    assert_eq!(base.resolve(&"x".repeat(MAX_URL_BYTES + 1)), Err(UrlError::TooLong));
}

#[test]
fn adds_a_query_once() {
    let add = |text: &str| Url::parse(text).unwrap().with_query("vsn", "2.0.0").to_websocket();
    assert_eq!(add("wss://h/x"), "wss://h/x?vsn=2.0.0");
    assert_eq!(add("wss://h/x?"), "wss://h/x?vsn=2.0.0");
    assert_eq!(add("wss://h/x?a=b"), "wss://h/x?a=b&vsn=2.0.0");
    assert_eq!(add("ws://h/x?vsn=9"), "ws://h/x?vsn=2.0.0");
    assert_eq!(add("ws://h/x?a&vsn=9&b=c=d&&vsn"), "ws://h/x?a&b=c=d&vsn=2.0.0");
}

#[test]
fn debug_shows_host_and_port_alone() {
    let shown = format!("{:?}", Url::parse("https://h:1/SECRET?SECRET").unwrap());
    assert_eq!(shown, "Url(tls://h:1/...)");
}

proptest! {
    #[test]
    fn what_was_read_reads_the_same_again(text in "(https?|wss?|HTTP)://[a-zA-Z.:\\[\\]%0-9]{1,12}([/?].{0,20})?") {
        if let Ok(url) = Url::parse(&text) {
            prop_assert_eq!(&Url::parse(&url.to_http()).unwrap(), &url);
            prop_assert!(url.to_http().bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert!(url.target().starts_with('/'));
        }
    }

    #[test]
    fn any_location_leads_somewhere_or_nowhere(location in ".{0,40}") {
        let base = Url::parse("https://h:1/a/b?c").unwrap();
        if let Ok(url) = base.resolve(&location) {
            prop_assert!(url.to_http().bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
