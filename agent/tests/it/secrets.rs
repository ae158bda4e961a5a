//! Secrets that pass through the program: in the queries of addresses, in a proxy's password, in the product's secret. None of
//! them reaches the log, standard error or the server, whatever fails.

use std::io::Read as _;
use std::net::TcpListener;
use std::process::Stdio;

use crate::common::{Device, Setting};
use base64::Engine as _;
use nerves_hub_link_testkit::hub::{Archive, HubEvent};
use nerves_hub_link_testkit::server::{Mischief, Times};
use serde_json::json;

/// Told from every other text, and long enough that a part of it would be noticed.
const CANARY: &str = "c4n4ry5ecret0fTheTest";

/// Checks a text for the secret, plain, in base64 at each of the three alignments, or cut.
fn check(name: &str, text: &str) {
    let encoded = |before: &str| {
        let whole = base64::engine::general_purpose::STANDARD.encode(format!("{before}{CANARY}"));
        whole[4..whole.len() - 4].to_owned()
    };
    let forms = [CANARY.to_owned(), CANARY[..10].to_owned(), encoded(""), encoded("a"), encoded("ab")];
    for form in forms {
        assert!(!text.contains(&form), "{name}: {form} in\n{text}");
    }
}

/// Runs a device with more arguments until it says one of `end`; returns all it printed on both outputs.
fn said(setting: &Setting, arguments: &[&str], act: impl FnOnce(&Setting), end: &[&str]) -> String {
    let mut command = setting.command(arguments);
    let mut device = Device(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut errors = device.0.stderr.take().unwrap();
    act(setting);
    let mut text = device.ends_after_any(end);
    errors.read_to_string(&mut text).unwrap();
    text
}

/// A port that nobody listens on.
fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn no_query_of_a_firmware_or_an_archive_is_printed_or_reported_whatever_fails() {
    let dead = dead_port();
    let query = format!("?X-Amz-Signature={CANARY}&token={CANARY}#{CANARY}");
    let addresses = [
        format!("https://localhost:{dead}/f.fw{query}"),
        format!("https://user:{CANARY}@localhost:{dead}/f.fw{query}"),
        format!("ftp://localhost/f.fw{query}"),
        format!("https://localhost:99999/f.fw{query}"),
        format!("https://[::zz]/f.fw{query}"),
        format!("https:/localhost{query}"),
        format!("https://localhost:{dead}/f\n{query}"),
    ];
    for format in ["plain", "json"] {
        for (number, address) in addresses.iter().enumerate() {
            let setting = Setting::new();
            let archives = setting.dir.path().join("archives").display().to_string();
            let arguments = ["--log", format, "--archive-dir", &archives, "--retry-delay", "0"];
            let act = |setting: &Setting| {
                setting.saw("join", |event| matches!(event, HubEvent::Joined { .. }));
                setting.hub.with_hub(|hub, _| {
                    hub.set_archive(Some(Archive {
                        size: 10,
                        uuid: "aaaaaaaa-2222-3333-4444-555555555555".into(),
                        version: "1.0.0".into(),
                        description: None,
                        platform: None,
                        architecture: None,
                        uploaded_at: "2026-11-23T14:39:56".into(),
                        url: address.clone(),
                    }));
                });
                let meta = json!({"uuid": "11111111-2222-3333-4444-555555555555", "version": "1.1.0", "product": "agent",
                    "platform": "board", "architecture": "any"});
                setting.hub.broadcast("update", &json!({"firmware_url": address, "firmware_meta": meta}));
                // What the device reports has arrived by then.
                setting.saw("a failure", |event| {
                    matches!(event, HubEvent::Status { status, .. } if status == "failed" || status == "ignored")
                });
            };
            let text = said(&setting, &arguments, act, &["update failed", "refused firmware"]);
            check(&format!("{format} {number}"), &text);
            check(&format!("reports {number}"), &format!("{:?}", setting.hub.log()));
        }
    }
}

#[test]
fn no_redirect_shows_its_query() {
    for format in ["plain", "json"] {
        for location in [
            format!("wss://localhost:{}/?signature={CANARY}", dead_port()),
            format!("wss://user:{CANARY}@localhost:{}/", dead_port()),
        ] {
            let setting = Setting::new();
            setting
                .hub
                .mischief(Mischief::RedirectUpgrade { location: location.clone() }, Times::UntilCleared);
            let end = ["disconnected", "waiting for the network", "refused the connection"];
            let text = said(&setting, &["--log", format], |_| {}, &end);
            check(&format!("{format} {location}"), &text);
        }
    }
}

#[test]
fn no_password_of_a_proxy_and_no_secret_of_the_product_is_printed() {
    let dead = dead_port();
    let proxies = [
        format!("http://user:{CANARY}@localhost:{dead}"),
        format!("user:{CANARY}@localhost:{dead}"),
        format!("http://user:{CANARY}@localhost:99999"),
        format!("socks5://user:{CANARY}@localhost:{dead}"),
        format!("http://user:{CANARY}@local host"),
        format!("user:{CANARY}:localhost:{dead}"),
    ];
    for format in ["plain", "json"] {
        for proxy in &proxies {
            let setting = Setting::new();
            let mut command = setting.command(&["--log", format, "--proxy", proxy]);
            command.env("NERVES_HUB_PRODUCT_SECRET", CANARY).env_remove("no_proxy");
            let mut device = Device(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
            let mut errors = device.0.stderr.take().unwrap();
            let mut text = String::new();
            // Some are refused at once, with others the device waits for the proxy.
            let mut out = device.0.stdout.take().unwrap();
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = out.read(&mut buffer) {
                text += &String::from_utf8_lossy(&buffer[..read]);
                if text.contains("waiting for the network") || text.contains("disconnected") {
                    device.signal("TERM");
                }
            }
            errors.read_to_string(&mut text).unwrap();
            device.0.wait().unwrap();
            assert!(!text.is_empty());
            check(&format!("{format} {proxy}"), &text);
        }
    }
}
