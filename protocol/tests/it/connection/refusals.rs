//! Refusals and redirects.

use std::time::Duration;

use nerves_hub_link_protocol::limits::MAX_TRUSTED_ORIGINS;
use nerves_hub_link_protocol::*;

use super::*;
use crate::common::*;

fn refusal(out: &[Output]) -> (Refusal, Option<u64>) {
    events(out)
        .iter()
        .find_map(|event| match event {
            Event::Refused { kind, retry_after, .. } => Some((*kind, retry_after.map(|wait| wait.as_secs()))),
            _ => None,
        })
        .expect("not refused")
}

#[test]
fn refusals_are_told_apart() {
    let said = (
        "nh-connection-error-reason",
        "no certificate pair or shared secrets connection settings were provided",
    );
    let now = ("date", "Mon, 23 Nov 2026 14:39:17 GMT");
    let other = ("date", "Mon, 23 Nov 2026 16:39:17 GMT");
    let after = ("retry-after", "120");
    for (status, headers, expected) in [
        (401, &[said][..], (Refusal::NoCredentials, None)),
        (401, &[now], (Refusal::Credentials, None)),
        (401, &[], (Refusal::Credentials, None)),
        (401, &[other], (Refusal::Clock, None)),
        (403, &[], (Refusal::WrongPath, None)),
        (404, &[], (Refusal::WrongPath, None)),
        (200, &[], (Refusal::WrongPath, None)),
        (407, &[], (Refusal::Proxy, None)),
        (408, &[], (Refusal::ServerTrouble, None)),
        (429, &[after], (Refusal::Busy, Some(120))),
        (429, &[], (Refusal::Busy, None)),
        (500, &[after], (Refusal::ServerTrouble, None)),
        (503, &[after], (Refusal::ServerTrouble, Some(120))),
        (301, &[], (Refusal::Redirect, None)),
        (400, &[], (Refusal::Other, None)),
        (600, &[], (Refusal::Other, None)),
    ] {
        let mut device = Device::new(config());
        device.command(Command::Connect);
        let out = refuse(&mut device, status, headers, b"");
        assert_eq!(refusal(&out), expected, "HTTP {status}");
        assert_eq!(
            expected.0.is_retryable(),
            matches!(status, 408 | 429 | 500 | 503) || expected.0 == Refusal::Clock
        );
    }
    let mut config = config();
    config.serializer = Serializer::MsgPack;
    let mut device = Device::new(config);
    device.command(Command::Connect);
    assert_eq!(refusal(&refuse(&mut device, 403, &[], b"")).0, Refusal::Version);
    device.pass(Duration::from_secs(1));
    assert_eq!(refusal(&refuse(&mut device, 403, &[], b"")).0, Refusal::WrongPath, "JSON every server knows");
}

#[test]
fn a_device_endpoint_s_redirect_to_the_documentation_means_a_wrong_path() {
    let mut device = Device::new(config());
    device.command(Command::Connect);
    assert!(redirect(&mut device, "https://docs.nerves-hub.org/").is_some());
    let out = refuse(&mut device, 200, &[], b"<html>");
    assert_eq!(refusal(&out).0, Refusal::WrongPath);
    assert!(explanation(&out).ends_with("A redirect led to docs.nerves-hub.org."), "{}", explanation(&out));
    device.pass(Duration::from_secs(1));
    assert_eq!(device.dial().url, "wss://hub.example/device-socket/websocket?vsn=2.0.0");
}

#[test]
fn a_downgrade_by_redirect_is_followed_only_if_allowed_and_without_credentials() {
    let mut config = config();
    config.allow_redirect_downgrade = true;
    config.headers = vec![("x-mine".into(), Secret::new("y"))];
    let mut device = Device::new(config.clone());
    device.command(Command::Connect);
    assert_eq!(device.dial().headers.len(), 5);
    assert_eq!(redirect(&mut device, "http://b.example/x").as_deref(), Some("ws://b.example/x?vsn=2.0.0"));
    assert_eq!(device.dial().headers, []);
    // TLS proves that the server is who it is, not that it is ours.
    assert!(redirect(&mut device, "https://b.example/x").is_some());
    assert_eq!(device.dial().headers, []);
    config.host = "ws://hub.example".into();
    let mut device = Device::new(config);
    device.command(Command::Connect);
    assert!(redirect(&mut device, "ws://hub.example:2/x").is_some());
    assert_eq!(device.dial().headers, [], "another port is another server");
    assert!(redirect(&mut device, "ws://b.example/x").is_some());
    assert_eq!(device.dial().headers, []);
}

