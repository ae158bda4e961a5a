//! Log lines, one by one and in batches (device-protocol §5.6, A4).

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn logging() -> Config {
    let mut config = config();
    config.extensions = no_extensions();
    config.extensions.logging = Some(LoggingConfig::default());
    config.heartbeat = Duration::ZERO;
    config
}

fn attach(device: &mut Device, version: &str) {
    assert_eq!(device.invite(json!({"extensions": {"logging": [version]}})), json!({"logging": version}));
    device.accept(json!(["logging"]));
}

/// A device whose server takes this version.
fn attached(config: Config, version: &str) -> Device {
    let mut device = Device::joined(config);
    attach(&mut device, version);
    device
}

fn log(device: &mut Device, message: impl Into<String>) -> Vec<Output> {
    device.command(ExtensionCommand::Log(LogLine::new(LogLevel::Info, message)).into())
}

fn flush(device: &mut Device) -> Vec<Output> {
    device.command(ExtensionCommand::FlushLogs.into())
}

/// The batches among some outputs, as lists of lines.
fn batches(out: &[Output]) -> Vec<Vec<Value>> {
    let of_logging = |(event, _): &(String, Value)| event == "logging:send";
    let lines = |(_, payload): (String, Value)| {
        assert_eq!(payload.as_object().unwrap().len(), 1);
        payload["lines"].as_array().expect("a batch").clone()
    };
    extension_messages(out).into_iter().filter(of_logging).map(lines).collect()
}

fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["message"].as_str().unwrap()).collect()
}

fn dropped(device: &Device) -> u64 {
    device.link.status().counters.dropped_log_lines
}

#[test]
fn both_versions_are_offered_and_the_newer_is_preferred() {
    let mut device = Device::joined(logging());
    assert_eq!(
        device.invite(json!({"extensions": {"logging": ["0.1.0", "0.0.1"]}})),
        json!({"logging": "0.1.0"})
    );
    assert_eq!(Device::joined(logging()).invite(json!({})), json!({"logging": "0.0.1"}));
    assert_eq!(Device::joined(config()).invite(json!({"extensions": {"logging": ["0.1.0"]}})), json!({}));
}

#[test]
fn batches_have_the_shape_servers_take() {
    for config in in_both(logging()) {
        let mut device = attached(config, "0.1.0");
        let mut line = LogLine::new(LogLevel::Warning, "käse");
        line.meta.insert("module".into(), "cheese".into());
        line.meta.insert("time".into(), "never".into());
        device.command(ExtensionCommand::Log(line.clone()).into());
        line.time = Some(UnixMicros(1_767_225_600_000_000));
        device.command(ExtensionCommand::Log(line).into());
        let line = |time: &str| json!({"level": "warning", "message": "käse", "meta": {"module": "cheese", "time": time}});
        assert_eq!(
            extension_messages(&flush(&mut device)),
            [(
                "logging:send".to_owned(),
                json!({"lines": [line("1795444757000000"), line("1767225600000000")]})
            )]
        );
    }
}

#[test]
fn the_first_flush_comes_one_interval_after_attaching_with_the_lines_from_before() {
    let mut device = Device::joined(logging());
    log(&mut device, "while offline");
    device.pass(5 * SECOND);
    attach(&mut device, "0.1.0");
    log(&mut device, "attached");
    assert_eq!(device.link.deadline().unwrap().why, Timer::Logs);
    assert_eq!(batches(&device.pass(59 * SECOND)), [] as [Vec<Value>; 0]);
    let sent = batches(&device.pass(SECOND));
    assert_eq!(texts(&sent[0]), ["while offline", "attached"], "the oldest first");
    // With the times at which they were written.
    assert_eq!(sent[0][0]["meta"], json!({"time": "1795444757000000"}));
    assert_eq!(sent[0][1]["meta"], json!({"time": "1795444762000000"}));
    // And so on, without a message while there is nothing to say.
    assert_eq!(batches(&device.pass(10 * MINUTE)).len(), 0);
    log(&mut device, "later");
    assert_eq!(batches(&device.pass(MINUTE)).len(), 1);
}

#[test]
fn intervals_below_a_minute_are_raised_to_it() {
    for (interval, first) in [(0, 60), (1, 60), (60, 60), (61, 61)] {
        let mut config = logging();
        let wanted = LoggingConfig { interval: interval * SECOND, ..LoggingConfig::default() };
        config.extensions.logging = Some(wanted);
        let mut device = attached(config, "0.1.0");
        log(&mut device, "x");
        assert_eq!(batches(&device.pass((first - 1) * SECOND)).len(), 0);
        assert_eq!(batches(&device.pass(SECOND)).len(), 1);
    }
}

