//! Samples of numbers (A6).

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn metrics() -> Config {
    let mut config = config();
    config.extensions = no_extensions();
    config.extensions.metrics = true;
    config.heartbeat = Duration::ZERO;
    config
}

fn invitation() -> Value {
    json!({"extensions": {"metrics": ["0.1.0"]}})
}

fn attach(device: &mut Device) -> Vec<Output> {
    assert_eq!(device.invite(invitation()), json!({"metrics": "0.1.0"}));
    device.accept(json!(["metrics"]))
}

fn attached(config: Config) -> Device {
    let mut device = Device::joined(config);
    attach(&mut device);
    device
}

fn sample(load: f64) -> MetricSample {
    MetricSample {
        time: None,
        metrics: [("load_1min".to_owned(), load), ("cpu_temp".to_owned(), 41.25)].into(),
    }
}

fn tell(device: &mut Device, sample: MetricSample) -> Vec<Output> {
    device.command(ExtensionCommand::Metrics(sample).into())
}

/// The messages among some outputs, as lists of samples.
fn reports(out: &[Output]) -> Vec<Vec<Value>> {
    let of_metrics = |(event, _): &(String, Value)| event == "metrics:report";
    let list = |(_, payload): (String, Value)| payload["reports"].as_array().unwrap().clone();
    extension_messages(out).into_iter().filter(of_metrics).map(list).collect()
}

#[test]
fn a_check_is_answered_with_the_numbers() {
    for config in in_both(metrics()) {
        let mut device = attached(config);
        let out = device.extension("metrics:check", json!({}));
        assert_eq!(extension_events(&out), [ExtensionEvent::MetricsRequested]);
        assert_eq!(device.extension("metrics:check", json!({})), [], "asked already");
        let out = tell(&mut device, sample(0.5));
        assert_eq!(
            extension_messages(&out),
            [(
                "metrics:report".to_owned(),
                json!({"reports": [{"timestamp": "2026-11-23T14:39:17.000000Z",
                    "metrics": {"cpu_temp": 41.25, "load_1min": 0.5}}]})
            )]
        );
        // Unasked as well.
        assert_eq!(reports(&tell(&mut device, sample(1.0))).len(), 1);
        assert_eq!(extension_events(&device.pass(HOUR)), []);
    }
}

#[test]
fn an_application_that_says_nothing_is_not_waited_for() {
    let mut device = attached(metrics());
    device.extension("metrics:check", json!({}));
    let out = device.pass(EXTENSION_ANSWER_TIMEOUT);
    assert_eq!(extension_events(&out), [ExtensionEvent::Unanswered { name: "metrics".into() }]);
    assert_eq!(extension_messages(&out), []);
}

#[test]
fn samples_from_offline_times_are_sent_together_with_their_own_times() {
    let mut device = Device::joined(metrics());
    for load in [1.0, 2.0, 3.0] {
        assert_eq!(tell(&mut device, sample(load)), []);
        device.pass(60 * SECOND);
    }
    let told = MetricSample { time: Some(UnixMicros((WALL - 3600) * 1_000_000)), ..sample(4.0) };
    tell(&mut device, told);
    let sent = reports(&attach(&mut device));
    assert_eq!(sent.len(), 1);
    let times: Vec<&Value> = sent[0].iter().map(|report| &report["timestamp"]).collect();
    assert_eq!(
        times,
        [
            "2026-11-23T14:39:17.000000Z",
            "2026-11-23T14:40:17.000000Z",
            "2026-11-23T14:41:17.000000Z",
            "2026-11-23T13:39:17.000000Z"
        ]
    );
    assert_eq!(sent[0][2]["metrics"]["load_1min"], 3);
}

#[test]
fn sixty_fit_a_message() {
    for (count, sizes) in [(MAX_METRIC_BATCH, vec![60]), (MAX_METRIC_BATCH + 1, vec![60, 1])] {
        let mut device = Device::joined(metrics());
        for _ in 0..count {
            tell(&mut device, sample(1.0));
        }
        let sizes_sent: Vec<usize> = reports(&attach(&mut device)).iter().map(Vec::len).collect();
        assert_eq!(sizes_sent, sizes);
    }
}

