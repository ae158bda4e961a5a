//! One update from the offer to the reboot, and every way it can go otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::time::Duration;

use common::*;
use nerves_hub_link_protocol::*;
use serde_json::json;

#[test]
fn an_update_runs_from_offer_to_reboot() {
    let mut device = Device::joined(config());
    let (offer, fetch) = device.start(json!({}));
    assert_eq!(device.link.status().currently_downloading_uuid.as_deref(), Some(NEW_UUID));
    assert_eq!(fetch.offer, offer);
    assert_eq!(fetch.url.expose(), URL);
    assert_eq!(header(&fetch.headers, "range"), None);
    assert_eq!(header(&fetch.headers, "x-retry-number"), Some("0"));
    assert_eq!(header(&fetch.headers, "accept-encoding"), Some("identity"));
    let agent = format!("NervesHubLink-rs/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(header(&fetch.headers, "user-agent"), Some(agent.as_str()));
    let started = device.out.iter().position(|output| matches!(output, Output::StartApply(start) if start.offer == offer && start.public_keys == [KEY]));
    let fetched = device.out.iter().position(|output| matches!(output, Output::Fetch(_)));
    assert!(started.unwrap() < fetched.unwrap());

    device.head(200, &[("Content-Length", "1000")]);
    assert_eq!(device.chunk(&[1; 400]), Keep { range: 0..400, offset: 0 });
    device.input(Input::ApplyProgress { offer, percent: 30 });
    assert_eq!(device.chunk(&[2; 600]), Keep { range: 0..600, offset: 400 });
    assert_eq!(device.out.last(), Some(&Output::FinishApply { offer }));
    device.end();
    device.sends = false;
    let out = device.input(Input::ApplyDone { offer });
    assert!(events(&out).contains(&Event::UpdateCompleted { offer }));
    assert!(
        !out.iter().any(|output| matches!(output, Output::Reboot { .. })),
        "rebooted before the report was sent"
    );
    let socket = device.socket();
    let frames = u32::try_from(sent(&out).len()).unwrap();
    let out = device.input(Input::SocketSent { socket, frames });
    assert!(matches!(out.as_slice(), [Output::Reboot { .. }]));

    let pushed: Vec<_> = device.sent().iter().map(|message| message[4].clone()).collect();
    assert_eq!(
        pushed,
        [
            json!({"status": "received"}),
            json!({"status": "started", "downloader_network_interface": "wlan0"}),
            json!({"stage": "downloading", "value": 40}),
            json!({"stage": "updating", "value": 30}),
            json!({"stage": "updating", "value": 100}),
            json!({"status": "completed"}),
        ]
    );
}
