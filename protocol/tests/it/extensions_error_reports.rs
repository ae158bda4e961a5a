//! Reports of errors (A5).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn reports() -> Config {
    let mut config = config();
    config.extensions = no_extensions();
    config.extensions.error_reports = Some(ErrorReportsConfig::default());
    config.heartbeat = Duration::ZERO;
    config
}

fn attach(device: &mut Device) {
    let offer = json!({"extensions": {"error_reports": ["0.1.0"]}});
    assert_eq!(device.invite(offer), json!({"error_reports": "0.1.0"}));
    device.accept(json!(["error_reports"]));
}

fn attached(config: Config) -> Device {
    let mut device = Device::joined(config);
    attach(&mut device);
    device
}

fn report(device: &mut Device, report: ErrorReport) {
    assert_eq!(device.command(ExtensionCommand::ReportError(Box::new(report)).into()), []);
}

fn flush(device: &mut Device) -> Vec<Output> {
    device.command(ExtensionCommand::FlushErrorReports.into())
}

fn batches(out: &[Output]) -> Vec<Vec<Value>> {
    let list = |(event, payload): (String, Value)| {
        assert_eq!(event, "error_reports:report");
        assert_eq!(payload.as_object().unwrap().len(), 1);
        payload["reports"].as_array().unwrap().clone()
    };
    extension_messages(out).into_iter().map(list).collect()
}

/// Reports an error and returns what the server gets.
fn one(device: &mut Device, error: ErrorReport) -> Value {
    report(device, error);
    device.pass(5 * SECOND);
    let sent = batches(&flush(device));
    assert_eq!((sent.len(), sent[0].len()), (1, 1));
    sent[0][0].clone()
}

fn panicked() -> ErrorReport {
    ErrorReport {
        message: Some("thread 'main' panicked at src/agent.rs:88:9 …".into()),
        source: ErrorSource::Logger,
        frames: vec![
            ErrorFrame {
                module: Some("agent::loop".into()),
                function: Some("run".into()),
                file: Some("src/agent.rs".into()),
                line: Some(88),
            },
            ErrorFrame::default(),
        ],
        context: BTreeMap::from([("reboot_count".to_owned(), "3".to_owned())]),
        ..ErrorReport::new("panic", "index out of bounds: len 3, index 7")
    }
}

#[test]
fn a_report_has_the_shape_servers_take() {
    for config in in_both(reports()) {
        let mut device = attached(config);
        device.pass(Duration::from_millis(1500));
        assert_eq!(
            one(&mut device, panicked()),
            json!({
                "timestamp": "2026-11-23T14:39:18.500000Z",
                "kind": "panic",
                "reason": "index out of bounds: len 3, index 7",
                "message": "thread 'main' panicked at src/agent.rs:88:9 …",
                "source": "logger",
                "frames": [{"module": "agent::loop", "function": "run", "file": "src/agent.rs", "line": 88}, {}],
                "context": {"reboot_count": "3", "uptime_ms": "1500"},
                "firmware_uuid": UUID,
            })
        );
    }
}

#[test]
fn what_is_missing_is_left_out_and_what_must_be_there_is_made_up() {
    let mut device = attached(reports());
    let sent = one(&mut device, ErrorReport::default());
    assert_eq!((&sent["kind"], &sent["reason"]), (&json!("error"), &json!("no reason given")));
    assert_eq!((&sent["source"], &sent["frames"]), (&json!("manual"), &json!([])));
    assert!(sent.get("message").is_none() && sent.get("fingerprint").is_none());
    let blank = ErrorReport { fingerprint: Some("  ".into()), ..ErrorReport::new(" x ", " a\nb\tc ") };
    let sent = one(&mut device, blank);
    assert_eq!((&sent["kind"], &sent["reason"]), (&json!("x"), &json!("a b c")));
    assert!(sent.get("fingerprint").is_none());
    // A report from before an update and a restart keeps its time and its firmware.
    let old = ErrorReport {
        time: Some(UnixMicros(1_786_496_523_456_789)),
        firmware_uuid: Some(NEW_UUID.into()),
        fingerprint: Some(" group ".into()),
        ..ErrorReport::new("panic", "earlier")
    };
    let sent = one(&mut device, old);
    assert_eq!(sent["timestamp"], "2026-08-12T01:02:03.456789Z");
    assert_eq!((&sent["firmware_uuid"], &sent["fingerprint"]), (&json!(NEW_UUID), &json!("group")));
    assert_eq!(sent["context"], json!({}), "the uptime is that of another run");
}