#[test]
fn refusals_are_explained_and_tried_again() {
    for (status, word) in [
        (400, "WebSocket upgrade"),
        (401, "identifier"),
        (403, "protocol version"),
        (404, "device endpoint"),
        (429, "no more connections"),
        (500, "failed"),
        (503, "Nothing is wrong with the device"),
        (401, "deleted"),
        (407, "proxy"),
        (502, "proxy"),
        (504, "waited too long"),
        (410, "no device socket"),
        (200, "device endpoint"),
    ] {
        let mut device = Device::new(config());
        device.command(Command::Connect);
        let out = refuse(&mut device, status, &[], b"");
        let text = explanation(&out);
        assert!(text.contains(word), "{text}");
        assert!(!text.contains(&status.to_string()), "the status has a field of its own: {text}");
        assert_eq!(retry_in(&device, &out), 1);
        let [.., Event::Refused { retry_in: said, .. }, Event::Disconnected { reason, retry_in, .. }] =
            &events(&out)[..]
        else {
            panic!("{out:?}")
        };
        assert_eq!((*said, *retry_in), (Duration::from_secs(1), Some(*said)));
        assert_eq!(reason.matches(&status.to_string()).count(), 1, "{reason}");
    }
}

#[test]
fn a_login_page_of_the_network_is_named_and_waited_for() {
    let html = [("Content-Type", "Text/HTML; charset=utf-8")];
    let http = [("Location", "http://login.hotspot.example/?from=hub")];
    for (status, headers, body, kind) in [
        (200, &html[..], &b"Welcome! Accept the terms."[..], Refusal::LoginPage),
        (200, &[], b"\xef\xbb\xbf\r\n<!DOCTYPE html>", Refusal::LoginPage),
        (204, &html, b"", Refusal::LoginPage),
        (511, &[], b"", Refusal::LoginPage),
        (511, &html, b"<html>", Refusal::LoginPage),
        (302, &http, b"", Refusal::Redirect),
        (307, &[], b"<html>", Refusal::Redirect),
    ] {
        let mut device = Device::new(config());
        device.command(Command::Connect);
        for wait in [1, 2, 4, 8] {
            let out = refuse(&mut device, status, headers, body);
            let text = explanation(&out);
            assert!(text.contains("login"), "{status}: {text}");
            assert!(!text.contains("Welcome") && !text.contains('<'), "{status}: {text}");
            assert_eq!(refusal(&out).0, kind, "{status}");
            assert_eq!(retry_in(&device, &out), wait, "{status}");
            device.pass(Duration::from_secs(wait));
        }
        // Once somebody has logged in, the device is served.
        let socket = device.socket();
        device.input(Input::SocketUp { socket, interface: None });
        assert_eq!(device.link.status().connection, ConnectionState::Connected);
    }
}

#[test]
fn a_login_page_that_an_encrypted_redirect_leads_to_is_named() {
    let mut device = Device::new(config());
    device.command(Command::Connect);
    assert!(redirect(&mut device, "https://login.hotspot.example/start").is_some());
    let out = refuse(&mut device, 200, &[("content-type", "text/html")], b"<html>");
    let text = explanation(&out);
    assert!(text.contains("login page") && text.contains("login.hotspot.example"), "{text}");
    device.pass(Duration::from_secs(1));
    assert!(device.dial().url.starts_with("wss://hub.example/"), "the next attempt asks the hub");
}

#[test]
fn the_server_s_own_words_are_quoted() {
    let mut device = Device::new(config());
    device.command(Command::Connect);
    let headers = [("NH-Connection-Error-Reason", "no certificate pair")];
    let text = explanation(&refuse(&mut device, 401, &headers, b"other"));
    assert!(
        text.contains("got no credentials") && text.ends_with("The server says: no certificate pair"),
        "{text}"
    );
    device.command(Command::Reconnect);
    let text = explanation(&refuse(&mut device, 503, &[], b"the platform could not be reached"));
    assert!(text.ends_with("the platform could not be reached"), "{text}");
    device.command(Command::Reconnect);
    let text = explanation(&refuse(&mut device, 502, &[], b"<html>\x1b[2J"));
    assert!(!text.contains("html"), "{text}");
    device.command(Command::Reconnect);
    let text = explanation(&refuse(&mut device, 503, &[], "ä".repeat(10_000).as_bytes()));
    assert!(text.chars().count() < 500, "{text}");
}

