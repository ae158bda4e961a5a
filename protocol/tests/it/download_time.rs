//! Downloads that take too long, in one way or another, and news that come late.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

/// A joined device whose update of 1000 bytes was accepted.
fn started(change: impl FnOnce(&mut Config), extra: Value) -> Device {
    let mut config = config();
    config.heartbeat = Duration::ZERO;
    change(&mut config);
    let mut device = Device::joined(config);
    device.start(extra);
    device
}

fn plain() -> Device {
    started(|_| {}, json!({}))
}

fn broke(device: &mut Device, reason: &str) -> Vec<Output> {
    let fetch = device.fetch().fetch;
    device.input(Input::FetchFailed { fetch, reason })
}

#[test]
fn attempts_without_progress_are_counted_and_progress_forgives() {
    let mut device = started(|config| config.download.max_disconnects = 3, json!({}));
    for _ in 0..2 {
        broke(&mut device, "refused");
        device.pass(Duration::from_secs(15));
    }
    device.head(200, &[]);
    device.chunk(&[0; 1]);
    for _ in 0..2 {
        broke(&mut device, "refused");
        device.pass(Duration::from_secs(15));
    }
    assert_eq!(header(&device.fetch().headers, "x-retry-number"), Some("4"));
    broke(&mut device, "refused");
    assert_eq!(
        device.failure(),
        "Download failed : given up after 3 attempts without a byte; the last time: refused"
    );
}

#[test]
fn silence_of_the_network_is_an_interruption() {
    // No head: the time to connect comes on top.
    let mut device = plain();
    assert_eq!(device.pass(Duration::from_secs(89)), []);
    let out = device.pass(Duration::from_secs(1));
    assert!(
        matches!(&events(&out)[..], [Event::DownloadInterrupted { reason, .. }] if reason == "the server did not answer")
    );
    // No bytes.
    let mut device = plain();
    device.head(200, &[]);
    device.chunk(&[0; 1]);
    assert_eq!(device.link.deadline().unwrap().why, Timer::DownloadIdle);
    assert_eq!(device.pass(Duration::from_secs(59)), []);
    let fetch = device.fetch().fetch;
    let out = device.pass(Duration::from_secs(1));
    assert!(out.contains(&Output::Abort { fetch }));
    assert!(
        matches!(&events(&out)[..], [Event::DownloadInterrupted { reason, .. }] if reason == "no byte for 60 seconds")
    );
}

#[test]
fn a_slow_disk_is_not_a_dead_network() {
    let mut device = plain();
    device.head(200, &[]);
    let fetch = device.fetch().fetch;
    device.link.body(device.now, fetch, &[0; 500]);
    device.drain();
    let why = device.link.deadline().unwrap().why;
    assert_eq!(why, Timer::Progress, "the server is to hear of it, but no timer of the network runs");
    device.pass(Duration::from_secs(800));
    device.link.stored(device.now, fetch, 499);
    device.pass(Duration::from_secs(800));
    device.link.stored(device.now, fetch, 1);
    device.pass(Duration::from_secs(59));
    device.chunk(&[0; 500]);
    assert!(device.out.iter().any(|output| matches!(output, Output::FinishApply { .. })));
    // But a disk that stands still is given up.
    let mut device = plain();
    device.head(200, &[]);
    let fetch = device.fetch().fetch;
    device.link.body(device.now, fetch, &[0; 500]);
    device.pass(Duration::from_secs(900));
    assert!(device.failure().starts_with("Update failed : the applier stood still"));
}

#[test]
fn bytes_of_a_broken_request_may_be_stored_late() {
    let mut device = plain();
    device.head(200, &[]);
    let fetch = device.fetch().fetch;
    assert_eq!(device.link.body(device.now, fetch, &[0; 600]).range, 0..600);
    broke(&mut device, "reset");
    device.pass(Duration::from_secs(15));
    assert_eq!(header(&device.fetch().headers, "range"), Some("bytes=600-"));
    device.head(206, &[("Content-Range", "bytes 600-999/1000")]);
    device.chunk(&[0; 400]);
    assert!(!device.out.iter().any(|output| matches!(output, Output::FinishApply { .. })), "600 are missing");
    device.link.stored(device.now, fetch, 600);
    device.drain();
    assert!(device.out.iter().any(|output| matches!(output, Output::FinishApply { .. })));
}

#[test]
fn a_crawling_server_is_given_up_by_network_time_alone() {
    // 1000 bytes may take the minimum of 300 seconds.
    let mut device = plain();
    device.head(200, &[]);
    for _ in 0..6 {
        device.pass(Duration::from_secs(49));
        let fetch = device.fetch().fetch;
        device.link.body(device.now, fetch, &[0; 1]);
        device.pass(Duration::from_secs(500));
        device.link.stored(device.now, fetch, 1);
        device.drain();
    }
    assert_eq!(device.link.deadline().unwrap().why, Timer::DownloadSpeed);
    device.pass(Duration::from_secs(5));
    assert_ne!(device.link.status().update, UpdateState::Idle);
    device.pass(Duration::from_secs(1));
    assert_eq!(device.failure(), "Download failed : slower than 30000 bits per second");
}

#[test]
fn a_download_has_a_longest_life() {
    let mut device = started(|config| config.download.max_duration = Duration::from_secs(100), json!({}));
    for _ in 0..9 {
        broke(&mut device, "refused");
        device.pass(Duration::from_secs(11));
    }
    assert_ne!(device.link.status().update, UpdateState::Idle);
    device.pass(Duration::from_secs(1));
    assert!(device.failure().contains("not complete after 100 seconds"));
    assert_eq!(device.pass(Duration::from_secs(1000)), []);
}
