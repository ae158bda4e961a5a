//! What the device says about itself: its update tool, its interface, its validation, and updates the application
//! carries out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

/// Another key than the configured one.
const OTHER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn join_params(change: impl Fn(&mut Config)) -> Value {
    let mut config = config();
    change(&mut config);
    let mut device = Device::new(config);
    device.connect();
    device.last_sent("phx_join")[4].clone()
}

/// The parameters every device sends.
const COMMON: [&str; 4] = ["console_version", "currently_downloading_uuid", "device_api_version", "meta"];

fn own(params: &Value) -> Value {
    let mut own = params.clone();
    for name in COMMON {
        assert!(own.as_object_mut().unwrap().remove(name).is_some(), "{name}");
    }
    own
}

#[test]
fn other_update_tools_describe_their_firmware_with_keys_of_their_own() {
    let text = String::from;
    let esp = UpdateTool::EspIdf {
        project_name: text("pump"),
        version: text("1.2.0"),
        app_elf_sha256: "ab".repeat(32),
        idf_version: text("v5.5"),
        chip_id: 9,
    };
    assert_eq!(
        own(&join_params(|c| c.update_tool = esp.clone())),
        json!({"update_tool": "esp-idf", "esp_idf_project_name": "pump", "esp_idf_version": "1.2.0",
            "esp_idf_app_elf_sha256": "ab".repeat(32), "esp_idf_ver": "v5.5", "esp_idf_chip_id": 9})
    );
    let atomvm = UpdateTool::AtomVm {
        app_name: text("blink"),
        app_version: text("1.0.0"),
        avm_sha256: "cd".repeat(32),
        vm_version: text("0.6.5"),
    };
    assert_eq!(
        own(&join_params(|c| c.update_tool = atomvm.clone())),
        json!({"update_tool": "atomvm", "atomvm_app_name": "blink", "atomvm_app_version": "1.0.0",
            "atomvm_avm_sha256": "cd".repeat(32), "atomvm_version": "0.6.5"})
    );
    let rauc = UpdateTool::Rauc {
        uuid: text(UUID),
        version: text("3.0.0"),
        platform: None,
        product: Some(text("gate")),
        compatible: text("gate-rev2"),
        tool_version: text("1.11"),
    };
    assert_eq!(
        own(&join_params(|c| c.update_tool = rauc.clone())),
        json!({"update_tool": "rauc", "rauc_uuid": UUID, "rauc_version": "3.0.0", "rauc_platform": null,
            "rauc_product": "gate", "rauc_architecture": null, "rauc_compatible": "gate-rev2",
            "rauc_tool_version": "1.11"})
    );
}

#[test]
fn an_application_s_own_tool_adds_its_parameters_and_replaces_none() {
    let params = BTreeMap::from([
        ("swupdate_version".to_owned(), JoinValue::Text("2025.05".into())),
        ("slots".to_owned(), JoinValue::Integer(-2)),
        ("signed".to_owned(), JoinValue::Bool(true)),
        ("note".to_owned(), JoinValue::Null),
        ("update_tool".to_owned(), JoinValue::Text("fwup".into())),
        ("meta".to_owned(), JoinValue::Integer(1)),
        ("nerves_fw_uuid".to_owned(), JoinValue::Text("other".into())),
    ]);
    let tool = UpdateTool::Other { name: "swupdate".into(), params };
    let sent = join_params(|c| c.update_tool = tool.clone());
    assert_eq!(sent["update_tool"], "swupdate");
    assert_eq!((&sent["swupdate_version"], &sent["slots"]), (&json!("2025.05"), &json!(-2)));
    assert_eq!((&sent["signed"], &sent["note"]), (&json!(true), &Value::Null));
    assert_eq!(sent["nerves_fw_uuid"], UUID, "a server that doesn't know the tool reads it as of fwup");
    assert!(sent["meta"].is_object());
    assert!(join_params(|_| {}).get("update_tool").is_none(), "fwup need not be said");
}