#[test]
fn retry_after_is_honoured_and_bounded() {
    let after = |status, seconds: &str| {
        let mut device = Device::new(config());
        device.command(Command::Connect);
        let out = refuse(&mut device, status, &[("retry-after", seconds)], b"");
        retry_in(&device, &out)
    };
    assert_eq!(after(503, "120"), 120);
    assert_eq!(after(429, "120"), 120);
    assert_eq!(after(429, "0"), 1);
    assert_eq!(after(503, "900"), 900);
    assert_eq!(after(503, "901"), 900);
    assert_eq!(after(401, "120"), 1);
}

/// Redirects the dial; returns the next address, if it follows at once.
fn redirect(device: &mut Device, location: &str) -> Option<String> {
    let out = refuse(device, 302, &[("Location", location)], b"");
    out.iter().find_map(|output| match output {
        Output::Dial(dial) => Some(dial.url.clone()),
        _ => None,
    })
}

#[test]
fn redirects_are_followed_at_once_and_resolved() {
    let to = |location| {
        let mut device = Device::new(config());
        device.command(Command::Connect);
        redirect(&mut device, location)
    };
    assert_eq!(to("https://b.example/x?vsn=2.0.0").as_deref(), Some("wss://b.example/x?vsn=2.0.0"));
    assert_eq!(to("wss://b.example/x").as_deref(), Some("wss://b.example/x?vsn=2.0.0"));
    assert_eq!(to("//b.example:1/x").as_deref(), Some("wss://b.example:1/x?vsn=2.0.0"));
    assert_eq!(to("/x").as_deref(), Some("wss://hub.example/x?vsn=2.0.0"));
    assert_eq!(to("http://hub.example/x"), None, "no downgrade");
    assert_eq!(to("ws://hub.example/x"), None, "no downgrade");
    assert_eq!(to("ftp://b.example/x"), None);
    assert_eq!(to("https://us er@b/x"), None);
}

#[test]
fn a_redirect_without_encryption_stays_on_its_host() {
    let to = |location| {
        let mut config = config();
        config.host = "ws://hub.example:1".into();
        let mut device = Device::new(config);
        device.command(Command::Connect);
        redirect(&mut device, location)
    };
    assert_eq!(to("http://hub.example:2/x").as_deref(), Some("ws://hub.example:2/x?vsn=2.0.0"));
    assert_eq!(to("https://b.example/x").as_deref(), Some("wss://b.example/x?vsn=2.0.0"));
    assert_eq!(to("http://b.example/x"), None);
}

#[test]
fn redirects_never_end_in_a_dead_end() {
    let mut device = Device::new(config());
    device.command(Command::Connect);
    assert!(redirect(&mut device, "https://b.example/x").is_some());
    assert!(redirect(&mut device, "https://c.example/x").is_some());
    let out = refuse(&mut device, 302, &[("Location", "https://d.example/x")], b"");
    assert!(explanation(&out).contains("2 redirects in a row"), "{}", explanation(&out));
    device.pass(Duration::from_secs(1));
    assert_eq!(device.dial().url, "wss://hub.example/device-socket/websocket?vsn=2.0.0");
    // No address at all.
    let out = refuse(&mut device, 301, &[], b"");
    assert!(explanation(&out).contains("names no address"));
    device.pass(Duration::from_secs(2));
    // Failing at the other place leads home.
    assert!(redirect(&mut device, "https://b.example/x").is_some());
    device.down(None);
    device.pass(Duration::from_secs(4));
    assert_eq!(device.dial().url, "wss://hub.example/device-socket/websocket?vsn=2.0.0");
    // And so does success there, once it ends.
    assert!(redirect(&mut device, "https://b.example/x").is_some());
    let socket = device.socket();
    device.input(Input::SocketUp { socket, interface: None });
    device.join();
    device.down(Some(1012));
    device.pass(Duration::from_secs(1));
    assert_eq!(device.dial().url, "wss://hub.example/device-socket/websocket?vsn=2.0.0");
}

#[test]
fn an_attempt_that_fails_behind_a_redirect_names_it() {
    let reason = |device: &Device| {
        let reasons = device.events().into_iter().rev().find_map(|event| match event {
            Event::Disconnected { reason, .. } => Some(reason),
            _ => None,
        });
        reasons.unwrap()
    };
    let expected = |why: &str| {
        format!(
            "the server redirected the device to docs.example, which failed: {why}; check the host and its path"
        )
    };
    let mut device = Device::new(config());
    device.command(Command::Connect);
    assert!(redirect(&mut device, "https://docs.example/").is_some());
    let socket = device.socket();
    device.input(Input::SocketDown { socket, code: None, reason: "no such name" });
    assert_eq!(reason(&device), expected("no such name"));
    // The next attempt begins with the configured address.
    device.pass(Duration::from_secs(1));
    let socket = device.socket();
    device.input(Input::SocketDown { socket, code: None, reason: "refused" });
    assert_eq!(reason(&device), "refused");
    device.pass(Duration::from_secs(2));
    assert!(redirect(&mut device, "https://docs.example/").is_some());
    device.pass(Duration::from_secs(60));
    assert_eq!(reason(&device), expected("the attempt to connect was never answered"));
}