#[test]
fn texts_are_cut_at_characters_and_marked() {
    let mut device = attached(reports());
    let long = |bytes: usize| "ä".repeat(bytes / 2 + 1);
    let frame = ErrorFrame {
        module: Some(long(MAX_FRAME_BYTES)),
        function: Some(long(MAX_FRAME_BYTES)),
        file: Some(long(MAX_FRAME_BYTES)),
        line: Some(u32::MAX),
    };
    let mut error = ErrorReport::new(long(MAX_ERROR_KIND_BYTES), long(MAX_ERROR_REASON_BYTES));
    error.message = Some(long(MAX_ERROR_MESSAGE_BYTES));
    error.fingerprint = Some(long(MAX_FINGERPRINT_BYTES));
    error.frames = vec![frame];
    error.firmware_uuid = Some(long(64));
    error.context.insert(long(MAX_CONTEXT_NAME_BYTES), long(MAX_CONTEXT_VALUE_BYTES));
    let sent = one(&mut device, error);
    let check = |text: &str, bytes: usize| {
        assert!(
            text.len() <= bytes && text.len() > bytes - 4 && text.ends_with("ä…"),
            "{} of {bytes}",
            text.len()
        );
    };
    check(sent["kind"].as_str().unwrap(), 128);
    check(sent["reason"].as_str().unwrap(), 2048);
    check(sent["message"].as_str().unwrap(), 8192);
    check(sent["fingerprint"].as_str().unwrap(), 256);
    check(sent["firmware_uuid"].as_str().unwrap(), 64);
    for part in ["module", "function", "file"] {
        check(sent["frames"][0][part].as_str().unwrap(), 512);
    }
    let (name, value) =
        sent["context"].as_object().unwrap().iter().find(|(name, _)| *name != "uptime_ms").unwrap();
    check(name, 128);
    check(value.as_str().unwrap(), 512);
    // What just fits stays whole.
    let fits = ErrorReport::new("k".repeat(MAX_ERROR_KIND_BYTES), "r".repeat(MAX_ERROR_REASON_BYTES));
    let sent = one(&mut device, fits.clone());
    assert_eq!((sent["kind"].as_str(), sent["reason"].as_str()), (Some(&*fits.kind), Some(&*fits.reason)));
}

#[test]
fn thirty_frames_and_thirty_two_facts_are_kept() {
    let mut device = attached(reports());
    for extra in [0, 1] {
        let mut error = panicked();
        error.frames = (0..)
            .map(|line| ErrorFrame { line: Some(line), ..ErrorFrame::default() })
            .take(MAX_FRAMES + extra)
            .collect();
        error.context = (0..MAX_CONTEXT + extra).map(|number| (format!("{number:02}"), "x".into())).collect();
        let sent = one(&mut device, error);
        assert_eq!(sent["frames"].as_array().unwrap().len(), MAX_FRAMES);
        assert_eq!(sent["frames"][29], json!({"line": 29}), "the innermost stay");
        let context = sent["context"].as_object().unwrap();
        assert_eq!(context.len(), MAX_CONTEXT);
        assert!(
            context.contains_key("31") && !context.contains_key("uptime_ms"),
            "its own before all others"
        );
    }
}

#[test]
fn facts_for_all_reports_are_added_and_its_own_win() {
    let fact = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut config = reports();
    let context =
        BTreeMap::from([fact("place", "roof"), fact("reboot_count", "0"), fact("uptime_ms", "never")]);
    config.extensions.error_reports = Some(ErrorReportsConfig { context, ..ErrorReportsConfig::default() });
    let mut device = attached(config);
    let sent = one(&mut device, panicked());
    assert_eq!(sent["context"], json!({"place": "roof", "reboot_count": "3", "uptime_ms": "0"}));
    device.command(ExtensionCommand::ErrorContext(BTreeMap::from([fact("free_memory_bytes", "7")])).into());
    let sent = one(&mut device, panicked());
    assert_eq!(sent["context"]["free_memory_bytes"], "7");
    assert!(sent["context"].get("place").is_none(), "replaced");
}

#[test]
fn reports_go_out_at_intervals_from_before_attaching_on() {
    let mut device = Device::joined(reports());
    report(&mut device, panicked());
    attach(&mut device);
    assert_eq!(device.link.deadline().unwrap().why, Timer::ErrorReports);
    assert_eq!(batches(&device.pass(59 * SECOND)).len(), 0);
    assert_eq!(batches(&device.pass(SECOND)).concat().len(), 1);
    assert_eq!(batches(&device.pass(10 * MINUTE)).len(), 0, "nothing broke, nothing is said");
    for (interval, first) in [(1, 60), (90, 90)] {
        let mut config = reports();
        let wanted = ErrorReportsConfig { interval: interval * SECOND, ..ErrorReportsConfig::default() };
        config.extensions.error_reports = Some(wanted);
        let mut device = attached(config);
        report(&mut device, panicked());
        assert_eq!(batches(&device.pass((first - 1) * SECOND)).len(), 0);
        assert_eq!(batches(&device.pass(SECOND)).len(), 1);
    }
}

#[test]
fn twenty_five_fit_a_message() {
    for (count, sizes) in [(MAX_ERROR_BATCH, vec![25]), (MAX_ERROR_BATCH + 1, vec![25, 1])] {
        let mut device = attached(reports());
        for number in 0..count {
            report(&mut device, ErrorReport::new("error", format!("{number}")));
        }
        let sent = batches(&flush(&mut device));
        assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        assert_eq!(sent[0][0]["reason"], "0");
    }
}

