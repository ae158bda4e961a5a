//! The pure hub: authentication, offers, penalties, limits.

use crate::common::world::*;
use nerves_hub_link_testkit::hub::{ConnId, Hub, HubConfig, HubEvent, KeyPair, UpdateFields, sign};
use nerves_hub_link_testkit::limits::{AUTH_ITERATIONS, AUTH_KEY_LENGTH, DEVICES, IDLE_MS, IN_FLIGHT_MS};
use serde_json::{Value, json};

/// A device with an offer on its way, at time 0.
fn offered() -> (World, ConnId) {
    let mut world = World::new(HubConfig::default());
    world.hub.deploy(0, release());
    let conn = world.connect(0, "d1");
    world.join(0, conn, OLD, &json!({}));
    assert_eq!(world.offers(), 1);
    (world, conn)
}

#[test]
fn signature_vectors_are_made_and_accepted() {
    let vectors = [
        (
            "NH1-HMAC-sha256-1000-32",
            "nhp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB",
            "test-device-0001",
            1_700_000_000,
            "SFMyNTY.g2gDbQAAABB0ZXN0LWRldmljZS0wMDAxbgYAAGjlz4sBYgABUYA.sCEfBzhSVsC8UMGf4LblA-nmepmjWsvFgNMeWx9ETxw",
        ),
        (
            "NH1-HMAC-sha256-1000-32",
            "nhd_q3/7xP0+dEfGhIjKlMnOpQrStUvWxYz0123456789ab",
            "Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4OWFiY2RlZmdoaWo",
            "b827eb4d2c1f",
            1_787_389_200,
            "SFMyNTY.g2gDbQAAAAxiODI3ZWI0ZDJjMWZuBgCAxrIooAFiAAFRgA.2TIHUIx7GQH1QyJf4fcK8nWdXjqJcYZmlPtKvVDHgec",
        ),
        (
            "NH1-HMAC-sha512-2048-64",
            "nhp_unicode",
            "s3cr3t",
            "gerät-ü-1",
            1,
            "SFMyNTY.g2gDbQAAAAtnZXLDpHQtw7wtMWIAAAPoYgABUYA.9KNQLcMYS897pxm7Evhv5Pdwqzd4YE0m10-P6cGhZAw",
        ),
    ];
    for (alg, key, secret, identifier, time, token) in vectors {
        let headers = sign(alg, key, secret, identifier, time).unwrap();
        assert_eq!(headers[3].1, token);
        let mut hub = Hub::new(HubConfig::default(), KeyPair::new("nhp_other", "x"));
        let refused = hub.authenticate(time * 1000, PATH, VSN, &headers).unwrap_err();
        assert_eq!((refused.status, refused.body.as_str()), (401, ""), "an unknown key");
        hub.add_device_key(KeyPair::new(key, secret), identifier);
        // The window: from the signed second to exactly 90 s later, and not a millisecond before.
        for (now, fine) in [
            (time * 1000, true),
            (time * 1000 - 1, false),
            (time * 1000 + 90_000, true),
            (time * 1000 + 90_001, false),
        ] {
            assert_eq!(hub.authenticate(now, PATH, VSN, &headers).is_ok(), fine, "{identifier} at {now}");
        }
    }
}

#[test]
fn a_device_key_is_for_its_own_device_only() {
    let mut hub = Hub::new(HubConfig::default(), KeyPair::new(KEY, SECRET));
    hub.add_device_key(KeyPair::new("nhd_1", "s"), "mine");
    let theirs = sign(ALG, "nhd_1", "s", "another", 5).unwrap();
    assert_eq!(hub.authenticate(5000, PATH, VSN, &theirs).unwrap_err().status, 401);
    let mine = sign(ALG, "nhd_1", "s", "mine", 5).unwrap();
    assert!(hub.authenticate(5000, PATH, VSN, &mine).is_ok());
}

