//! What a server learns about a failure: nothing about the device's network.

use crate::common::*;
use nerves_hub_link_protocol::*;
use serde_json::json;

/// How an update fails after its first bytes, or before.
type Fails = fn(&mut Device);

const KINDS: [(&str, Fails); 9] = [
    ("the address is refused or does not answer", |device| {
        let fetch = device.fetch().fetch;
        device.input(Input::FetchFailed { fetch, reason: "10.0.0.7 is inside the device's network" });
    }),
    ("another status", |device| drop(device.head(404, &[]))),
    ("a redirect that leads nowhere", |device| drop(device.head(302, &[("location", "gopher://10.0.0.7/")]))),
    ("another length", |device| drop(device.head(200, &[("content-length", "7")]))),
    ("a compressed page", |device| drop(device.head(200, &[("content-encoding", "gzip")]))),
    ("too many bytes", |device| {
        device.head(200, &[("content-length", "1000")]);
        let fetch = device.fetch().fetch;
        device.link.body(device.now, fetch, &[0; 2000]);
        device.drain();
    }),
    ("no archive", |device| {
        device.head(200, &[]);
        let offer = offer_of(&device.fetch());
        device.input(Input::FileRefused { offer, reason: "this is no archive: <html>" });
    }),
    ("a stranger's signature", |device| {
        device.head(200, &[]);
        let offer = offer_of(&device.fetch());
        device.input(Input::ApplyFailed { offer, reason: "no key fits the signature" });
    }),
    ("a delta of another file", |device| {
        device.head(200, &[]);
        let offer = offer_of(&device.fetch());
        device.input(Input::DeltaFailed { offer, reason: "another source" });
    }),
];

#[test]
fn every_failure_before_a_trusted_signature_looks_the_same() {
    for (kind, fail) in KINDS {
        let mut config = config();
        config.download.max_disconnects = 1;
        let mut device = Device::joined(config);
        device.start(json!({"size": 1000}));
        fail(&mut device);
        for _ in 0..1000 {
            if device.link.update_state() == UpdateState::Idle {
                break;
            }
            // A download that is tried again fails again.
            let wait = device.link.deadline().unwrap().at - device.now.mono;
            device.pass(wait);
            if device.link.update_state() != UpdateState::Idle {
                fail(&mut device);
            }
        }
        let reason = device.failure();
        assert!(reason.len() > UNTOLD.len() || reason != UNTOLD, "{kind}: the log has {reason:?}");
        assert_eq!(device.statuses().pop().unwrap(), json!({"status": "failed", "reason": UNTOLD}), "{kind}");
    }
}

#[test]
fn what_fails_after_it_is_told() {
    let mut device = Device::joined(config());
    let (offer, _) = device.start(json!({}));
    device.head(200, &[]);
    let firmware = FirmwareMeta { uuid: "e75a88c1-3245-5751-0c33-2b884ef5f37f".into(), ..firmware() };
    let firmware =
        FirmwareMeta { version: update()["firmware_meta"]["version"].as_str().unwrap().into(), ..firmware };
    device.input(Input::FirmwareSigned { offer, firmware: &firmware });
    device.input(Input::ApplyFailed { offer, reason: "disk full" });
    assert_eq!(device.failure(), "FWUP error : disk full");
}
