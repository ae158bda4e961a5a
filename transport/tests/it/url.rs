//! URLs: what is accepted, what is refused, and what is never shown.

use nerves_hub_link_transport::{Address, AddressError, UrlError};

#[test]
fn parts_of_good_urls() {
    for (url, secure, host, port, target, authority) in [
        ("wss://hub.test", true, "hub.test", 443, "/", "hub.test"),
        ("ws://hub.test/socket", false, "hub.test", 80, "/socket", "hub.test"),
        ("https://hub.test:443/a?b=c#d", true, "hub.test", 443, "/a?b=c", "hub.test"),
        ("http://hub.test:443/", false, "hub.test", 443, "/", "hub.test:443"),
        ("https://hub.test:80?x", true, "hub.test", 80, "/?x", "hub.test:80"),
        ("wss://[2001:db8::1]:8443/x", true, "2001:db8::1", 8443, "/x", "[2001:db8::1]:8443"),
        ("ws://[::1]", false, "::1", 80, "/", "[::1]"),
        ("ws://[fe80::1%eth0]:81", false, "fe80::1%eth0", 81, "/", "[fe80::1%25eth0]:81"),
        ("http://h/a b?c=ü", false, "h", 80, "/a%20b?c=%C3%BC", "h"),
        ("http://192.0.2.1:/x", false, "192.0.2.1", 80, "/x", "192.0.2.1"),
        ("WSS://Hub.Test:65535/", true, "hub.test", 65535, "/", "hub.test:65535"),
    ] {
        let address = Address::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(
            (address.secure, address.host.as_str(), address.port, address.path_and_query.as_str()),
            (secure, host, port, target),
            "{url}"
        );
        assert_eq!(address.authority(), authority, "{url}");
    }
}

#[test]
fn bad_urls_are_refused_in_words_without_the_query() {
    for (url, words) in [
        ("", "must begin with"),
        ("hub.test", "must begin with"),
        ("/socket", "must begin with"),
        ("ftp://hub.test/?SECRET", "ftp"),
        ("wss:///socket?SECRET", "no valid host name"),
        ("wss://hub test/?SECRET", "no valid host name"),
        ("wss://hüb.test/?SECRET", "xn--"),
        ("wss://hub.test:65536/?SECRET", "65536"),
        ("wss://hub.test:0/?SECRET", "port"),
        ("wss://hub.test:x/?SECRET", ":x"),
        ("wss://me:SECRET@hub.test/", "user name"),
        ("wss://SECRET@hub.test/", "user name"),
        ("wss://me:SECRET?SECRET@hub.test/", "port"),
        ("http://me:SECRET:proxy.test:3128", "http://..."),
        ("me:SECRET:proxy.test:3128", "must begin with"),
        ("me:SECRET@https://hub.test", "must begin with"),
        ("wss://::1/socket", "needs brackets"),
        ("wss://::1:443/socket", "needs brackets"),
        ("wss://[::1/?SECRET", "no IPv6 address"),
        ("wss://[hub]:80/?SECRET", "no IPv6 address"),
        ("wss://[2%]/?SECRET", "no IPv6 address"),
    ] {
        let error = Address::parse(url).expect_err(url);
        let text = format!("{error}");
        assert!(text.contains(words), "{url:?}: {text}");
        assert!(!format!("{text} {error:?}").contains("SECRET"), "{url:?}: {error:?}");
    }
    let long = format!("ftp://hub.test/{}", "x".repeat(10_000));
    assert!(Address::parse(&long).unwrap_err().to_string().len() < 250);
    assert!(matches!(
        Address::parse("ftp://hub.test"),
        Err(AddressError::Unusable { why: UrlError::Scheme, .. })
    ));
}

#[test]
fn debug_and_display_hide_the_query() {
    let address = Address::parse("https://hub.test:8443/fw/a.fw?sig=SECRET").unwrap();
    assert_eq!(address.to_string(), "tls://hub.test:8443/fw/a.fw?...");
    assert!(!format!("{address:?}").contains("SECRET"));
}

proptest::proptest! {
    /// Any text: an address or an error, no panic; and an address says where it came from.
    #[test]
    fn any_text_is_taken_or_refused(
        text in "(ws|wss|http|https|ftp)?(:)?(//)?[a-z@:\\[\\].%ä ]{0,12}(:[0-9]{0,6})?(/[a-z?#%]{0,6})?",
    ) {
        if let Ok(address) = Address::parse(&text) {
            proptest::prop_assert!(address.port > 0 && !address.host.is_empty());
            proptest::prop_assert!(address.path_and_query.starts_with('/'));
            let scheme = if address.secure { "https" } else { "http" };
            let again = format!("{scheme}://{}{}", address.authority(), address.path_and_query);
            proptest::prop_assert_eq!(Address::parse(&again), Ok(address));
        }
    }
}
