//! Health reports (device-protocol §5.2, A7) and their alarms.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

fn health() -> Config {
    let mut config = config();
    config.extensions = no_extensions();
    config.extensions.health = Some(HealthConfig::default());
    config.heartbeat = Duration::ZERO;
    config
}

fn asked(config: Config) -> Device {
    let mut device = Device::attached(config, json!(["health"]));
    let out = device.extension("health:check", json!({}));
    assert_eq!(extension_events(&out), [ExtensionEvent::HealthRequested]);
    device
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn report() -> HealthReport {
    let mut report = HealthReport::default();
    report.metrics.insert("load_1min".into(), 0.57);
    report.metrics.insert("mem_size_mb".into(), 24684.0);
    report
}

fn answer(report: HealthReport) -> ExtensionCommand {
    ExtensionCommand::HealthReport(Box::new(report))
}

/// Sends a report and returns the `value` that the server gets.
fn value(device: &mut Device, report: HealthReport) -> Value {
    let out = device.command(answer(report).into());
    let messages = extension_messages(&out);
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0].0, "health:report");
    assert_eq!(messages[0].1.as_object().unwrap().len(), 1);
    messages[0].1["value"].clone()
}

#[test]
fn a_check_is_answered_with_the_report_in_every_encoding() {
    for config in in_both(health()) {
        let mut device = asked(config);
        let mut full = report();
        full.metadata = texts(&[("place", "roof")]);
        full.alarms = texts(&[("hot", "87 °C")]);
        full.checks.insert("door".into(), HealthCheck { pass: true, note: "closed".into() });
        let mut lte = Connectivity {
            kind: InterfaceKind::Mobile,
            present: true,
            state: "up".into(),
            reach: Reach::Internet,
            metrics: BTreeMap::new(),
            metadata: texts(&[("operator", "x")]),
        };
        lte.metrics.insert("signal".into(), -71.5);
        full.connectivity.insert("wwan0".into(), lte);
        full.timestamp = Some(UnixMicros(1_786_496_523_456_789));
        // The shape that servers were recorded to take, in JSON and MessagePack alike.
        assert_eq!(
            value(&mut device, full),
            json!({
                "timestamp": "2026-08-12T01:02:03.456789Z",
                "metadata": {"place": "roof"},
                "alarms": {"hot": "87 °C"},
                "metrics": {"load_1min": 0.57, "mem_size_mb": 24684},
                "checks": {"door": {"pass": true, "note": "closed"}},
                "connectivity": {"wwan0": {
                    "type": "mobile", "present": true, "state": "up", "connection_status": "internet",
                    "metrics": {"signal": -71.5}, "metadata": {"operator": "x"},
                }},
            })
        );
    }
}

#[test]
fn missing_fields_are_empty_and_the_time_is_now() {
    let mut device = asked(health());
    device.pass(Duration::from_millis(250));
    assert_eq!(
        value(&mut device, HealthReport::default()),
        json!({"timestamp": "2026-11-23T14:39:17.250000Z", "metadata": {}, "alarms": {}, "metrics": {}, "checks": {},
            "connectivity": {}})
    );
    // Every report has its own time.
    device.pass(SECOND);
    assert_eq!(value(&mut device, HealthReport::default())["timestamp"], "2026-11-23T14:39:18.250000Z");
}

#[test]
fn a_device_without_clock_reports_the_time_since_its_start() {
    let mut device = asked(health());
    device.now.wall = None;
    assert_eq!(value(&mut device, report())["timestamp"], "1970-01-01T00:00:01.000000Z");
}

#[test]
fn reports_go_out_unasked_but_not_while_detached() {
    let mut device = Device::attached(health(), json!(["health"]));
    value(&mut device, report());
    device.extension("detach", json!({"extensions": ["health"]}));
    assert_eq!(device.refusal(answer(report())), CommandError::NotAttached);
    device.extension("attach", json!({"extensions": ["health"]}));
    value(&mut device, report());
    device.down(None);
    assert_eq!(device.refusal(answer(report())), CommandError::NotAttached);
    let mut device = Device::joined({
        let mut config = health();
        config.extensions.health = None;
        config
    });
    assert_eq!(device.invite(json!({})), json!({}));
    assert_eq!(device.refusal(answer(report())), CommandError::UnknownExtension);
}

#[test]
fn an_application_that_says_nothing_is_not_waited_for() {
    let mut device = asked(health());
    // Asked again meanwhile: one question.
    assert_eq!(device.extension("health:check", json!({})), []);
    assert_eq!(device.link.deadline().unwrap().why, Timer::ExtensionAnswer);
    let out = device.pass(EXTENSION_ANSWER_TIMEOUT);
    let unanswered = ExtensionEvent::Unanswered { name: "health".into() };
    assert_eq!((extension_events(&out), extension_messages(&out)), (vec![unanswered], vec![]));
    // The next check asks again, and a late answer is as good as an unasked one.
    let out = device.extension("health:check", json!({}));
    assert_eq!(extension_events(&out), [ExtensionEvent::HealthRequested]);
    value(&mut device, report());
    assert_eq!(extension_events(&device.pass(2 * EXTENSION_ANSWER_TIMEOUT)), []);
}