#[test]
fn signatures_that_cost_too_much_are_refused() {
    let alg = |rounds: u32, length: u32| format!("NH1-HMAC-sha256-{rounds}-{length}");
    assert!(sign(&alg(1, AUTH_KEY_LENGTH), KEY, SECRET, "d", 1).is_some());
    assert!(sign(&alg(1, AUTH_KEY_LENGTH + 1), KEY, SECRET, "d", 1).is_none());
    assert!(sign(&alg(AUTH_ITERATIONS, 32), KEY, SECRET, "d", 1).is_some());
    assert!(sign(&alg(AUTH_ITERATIONS + 1, 32), KEY, SECRET, "d", 1).is_none());
    assert!(sign(&alg(0, 32), KEY, SECRET, "d", 1).is_none());
}

#[test]
fn secrets_do_not_show() {
    let hub = Hub::new(HubConfig::default(), KeyPair::new(KEY, "very secret"));
    assert!(!format!("{hub:?}").contains("very secret"));
}

#[test]
fn offers_only_to_devices_that_qualify() {
    for (more, offers) in [
        (json!({}), 1),
        (json!({"meta": {"firmware_validated": false}}), 0),
        (json!({"meta": {}}), 1),
        (json!({"nerves_fw_uuid": NEW}), 0),
        (json!({"nerves_fw_platform": "rpi4"}), 0),
        (json!({"nerves_fw_architecture": "arm"}), 0),
        (json!({"nerves_fw_version": ""}), 0),
    ] {
        let mut world = World::new(HubConfig::default());
        world.hub.deploy(0, release());
        let conn = world.connect(0, "d1");
        world.join(0, conn, OLD, &more);
        assert_eq!(world.offers(), offers, "{more}");
    }
}

#[test]
fn offers_once_the_firmware_is_validated() {
    let mut world = World::new(HubConfig::default());
    world.hub.deploy(0, release());
    let conn = world.connect(0, "d1");
    world.join(0, conn, OLD, &json!({"meta": {"firmware_validated": false}}));
    assert_eq!(world.offers(), 0);
    world.say(1, conn, &json!(["1", "2", "device", "firmware_validated", {}]));
    assert_eq!(world.offers(), 1);
}

#[test]
fn waits_for_the_orchestrators_turn() {
    let mut world = World::new(HubConfig { offer_interval_ms: 3000, ..HubConfig::default() });
    let (one, two) = (world.connect(0, "d1"), world.connect(0, "d2"));
    world.join(0, one, OLD, &json!({}));
    world.join(0, two, OLD, &json!({"meta": {"firmware_validated": false}}));
    world.heard();
    world.hub.deploy(10, release());
    assert_eq!(world.offers(), 1);
    world.say(20, two, &json!(["1", "2", "device", "firmware_validated", {}]));
    world.hub.tick(3009);
    assert_eq!(world.offers(), 0);
    world.hub.tick(3010);
    assert_eq!(world.offers(), 1);
}

#[test]
fn an_update_in_flight_is_kept_dropped_or_concluded_by_the_next_join() {
    // Still downloading: kept, so no second offer.
    let (mut world, conn) = offered();
    world.status(1, conn, &json!({"status": "received"}));
    let again = world.connect(2, "d1");
    assert_eq!(world.heard(), [json!({"close": 1001})]);
    world.join(2, again, OLD, &json!({"currently_downloading_uuid": NEW}));
    assert_eq!(world.offers(), 0);
    // Not a word about it: abandoned, and offered anew.
    let again = world.connect(3, "d1");
    world.join(3, again, OLD, &json!({"currently_downloading_uuid": ""}));
    assert_eq!(world.offers(), 1);
    assert!(world.has(|e| matches!(e, HubEvent::UpdateAbandoned { uuid, .. } if uuid == NEW)));
    // The new firmware: done.
    let again = world.connect(4, "d1");
    world.join(4, again, NEW, &json!({}));
    assert_eq!(world.offers(), 0);
    assert!(
        world.has(|e| matches!(e, HubEvent::UpdateSucceeded { from, to, .. } if from == OLD && to == NEW))
    );
}

