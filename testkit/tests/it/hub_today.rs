//! The pure hub as servers are today: device-managed updates, extensions by version and pace, consoles, scripts,
//! archives, MessagePack (device-protocol A2 to A8).

use crate::common::world::*;
use nerves_hub_link_testkit::hub::{
    AlreadyUpdating, Archive, ConnId, HubConfig, HubEvent, Serializer, UpdateMode,
};
use nerves_hub_link_testkit::msgpack;
use serde_json::{Value, json};

/// A joined device of today's level; what the join brought is heard already.
fn today(config: HubConfig) -> (World, ConnId) {
    let mut world = World::new(config);
    let conn = joined(&mut world, "2.4.0");
    world.heard();
    (world, conn)
}

fn joined(world: &mut World, level: &str) -> ConnId {
    let conn = world.connect(0, "d1");
    world.join(0, conn, OLD, &json!({"device_api_version": level}));
    conn
}

/// Says an event of the device channel and returns what the hub says to it.
fn ask(world: &mut World, now: u64, conn: ConnId, event: &str, payload: &Value) -> Vec<Value> {
    world.say(now, conn, &json!(["1", "7", "device", event, payload]));
    world.heard()
}

fn mode(mode: &str, allowed: bool) -> Value {
    json!(["1", null, "device", "update_mode", {"mode": mode, "managed_updates_allowed": allowed}])
}

fn refused(mode: &str, error: &str) -> Value {
    json!(["1", null, "device", "update_mode", {"mode": mode, "managed_updates_allowed": false, "error": error}])
}

fn rejected(payload: &Value) -> Vec<Value> {
    vec![json!(["1", null, "device", "update_rejected", payload])]
}

#[test]
fn the_mode_is_told_last_after_a_join_from_level_2_4_0_on() {
    let mut world = World::new(HubConfig::default());
    joined(&mut world, "2.4.0");
    let heard = world.heard();
    assert_eq!(heard.last(), Some(&mode("automatic", false)));
    assert_eq!(heard.iter().filter(|frame| frame[3] == "update_mode").count(), 1);
    joined(&mut world, "2.3.9");
    assert!(!world.heard().iter().any(|frame| frame[3] == "update_mode"));
}

#[test]
fn a_mode_is_set_with_the_grant_only_and_answered_at_any_level() {
    let mut world = World::new(HubConfig::default());
    let conn = joined(&mut world, "2.0.0");
    world.heard();
    let set =
        |world: &mut World, wanted: Value| ask(world, 0, conn, "set_update_mode", &json!({"mode": wanted}));
    assert_eq!(set(&mut world, json!("automatic")), [mode("automatic", false)]);
    assert_eq!(set(&mut world, json!("device_managed")), [refused("automatic", "not_permitted")]);
    assert_eq!(set(&mut world, json!("off")), [refused("automatic", "not_permitted")]);
    assert_eq!(set(&mut world, json!("sometimes")), [refused("automatic", "unknown_mode")]);
    assert_eq!(set(&mut world, json!(7)), [refused("automatic", "unknown_mode")]);
    // An event the server doesn't handle.
    assert!(ask(&mut world, 0, conn, "set_update_mode", &json!({})).is_empty());
    world.hub.allow_managed_updates("d1", true);
    // Told unasked from 2.4.0 on only.
    assert!(world.heard().is_empty());
    assert_eq!(set(&mut world, json!("device_managed")), [mode("device_managed", true)]);
    assert_eq!(world.hub.update_mode("d1"), Some(UpdateMode::DeviceManaged));
}

#[test]
fn operators_change_modes_and_grants_while_the_device_listens() {
    let (mut world, _) = today(HubConfig::default());
    world.hub.allow_managed_updates("d1", true);
    assert_eq!(world.heard(), [mode("automatic", true)]);
    world.hub.set_update_mode(0, "d1", UpdateMode::Off);
    assert_eq!(world.heard(), [mode("off", true)]);
    world.hub.allow_managed_updates("d1", true);
    assert!(world.heard().is_empty());
}