/// What a redirect of a device of `config` shows there: the number of headers.
fn shown(config: &Config, hops: &[&str]) -> usize {
    let mut device = Device::new(config.clone());
    device.command(Command::Connect);
    assert_eq!(device.dial().headers.len(), 5, "the configured server");
    for hop in hops {
        assert!(redirect(&mut device, hop).is_some(), "{hop}");
        let dial = device.dial();
        let trusted = device.link.trusts(&dial.url);
        assert_eq!(
            trusted,
            !dial.headers.is_empty(),
            "the client certificate goes where the headers go: {hop}"
        );
    }
    device.dial().headers.len()
}

#[test]
fn credentials_go_to_the_configured_origin_alone() {
    let mut config = config();
    config.headers = vec![("x-mine".into(), Secret::new("y"))];
    for (hops, expected) in [
        (&["/x"][..], 5),
        (&["https://hub.example/x"], 5),
        (&["https://HUB.Example:443/x"], 5),
        (&["wss://hub.example/x"], 5),
        (&["https://evil.example/x"], 0),
        (&["//evil.example/x"], 0),
        (&["https://hub.example.evil.example/x"], 0),
        (&["https://evil.example/hub.example"], 0),
        (&["https://hub.example:8443/x"], 0),
        (&["https://hub.example.:443/x"], 0),
        (&["https://sub.hub.example/x"], 0),
        (&["https://127.0.0.1/x"], 0),
        (&["https://[::1]/x"], 0),
        // A path below a foreign server stays foreign, and the way back is no detour for them.
        (&["https://evil.example/x", "/y"], 0),
        (&["https://evil.example/x", "https://hub.example/y"], 5),
    ] {
        assert_eq!(shown(&config, hops), expected, "{hops:?}");
    }
    let mut device = Device::new(config.clone());
    device.command(Command::Connect);
    for location in ["https://hub.example@evil.example/x", "https://hub.example\\@evil.example/x"] {
        assert_eq!(redirect(&mut device, location), None, "{location}");
        device.pass(Duration::from_secs(4));
    }
    config.host = "https://[::1]:8443".into();
    assert_eq!(shown(&config, &["https://[::1]:8443/x"]), 5);
    assert_eq!(shown(&config, &["https://[::1]:8444/x"]), 0);
    assert_eq!(shown(&config, &["https://[::2]:8443/x"]), 0);
    // Whoever answers without TLS sends the device anywhere, a server with a certificate of its own included.
    config.host = "ws://hub.example".into();
    assert_eq!(shown(&config, &["https://evil.example/x"]), 0);
    assert_eq!(shown(&config, &["https://hub.example/x"]), 0);
    config.trusted_origins = vec!["https://hub.example".into()];
    assert_eq!(shown(&config, &["https://hub.example/x"]), 5);
}

#[test]
fn listed_origins_get_credentials_too() {
    let mut config = config();
    config.headers = vec![("x-mine".into(), Secret::new("y"))];
    config.trusted_origins = vec!["wss://other.example:8443/path".into()];
    assert_eq!(shown(&config, &["https://other.example:8443/x"]), 5);
    assert_eq!(shown(&config, &["https://other.example/x"]), 0);
    assert_eq!(shown(&config, &["https://third.example:8443/x"]), 0);
    let refused = |listed: Vec<String>| {
        let mut config = config.clone();
        config.trusted_origins = listed;
        config.check().unwrap_err().to_string()
    };
    assert!(refused(vec!["https://a.example".into(), "nonsense".into()]).contains("number 2"));
    assert!(refused(vec!["http://a.example".into()]).contains("no TLS"));
    let many = |count| vec![String::from("https://a.example"); count];
    assert!(refused(many(MAX_TRUSTED_ORIGINS + 1)).contains("16"));
    config.trusted_origins = many(MAX_TRUSTED_ORIGINS);
    config.check().unwrap();
}

#[test]
fn a_redirect_that_ends_with_a_server_that_gets_no_credentials_says_so() {
    let mut device = Device::new(config());
    device.command(Command::Connect);
    assert!(redirect(&mut device, "https://b.example/x").is_some());
    let out = refuse(&mut device, 401, &[], b"");
    assert!(explanation(&out).contains("trusted origins"), "{}", explanation(&out));
}