#[test]
fn failed_and_ignored_updates_cost_a_day() {
    for status in ["failed", "ignored"] {
        let (mut world, conn) = offered();
        world.status(1000, conn, &json!({"status": status, "reason": "no"}));
        world.hub.alive(DAY_MS, conn);
        world.hub.tick(DAY_MS + 999);
        assert_eq!(world.offers(), 0, "{status}");
        world.hub.tick(DAY_MS + 1000);
        assert_eq!(world.offers(), 1, "{status}");
    }
}

#[test]
fn a_reschedule_is_read_in_milliseconds() {
    let (mut world, conn) = offered();
    world.status(0, conn, &json!({"status": "rescheduled", "delay_for": 5}));
    world.hub.tick(4);
    assert_eq!(world.offers(), 0);
    world.hub.tick(5);
    assert_eq!(world.offers(), 1);
    // Without the number it is only noted, and the slot stays taken.
    world.status(6, conn, &json!({"status": "rescheduled"}));
    world.hub.tick(100);
    assert_eq!(world.offers(), 0);
}

#[test]
fn three_attempts_put_a_device_into_the_penalty_box() {
    let (mut world, conn) = offered();
    for round in 0..3_u64 {
        let now = round * 1_000_000;
        world.hub.alive(now, conn);
        world.status(now, conn, &json!({"status": "received"}));
        world.status(now, conn, &json!({"status": "rescheduled", "delay_for": 1000}));
        world.hub.tick(now + 1000);
        assert_eq!(world.offers(), usize::from(round < 2), "round {round}");
    }
    assert!(world.has(|e| matches!(e, HubEvent::Blocked { why: "attempts", .. })));
    world.hub.clear_penalty("d1");
    world.hub.tick(2_100_000);
    assert_eq!(world.offers(), 1);
}

#[test]
fn five_attempts_in_three_minutes_do_so_as_well() {
    let mut world = World::new(HubConfig { failure_threshold: 100, ..HubConfig::default() });
    world.hub.deploy(0, release());
    let conn = world.connect(0, "d1");
    world.join(0, conn, OLD, &json!({}));
    let mut offers = world.offers();
    for now in 1..20 {
        world.status(now, conn, &json!({"status": "rescheduled", "delay_for": 0}));
        offers += world.offers();
    }
    assert_eq!(offers, 5);
}

#[test]
fn updates_pushed_by_hand_have_no_conditions_and_no_penalty() {
    let mut world = World::new(HubConfig::default());
    let conn = world.connect(0, "d1");
    world.join(0, conn, OLD, &json!({"meta": {"firmware_validated": false}}));
    world.heard();
    assert!(!world.hub.push_update(0, "nobody", &release()));
    assert!(world.hub.push_update(0, "d1", &release()));
    let heard = world.heard();
    assert_eq!(heard[0][3], "update");
    assert_eq!(heard[0][4]["deployment_id"], Value::Null);
    world.status(0, conn, &json!({"status": "failed", "reason": "no"}));
    assert!(!world.has(|e| matches!(e, HubEvent::Blocked { .. })));
}

#[test]
fn updates_without_news_expire() {
    let (mut world, conn) = offered();
    world.say(1000, conn, &json!(["1", "2", "device", "fwup_progress", {"stage": "updating", "value": 1}]));
    world.hub.alive(IN_FLIGHT_MS, conn);
    world.hub.tick(IN_FLIGHT_MS + 999);
    assert_eq!(world.offers(), 0);
    world.hub.tick(IN_FLIGHT_MS + 1000);
    assert_eq!(world.offers(), 1);
    assert!(world.has(|e| matches!(e, HubEvent::UpdateExpired { .. })));
}

#[test]
fn older_servers_leave_fields_out() {
    for (fields, present) in [
        (UpdateFields::default(), true),
        (UpdateFields { size: false, checksum: false, partials: false }, false),
    ] {
        let mut world = World::new(HubConfig { update_fields: fields, ..HubConfig::default() });
        world.hub.deploy(0, release());
        let conn = world.connect(0, "d1");
        world.join(0, conn, OLD, &json!({}));
        let update = world.heard().pop().unwrap();
        for name in ["size", "checksum", "partials_checksums"] {
            assert_eq!(update[4].get(name).is_some(), present, "{name}");
        }
    }
}