#[test]
fn a_device_that_manages_itself_is_pushed_nothing_and_asks() {
    let (mut world, conn) = today(HubConfig::default());
    world.hub.set_update_mode(0, "d1", UpdateMode::DeviceManaged);
    world.heard();
    let nothing = json!({"available": false, "firmware_meta": null});
    let answer = ask(&mut world, 0, conn, "check_update", &json!({}));
    assert_eq!(answer, [json!(["1", null, "device", "update_available", nothing])]);
    world.hub.deploy(0, release());
    assert_eq!(world.offers(), 0);
    let answer = ask(&mut world, 0, conn, "check_update", &json!({}));
    assert_eq!(answer[0][4]["available"], true);
    assert_eq!(answer[0][4]["firmware_meta"]["uuid"], NEW);
    assert!(answer[0][4]["firmware_meta"].get("firmware_url").is_none());
    let answer = ask(&mut world, 0, conn, "request_update", &json!({}));
    // A broadcast, unlike the other answers.
    assert_eq!((&answer[0][0], &answer[0][3]), (&Value::Null, &json!("update")));
}

#[test]
fn every_reason_to_reject_a_request() {
    let (mut world, conn) = today(HubConfig { concurrent_updates: 1, ..HubConfig::default() });
    let request = |world: &mut World| ask(world, 0, conn, "request_update", &json!({}));
    assert_eq!(request(&mut world), rejected(&json!({"reason": "no_deployment_group"})));
    world.hub.set_update_mode(0, "d1", UpdateMode::Off);
    world.hub.deploy(0, release());
    world.heard();
    assert_eq!(request(&mut world), rejected(&json!({"reason": "no_update"})));
    world.hub.set_update_mode(0, "d1", UpdateMode::DeviceManaged);
    world.heard();
    // The only slot goes to another device.
    let other = world.connect(0, "d2");
    world.join(0, other, OLD, &json!({}));
    assert_eq!(world.offers(), 1);
    assert_eq!(request(&mut world), rejected(&json!({"reason": "busy", "delay_for": 5})));
    world.join(0, other, NEW, &json!({}));
    world.heard();
    assert_eq!(request(&mut world)[0][3], "update");
    assert_eq!(request(&mut world), rejected(&json!({"reason": "already_updating"})));
    world.hub.config_mut().already_updating = AlreadyUpdating::Crash;
    assert_eq!(request(&mut world)[0][3], "phx_error");
}

#[test]
fn one_slot_an_update_and_the_next_device_when_it_is_free() {
    let mut world = World::new(HubConfig { concurrent_updates: 2, ..HubConfig::default() });
    let conns: Vec<ConnId> = ["d1", "d2", "d3"].iter().map(|name| world.connect(0, name)).collect();
    for conn in &conns {
        world.join(0, *conn, OLD, &json!({}));
    }
    world.heard();
    world.hub.deploy(0, release());
    assert_eq!(world.offers(), 2);
    world.status(0, conns[0], &json!({"status": "failed", "reason": "x"}));
    world.hub.tick(10_000);
    assert_eq!(world.offers(), 1);
}

#[test]
fn a_request_at_the_failure_limit_is_answered_with_no_update() {
    let (mut world, conn) = today(HubConfig { failure_threshold: 0, ..HubConfig::default() });
    world.hub.set_update_mode(0, "d1", UpdateMode::DeviceManaged);
    world.hub.deploy(0, release());
    world.heard();
    let answer = ask(&mut world, 0, conn, "request_update", &json!({}));
    assert_eq!(answer[0][4], json!({"update_available": false, "firmware_url": null, "firmware_meta": null}));
    assert_eq!(
        ask(&mut world, 0, conn, "request_update", &json!({})),
        rejected(&json!({"reason": "no_update"}))
    );
}