#[test]
fn a_question_ends_with_the_extension() {
    let mut device = asked(health());
    device.extension("detach", json!({"extensions": "all"}));
    assert_eq!(extension_events(&device.pass(2 * EXTENSION_ANSWER_TIMEOUT)), []);
    let out = device.extension("health:check", json!({}));
    assert!(matches!(&events(&out)[..], [Event::Unknown { .. }]), "{out:?}");
}

#[test]
fn reports_on_an_own_timer_are_an_option_of_at_least_a_minute() {
    for (interval, every) in [(1, 60), (60, 60), (300, 300)] {
        let mut config = health();
        config.extensions.health = Some(HealthConfig { interval: Some(interval * SECOND) });
        let mut device = Device::attached(config, json!(["health"]));
        assert_eq!(device.link.deadline().unwrap().why, Timer::Health);
        assert_eq!(extension_events(&device.pass((every - 1) * SECOND)), []);
        assert_eq!(extension_events(&device.pass(SECOND)), [ExtensionEvent::HealthRequested]);
        value(&mut device, report());
        assert_eq!(extension_events(&device.pass(every * SECOND)), [ExtensionEvent::HealthRequested]);
        // Not without a channel to report on.
        device.down(None);
        assert_eq!(
            extension_events(&device.pass(3 * every * SECOND)).len(),
            1,
            "only the end of the question"
        );
    }
    let mut device = Device::attached(health(), json!(["health"]));
    let out = device.pass(10 * SECOND);
    assert_eq!(extension_events(&out), []);
}

#[test]
fn a_report_that_fails_becomes_an_alarm_until_the_next() {
    for config in in_both(health()) {
        let mut device = asked(config);
        let failed = ExtensionCommand::HealthFailed { reason: "no /proc".into() };
        let out = device.command(failed.clone().into());
        let name = "NervesHubLink.Extensions.Health.CheckFailed";
        assert_eq!(
            extension_messages(&out),
            [(
                "health:report".to_owned(),
                json!({"value": {"timestamp": "2026-11-23T14:39:17.000000Z", "metadata": {}, "metrics": {},
                    "checks": {}, "connectivity": {}, "alarms": {name: "no /proc"}}})
            )]
        );
        let alarm = Alarm::HealthCheckFailed;
        let raised = Event::AlarmRaised { alarm, description: "no /proc".into() };
        assert_eq!(device.alarms.last(), Some(&raised));
        let told = device.alarms.len();
        device.command(failed.into());
        assert_eq!(device.alarms.len(), told, "the alarm is raised once");
        device.command(answer(report()).into());
        assert_eq!(device.alarms.last(), Some(&Event::AlarmCleared { alarm }));
    }
}

#[test]
fn alarms_of_the_link_and_the_application_are_in_every_report() {
    let mut config = health();
    config.firmware_auto_revert_detected = true;
    let mut device = asked(config);
    let raise = |name: &str, description: &str| {
        Command::from(ExtensionCommand::RaiseAlarm { name: name.into(), description: description.into() })
    };
    device.command(raise("door", "open"));
    device.command(raise("Elixir.App.Hot", "80 °C"));
    device.command(raise("App.Hot", "87 °C"));
    let mut own = report();
    own.alarms = texts(&[("once", "only here")]);
    let alarms = value(&mut device, own)["alarms"].clone();
    assert_eq!(alarms["door"], "open");
    assert_eq!(alarms["App.Hot"], "87 °C", "raising again describes anew");
    assert_eq!(alarms["once"], "only here");
    assert!(alarms["NervesHubLink.FirmwareReverted"].is_string(), "{alarms}");
    assert_eq!(alarms.as_object().unwrap().len(), 4, "{alarms}");
    device.command(ExtensionCommand::ClearAlarm { name: "door".into() }.into());
    device.command(ExtensionCommand::ClearAlarm { name: "never raised".into() }.into());
    let alarms = value(&mut device, report())["alarms"].clone();
    assert_eq!(alarms.as_object().unwrap().len(), 2, "{alarms}");
}

#[test]
fn alarms_are_bounded() {
    let mut device = asked(health());
    let raise =
        |name: &str| ExtensionCommand::RaiseAlarm { name: name.into(), description: "d".repeat(2000) };
    let longest = format!("{}x", "ä".repeat(MAX_ALARM_NAME_BYTES / 2));
    assert_eq!(longest.len(), MAX_ALARM_NAME_BYTES);
    for bad in ["", " ", "Elixir.", "NervesHubLink.Disconnected", &format!("{longest}x")] {
        assert!(matches!(device.refusal(raise(bad)), CommandError::Unusable(_)), "{bad}");
    }
    device.command(raise(&longest).into());
    for number in 1..MAX_ALARMS {
        device.command(raise(&format!("alarm {number}")).into());
    }
    assert!(matches!(device.refusal(raise("one more")), CommandError::Unusable(_)));
    device.command(raise("alarm 1").into());
    let alarms = value(&mut device, report())["alarms"].clone();
    assert_eq!(alarms.as_object().unwrap().len(), MAX_ALARMS);
    assert_eq!(alarms["alarm 1"].as_str().unwrap().chars().count(), MAX_HEALTH_TEXT_CHARS);
}