#[test]
fn crashes_over_what_the_real_server_crashes_over() {
    for (event, payload, crashes) in [
        ("fwup_progress", json!({"stage": "updating", "value": 42.5}), true),
        ("fwup_progress", json!({"stage": "updating", "value": 42.0}), true),
        ("fwup_progress", json!({"stage": "dancing", "value": 42}), true),
        ("update_progress", json!({"stage": 3, "value": 42}), true),
        ("fwup_progress", json!({"stage": "downloading", "value": 42}), false),
        ("fwup_progress", json!({"stage": "updating"}), false),
        ("status_update", json!({"status": "failed", "reason": 5}), true),
        ("status_update", json!({"status": "failed", "reason": "x"}), false),
        ("status_update", json!({"status": "FWUP error 3: bad", "reason": "x"}), false),
        ("status_update", json!({"status": 7}), true),
        ("status_update", json!({"status": "rescheduled", "delay_for": 1.5}), true),
        ("check_update", json!({}), false),
    ] {
        let mut world = World::new(HubConfig::recorded());
        let conn = world.connect(0, "d1");
        world.join(0, conn, OLD, &json!({}));
        world.heard();
        world.say(0, conn, &json!(["1", "2", "device", event, payload]));
        let expected: Vec<Value> = if crashes {
            vec![json!(["1", "1", "device", "phx_error", {"reason": "channel_crash"}])]
        } else {
            Vec::new()
        };
        assert_eq!(world.heard(), expected, "{event} {payload}");
        assert_eq!(world.has(|e| matches!(e, HubEvent::ChannelCrashed { .. })), crashes);
    }
}

#[test]
fn the_console_takes_output_and_files_and_crashes_over_the_rest() {
    let mut world = World::new(HubConfig::default());
    let conn = world.connect(0, "d1");
    for (event, payload, crashes) in [
        ("up", json!({"data": "x"}), false),
        ("file-data/start", json!({"filename": "x"}), false),
        ("up", json!({"data": 1}), true),
        ("dance", json!({}), true),
    ] {
        world.say(0, conn, &json!(["2", "2", "console", "phx_join", {}]));
        world.heard();
        world.say(0, conn, &json!(["2", "3", "console", event, payload]));
        assert_eq!(world.heard().len(), usize::from(crashes), "{event}");
    }
}

#[test]
fn sockets_idle_for_three_minutes_are_closed() {
    let mut world = World::new(HubConfig::default());
    let conn = world.connect(500, "d1");
    world.hub.tick(500 + IDLE_MS - 1);
    assert_eq!(world.heard(), Vec::<Value>::new());
    world.hub.alive(1000, conn);
    world.hub.tick(500 + IDLE_MS);
    assert_eq!(world.heard(), Vec::<Value>::new());
    world.hub.tick(1000 + IDLE_MS);
    assert_eq!(world.heard(), [json!({"close": 1002})]);
    // Late messages of a closed connection are nobody's.
    world.join(1001 + IDLE_MS, conn, OLD, &json!({}));
    assert_eq!(world.heard(), Vec::<Value>::new());
}

#[test]
fn drains_with_phx_close_and_1012() {
    let mut world = World::new(HubConfig::default());
    let conn = world.connect(0, "d1");
    world.join(0, conn, OLD, &json!({}));
    world.heard();
    world.hub.drain();
    assert_eq!(world.heard(), [json!(["1", "1", "device", "phx_close", {}]), json!({"close": 1012})]);
}

#[test]
fn registers_devices_up_to_its_limit() {
    let mut hub = Hub::new(HubConfig::default(), KeyPair::new(KEY, SECRET));
    let mut register = |n: usize| {
        let headers = sign("NH1-HMAC-sha256-1-32", KEY, SECRET, &format!("d{n}"), 1).unwrap();
        hub.authenticate(1000, PATH, VSN, &headers)
    };
    let first = register(0).unwrap();
    assert!((1..DEVICES).all(|n| register(n).is_ok()));
    assert_eq!(register(DEVICES).unwrap_err().status, 401);
    assert_eq!(register(0).unwrap(), first, "a known name is still the same device");
}