#[test]
fn an_old_firmware_puts_its_device_back_on_automatic() {
    let (mut world, _) = today(HubConfig::default());
    world.hub.set_update_mode(0, "d1", UpdateMode::DeviceManaged);
    joined(&mut world, "2.3.0");
    assert_eq!(world.hub.update_mode("d1"), Some(UpdateMode::Automatic));
}

#[test]
fn a_push_by_hand_pauses_what_comes_by_itself() {
    let (mut world, _) = today(HubConfig::default());
    assert!(world.hub.push_update(0, "d1", &release()));
    let heard = world.heard();
    assert_eq!(heard[0], mode("off", false));
    assert_eq!(heard[1][3], "update");
}

#[test]
fn older_servers_know_no_such_requests() {
    let (mut world, conn) = today(HubConfig::recorded());
    for event in ["check_update", "request_update", "set_update_mode"] {
        assert!(ask(&mut world, 0, conn, event, &json!({"mode": "automatic"})).is_empty(), "{event}");
    }
}

/// Joins the extensions channel with these versions; the names the hub took.
fn offer(world: &mut World, conn: ConnId, versions: &Value) -> Value {
    world.say(0, conn, &json!(["4", "4", "extensions", "phx_join", versions]));
    world.heard().last().unwrap()[4]["response"].clone()
}

fn extension(world: &mut World, now: u64, conn: ConnId, event: &str, payload: &Value) -> Vec<Value> {
    world.say(now, conn, &json!(["4", "5", "extensions", event, payload]));
    world.heard()
}

fn everything() -> HubConfig {
    let extensions = ["alarms", "error_reports", "geo", "health", "local_shell", "logging", "metrics"];
    HubConfig { extensions: extensions.map(str::to_owned).to_vec(), ..HubConfig::default() }
}

#[test]
fn extensions_are_advertised_by_version_newest_first() {
    let advertised = |config: HubConfig| {
        let mut world = World::new(config);
        joined(&mut world, "2.4.0");
        world.heard().into_iter().find(|frame| frame[3] == "extensions:get").unwrap()[4].clone()
    };
    let all = advertised(HubConfig::default());
    assert_eq!(all["extensions"]["logging"], json!(["0.1.0", "0.0.1"]));
    assert_eq!(all["extensions"]["health"], json!(["0.0.1"]));
    let without = advertised(HubConfig { analytics: false, ..HubConfig::default() });
    for name in ["logging", "metrics", "error_reports"] {
        assert!(without["extensions"].get(name).is_none(), "{name}");
    }
    // The product's settings narrow the answer to the join, not this.
    let narrow = advertised(HubConfig { extensions: Vec::new(), ..HubConfig::default() });
    assert_eq!(narrow, all);
    assert_eq!(advertised(HubConfig::recorded()), json!({}));
}

#[test]
fn versions_decide_what_is_attached() {
    let (mut world, conn) = today(everything());
    let names = offer(
        &mut world,
        conn,
        &json!({"logging": "0.1.0", "health": "0.0.9", "geo": "0.1.0", "metrics": "1.0.0"}),
    );
    assert_eq!(names, json!(["health", "logging"]));
    let names = offer(&mut world, conn, &json!({"logging": "0.0.1", "geo": "x", "weather": "0.0.1"}));
    assert_eq!(names, json!(["logging"]));
    world.hub.config_mut().analytics = false;
    assert_eq!(offer(&mut world, conn, &json!({"logging": "0.1.0"})), json!([]));
    world.say(0, conn, &json!(["4", "4", "extensions", "phx_join", {"health": ["0.0.1"]}]));
    assert_eq!(world.heard().last().unwrap()[4]["response"]["reason"], "join crashed");
}