#[test]
fn progress_is_reported_as_the_tool_s_servers_know_it() {
    let event = |tool: UpdateTool, event: ProgressEvent| {
        let mut config = config();
        (config.update_tool, config.progress_event) = (tool, event);
        let mut device = Device::joined(config);
        device.start(json!({"size": 1000}));
        device.head(200, &[]);
        device.chunk(&[0; 500]);
        let sent = device.sent();
        let report = sent.iter().find(|message| message[4].get("stage").is_some()).expect("no progress");
        assert_eq!(report[4], json!({"stage": "downloading", "value": 50}));
        report[3].as_str().unwrap().to_owned()
    };
    let other = || UpdateTool::Other { name: "x".into(), params: BTreeMap::new() };
    let atomvm = || UpdateTool::AtomVm {
        app_name: String::new(),
        app_version: String::new(),
        avm_sha256: String::new(),
        vm_version: String::new(),
    };
    assert_eq!(event(UpdateTool::Fwup, ProgressEvent::ByTool), "fwup_progress");
    assert_eq!(event(other(), ProgressEvent::ByTool), "fwup_progress");
    assert_eq!(event(atomvm(), ProgressEvent::ByTool), "update_progress");
    assert_eq!(event(atomvm(), ProgressEvent::FwupProgress), "fwup_progress");
    assert_eq!(event(UpdateTool::Fwup, ProgressEvent::UpdateProgress), "update_progress");
}

#[test]
fn interfaces_can_be_renamed_and_told_late() {
    let mut config = config();
    config.interface_names =
        BTreeMap::from([("eth0".into(), "wlan7".into()), ("ppp0".into(), "wwan0".into())]);
    let mut device = Device::new(config.clone());
    device.connect();
    device.join();
    assert_eq!(device.last_sent("report_network_interface")[4], json!({"interface": "wlan7"}));
    device.out.clear();
    device.command(Command::NetworkInterface { name: "ppp0".into() });
    assert_eq!(device.last_sent("report_network_interface")[4], json!({"interface": "wwan0"}));
    assert_eq!(device.command(Command::NetworkInterface { name: "ppp0".into() }), [], "said already");
    assert_eq!(device.command(Command::NetworkInterface { name: String::new() }), [], "nothing worth saying");
    // It belongs to this connection.
    device.down(None);
    assert_eq!(device.command(Command::NetworkInterface { name: "lo".into() }), []);
    device.come_back_after(1);
    assert_eq!(device.last_sent("report_network_interface")[4], json!({"interface": "wlan7"}));
    let many = |count: u32| (0..count).map(|n| (n.to_string(), String::new())).collect();
    config.interface_names = many(32);
    assert!(Link::new(config.clone(), 0, Now::default()).is_ok());
    config.interface_names = many(33);
    assert_eq!(Link::new(config, 0, Now::default()).err(), Some(ConfigError::TooManyInterfaces(32)));
}

/// An application that finds its firmware good at second sight.
struct Careful(u32);

impl Client for Careful {
    fn firmware_validated(&mut self) -> Option<bool> {
        self.0 += 1;
        Some(self.0 > 1)
    }
}

#[test]
fn a_firmware_not_yet_validated_is_asked_about_every_ten_seconds() {
    let mut config = config();
    config.firmware_validated = Some(false);
    config.heartbeat = Duration::ZERO;
    let mut device = Device::new(config);
    assert_eq!(device.link.deadline(), None, "offline on purpose");
    device.connect();
    device.join();
    let asked =
        |out: &[Output]| events(out).iter().filter(|event| **event == Event::ValidationWanted).count();
    assert_eq!(device.link.deadline().unwrap().why, Timer::Validation);
    assert_eq!(asked(&device.pass(Duration::from_secs(9))), 0);
    assert_eq!(asked(&device.pass(Duration::from_secs(31))), 4);
    // The application answers through its callback.
    let mut client = Careful(0);
    let firmware = firmware();
    let event = Event::ValidationWanted;
    assert_eq!(client::deliver(&mut client, &firmware, &event), None);
    let answer = client::deliver(&mut client, &firmware, &event).unwrap();
    device.out.clear();
    device.command(answer);
    assert_eq!(device.last_sent("firmware_validated")[4], json!({}));
    assert_eq!(device.link.deadline(), None, "asked no more");
    // The next join says so, too.
    device.down(None);
    device.come_back_after(1);
    assert_eq!(device.last_sent("phx_join")[4]["meta"]["firmware_validated"], true);
}