#[test]
fn a_hundred_lines_fit_a_message() {
    for (count, sizes) in [(MAX_LOG_BATCH, vec![100]), (MAX_LOG_BATCH + 1, vec![100, 1])] {
        let mut device = attached(logging(), "0.1.0");
        for number in 0..count {
            log(&mut device, format!("{number}"));
        }
        let sent = batches(&flush(&mut device));
        assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        let all = sent.concat();
        let expected: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        assert_eq!(texts(&all), expected);
    }
}

#[test]
fn large_lines_make_smaller_batches() {
    let mut device = attached(logging(), "0.1.0");
    for _ in 0..100 {
        log(&mut device, "x".repeat(MAX_LOG_BYTES));
    }
    let sent = batches(&flush(&mut device));
    assert!(sent.len() > 1);
    let bytes =
        |lines: &Vec<Value>| lines.iter().map(|line| line["message"].as_str().unwrap().len()).sum::<usize>();
    assert!(
        sent.iter().all(|lines| bytes(lines) <= MAX_BATCH_BYTES),
        "{:?}",
        sent.iter().map(bytes).collect::<Vec<_>>()
    );
    assert_eq!(sent.concat().len(), 100);
}

#[test]
fn a_full_buffer_drops_the_oldest_and_says_so_first() {
    for config in in_both(logging()) {
        let mut config = config;
        config.extensions.logging = Some(LoggingConfig { max_lines: 3, ..LoggingConfig::default() });
        let mut device = attached(config, "0.1.0");
        for number in 0..3 {
            log(&mut device, format!("{number}"));
        }
        assert_eq!(dropped(&device), 0);
        device.pass(SECOND);
        log(&mut device, "3");
        log(&mut device, "4");
        assert_eq!(dropped(&device), 2);
        let sent = batches(&flush(&mut device));
        assert_eq!(
            sent[0][0],
            json!({"level": "warning", "message": "nerves-hub-link dropped 2 log lines to stay inside its buffer",
                "meta": {"time": "1795444757000000"}})
        );
        assert_eq!(texts(&sent[0][1..]), ["2", "3", "4"]);
        // Told once.
        log(&mut device, "5");
        assert_eq!(texts(&batches(&flush(&mut device))[0]), ["5"]);
        assert_eq!(dropped(&device), 2);
    }
}

#[test]
fn the_notice_counts_as_a_line() {
    let mut device = attached(logging(), "0.1.0");
    for number in 0..1001 {
        log(&mut device, format!("{number}"));
    }
    let sizes: Vec<usize> = batches(&flush(&mut device)).iter().map(Vec::len).collect();
    // More than ten messages have to wait.
    assert_eq!(sizes[0], 100);
    let rest = batches(&device.pass(SECOND));
    assert_eq!(sizes.len() + rest.len(), 11);
    assert_eq!(sizes.iter().sum::<usize>() + rest.concat().len(), 1001, "1000 lines and the notice");
}

#[test]
fn the_buffer_is_bounded_in_lines_and_bytes() {
    let mut config = logging();
    config.extensions.logging = Some(LoggingConfig { max_lines: usize::MAX, ..LoggingConfig::default() });
    let mut device = Device::joined(config);
    for _ in 0..MAX_LOG_LINES {
        log(&mut device, "");
    }
    assert!(dropped(&device) > 0, "ten thousand lines have more than a MiB around them");
    let mut device = Device::joined(logging());
    let per_line = MAX_LOG_BYTES + 128;
    for _ in 0..MAX_BACKLOG_BYTES / per_line {
        log(&mut device, "x".repeat(MAX_LOG_BYTES));
    }
    assert_eq!(dropped(&device), 0);
    log(&mut device, "x".repeat(MAX_LOG_BYTES));
    assert_eq!(dropped(&device), 1);
}

#[test]
fn no_more_messages_than_the_servers_bucket_takes() {
    for version in ["0.0.1", "0.1.0"] {
        let mut config = logging();
        config.extensions.logging = Some(LoggingConfig { max_lines: 3000, ..LoggingConfig::default() });
        let mut device = attached(config, version);
        let lines = if version == "0.0.1" { 30 } else { 3000 };
        let mut at_once = 0;
        for number in 0..lines {
            at_once += extension_messages(&log(&mut device, format!("{number}"))).len();
        }
        if version == "0.1.0" {
            at_once = extension_messages(&flush(&mut device)).len();
        }
        assert_eq!(at_once, 10, "{version}");
        assert_eq!(device.link.deadline().unwrap().why, Timer::Logs);
        assert_eq!(extension_messages(&device.pass(Duration::from_millis(199))).len(), 0);
        assert_eq!(extension_messages(&device.pass(Duration::from_millis(1))).len(), 1);
        assert_eq!(extension_messages(&device.pass(SECOND)).len(), 5);
        assert_eq!(extension_messages(&device.pass(10 * SECOND)).len(), 14, "the rest");
    }
}

