//! One update from the offer to the reboot, and every way it can go otherwise.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::*;
use serde_json::json;

#[test]
fn an_update_runs_from_offer_to_reboot() {
    let mut device = Device::joined(config());
    let (offer, fetch) = device.start(json!({}));
    assert_eq!(device.link.status().currently_downloading_uuid.as_deref(), Some(NEW_UUID));
    assert_eq!(offer_of(&fetch), offer);
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
    assert_eq!(device.chunk(&[1; 400]), Keep { range: 0..400, offset: 0, not_before: None });
    device.input(Input::ApplyProgress { offer, percent: 30 });
    assert_eq!(device.chunk(&[2; 600]), Keep { range: 0..600, offset: 400, not_before: None });
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
    assert!(matches!(out.as_slice(), [Output::SaveHistory { .. }, Output::Reboot { .. }]));

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

#[test]
fn further_offers_during_an_update_are_ignored() {
    let mut device = Device::joined(config());
    let (offer, _) = device.start(json!({}));
    assert_eq!(device.broadcast("update", update()), []);
    device.head(200, &[]);
    device.chunk(&[0; 1000]);
    assert_eq!(device.broadcast("update", update()), []);
    device.input(Input::ApplyDone { offer });
    assert_eq!(device.link.status().update, UpdateState::Written);
    // The other slot boots next; nothing may be written over it.
    let mut other = update();
    other["firmware_meta"]["uuid"] = json!("other");
    assert_eq!(device.broadcast("update", other), []);
    assert_eq!(device.link.status().counters.ignored_offers, 3);
}

#[test]
fn the_applier_s_failure_is_reported_and_the_next_update_works() {
    let mut device = Device::joined(config());
    let (offer, fetch) = device.start(json!({}));
    device.head(200, &[]);
    device.chunk(&[0; 10]);
    let reason = format!("ZIP bad CRC in part 3 {}", "ü".repeat(300));
    let out = device.input(Input::ApplyFailed { offer, reason: &reason });
    assert!(out.contains(&Output::Abort { fetch: fetch.fetch }));
    let told = device.failure();
    assert!(told.starts_with("FWUP error : ZIP bad CRC in part 3"), "{told}");
    assert_eq!(told.chars().count(), 200);
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
    // Late news of the old update is dropped.
    assert_eq!(device.input(Input::ApplyDone { offer }), []);
    assert_eq!(device.input(Input::ApplyFailed { offer, reason: "again" }), []);
    device.start(json!({}));
}

#[test]
fn an_applier_that_stands_still_is_given_up() {
    let mut device = Device::joined(config());
    let (offer, _) = device.start(json!({}));
    device.head(200, &[]);
    device.chunk(&[0; 1000]);
    device.down(None);
    device.command(Command::Disconnect);
    device.pass(Duration::from_secs(600));
    device.input(Input::ApplyProgress { offer, percent: 50 });
    device.pass(Duration::from_secs(899));
    assert_eq!(device.link.status().update, UpdateState::Finishing { offer });
    let out = device.pass(Duration::from_secs(1));
    assert!(out.contains(&Output::CancelApply { offer }));
    assert!(
        matches!(device.events().last(), Some(Event::UpdateFailed { reason, .. }) if reason.starts_with("Update failed :"))
    );
}

#[test]
fn progress_grows_and_comes_twice_a_second_at_most() {
    let mut device = Device::joined(config());
    let (offer, _) = device.start(json!({"size": 100}));
    device.head(200, &[]);
    let mut seen = Vec::new();
    for step in 0..50_u8 {
        let from = device.out.len();
        device.chunk(&[0; 1]);
        device.input(Input::ApplyProgress { offer, percent: step.min(30) });
        device.input(Input::ApplyProgress { offer, percent: step / 2 });
        for event in events(&device.out[from..]) {
            if let Event::UpdateProgress { stage, percent, .. } = event {
                seen.push((device.now.mono.as_micros() / 1000, stage, percent));
            }
        }
        device.pass(Duration::from_millis(100));
    }
    for stage in [Stage::Downloading, Stage::Updating] {
        let of: Vec<_> = seen.iter().filter(|(_, other, _)| *other == stage).collect();
        assert!(of.len() >= 6, "{of:?}");
        for pair in of.windows(2) {
            assert!(pair[1].0 - pair[0].0 >= 500 && pair[1].2 > pair[0].2, "{pair:?}");
        }
    }
    // The server hears of one stage at a time, and never of downloading after updating.
    let stages: Vec<_> =
        device.sent().iter().filter(|m| m[3] == "fwup_progress").map(|m| m[4]["stage"].clone()).collect();
    let first = stages.iter().position(|stage| stage == "updating").unwrap();
    assert!(stages[first..].iter().all(|stage| stage == "updating"), "{stages:?}");
    device.input(Input::ApplyProgress { offer, percent: 255 });
}

#[test]
fn a_blocked_socket_merges_progress_and_holds_the_rest() {
    let mut device = Device::joined(config());
    let (offer, _) = device.start(json!({}));
    device.head(200, &[]);
    device.sends = false;
    for percent in 1..40 {
        device.pass(Duration::from_millis(600));
        device.input(Input::ApplyProgress { offer, percent });
    }
    let flying = device.sent().len();
    let socket = device.socket();
    let out = device.input(Input::SocketSent { socket, frames: 3 });
    assert_eq!(sent(&out).len(), 1, "39 reports merged into the last");
    assert_eq!(sent(&out)[0][4]["value"], 39);
    assert_eq!(device.sent().len(), flying + 1);
}

#[test]
fn a_terminal_status_survives_reconnects_until_the_server_has_seen_it() {
    let mut device = Device::joined(config());
    let (offer, _) = device.start(json!({}));
    device.head(200, &[]);
    device.down(None);
    device.input(Input::ApplyProgress { offer, percent: 10 });
    device.input(Input::ApplyFailed { offer, reason: "disk full" });
    let failed = json!({"status": "failed", "reason": UNTOLD});
    // Not joined: held. Joined: sent. Lost before anything later was answered: sent again.
    device.out.clear();
    device.come_back_after(2);
    assert_eq!(device.statuses(), std::slice::from_ref(&failed));
    assert!(!device.sent().iter().any(|message| message[3] == "fwup_progress"), "stale progress");
    device.down(None);
    device.out.clear();
    device.come_back_after(2);
    assert_eq!(device.statuses(), [failed]);
    // The answer to a later message shows that the server has seen it.
    device.beat();
    device.down(None);
    device.out.clear();
    device.come_back_after(2);
    assert_eq!(device.statuses(), [] as [serde_json::Value; 0]);
}

#[test]
fn a_status_that_kills_the_connection_is_not_sent_for_ever() {
    let mut device = Device::joined(config());
    let (offer, _) = device.start(json!({}));
    device.input(Input::ApplyFailed { offer, reason: "x" });
    let mut times = 0;
    for _ in 0..6 {
        times += device.statuses().iter().filter(|status| status["status"] == "failed").count();
        device.out.clear();
        device.down(Some(1011));
        device.come_back_after(100);
    }
    assert_eq!(times, 3);
    assert_eq!(device.link.status().counters.dropped_pushes, 1);
}

#[test]
fn a_download_goes_on_without_the_socket() {
    let mut device = Device::joined(config());
    let (offer, _) = device.start(json!({}));
    device.head(200, &[]);
    device.chunk(&[0; 100]);
    device.down(None);
    device.chunk(&[0; 400]);
    device.come_back_after(1);
    let join = device.last_sent("phx_join");
    assert_eq!(join[4]["currently_downloading_uuid"], NEW_UUID);
    device.out.clear();
    device.pass(Duration::from_secs(1));
    device.chunk(&[0; 1]);
    let report = json!({"stage": "downloading", "value": 50});
    assert_eq!(device.last_sent("fwup_progress")[4], report, "told again after the join");
    device.pass(Duration::from_secs(1));
    device.input(Input::ApplyProgress { offer, percent: 30 });
    device.down(None);
    device.come_back_after(1);
    device.out.clear();
    device.input(Input::ApplyProgress { offer, percent: 30 });
    assert_eq!(device.last_sent("fwup_progress")[4], json!({"stage": "updating", "value": 30}));
    device.pass(Duration::from_secs(1));
    device.chunk(&[0; 499]);
    assert!(device.out.contains(&Output::FinishApply { offer }));
    device.down(None);
    let out = device.input(Input::ApplyDone { offer });
    assert!(!out.iter().any(|output| matches!(output, Output::Reboot { .. })));
    assert!(device.pass(Duration::from_secs(5)).iter().any(|output| matches!(output, Output::Reboot { .. })));
}

#[test]
fn unknown_events_are_named_and_nothing_more() {
    let mut device = Device::joined(config());
    for (topic, event) in [("device", "shiny:get"), ("console", "dn"), ("nonsense", "x")] {
        let out = device.server(&json!([null, null, topic, event, {"any": [1, 2]}]));
        assert_eq!(events(&out), [Event::Unknown { topic: topic.into(), event: event.into() }]);
    }
    assert_eq!(device.link.status().counters.unknown_events, 3);
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
}
