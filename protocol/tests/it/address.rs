//! Which network addresses a server may send the device to.

use std::net::IpAddr;

use nerves_hub_link_protocol::AddressKind::{LinkLocal, Loopback, Private, Public, Unusable};
use nerves_hub_link_protocol::{AddressKind, AddressRules};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn addresses_are_told_apart_in_every_form() {
    for (kind, list) in [
        (
            Public,
            &[
                "8.8.8.8",
                "172.15.0.1",
                "172.32.0.1",
                "100.63.0.1",
                "100.128.0.1",
                "169.253.0.1",
                "2606:4700::1",
            ][..],
        ),
        (
            Public,
            &[
                "::ffff:8.8.8.8",
                "64:ff9b::808:808",
                "2002:808:808::1",
                "2001:0:4136:e378:8000:63bf:f7f7:f7f7",
            ],
        ),
        (Private, &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.0.1"]),
        (
            Private,
            &[
                "fc00::1",
                "fdff::1",
                "fec0::1",
                "::ffff:10.0.0.1",
                "::10.0.0.1",
                "2002:a00:1::",
                "2001:0:4136:e378:8000:63bf:f5ff:fffe",
                "64:ff9b:1::808:808",
                "192.0.0.192",
            ],
        ),
        (
            LinkLocal,
            &["169.254.169.254", "fe80::1", "febf::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"],
        ),
        (LinkLocal, &["::ffff:0:169.254.1.1", "64:ff9b:1::a9fe:1"]),
        (
            Loopback,
            &[
                "127.0.0.1",
                "127.255.0.1",
                "::1",
                "::ffff:127.0.0.1",
                "::127.0.0.1",
                "2002:7f00:1::",
                "2001:0:4136:e378:8000:63bf:80ff:fffe",
            ],
        ),
        (Unusable, &["0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"]),
        (Unusable, &["ff02::1", "::ffff:0.0.0.0"]),
    ] {
        for text in list {
            assert_eq!(AddressKind::of(ip(text)), kind, "{text}");
        }
    }
}

#[test]
fn what_is_inside_is_refused_unless_the_server_is_there() {
    let refused = |rules: AddressRules, to: &str, hub: Option<&str>| {
        rules.refusal(ip(to), hub.map(ip), |address| address == ip("192.168.7.7")).is_some()
    };
    let (rules, strict) = (AddressRules::outside(false), AddressRules::outside(true));
    for (to, hub, usual, with_private) in [
        ("8.8.8.8", Some("1.1.1.1"), false, false),
        ("127.0.0.1", Some("1.1.1.1"), true, true),
        ("127.0.0.1", None, true, true),
        ("127.0.0.2", Some("127.0.0.1"), false, false),
        ("::1", Some("127.0.0.1"), false, false),
        ("::ffff:127.0.0.1", Some("::1"), false, false),
        ("169.254.169.254", Some("127.0.0.1"), true, true),
        ("127.0.0.1", Some("169.254.1.1"), true, true),
        ("fe80::1", Some("fe80::2"), false, false),
        ("fe80::1", Some("10.0.0.1"), true, true),
        ("10.0.0.2", Some("1.1.1.1"), false, true),
        ("10.0.0.2", Some("10.0.0.1"), false, true),
        ("10.0.0.1", Some("10.0.0.1"), false, false),
        ("::ffff:10.0.0.1", Some("10.0.0.1"), false, false),
        ("0.0.0.0", Some("127.0.0.1"), true, true),
        ("255.255.255.255", Some("255.255.255.255"), true, true),
        // An address of the device's own interface is the device itself.
        ("192.168.7.7", Some("1.1.1.1"), true, true),
        ("::ffff:192.168.7.7", Some("1.1.1.1"), true, true),
        ("192.168.7.7", Some("127.0.0.1"), false, false),
        ("192.168.7.8", Some("1.1.1.1"), false, true),
    ] {
        assert_eq!(refused(rules, to, hub), usual, "{to} of {hub:?}");
        assert_eq!(refused(strict, to, hub), with_private, "{to} of {hub:?}, strictly");
        assert!(!refused(AddressRules::any(), to, hub));
    }
}

#[test]
fn names_for_a_proxy_are_judged_without_a_look_up() {
    let rules = AddressRules::outside(false);
    for bad in [
        "127.0.0.1",
        "127.0.0.1.",
        "::1",
        "fe80::1%eth0",
        "localhost",
        "localhost.",
        "a.localhost",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0",
        "169.254.169.254",
        "localhost.localdomain",
    ] {
        assert!(rules.refusal_by_name(bad, None).is_some(), "{bad}");
        assert!(AddressRules::any().refusal_by_name(bad, None).is_none(), "{bad}");
    }
    for good in ["files.example", "8.8.8.8", "10.0.0.1", "localhost.example", "1.example", "cafe"] {
        assert_eq!(rules.refusal_by_name(good, None), None, "{good}");
    }
    assert_eq!(rules.refusal_by_name("127.0.0.2", Some(ip("127.0.0.1"))), None);
    // The proxy reaches the server by that name; what it leads to without a proxy is judged all the same.
    assert_eq!(rules.of_hub().refusal_by_name("localhost", None), None);
    assert!(rules.of_hub().refusal(ip("127.0.0.1"), None, |_| false).is_some());
    assert!(AddressRules::outside(true).refusal_by_name("10.0.0.1", None).is_some());
}