#[test]
fn metrics_are_finite_numbers_with_short_names() {
    for config in in_both(health()) {
        let mut device = asked(config);
        let mut bad = HealthReport::default();
        for (name, number) in [
            ("a", f64::NAN),
            ("b", f64::INFINITY),
            ("c", f64::NEG_INFINITY),
            ("", 1.0),
            ("  ", 1.0),
            ("cpu temp", 41.25),
            ("whole", -3.0),
        ] {
            bad.metrics.insert(name.into(), number);
        }
        bad.metrics.insert("x".repeat(MAX_METRIC_NAME_BYTES), 1.0);
        bad.metrics.insert("y".repeat(MAX_METRIC_NAME_BYTES + 1), 1.0);
        let out = device.command(answer(bad).into());
        let metrics = extension_messages(&out)[0].1["value"]["metrics"].clone();
        assert_eq!(metrics, json!({"cputemp": 41.25, "whole": -3, "x".repeat(MAX_METRIC_NAME_BYTES): 1}));
        let [ExtensionEvent::Problem { name, problem }] = &extension_events(&out)[..] else {
            panic!("{out:?}")
        };
        assert!(name == "health" && problem.starts_with("6 entries"), "{problem}");
    }
}

#[test]
fn each_part_of_a_report_is_bounded() {
    let metrics = |count: usize| (0..count).map(|number| (format!("m{number:02}"), 1.5)).collect();
    let texts = |count: usize| (0..count).map(|number| (format!("t{number:02}"), "x".repeat(2000))).collect();
    let mut report = HealthReport { metrics: metrics(MAX_METRICS), ..HealthReport::default() };
    report.metadata = texts(MAX_HEALTH_ENTRIES);
    report.alarms = texts(MAX_HEALTH_ENTRIES);
    let check = HealthCheck { pass: false, note: "n".repeat(2000) };
    report.checks = (0..MAX_HEALTH_ENTRIES).map(|number| (format!("c{number:02}"), check.clone())).collect();
    let interface = Connectivity {
        kind: InterfaceKind::default(),
        present: false,
        state: "s".repeat(100),
        reach: Reach::default(),
        metrics: metrics(MAX_METRICS),
        metadata: texts(MAX_HEALTH_ENTRIES),
    };
    report.connectivity =
        (0..MAX_HEALTH_ENTRIES).map(|number| (format!("i{number:02}"), interface.clone())).collect();

    let mut device = asked(health());
    let value = value(&mut device, report.clone());
    assert_eq!(value["metrics"].as_object().unwrap().len(), MAX_METRICS);
    assert_eq!(value["connectivity"]["i00"]["metrics"].as_object().unwrap().len(), MAX_METRICS);
    assert_eq!(value["connectivity"]["i00"]["connection_status"], "disconnected");
    assert_eq!(value["connectivity"]["i00"]["state"].as_str().unwrap().chars().count(), MAX_NAME_CHARS);
    for part in ["metadata", "alarms", "checks", "connectivity"] {
        assert_eq!(value[part].as_object().unwrap().len(), MAX_HEALTH_ENTRIES, "{part}");
    }
    assert_eq!(value["metadata"]["t00"].as_str().unwrap().chars().count(), MAX_HEALTH_TEXT_CHARS);
    assert_eq!(value["checks"]["c00"]["note"].as_str().unwrap().chars().count(), MAX_HEALTH_TEXT_CHARS);

    // One past each bound: the last in sorted order are left out, and that is told.
    report.metrics = metrics(MAX_METRICS + 1);
    report.metadata.insert("z".into(), String::new());
    report.alarms.insert("z".into(), String::new());
    report.checks.insert("z".into(), check);
    report.connectivity.insert("z".into(), interface);
    let out = device.command(answer(report).into());
    let value = &extension_messages(&out)[0].1["value"];
    assert_eq!(value["metrics"].get("m20"), None);
    for part in ["metadata", "alarms", "checks", "connectivity"] {
        assert_eq!(value[part].get("z"), None, "{part}");
    }
    assert!(
        matches!(&extension_events(&out)[..], [ExtensionEvent::Problem { problem, .. }] if problem.starts_with("5 entries"))
    );
}

#[test]
fn only_the_newest_report_waits_for_a_slow_network() {
    let mut device = Device::attached(health(), json!(["health"]));
    device.sends = false;
    for load in 0..40 {
        let mut report = HealthReport::default();
        report.metrics.insert("load_1min".into(), f64::from(load));
        device.command(answer(report).into());
    }
    let socket = device.socket();
    device.sends = true;
    let out = device.input(Input::SocketSent { socket, frames: SEND_CREDIT });
    let messages = extension_messages(&out);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].1["value"]["metrics"]["load_1min"], 39);
}

#[test]
fn an_unknown_event_of_health_is_named() {
    let mut device = asked(health());
    let out = device.extension("health:dance", json!({}));
    assert_eq!(events(&out), [Event::Unknown { topic: "extensions".into(), event: "health:dance".into() }]);
}
