//! Joining the device channel, keeping it joined, and what passes over it.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::*;
use serde_json::json;

#[test]
fn an_unanswered_heartbeat_ends_the_connection() {
    let mut device = Device::joined(config());
    let socket = device.socket();
    let sent_at_30 = sent(&device.pass(Duration::from_secs(30)));
    assert_eq!(sent_at_30, [json!([null, sent_at_30[0][1], "phoenix", "heartbeat", {}])]);
    // A reply to something else doesn't count.
    device.server(&json!([null, "1", "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    device.server(&json!([null, "999", "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    device.pass(Duration::from_millis(29_999));
    assert_eq!(device.socket(), socket);
    let out = device.pass(Duration::from_millis(1));
    assert!(out.iter().any(|output| matches!(output, Output::HangUp { .. })));
    assert!(matches!(events(&out)[0], Event::Disconnected { .. }));
}

#[test]
fn answered_heartbeats_go_on() {
    let mut device = Device::joined(config());
    for _ in 0..10 {
        let beat = &sent(&device.pass(Duration::from_secs(30)))[0];
        device.server(&json!([null, beat[1], "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    }
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
}

#[test]
fn the_join_says_everything_and_the_interface_follows() {
    let mut device = Device::new(config());
    device.connect();
    let join = device.last_sent("phx_join");
    assert_eq!(
        join,
        json!(["1", "1", "device", "phx_join", {
            "nerves_fw_uuid": UUID, "nerves_fw_product": "TestProduct", "nerves_fw_version": "0.1.0",
            "nerves_fw_platform": "generic", "nerves_fw_architecture": "x86_64", "nerves_fw_author": "me",
            "nerves_fw_description": "first", "nerves_fw_vcs_identifier": "", "nerves_fw_misc": "",
            "fwup_version": "1.16.0", "device_api_version": "2.4.0", "console_version": "2.0.0",
            "currently_downloading_uuid": null,
            "meta": {"firmware_validated": true, "firmware_auto_revert_detected": false}
        }])
    );
    let out = device.join();
    assert_eq!(sent(&out), [json!(["1", "2", "device", "report_network_interface", {"interface": "eth0"}])]);
    assert_eq!(events(&out), [Event::Joined]);
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
}

#[test]
fn an_interface_that_is_not_known_is_left_out() {
    let mut device = Device::new(config());
    let socket = device.dialled(Command::Connect);
    device.input(Input::SocketUp { socket, interface: None });
    assert!(sent(&device.join()).is_empty());
}

#[test]
fn join_parameters_follow_the_configuration() {
    let join = |change: &dyn Fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        let mut device = Device::new(config);
        device.connect();
        device.last_sent("phx_join")[4].clone()
    };
    let params = join(&|c| c.public_keys.clear());
    assert_eq!(params["fwup_public_keys"], "on_connect");
    let params = join(&|c| c.request_public_keys = true);
    assert_eq!(params["fwup_public_keys"], "on_connect");
    let params = join(&|c| (c.accept_server_keys, c.request_public_keys) = (false, true));
    assert!(params.get("fwup_public_keys").is_none());
    let params = join(&|c| c.firmware_validated = None);
    assert!(params["meta"].get("firmware_validated").is_none());
    let params = join(&|c| {
        c.firmware.author = None;
        c.extra_join_params.insert("nerves_fw_author".into(), "mallory".into());
        c.extra_join_params.insert("meta".into(), "x".into());
        c.extra_join_params.insert("nerves_fw_uuid".into(), "x".into());
        c.extra_join_params.insert("archive_public_keys".into(), "x".into());
    });
    assert!(params.get("nerves_fw_author").is_none());
    assert!(params["meta"].is_object());
    assert_eq!(params["nerves_fw_uuid"], UUID);
    assert!(params.get("archive_public_keys").is_none());
}

#[test]
fn a_refused_join_is_tried_again_on_schedule() {
    let mut config = config();
    config.rejoin = vec![Duration::from_secs(1), Duration::from_secs(7)];
    let mut device = Device::new(config);
    device.connect();
    let mut seen = Vec::new();
    for wait in [1, 7, 7] {
        let join = device.last_sent("phx_join");
        let answer = json!([join[0], join[1], "device", "phx_reply", {"status": "error", "response": {"error": "could not connect"}}]);
        let out = device.server(&answer);
        let retry_in = Duration::from_secs(wait);
        assert_eq!(events(&out), [Event::JoinRefused { reason: "could not connect".into(), retry_in }]);
        assert_eq!(sent(&device.pass(Duration::from_millis(wait * 1000 - 1))), [] as [serde_json::Value; 0]);
        let again = sent(&device.pass(Duration::from_millis(1)));
        assert_eq!(again[0][3], "phx_join");
        seen.push(again[0][0].clone());
    }
    assert_eq!(seen, ["2", "3", "4"]);
    device.join();
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
}

#[test]
fn an_unanswered_join_is_left_and_made_again() {
    let mut device = Device::new(config());
    device.connect();
    let out = device.pass(Duration::from_secs(10));
    assert_eq!(sent(&out), [json!(["1", "2", "device", "phx_leave", {}])]);
    let reason = "the server did not answer the join of device within 10 s".into();
    assert_eq!(events(&out), [Event::ChannelLost { reason, retry_in: Duration::from_secs(5) }]);
    let out = sent(&device.pass(Duration::from_secs(5)));
    assert_eq!((&out[0][0], &out[0][3]), (&json!("3"), &json!("phx_join")));
    // The late answer to the first is of no use.
    device.server(&json!(["1", "1", "device", "phx_reply", {"status": "ok", "response": {}}]));
    device.server(&json!(["1", "1", "device", "phx_close", {}]));
    assert_eq!(device.link.status().connection, ConnectionState::Connected);
    device.join();
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
}

#[test]
fn a_lost_channel_is_joined_again_with_fresh_parameters() {
    for lost in [
        json!(["1", "1", "device", "phx_error", {"reason": "channel_crash"}]),
        json!(["1", "1", "device", "phx_close", {}]),
        json!([null, "2", "device", "phx_reply", {"status": "error", "response": {"reason": "unmatched topic"}}]),
    ] {
        let mut config = config();
        config.firmware_validated = Some(false);
        let mut device = Device::joined(config);
        let out = device.server(&lost);
        assert!(matches!(events(&out)[..], [Event::ChannelLost { .. }]), "{lost}: {out:?}");
        device.command(Command::FirmwareValidated);
        let out = sent(&device.pass(Duration::from_secs(5)));
        assert_eq!(out[0][3], "phx_join", "{lost}");
        assert_eq!(out[0][4]["meta"]["firmware_validated"], true);
        device.join();
        assert_eq!(device.link.status().connection, ConnectionState::Joined);
    }
}

#[test]
fn messages_of_an_earlier_join_are_dropped() {
    let mut device = Device::joined(config());
    device.server(&json!(["1", "1", "device", "phx_error", {}]));
    device.pass(Duration::from_secs(5));
    device.join();
    let out = device.server(&json!(["1", null, "device", "identify", {}]));
    assert_eq!(out, []);
    let out = device.server(&json!(["1", "1", "device", "phx_close", {}]));
    assert_eq!(out, []);
    assert_eq!(device.link.status().counters.stale_messages, 2);
    let out = device.server(&json!(["3", null, "device", "identify", {}]));
    assert_eq!(events(&out), [Event::Identify]);
    let out = device.broadcast("identify", json!({}));
    assert_eq!(events(&out), [Event::Identify]);
}

#[test]
fn validation_is_told_at_once_and_in_later_joins() {
    let mut config = config();
    config.firmware_validated = Some(false);
    let mut device = Device::joined(config);
    let out = device.command(Command::FirmwareValidated);
    assert_eq!(sent(&out), [json!(["1", "3", "device", "firmware_validated", {}])]);
    assert_eq!(device.command(Command::FirmwareValidated), []);
    device.down(None);
    device.come_back_after(1);
    assert_eq!(device.last_sent("phx_join")[4]["meta"]["firmware_validated"], true);
}

#[test]
fn a_reboot_is_announced_before_it_happens() {
    let mut device = Device::joined(config());
    device.sends = false;
    let out = device.broadcast("reboot", json!({}));
    assert_eq!(sent(&out), [json!(["1", "3", "device", "rebooting", {}])]);
    assert_eq!(events(&out), [Event::RebootRequested]);
    assert_eq!(device.link.deadline().unwrap().why, Timer::Reboot);
    // The socket doesn't take it: the reboot comes all the same.
    let out = device.pass(Duration::from_secs(5));
    assert!(matches!(out[..], [Output::SaveHistory { .. }, Output::Reboot { .. }]), "{out:?}");
    assert_eq!(device.pass(Duration::from_secs(10)), []);
}

#[test]
fn devices_whose_channels_ended_together_do_not_return_together() {
    let mut waits = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut config = config();
        config.backoff.jitter = 0.5;
        let mut device = Device::joined(config.clone());
        device.link = Link::new(config, seed, device.now).unwrap();
        device.connect();
        device.join();
        device.server(&json!(["1", "1", "device", "phx_error", {}]));
        let deadline = device.link.deadline().unwrap();
        assert_eq!(deadline.why, Timer::Rejoin);
        let wait = deadline.at - device.now.mono;
        assert!((Duration::from_secs(5)..=Duration::from_millis(7500)).contains(&wait), "{wait:?}");
        waits.insert(wait);
    }
    assert!(waits.len() > 40, "{waits:?}");
}

#[test]
fn what_an_operator_asks_for_happens_at_once_whatever_the_jitter() {
    let mut config = config();
    config.backoff.jitter = 10.0;
    let mut device = Device::joined(config);
    assert_eq!(events(&device.broadcast("identify", json!({}))), [Event::Identify]);
    let out = device.broadcast("reboot", json!({}));
    assert_eq!(sent(&out)[0][3], "rebooting");
    assert!(matches!(out.last(), Some(Output::Reboot { .. })), "{out:?}");
}

#[test]
fn connection_types_are_told_now_and_after_each_join() {
    let mut device = Device::new(config());
    let types =
        (0..=limits::MAX_CONNECTION_TYPES).map(|n| format!("{n}-{}", "x".repeat(100))).collect::<Vec<_>>();
    device.command(Command::ConnectionTypes { types });
    device.connect();
    assert!(!device.sent().iter().any(|message| message[3] == "connection_types"));
    device.join();
    let told = device.last_sent("connection_types")[4]["values"].as_array().unwrap().clone();
    assert_eq!(told.len(), limits::MAX_CONNECTION_TYPES);
    assert!(told.iter().all(|word| word.as_str().unwrap().chars().count() == limits::MAX_NAME_CHARS));
    let out = device.command(Command::ConnectionTypes { types: vec!["wifi".into(), "cellular".into()] });
    assert_eq!(
        sent(&out)[0].as_array().unwrap()[3..],
        [json!("connection_types"), json!({"values": ["wifi", "cellular"]})]
    );
    device.down(None);
    device.out.clear();
    device.come_back_after(1);
    assert_eq!(device.last_sent("connection_types")[4], json!({"values": ["wifi", "cellular"]}));
}

#[test]
fn a_status_that_a_crashed_channel_may_not_have_seen_is_sent_again() {
    let crash = json!(["1", "1", "device", "phx_error", {"reason": "channel_crash"}]);
    let unmatched = |device: &Device| {
        let reference = device.last_sent("status_update")[1].clone();
        json!([null, reference, "device", "phx_reply", {"status": "error", "response": {"reason": "unmatched topic"}}])
    };
    for told in [true, false] {
        let mut device = Device::joined(config());
        device.offer_and_ignore();
        let ignored = device.statuses().pop().unwrap();
        // The server tells that its side is gone, or only that it doesn't know the topic.
        let message = if told { crash.clone() } else { unmatched(&device) };
        device.server(&message);
        device.pass(Duration::from_secs(8));
        let join = device.last_sent("phx_join")[1].clone();
        let out =
            device.server(&json!([join, join, "device", "phx_reply", {"status": "ok", "response": {}}]));
        let again: Vec<_> = sent(&out).into_iter().filter(|message| message[3] == "status_update").collect();
        assert_eq!(again.len(), 1, "{out:?}");
        assert_eq!(again[0][4], ignored);
    }
}