#[test]
fn the_buffer_drops_the_oldest_and_counts_them() {
    let mut device = Device::joined(metrics());
    for number in 0..MAX_METRIC_SAMPLES {
        tell(&mut device, sample(f64::from(u32::try_from(number).unwrap())));
    }
    assert_eq!(device.link.status().counters.dropped_metric_samples, 0);
    tell(&mut device, sample(-1.0));
    assert_eq!(device.link.status().counters.dropped_metric_samples, 1);
    let sent = reports(&attach(&mut device)).concat();
    assert_eq!((sent.len(), &sent[0]["metrics"]["load_1min"]), (MAX_METRIC_SAMPLES, &json!(1)));
}

#[test]
fn no_more_messages_than_the_servers_bucket_takes() {
    let mut device = attached(metrics());
    let at_once: usize = (0..10).map(|_| reports(&tell(&mut device, sample(1.0))).len()).sum();
    assert_eq!(at_once, 5);
    assert_eq!(device.link.deadline().unwrap().why, Timer::Metrics);
    let rest = reports(&device.pass(5 * SECOND));
    assert_eq!(rest.iter().map(Vec::len).collect::<Vec<_>>(), [5], "what waited goes together");
}

#[test]
fn samples_too_old_for_the_server_are_dropped_and_counted() {
    let mut device = Device::joined(metrics());
    let day = i64::try_from(MAX_METRIC_AGE.as_micros()).unwrap();
    let now = WALL * 1_000_000;
    for (time, load) in [(now - day, 1.0), (now - day - 1, 2.0), (now + day, 3.0), (now + day + 1, 4.0)] {
        tell(&mut device, MetricSample { time: Some(UnixMicros(time)), ..sample(load) });
    }
    let sent = reports(&attach(&mut device)).concat();
    let loads: Vec<&Value> = sent.iter().map(|report| &report["metrics"]["load_1min"]).collect();
    assert_eq!(loads, [1, 3]);
    assert_eq!(device.link.status().counters.dropped_metric_samples, 2);
    // Nothing at all is sent when nothing is fit.
    let old = MetricSample { time: Some(UnixMicros(0)), ..sample(1.0) };
    assert_eq!(extension_messages(&tell(&mut device, old)), []);
}

#[test]
fn names_and_numbers_are_trimmed() {
    let mut device = attached(metrics());
    let mut bad = MetricSample::default();
    for number in 0..30 {
        bad.metrics.insert(format!("m{number:02}"), 1.5);
    }
    bad.metrics.insert("a".into(), f64::NAN);
    bad.metrics.insert("b".repeat(MAX_METRIC_NAME_BYTES + 1), 1.0);
    let out = tell(&mut device, bad);
    let sent = reports(&out);
    let kept = sent[0][0]["metrics"].as_object().unwrap();
    assert_eq!((kept.len(), kept.contains_key("m19"), kept.contains_key("m20")), (MAX_METRICS, true, false));
    assert!(
        matches!(&extension_events(&out)[..], [ExtensionEvent::Problem { problem, .. }] if problem.starts_with("12 metrics"))
    );
}

#[test]
fn a_device_without_clock_offers_metrics_once_it_has_one() {
    let mut device = Device::new(metrics());
    device.now.wall = None;
    device.connect();
    device.join();
    assert_eq!(device.invite(invitation()), json!({}));
    device.accept(json!([]));
    tell(&mut device, sample(1.0));
    // An operator can't attach it either.
    let out = device.extension("attach", json!({"extensions": ["metrics"]}));
    assert_eq!(extension_messages(&out), [("metrics:error".to_owned(), json!({"reason": "start_failure"}))]);
    device.pass(5 * SECOND);
    // A clock that can't be right is none.
    device.now.wall = Some(UnixTime(EARLIEST_CLOCK - 1));
    assert_eq!(device.input(Input::Tick), []);
    device.now.wall = Some(UnixTime(WALL));
    let out = device.input(Input::Tick);
    let messages = extension_messages(&out);
    assert_eq!(messages[0].0, "phx_leave");
    assert_eq!(messages[1], ("phx_join".to_owned(), json!({"metrics": "0.1.0"})));
    let sent = reports(&device.accept(json!(["metrics"])));
    assert_eq!(sent[0][0]["timestamp"], "2026-11-23T14:39:12.000000Z", "taken five seconds before");
}

#[test]
fn samples_are_held_while_detached() {
    let mut device = attached(metrics());
    device.extension("detach", json!({"extensions": "all"}));
    assert_eq!(tell(&mut device, sample(1.0)), []);
    let out = device.extension("attach", json!({"extensions": "all"}));
    assert_eq!(reports(&out).len(), 1);
    assert_eq!(
        Device::joined(config()).refusal(ExtensionCommand::Metrics(sample(1.0))),
        CommandError::UnknownExtension
    );
}
