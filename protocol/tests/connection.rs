//! Dialling, refusals, redirects, back-off, heartbeats and joins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::time::Duration;

use common::*;
use nerves_hub_link_protocol::*;

fn url(host: &str, auth: Auth) -> String {
    let mut device = Device::new(Config::new(host, auth, firmware()));
    device.command(Command::Connect);
    device.dial().url
}

#[test]
fn the_address_follows_the_host_and_the_kind_of_credentials() {
    let secret = || Auth::SharedSecret(SharedSecret::new("nhp_k", "s", "id"));
    let path = "/device-socket/websocket?vsn=2.0.0";
    assert_eq!(url("hub.example", secret()), format!("wss://hub.example{path}"));
    assert_eq!(url("hub.example:4001", secret()), format!("wss://hub.example:4001{path}"));
    assert_eq!(url("localhost:4000", secret()), format!("wss://localhost:4000{path}"));
    assert_eq!(url("ws://hub:80/a/b?c=d", secret()), format!("ws://hub:80{path}"));
    assert_eq!(url("https://hub/", secret()), format!("wss://hub{path}"));
    assert_eq!(url(" http://[::1]:4 ", secret()), format!("ws://[::1]:4{path}"));
    assert_eq!(url("hub.example", Auth::Certificate), "wss://hub.example/socket/websocket?vsn=2.0.0");
}

fn secret(config: &mut Config) -> &mut SharedSecret {
    match &mut config.auth {
        Auth::SharedSecret(secret) => secret,
        _ => unreachable!(),
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let error = |change: &dyn Fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        Link::new(config, 0, Now::default()).map(|_| ()).unwrap_err()
    };
    assert_eq!(error(&|c| c.host = String::new()), ConfigError::Host(UrlError::Host));
    assert_eq!(error(&|c| c.host = "ftp://hub".into()), ConfigError::Host(UrlError::Scheme));
    assert_eq!(error(&|c| c.host = "hub example".into()), ConfigError::Host(UrlError::Character));
    for bad in ["", " ", "unconfigured", "Unconfigured", "a\nb", &"x".repeat(256)] {
        assert_eq!(error(&|c| secret(c).identifier = bad.into()), ConfigError::Identifier, "{bad}");
    }
    assert_eq!(error(&|c| secret(c).key = String::new()), ConfigError::Key);
    assert_eq!(error(&|c| secret(c).key = "nhp_\r\nx: y".into()), ConfigError::Key);
    assert_eq!(error(&|c| secret(c).secret = Secret::default()), ConfigError::Secret);
    assert_eq!(error(&|c| secret(c).iterations = 0), ConfigError::KeyDerivation);
    assert_eq!(error(&|c| secret(c).iterations = 1_000_001), ConfigError::KeyDerivation);
    assert_eq!(error(&|c| secret(c).key_length = 1025), ConfigError::KeyDerivation);
    assert_eq!(error(&|c| c.public_keys = vec![KEY.into(), "AAAA".into()]), ConfigError::PublicKey(2));
    assert_eq!(error(&|c| c.public_keys = vec![KEY.into(); 65]), ConfigError::TooManyKeys(64));
    assert_eq!(
        error(&|c| c.headers = vec![("a:b".into(), Secret::new("c"))]),
        ConfigError::Header("a:b".into())
    );
    assert_eq!(
        error(&|c| c.headers = vec![("a".into(), Secret::new("c\n"))]),
        ConfigError::Header("a".into())
    );
    assert_eq!(error(&|c| c.backoff.min = Duration::ZERO), ConfigError::Backoff);
    assert_eq!(error(&|c| c.backoff.jitter = f64::NAN), ConfigError::Backoff);
    assert_eq!(error(&|c| c.backoff.jitter = -0.1), ConfigError::Backoff);
    assert_eq!(error(&|c| c.backoff.max = Duration::from_millis(1)), ConfigError::Backoff);
    assert_eq!(error(&|c| c.join_timeout = Duration::ZERO), ConfigError::Zero("join_timeout"));
    let mut at = config();
    secret(&mut at).identifier = "x".repeat(255);
    at.public_keys = vec![KEY.into(); 64];
    assert!(Link::new(at, 0, Now::default()).is_ok());
}

/// Milliseconds between a disconnection and the next attempt.
fn waits(device: &mut Device, times: usize) -> Vec<u64> {
    (0..times)
        .map(|_| {
            let at = device.now.mono;
            let retry = events(&device.down(None)).iter().find_map(|event| match event {
                Event::Disconnected { retry_at, .. } => *retry_at,
                _ => None,
            });
            let wait = retry.unwrap() - at;
            let out = device.pass(wait);
            assert!(matches!(out.last(), Some(Output::Dial(_))));
            u64::try_from(wait.as_millis()).unwrap()
        })
        .collect()
}

#[test]
fn the_back_off_doubles_to_its_maximum() {
    let mut device = Device::new(config());
    device.command(Command::Connect);
    assert_eq!(waits(&mut device, 9), [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]);
}

#[test]
fn jitter_only_adds_and_differs_between_devices() {
    let mut all = Vec::new();
    for seed in 0..50 {
        let mut config = config();
        config.backoff.jitter = 0.5;
        let mut device = Device::new(config.clone());
        device.link = Link::new(config, seed, device.now).unwrap();
        device.command(Command::Connect);
        let waits = waits(&mut device, 7);
        for (wait, base) in waits.iter().zip([1000, 2000, 4000, 8000, 16000, 32000, 60000]) {
            assert!((base..=base * 3 / 2).contains(wait), "{waits:?}");
        }
        all.push(waits[6]);
    }
    let average = all.iter().sum::<u64>() / 50;
    assert!((72_000..78_000).contains(&average), "{average}");
    all.sort_unstable();
    all.dedup();
    assert!(all.len() > 45);
}