#[test]
fn each_extension_is_asked_for_what_it_has() {
    let (mut world, conn) = today(everything());
    offer(
        &mut world,
        conn,
        &json!({"alarms": "0.1.0", "health": "0.0.1", "metrics": "0.1.0", "logging": "0.1.0"}),
    );
    for (name, asked) in [("alarms", "alarms:sync"), ("health", "health:check"), ("metrics", "metrics:check")]
    {
        let heard = extension(&mut world, 0, conn, &format!("{name}:attached"), &json!({}));
        assert_eq!(heard, [json!(["4", null, "extensions", asked, {}])]);
    }
    assert!(extension(&mut world, 0, conn, "logging:attached", &json!({})).is_empty());
    world.hub.alive(900_000, conn);
    world.hub.tick(900_000);
    assert_eq!(world.heard(), [json!(["4", null, "extensions", "metrics:check", {}])]);
    world.hub.alive(3_600_000, conn);
    world.hub.tick(3_600_000);
    assert_eq!(world.heard().len(), 2);
}

#[test]
fn operators_switch_extensions_for_a_device_and_for_the_product() {
    let (mut world, conn) = today(everything());
    offer(&mut world, conn, &json!({"health": "0.0.1", "geo": "0.0.1"}));
    let said = |event: &str, name: &str| json!(["4", null, "extensions", event, {"extensions": [name]}]);
    world.hub.set_device_extension("d1", "geo", false);
    assert_eq!(world.heard(), [said("detach", "geo")]);
    world.hub.set_device_extension("d1", "geo", false);
    assert!(world.heard().is_empty());
    world.hub.set_product_extension("health", false);
    assert_eq!(world.heard(), [said("detach", "health")]);
    // Switched off for the device: on for the product changes nothing.
    world.hub.set_product_extension("geo", false);
    world.heard();
    world.hub.set_product_extension("geo", true);
    assert!(world.heard().is_empty());
    world.hub.set_device_extension("d1", "geo", true);
    assert_eq!(world.heard(), [said("attach", "geo")]);
    // What the device never offered is not mentioned to it.
    world.hub.set_product_extension("logging", false);
    assert!(world.heard().is_empty());
}

/// Sends a message so often; how many were dropped.
fn dropped(world: &mut World, now: u64, conn: ConnId, event: &str, payload: &Value, times: usize) -> usize {
    let count = |world: &World| {
        world.hub.events().filter(|event| matches!(event, HubEvent::ExtensionDropped { .. })).count()
    };
    let before = count(world);
    for _ in 0..times {
        extension(world, now, conn, event, payload);
    }
    count(world) - before
}

#[test]
fn each_extension_has_its_pace() {
    let (mut world, conn) = today(everything());
    let versions =
        json!({"alarms": "0.1.0", "error_reports": "0.1.0", "metrics": "0.1.0", "logging": "0.1.0"});
    offer(&mut world, conn, &versions);
    for (event, payload, per_second, burst) in [
        ("logging:send", json!({"lines": [{}]}), 5, 10),
        ("error_reports:report", json!({"reports": [{}]}), 1, 5),
        ("metrics:report", json!({"reports": [{}]}), 1, 5),
        ("alarms:raised", json!({"alarm": "X"}), 1, 10),
    ] {
        let name = event.split(':').next().unwrap();
        extension(&mut world, 0, conn, &format!("{name}:attached"), &json!({}));
        assert_eq!(dropped(&mut world, 0, conn, event, &payload, burst), 0, "{event}");
        assert_eq!(dropped(&mut world, 0, conn, event, &payload, 1), 1, "{event}");
        assert_eq!(dropped(&mut world, 1000, conn, event, &payload, per_second + 1), 1, "{event}");
        // A long rest gives no more than the burst.
        assert_eq!(dropped(&mut world, 3_600_000, conn, event, &payload, burst + 1), 1, "{event}");
    }
}