#[test]
fn lines_wait_while_the_network_takes_none() {
    let mut device = attached(logging(), "0.1.0");
    device.sends = false;
    for number in 0..1000 {
        log(&mut device, format!("{number}"));
    }
    let first = batches(&flush(&mut device));
    assert_eq!(first.len(), usize::try_from(SEND_CREDIT).unwrap(), "as many as the adapter has room for");
    assert_eq!(device.pass(10 * SECOND), [], "and no turn of the loop without need");
    device.sends = true;
    let socket = device.socket();
    let rest = batches(&device.input(Input::SocketSent { socket, frames: SEND_CREDIT }));
    assert_eq!(first.concat().len() + rest.concat().len(), 1000);
}

#[test]
fn what_was_not_sent_is_kept_over_a_lost_connection() {
    let mut device = attached(logging(), "0.1.0");
    log(&mut device, "before");
    device.down(None);
    log(&mut device, "between");
    let refused = ExtensionCommand::FlushLogs;
    assert_eq!(device.refusal(refused.clone()), CommandError::NotAttached);
    assert_eq!(batches(&device.pass(Duration::from_millis(500))).len(), 0);
    device.come_back_after(1);
    device.pass(2 * MINUTE);
    assert_eq!(device.refusal(refused), CommandError::NotAttached);
    // The interval is long over: they go out as soon as there is a way.
    attach(&mut device, "0.1.0");
    let all = batches(&device.out).concat();
    assert_eq!(texts(&all), ["before", "between"]);
}

#[test]
fn single_lines_begin_when_attached() {
    for config in in_both(logging()) {
        let mut device = Device::joined(config);
        log(&mut device, "too early");
        attach(&mut device, "0.0.1");
        let mut line = LogLine::new(LogLevel::Emergency, "fire");
        line.meta.insert("module".into(), "kitchen".into());
        let out = device.command(ExtensionCommand::Log(line).into());
        assert_eq!(
            extension_messages(&out),
            [(
                "logging:send".to_owned(),
                json!({"level": "emergency", "message": "fire",
                    "meta": {"module": "kitchen", "time": "1795444757000000"}})
            )]
        );
        device.extension("detach", json!({"extensions": ["logging"]}));
        assert_eq!(log(&mut device, "detached"), []);
        let out = device.extension("attach", json!({"extensions": ["logging"]}));
        assert_eq!(extension_messages(&out).len(), 1, "only that it is attached");
    }
}

#[test]
fn single_lines_past_the_buffer_are_counted_and_told() {
    let mut config = logging();
    config.extensions.logging = Some(LoggingConfig { max_lines: 5, ..LoggingConfig::default() });
    let mut device = attached(config, "0.0.1");
    for number in 0..20 {
        log(&mut device, format!("{number}"));
    }
    assert_eq!(dropped(&device), 5);
    let rest: Vec<Value> =
        extension_messages(&device.pass(10 * SECOND)).into_iter().map(|(_, line)| line).collect();
    let words = texts(&rest);
    assert_eq!(words[0], "nerves-hub-link dropped 5 log lines to stay inside its buffer");
    assert_eq!(&words[1..], ["15", "16", "17", "18", "19"]);
}

#[test]
fn another_version_after_a_reconnect_takes_over() {
    let mut device = attached(logging(), "0.1.0");
    device.down(None);
    device.come_back_after(1);
    attach(&mut device, "0.0.1");
    let out = log(&mut device, "single");
    assert_eq!(extension_messages(&out)[0].1["message"], "single");
    assert_eq!(batches(&device.pass(5 * MINUTE)).len(), 0, "one of them runs");
    device.down(None);
    device.come_back_after(1);
    attach(&mut device, "0.1.0");
    assert_eq!(log(&mut device, "batch"), []);
    assert_eq!(texts(&batches(&device.pass(MINUTE))[0]), ["batch"]);
}