#[test]
fn the_back_off_starts_over_after_a_join_or_a_good_while() {
    let mut device = Device::new(config());
    device.command(Command::Connect);
    waits(&mut device, 3);
    let socket = device.socket();
    device.input(Input::SocketUp { socket, interface: None });
    // Up is not enough: a server that accepts and drops at once must not be hammered.
    assert_eq!(waits(&mut device, 1), [8000]);
    let socket = device.socket();
    device.input(Input::SocketUp { socket, interface: None });
    device.join();
    assert_eq!(waits(&mut device, 2), [1000, 2000]);
    let socket = device.socket();
    device.input(Input::SocketUp { socket, interface: None });
    device.pass(Duration::from_secs(30));
    assert_eq!(waits(&mut device, 1), [1000]);
}

fn refuse(device: &mut Device, status: u16, headers: &[HeaderRef<'_>], body: &[u8]) -> Vec<Output> {
    let socket = device.socket();
    device.input(Input::SocketRefused { socket, status, headers, body })
}

fn explanation(out: &[Output]) -> String {
    events(out)
        .iter()
        .find_map(|event| match event {
            Event::Refused { explanation, .. } => Some(explanation.clone()),
            _ => None,
        })
        .expect("not refused")
}

fn retry_in(device: &Device, out: &[Output]) -> u64 {
    events(out)
        .iter()
        .find_map(|event| match event {
            Event::Disconnected { retry_at: Some(at), .. } => Some((*at - device.now.mono).as_secs()),
            _ => None,
        })
        .expect("no retry")
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
        (503, "nothing is wrong with the device"),
        (200, "device endpoint"),
    ] {
        let mut device = Device::new(config());
        device.command(Command::Connect);
        let out = refuse(&mut device, status, &[], b"");
        let text = explanation(&out);
        assert!(text.starts_with(&format!("HTTP {status}.")) && text.contains(word), "{text}");
        assert_eq!(retry_in(&device, &out), 1);
    }
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
fn a_dial_nobody_answers_is_given_up() {
    let mut device = Device::new(config());
    let socket = device.dialled(Command::Connect);
    assert_eq!(device.link.deadline().unwrap().why, Timer::Dial);
    let out = device.pass(Duration::from_secs(40));
    assert!(out.contains(&Output::HangUp {
        socket,
        code: 1000,
        reason: "the attempt to connect was never answered".into()
    }));
    // Its late success is stale.
    let out = device.input(Input::SocketUp { socket, interface: None });
    assert_eq!(out, []);
    assert_eq!(device.link.status().counters.stale_inputs, 1);
}

#[test]
fn three_quick_kicks_mean_a_twin() {
    let mut device = Device::joined(config());
    let kick = |device: &mut Device| {
        let out = device.down(Some(1001));
        (events(&out).contains(&Event::DuplicateIdentitySuspected), retry_in(device, &out))
    };
    assert_eq!(kick(&mut device), (false, 1));
    device.come_back_after(1);
    assert_eq!(kick(&mut device), (false, 1));
    device.come_back_after(1);
    assert_eq!(kick(&mut device), (true, 60));
    device.come_back_after(60);
    assert_eq!(kick(&mut device), (false, 60), "still suspected, told once");
    device.come_back_after(60);
    device.pass(Duration::from_secs(25));
    device.beat();
    device.pass(Duration::from_secs(35));
    assert_eq!(kick(&mut device), (false, 1), "left in peace for a minute");
}

#[test]
fn other_closes_do_not_mean_a_twin() {
    let mut device = Device::joined(config());
    for code in [1012, 1000, 1011, 1012, 1002] {
        let out = device.down(Some(code));
        assert!(!events(&out).contains(&Event::DuplicateIdentitySuspected));
        device.come_back_after(1);
    }
}

#[test]
fn commands_go_online_offline_and_around() {
    let mut device = Device::new(config());
    assert_eq!(device.link.deadline(), None);
    assert_eq!(device.link.command(device.now, Command::Reconnect), Err(CommandError::Offline));
    device.command(Command::Disconnect);
    let first = device.connect();
    assert_eq!(device.command(Command::Connect), [], "already");
    let out = device.command(Command::Reconnect);
    assert!(matches!(out[0], Output::HangUp { socket, .. } if socket == first));
    assert_ne!(device.socket(), first);
    let second = device.socket();
    let out = device.command(Command::Disconnect);
    assert!(matches!(out[0], Output::HangUp { socket, .. } if socket == second));
    assert!(matches!(&events(&out)[..], [Event::Disconnected { retry_at: None, .. }]));
    assert_eq!(device.pass(Duration::from_secs(1000)), []);
    assert_eq!(device.link.status().connection, ConnectionState::Offline);
    device.command(Command::Connect);
    device.down(None);
    device.command(Command::Reconnect);
    assert_eq!(device.link.status().connection, ConnectionState::Dialing, "without waiting");
}

#[test]
fn time_never_goes_back() {
    let mut device = Device::new(config());
    let socket = device.dialled(Command::Connect);
    let earlier = Now { mono: Instant::ZERO, wall: device.now.wall };
    device.link.handle(earlier, Input::SocketDown { socket, code: None, reason: "" });
    let deadline = device.link.deadline().unwrap();
    assert_eq!((deadline.at, deadline.why), (device.now.mono + Duration::from_secs(1), Timer::Reconnect));
}