#[test]
fn empty_lists_cost_nothing_and_what_is_no_list_is_dropped() {
    let (mut world, conn) = today(everything());
    offer(&mut world, conn, &json!({"metrics": "0.1.0", "logging": "0.0.1", "alarms": "0.1.0"}));
    for name in ["metrics", "logging", "alarms"] {
        extension(&mut world, 0, conn, &format!("{name}:attached"), &json!({}));
    }
    assert_eq!(dropped(&mut world, 0, conn, "metrics:report", &json!({"reports": []}), 50), 0);
    assert_eq!(dropped(&mut world, 0, conn, "metrics:report", &json!({"reports": 5}), 1), 1);
    let line = json!({"level": "info", "message": "x", "meta": {"time": "1767225600000000"}});
    assert_eq!(dropped(&mut world, 0, conn, "logging:send", &line, 1), 0);
    assert_eq!(dropped(&mut world, 0, conn, "logging:send", &json!({"message": "x", "meta": {}}), 1), 1);
    assert_eq!(
        dropped(&mut world, 0, conn, "logging:send", &json!({"message": "x", "meta": {"time": "soon"}}), 1),
        1
    );
    let half = json!({"alarms": [{"alarm": "A"}, {}]});
    assert_eq!(dropped(&mut world, 0, conn, "alarms:snapshot", &half, 1), 1);
    assert_eq!(dropped(&mut world, 0, conn, "alarms:snapshot", &json!({"alarms": []}), 1), 0);
}

#[test]
fn entries_past_the_limit_of_a_message_are_dropped() {
    let (mut world, conn) = today(everything());
    offer(&mut world, conn, &json!({"error_reports": "0.1.0", "metrics": "0.1.0", "logging": "0.1.0"}));
    for (name, event, field, most) in [
        ("logging", "logging:send", "lines", 100),
        ("error_reports", "error_reports:report", "reports", 25),
        ("metrics", "metrics:report", "reports", 60),
    ] {
        extension(&mut world, 0, conn, &format!("{name}:attached"), &json!({}));
        assert_eq!(dropped(&mut world, 0, conn, event, &json!({field: vec![json!({}); most]}), 1), 0);
        extension(&mut world, 0, conn, event, &json!({field: vec![json!({}); most + 1]}));
        let last = world.hub.events().filter_map(|e| match e {
            HubEvent::ExtensionDropped { entries, .. } => Some(*entries),
            _ => None,
        });
        assert_eq!(last.last(), Some(1), "{event}");
    }
}

#[test]
fn alarms_are_asked_for_anew_after_a_loss() {
    let (mut world, conn) = today(everything());
    offer(&mut world, conn, &json!({"alarms": "0.1.0"}));
    extension(&mut world, 0, conn, "alarms:attached", &json!({}));
    assert_eq!(dropped(&mut world, 0, conn, "alarms:raised", &json!({"alarm": "X"}), 11), 1);
    world.hub.tick(9_999);
    assert!(world.heard().is_empty());
    world.hub.tick(10_000);
    assert_eq!(world.heard(), [json!(["4", null, "extensions", "alarms:sync", {}])]);
}

#[test]
fn operators_drive_consoles_and_shells_and_hear_them() {
    let (mut world, conn) = today(HubConfig::default());
    assert!(!world.hub.console("d1", "dn", &json!({"data": "x"})));
    world.say(0, conn, &json!(["2", "2", "console", "phx_join", {"console_version": "2.0.0"}]));
    world.heard();
    assert!(world.hub.console("d1", "window_size", &json!({"height": 40, "width": 120})));
    assert_eq!(world.heard(), [json!(["2", null, "console", "window_size", {"height": 40, "width": 120}])]);
    world.say(0, conn, &json!(["2", "3", "console", "up", {"data": "hello"}]));
    assert!(world.has(|e| matches!(e, HubEvent::Console { payload, .. } if payload["data"] == "hello")));
    assert!(!world.hub.extension("d1", "local_shell:shell_input", &json!({"data": "ls\n"})));
    offer(&mut world, conn, &json!({"local_shell": "0.0.1"}));
    assert!(world.hub.extension("d1", "local_shell:shell_input", &json!({"data": "ls\n"})));
    assert_eq!(
        world.heard(),
        [json!(["4", null, "extensions", "local_shell:shell_input", {"data": "ls\n"}])]
    );
    assert!(!world.hub.console("nobody", "dn", &json!({})));
}