#[test]
fn lines_below_the_level_are_left_out() {
    let levels = [
        LogLevel::Debug,
        LogLevel::Info,
        LogLevel::Notice,
        LogLevel::Warning,
        LogLevel::Error,
        LogLevel::Critical,
        LogLevel::Alert,
        LogLevel::Emergency,
    ];
    let words = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
    assert_eq!(levels.map(LogLevel::as_str), words);
    for (least, level) in levels.into_iter().enumerate() {
        let mut config = logging();
        config.extensions.logging = Some(LoggingConfig { level, ..LoggingConfig::default() });
        let mut device = attached(config, "0.1.0");
        for level in levels {
            device.command(ExtensionCommand::Log(LogLine::new(level, "x")).into());
        }
        let sent = batches(&flush(&mut device)).concat();
        let kept: Vec<&str> = sent.iter().map(|line| line["level"].as_str().unwrap()).collect();
        assert_eq!(kept, words[least..]);
    }
    assert_eq!(LoggingConfig::default().level, LogLevel::Info);
}

#[test]
fn long_lines_are_cut_at_a_character() {
    let mut device = attached(logging(), "0.1.0");
    log(&mut device, "x".repeat(MAX_LOG_BYTES));
    log(&mut device, "ä".repeat(MAX_LOG_BYTES / 2 + 1));
    let sent = batches(&flush(&mut device)).concat();
    let texts = texts(&sent);
    assert_eq!(texts[0], "x".repeat(MAX_LOG_BYTES));
    let cut = texts[1].strip_suffix(" ... (truncated)").unwrap();
    assert!(cut.chars().all(|letter| letter == 'ä'));
    assert!((MAX_LOG_BYTES - 1..=MAX_LOG_BYTES).contains(&texts[1].len()));
}

#[test]
fn facts_beside_a_line_are_bounded() {
    let mut device = attached(logging(), "0.1.0");
    let mut line = LogLine::new(LogLevel::Info, "x");
    for number in 0..=MAX_LOG_META {
        line.meta.insert(format!("{number:02}{}", "ä".repeat(200)), "ö".repeat(1000));
    }
    device.command(ExtensionCommand::Log(line).into());
    let meta = batches(&flush(&mut device))[0][0]["meta"].as_object().unwrap().clone();
    assert_eq!(meta.len(), MAX_LOG_META + 1, "and the time");
    for (name, value) in meta {
        assert!(
            name.len() <= MAX_CONTEXT_NAME_BYTES && value.as_str().unwrap().len() <= MAX_CONTEXT_VALUE_BYTES
        );
    }
}

#[test]
fn lines_wait_for_a_clock_and_then_have_the_right_time() {
    let mut device = Device::new(logging());
    device.now.wall = None;
    device.connect();
    device.join();
    log(&mut device, "no idea when");
    device.pass(5 * SECOND);
    attach(&mut device, "0.1.0");
    assert_eq!(batches(&device.pass(3 * MINUTE)).len(), 0);
    // The clock is set 185 seconds after the line was written.
    device.now.wall = Some(UnixTime(WALL));
    let sent = batches(&device.input(Input::Tick));
    assert_eq!(sent[0][0]["meta"]["time"], ((WALL - 185) * 1_000_000).to_string());
}

#[test]
fn times_the_application_tells_are_kept_if_they_can_be_written() {
    let mut device = attached(logging(), "0.1.0");
    for time in [UnixMicros(-1), UnixMicros(i64::MAX), UnixMicros(i64::MIN)] {
        let line = LogLine { time: Some(time), ..LogLine::new(LogLevel::Info, "x") };
        device.command(ExtensionCommand::Log(line).into());
    }
    let sent = batches(&flush(&mut device)).concat();
    let times: Vec<&str> = sent.iter().map(|line| line["meta"]["time"].as_str().unwrap()).collect();
    assert_eq!(times, ["-1", "1795444757000000", "1795444757000000"]);
}

#[test]
fn without_the_extension_lines_cost_nothing() {
    let mut device = Device::joined(config());
    assert_eq!(log(&mut device, "x"), []);
    assert_eq!(device.refusal(ExtensionCommand::FlushLogs), CommandError::UnknownExtension);
    assert_eq!(dropped(&device), 0);
    // The server never says anything to it.
    let mut device = attached(logging(), "0.1.0");
    assert!(matches!(&events(&device.extension("logging:go", json!({})))[..], [Event::Unknown { .. }]));
}

#[test]
fn what_the_link_does_itself_makes_no_lines() {
    let mut device = attached(logging(), "0.1.0");
    let (offer, _) = device.start(json!({}));
    device.head(200, &[]);
    device.chunk(&[0; 1000]);
    device.input(Input::ApplyFailed { offer, reason: "x" });
    device.server(&json!([null, null, "device", "nonsense", 5]));
    device.down(None);
    device.come_back_after(1);
    attach(&mut device, "0.1.0");
    device.pass(Duration::from_secs(3600));
    assert!(device.sent().iter().all(|message| message[3] != "logging:send"));
}