#[test]
fn nothing_is_asked_where_validation_is_unknown_or_done() {
    for validated in [None, Some(true)] {
        let mut config = config();
        config.firmware_validated = validated;
        config.heartbeat = Duration::ZERO;
        let device = Device::joined(config);
        assert_eq!(device.link.deadline(), None);
    }
}

#[test]
fn a_join_names_the_firmware_from_the_offer_on() {
    let mut device = Device::joined(config());
    let downloading = |device: &mut Device| {
        device.down(None);
        device.come_back_after(1);
        device.last_sent("phx_join")[4]["currently_downloading_uuid"].clone()
    };
    assert_eq!(downloading(&mut device), Value::Null);
    let offer = device.offer(json!({}));
    assert_eq!(downloading(&mut device), NEW_UUID, "or the server notes it as abandoned");
    device.command(Command::Decide { offer, decision: Decision::Apply });
    assert_eq!(downloading(&mut device), NEW_UUID);
    device.head(503, &[]);
    assert_eq!(downloading(&mut device), NEW_UUID, "also between two attempts");
    device.input(Input::ApplyFailed { offer, reason: "x" });
    assert_eq!(downloading(&mut device), Value::Null);
}

#[test]
fn the_server_hears_of_a_slow_update_in_time() {
    let mut config = config();
    config.heartbeat = Duration::ZERO;
    config.download.max_disconnects = 1000;
    let mut device = Device::joined(config);
    device.start(json!({"size": null}));
    let progress = |out: &[Output]| {
        sent(out)
            .iter()
            .filter(|message| message[3] == "fwup_progress")
            .map(|m| m[4].clone())
            .collect::<Vec<_>>()
    };
    // Nothing but failures for half an hour, and no size to make a percentage of.
    let mut reports = Vec::new();
    for _ in 0..120 {
        device.head(503, &[]);
        reports.extend(progress(&device.pass(Duration::from_secs(15))));
    }
    assert_eq!(
        reports,
        [
            json!({"stage": "downloading", "value": 0}),
            json!({"stage": "downloading", "value": 0}),
            json!({"stage": "downloading", "value": 0})
        ]
    );
    // An applier that works for long without a percentage.
    let mut device = Device::joined(self::config());
    let (offer, _) = device.start(json!({"size": 4}));
    device.head(200, &[]);
    device.chunk(b"1234");
    device.input(Input::ApplyProgress { offer, percent: 30 });
    device.out.clear();
    for _ in 0..20 {
        device.beat();
    }
    assert_eq!(progress(&device.out), [json!({"stage": "updating", "value": 30})]);
}

fn take_over(device: &mut Device) -> OfferId {
    let offer = device.offer(json!({}));
    device.out.clear();
    let out = device.command(Command::Decide { offer, decision: Decision::TakeOver });
    let [
        Output::SaveAttempts { .. },
        Output::SaveHistory { .. },
        Output::Event(Event::UpdateHandedOver { offer: handed, info, url, public_keys }),
    ] = &out[..]
    else {
        panic!("{out:?}")
    };
    assert_eq!((*handed, info.firmware.uuid.as_str(), url.expose()), (offer, NEW_UUID, URL));
    assert_eq!(public_keys[..], [KEY]);
    assert!(!format!("{out:?}").contains("TOPSECRET"));
    offer
}

fn report(device: &mut Device, offer: OfferId, report: UpdateReport) -> Vec<Value> {
    sent(&device.command(Command::ReportUpdate { offer, report })).iter().map(|m| m[4].clone()).collect()
}