#[test]
fn scripts_go_to_new_devices_as_such_and_to_old_ones_as_typing() {
    let (mut world, conn) = today(HubConfig::default());
    world.hub.set_connecting_code("d1", Some("hello()"));
    assert!(world.hub.run_script("d1", "abc", "1+1"));
    assert_eq!(world.heard(), [json!(["1", null, "device", "scripts/run", {"ref": "abc", "text": "1+1"}])]);
    ask(
        &mut world,
        0,
        conn,
        "scripts/run",
        &json!({"ref": "abc", "result": "completed", "return": "2", "output": ""}),
    );
    assert!(world.has(|e| matches!(e, HubEvent::ScriptAnswered { payload, .. } if payload["ref"] == "abc")));
    let conn = joined(&mut world, "2.0.0");
    let heard = world.heard();
    assert!(!heard.iter().any(|frame| frame[3] == "scripts/run"), "{heard:?}");
    assert!(!world.hub.run_script("d1", "abc", "1+1"));
    world.say(0, conn, &json!(["2", "2", "console", "phx_join", {}]));
    world.heard();
    assert!(world.hub.run_script("d1", "abc", "1+1"));
    assert_eq!(world.heard(), [json!(["2", null, "console", "dn", {"data": "1+1"}])]);
    joined(&mut world, "2.1.0");
    let code = json!(["1", null, "device", "scripts/run", {"ref": "connecting_code", "text": "hello()"}]);
    assert!(world.heard().contains(&code));
}

#[test]
fn archives_are_sent_from_level_2_0_0_on_but_not_when_updates_are_off() {
    let archive = Archive {
        size: 3,
        uuid: NEW.to_owned(),
        version: "1.0.0".to_owned(),
        description: None,
        platform: None,
        architecture: None,
        uploaded_at: "2026-11-23T14:42:00".to_owned(),
        url: "https://localhost/uploads/archives/x.fw".to_owned(),
    };
    let (mut world, _) = today(HubConfig::default());
    let sent = |world: &mut World| world.heard().iter().filter(|frame| frame[3] == "archive").count();
    world.hub.set_archive(Some(archive));
    assert_eq!(sent(&mut world), 1);
    joined(&mut world, "2.0.0");
    assert_eq!(sent(&mut world), 1);
    joined(&mut world, "1.0.0");
    assert_eq!(sent(&mut world), 0);
    world.hub.set_update_mode(0, "d1", UpdateMode::Off);
    joined(&mut world, "2.4.0");
    assert_eq!(sent(&mut world), 0);
}

#[test]
fn messagepack_is_spoken_where_it_is_asked_for_and_allowed() {
    let mut world = World::new(HubConfig::default());
    assert_eq!(world.hub.serializer(Some("vsn=3.0.0")), Some(Serializer::MsgPack));
    assert_eq!(world.hub.serializer(Some("x=1&vsn=2.0.0")), Some(Serializer::Json));
    for other in [None, Some("vsn=1.0.0"), Some("vsn=3.1.0"), Some("vsn=3")] {
        assert_eq!(world.hub.serializer(other), None, "{other:?}");
    }
    world.connect(0, "d1");
    let device = world.hub.device_named("d1").unwrap();
    let conn = ConnId(99);
    world.hub.connected_speaking(0, conn, device, Serializer::MsgPack);
    world.heard();
    let beat = msgpack::encode(&json!([null, 7, "phoenix", "heartbeat", {}]));
    world.hub.binary(0, conn, &beat);
    let reply = json!([null, "7", "phoenix", "phx_reply", {"status": "ok", "response": {}}]);
    assert_eq!(world.heard(), [reply]);
    world.hub.text(0, conn, r#"["1","2","device","made_up",{}]"#);
    assert_eq!(world.heard(), [json!({"close": 1011})]);
    world.hub.config_mut().msgpack = false;
    assert_eq!(world.hub.serializer(Some("vsn=3.0.0")), None);
}