#[test]
fn a_full_buffer_drops_the_oldest_and_says_so_first() {
    let mut device = Device::joined(reports());
    report(&mut device, ErrorReport::new("error", "first"));
    device.pass(SECOND);
    for number in 1..100 {
        report(&mut device, ErrorReport::new("error", format!("{number}")));
    }
    assert_eq!(device.link.status().counters.dropped_error_reports, 0);
    for number in 100..103 {
        report(&mut device, ErrorReport::new("error", format!("{number}")));
    }
    assert_eq!(device.link.status().counters.dropped_error_reports, 3);
    attach(&mut device);
    let sent = batches(&flush(&mut device));
    assert_eq!(
        sent[0][0],
        json!({"timestamp": "2026-11-23T14:39:17.000000Z", "kind": "nerves_hub_link",
            "reason": "nerves-hub-link dropped 3 error reports to stay inside its buffer", "source": "manual",
            "fingerprint": "nerves_hub_link:dropped_error_reports", "frames": []})
    );
    assert_eq!((sent[0].len(), &sent[0][1]["reason"]), (25, &json!("3")));
    assert_eq!(sent.concat().len(), 101);
}

#[test]
fn the_buffer_is_bounded_in_bytes_too() {
    let mut device = Device::joined(reports());
    let mut large = panicked();
    large.message = Some("x".repeat(MAX_ERROR_MESSAGE_BYTES));
    let text = || Some("y".repeat(MAX_FRAME_BYTES));
    large.frames =
        vec![ErrorFrame { module: text(), function: text(), file: text(), line: None }; MAX_FRAMES];
    for _ in 0..100 {
        report(&mut device, large.clone());
    }
    assert!(device.link.status().counters.dropped_error_reports > 70);
}

#[test]
fn no_more_messages_than_the_servers_bucket_takes() {
    let mut config = reports();
    config.extensions.error_reports =
        Some(ErrorReportsConfig { max_reports: MAX_ERROR_REPORTS, ..ErrorReportsConfig::default() });
    let mut device = attached(config);
    for number in 0..200 {
        report(&mut device, ErrorReport::new("error", format!("{number}")));
    }
    assert_eq!(batches(&flush(&mut device)).len(), 5);
    assert_eq!(batches(&device.pass(Duration::from_millis(999))).len(), 0);
    assert_eq!(batches(&device.pass(Duration::from_millis(1))).len(), 1);
    assert_eq!(batches(&device.pass(10 * SECOND)).len(), 2);
}

#[test]
fn reports_are_kept_over_a_lost_connection() {
    let mut device = attached(reports());
    report(&mut device, panicked());
    device.down(None);
    assert_eq!(device.refusal(ExtensionCommand::FlushErrorReports), CommandError::NotAttached);
    device.come_back_after(1);
    attach(&mut device);
    assert_eq!(batches(&device.pass(MINUTE)).concat().len(), 1);
}

#[test]
fn reports_wait_for_a_clock() {
    let mut device = Device::new(reports());
    device.now.wall = None;
    device.connect();
    device.join();
    attach(&mut device);
    report(&mut device, panicked());
    assert_eq!(batches(&device.pass(2 * MINUTE)).len(), 0);
    device.now.wall = Some(UnixTime(WALL));
    let sent = batches(&device.input(Input::Tick));
    assert_eq!(
        sent[0][0]["timestamp"], "2026-11-23T14:37:17.000000Z",
        "two minutes before the clock was set"
    );
}

#[test]
fn without_the_extension_reports_cost_nothing() {
    let mut device = Device::joined(config());
    for _ in 0..1000 {
        report(&mut device, panicked());
    }
    assert_eq!(device.link.status().counters.dropped_error_reports, 0);
    assert_eq!(device.refusal(ExtensionCommand::FlushErrorReports), CommandError::UnknownExtension);
    let context = ExtensionCommand::ErrorContext(BTreeMap::new());
    assert_eq!(device.refusal(context), CommandError::UnknownExtension);
}

#[test]
fn nothing_is_said_unasked_when_nothing_broke() {
    let mut device = attached(reports());
    let before = device.sent().len();
    device.pass(Duration::from_secs(3600));
    assert_eq!(device.sent().len(), before);
    // Nor is a failure of its own an error of the application's.
    let (offer, _) = device.start(json!({}));
    device.input(Input::ApplyFailed { offer, reason: "x" });
    device.pass(Duration::from_secs(3600));
    assert!(device.sent().iter().all(|message| message[3] != "error_reports:report"));
}

#[test]
fn the_buffer_holds_no_more_than_the_limit_whatever_is_configured() {
    for (configured, reports_made, dropped) in [
        (MAX_ERROR_REPORTS, MAX_ERROR_REPORTS, 0),
        (MAX_ERROR_REPORTS, MAX_ERROR_REPORTS + 1, 1),
        (usize::MAX, MAX_ERROR_REPORTS + 1, 1),
    ] {
        let mut config = reports();
        config.extensions.error_reports =
            Some(ErrorReportsConfig { max_reports: configured, ..ErrorReportsConfig::default() });
        let mut device = Device::joined(config);
        for _ in 0..reports_made {
            report(&mut device, ErrorReport::new("error", "x"));
        }
        assert_eq!(device.link.status().counters.dropped_error_reports, dropped);
    }
}
