//! The loop around `poll(2)`: an update whole, cut, redirected, tampered with, and a server that restarts or keeps silent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod adapter;
#[path = "../../testkit/tests/suite/bench.rs"]
mod bench;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bench::{Bench, LIMIT};
use nerves_hub_link_examples::poll_loop;
use nerves_hub_link_protocol::{Client, Config, Event};
use nerves_hub_link_testkit::firmware::{Tamper, tamper};
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::{Mischief, Times};

struct Ear(Sender<Event>);

impl Client for Ear {
    fn event(&mut self, event: &Event) {
        let _ = self.0.send(event.clone());
    }
}

/// A device on a thread of the test's, which ends with its reboot or with the program.
struct Device {
    events: Receiver<Event>,
    ended: Receiver<String>,
}

impl Device {
    fn start(bench: &Bench, config: Config) -> Self {
        let ((ear, events), (end, ended)) = (channel(), channel());
        let (tls, mut installer) = (bench.tls(), bench.installer());
        std::thread::spawn(move || {
            let reason = poll_loop::run(config, &tls, &mut installer, &mut Ear(ear)).unwrap();
            let _ = end.send(reason);
        });
        Self { events, ended }
    }

    fn until(&self, what: &str, wanted: impl Fn(&Event) -> bool) {
        while !wanted(&self.events.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("never {what}"))) {}
    }

    fn assert_updated(&self, bench: &Bench) {
        let ended = self.ended.recv_timeout(LIMIT);
        assert!(ended.is_ok(), "{:#?}", bench.hub.log());
        assert_eq!(bench.disk.boot().unwrap().meta.version, "1.1.0");
    }
}

#[test]
fn an_update_goes_through_whatever_the_server_does() {
    for mischief in [
        None,
        Some(Mischief::CutDownload { after: 200_000 }),
        Some(Mischief::RedirectDownload { location: None }),
        Some(Mischief::RefuseDownload { status: 503, retry_after: None }),
        Some(Mischief::RefuseUpgrade { status: 503, retry_after: None }),
        Some(Mischief::WrongContentRange { by: 10 }),
        Some(Mischief::SlowBody { bytes: 32_768, every_ms: 5 }),
    ] {
        println!("{mischief:?}");
        let bench = Bench::new();
        if let Some(mischief) = mischief {
            bench.hub.mischief(mischief, Times::Once);
        }
        bench.deploy("1.1.0");
        let device = Device::start(&bench, bench.config());
        device.assert_updated(&bench);
        bench.hub_saw_status("completed");
    }
}

#[test]
fn the_network_is_looked_for_and_a_server_that_restarts_or_keeps_silent_is_joined_again() {
    let mut bench = Bench::new();
    bench.hub.mischief(Mischief::Silent, Times::Count(2));
    let mut config = bench.config();
    config.wait_for_network = true;
    config.connect_timeout = Duration::from_millis(200);
    let device = Device::start(&bench, config);
    device.until(
        "given up",
        |event| matches!(event, Event::Disconnected { reason, .. } if reason.contains("too long")),
    );
    device.until("joined", |event| *event == Event::Joined);
    bench.hub.restart().unwrap();
    device.until("gone", |event| matches!(event, Event::Disconnected { .. }));
    device.until("joined again", |event| *event == Event::Joined);
    bench.hub.broadcast("reboot", &serde_json::json!({}));
    assert!(device.ended.recv_timeout(LIMIT).is_ok());
    bench.hub_saw("the farewell", |event| matches!(event, HubEvent::Rebooting { .. }));
}

#[test]
fn firmware_that_was_tampered_with_is_refused_and_the_device_goes_on() {
    let bench = Bench::new();
    let how = Tamper::Resource { name: "rootfs.img".to_owned(), offset: 300_000 };
    bench.deploy_bytes("1.1.0", |bytes| tamper(bytes, &how).unwrap());
    let device = Device::start(&bench, bench.config());
    let reason = bench.hub_saw_status("failed").unwrap_or_default();
    assert!(reason.contains("rootfs.img"), "{reason}");
    assert_eq!(device.ended.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    assert_eq!(bench.disk.boot().unwrap().meta.version, "1.0.0");
    bench.hub.broadcast("identify", &serde_json::json!({}));
    device.until("asked who it is", |event| *event == Event::Identify);
}