#[test]
fn an_update_the_application_took_over_is_reported_like_any_other() {
    let mut device = Device::joined(config());
    let offer = take_over(&mut device);
    assert_eq!(device.link.status().update, UpdateState::HandedOver { offer });
    assert_eq!(device.link.status().currently_downloading_uuid.as_deref(), Some(NEW_UUID));
    assert_eq!(device.link.status().alarms[0].alarm, Alarm::UpdateInProgress);
    let started = UpdateReport::Started { interface: Some("wlan0".into()) };
    assert_eq!(
        report(&mut device, offer, started.clone()),
        [json!({"status": "started", "downloader_network_interface": "wlan0"})]
    );
    assert_eq!(report(&mut device, offer, started), [] as [Value; 0], "once");
    let at = |stage, percent| UpdateReport::Progress { stage, percent };
    assert_eq!(
        report(&mut device, offer, at(Stage::Downloading, 10)),
        [json!({"stage": "downloading", "value": 10})]
    );
    assert_eq!(
        report(&mut device, offer, at(Stage::Downloading, 11)),
        [] as [Value; 0],
        "twice a second at most"
    );
    assert_eq!(
        report(&mut device, offer, at(Stage::Downloading, 200)),
        [json!({"stage": "downloading", "value": 100})]
    );
    // The adapter's applier has nothing to do with it.
    let stale = device.link.status().counters.stale_inputs;
    assert_eq!(device.input(Input::ApplyDone { offer }), []);
    assert_eq!(device.input(Input::ApplyFailed { offer, reason: "x" }), []);
    assert_eq!(device.input(Input::ApplyProgress { offer, percent: 5 }), []);
    assert_eq!(device.link.status().counters.stale_inputs, stale + 3);
    // No other update meanwhile.
    assert_eq!(device.broadcast("update", update()), []);
    let out = device.command(Command::ReportUpdate { offer, report: UpdateReport::Completed });
    let reports: Vec<Value> = sent(&out).iter().map(|m| m[4].clone()).collect();
    assert_eq!(reports, [json!({"stage": "updating", "value": 100}), json!({"status": "completed"})]);
    assert!(matches!(out.last(), Some(Output::Reboot { .. })), "{out:?}");
    assert_eq!(device.link.status().update, UpdateState::Written);
}

#[test]
fn an_update_the_application_took_over_can_fail_or_be_forgotten() {
    let mut device = Device::joined(config());
    let offer = take_over(&mut device);
    let failed = UpdateReport::Failed { reason: "rauc: no space".into() };
    assert_eq!(
        report(&mut device, offer, failed.clone()),
        [json!({"status": "failed", "reason": "Update failed : rauc: no space"})]
    );
    let again = device.link.command(device.now, Command::ReportUpdate { offer, report: failed });
    assert_eq!(again, Err(CommandError::UnknownOffer(offer)));
    // Silence for a quarter of an hour ends it; each report begins a new one.
    let mut config = config();
    config.heartbeat = Duration::ZERO;
    let mut device = Device::joined(config);
    let offer = take_over(&mut device);
    device.pass(Duration::from_secs(899));
    report(&mut device, offer, UpdateReport::Progress { stage: Stage::Updating, percent: 1 });
    device.pass(Duration::from_secs(899));
    assert_eq!(device.link.status().update, UpdateState::HandedOver { offer });
    device.pass(Duration::from_secs(1));
    assert_eq!(device.link.status().update, UpdateState::Idle);
    assert_eq!(
        device.statuses().pop().unwrap()["reason"],
        "Update failed : the application reported nothing for 15 minutes"
    );
    // What the adapter applies can't be reported by the application.
    let (offer, _) = device.start(json!({}));
    let report = Command::ReportUpdate { offer, report: UpdateReport::Completed };
    assert_eq!(device.link.command(device.now, report), Err(CommandError::UnknownOffer(offer)));
}

#[test]
fn other_settings_count_without_a_restart() {
    let mut device = Device::joined(config());
    device.command(Command::FirmwareValidated);
    device.broadcast("fwup_public_keys", json!({"keys": [OTHER_KEY]}));
    let mut new = config();
    new.host = "other.example:8443".into();
    new.auth = Auth::SharedSecret(SharedSecret::new("nhd_new", "new secret", "device-1"));
    new.headers = vec![("x-new".into(), Secret::new("1"))];
    new.firmware = FirmwareMeta::default();
    new.firmware_validated = Some(false);
    new.heartbeat = Duration::from_secs(5);
    new.decision_timeout = Duration::from_secs(5);
    assert_eq!(device.command(Command::Reconfigure(Box::new(new.clone()))), [], "nothing happens by itself");
    assert_eq!(device.link.status().connection, ConnectionState::Joined);
    assert_eq!(device.link.running().uuid, UUID, "what runs, runs");
    device.command(Command::Reconnect);
    let dial = device.dial();
    assert_eq!(dial.url, "wss://other.example:8443/device-socket/websocket?vsn=2.0.0");
    let header = |name: &str| {
        dial.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.expose().to_owned())
    };
    assert_eq!((header("x-nh-key").as_deref(), header("x-new").as_deref()), (Some("nhd_new"), Some("1")));
    device.input(Input::SocketUp { socket: dial.socket, interface: None });
    device.join();
    assert_eq!(device.last_sent("phx_join")[4]["meta"]["firmware_validated"], true);
    assert_eq!(
        device.link.deadline().unwrap().at - device.now.mono,
        Duration::from_secs(30),
        "the same heartbeat"
    );
    // Keys of the server's stay; the time to decide is the new one.
    let offer = device.offer(json!({}));
    assert_eq!(device.link.deadline().unwrap().at - device.now.mono, Duration::from_secs(5));
    device.command(Command::Decide { offer, decision: Decision::Apply });
    let keys = |device: &Device| {
        device.out.iter().rev().find_map(|output| match output {
            Output::StartApply(start) => Some(start.public_keys.clone()),
            _ => None,
        })
    };
    assert_eq!(keys(&device), Some(vec![OTHER_KEY.to_owned()]));
    device.input(Input::ApplyFailed { offer, reason: "x" });
    // Unless the application has others.
    new.public_keys = vec![KEY.into(), OTHER_KEY.into()];
    device.command(Command::Reconfigure(Box::new(new)));
    device.start(json!({}));
    assert_eq!(keys(&device).unwrap().len(), 2);
}

#[test]
fn another_strategy_counts_from_the_next_update_on() {
    let mut device = Device::joined(config());
    let (first, _) = device.start(json!({}));
    let mut new = config();
    new.strategy = UpdateStrategy::Caching;
    device.command(Command::Reconfigure(Box::new(new)));
    device.head(200, &[]);
    device.chunk(&[0; 1000]);
    device.end();
    assert!(device.out.contains(&Output::FinishApply { offer: first }), "the one under way still streams");
    assert!(!device.out.iter().any(|output| matches!(output, Output::OpenStore(_))));
    device.input(Input::ApplyFailed { offer: first, reason: "x" });
    let offer = device.offer(json!({}));
    let out = device.command(Command::Decide { offer, decision: Decision::Apply });
    assert!(matches!(&out[..], [.., Output::OpenStore(_)]), "{out:?}");
}

#[test]
fn settings_that_make_no_sense_change_nothing() {
    let mut device = Device::joined(config());
    let mut bad = config();
    bad.host = "ftp://x".into();
    let error = device.link.command(device.now, Command::Reconfigure(Box::new(bad.clone()))).unwrap_err();
    assert_eq!(error, CommandError::Config(ConfigError::Host(UrlError::Scheme)));
    assert!(!error.is_retryable());
    assert_eq!(bad.check(), Err(ConfigError::Host(UrlError::Scheme)));
    assert_eq!(config().check(), Ok(()));
    device.command(Command::Reconnect);
    assert_eq!(device.dial().url, "wss://hub.example/device-socket/websocket?vsn=2.0.0");
}
