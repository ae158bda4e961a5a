//! Nothing local stops the device: readers of its output that stop or go away, and signals that end it.

use std::io::Read as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::common::{Device, PATIENCE, Setting, builder};
use nerves_hub_link_testkit::hub::{HubConfig, HubEvent};
use nerves_hub_link_testkit::server::{Firmware, Mischief, Times};
use serde_json::json;

/// More lines than a pipe and the program's own queue would hold together.
const FLOOD: usize = 4000;

fn joined(event: &HubEvent) -> bool {
    matches!(event, HubEvent::Joined { .. })
}

/// Gives the device more to say than anybody reads, and waits until it has heard all of it.
fn flood(setting: &Setting) {
    for number in 0..FLOOD {
        setting.hub.broadcast(&format!("unknown-{number}-{}", "x".repeat(60)), &json!({}));
    }
    ask(setting);
}

/// Waits until the device has heard all that was said before: it answers a question after that.
fn ask(setting: &Setting) {
    let mode = json!({"mode": "device_managed", "managed_updates_allowed": true});
    setting.hub.broadcast("update_mode", &mode);
    setting.saw("request for an update", |event| matches!(event, HubEvent::UpdateRejected { .. }));
}

#[test]
fn an_update_goes_through_though_nobody_reads_what_the_device_says() {
    let setting = Setting::new();
    let mut command = setting.command(&[]);
    let mut device = Device(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    setting.saw("join", joined);
    flood(&setting);
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    setting.hub.deploy(Firmware::from_archive(&update).unwrap());
    setting
        .saw("completion", |event| matches!(event, HubEvent::Status { status, .. } if status == "completed"));
    // It ends though its last words are read by nobody.
    assert!(device.0.wait().unwrap().success());
    assert_eq!(setting.disk.boot().unwrap().meta.version, "1.1.0");
}

#[test]
fn heartbeats_go_on_though_nobody_reads_what_the_device_says() {
    let setting = Setting::new();
    // One that is not answered before the next is due ends the connection, and this machine may be busy.
    let mut command = setting.command(&["--heartbeat-interval", "2"]);
    let _device = Device(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    setting.saw("join", joined);
    flood(&setting);
    let mut flooded = false;
    setting.saw("a heartbeat after the flood", |event| {
        flooded |= matches!(event, HubEvent::UpdateRejected { .. });
        flooded && matches!(event, HubEvent::Heartbeat { .. })
    });
    assert_eq!(setting.hub.log().iter().filter(|event| joined(event)).count(), 1, "it stayed connected");
}

#[test]
fn a_reader_that_comes_back_reads_the_whole_flood_in_short() {
    let setting = Setting::new();
    let mut command = setting.command(&["--log", "json"]);
    let device = Device(command.stdout(Stdio::piped()).spawn().unwrap());
    setting.saw("join", joined);
    flood(&setting);
    let text = device.ends_after("unknown-");
    let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let (held, printed): (Vec<_>, Vec<_>) =
        records.filter(|record| record["kind"] == "unknown").partition(|record| record["more"].is_u64());
    let more: u64 = held.iter().filter_map(|record| record["more"].as_u64()).sum();
    assert_eq!(printed.len() as u64 + more, FLOOD as u64, "{text}");
    assert!(held.last().unwrap()["text"].as_str().unwrap().contains(&format!("unknown-{}-", FLOOD - 1)));
    assert!(text.len() < 64 * 1024, "it fits into a pipe that nobody reads");
}

#[test]
fn a_reader_that_goes_away_does_not_matter() {
    let setting = Setting::new();
    let mut command = setting.command(&[]);
    let mut device = Device(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    drop((device.0.stdout.take(), device.0.stderr.take()));
    setting.saw("join", joined);
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    setting.hub.deploy(Firmware::from_archive(&update).unwrap());
    assert!(device.0.wait().unwrap().success());
    assert_eq!(setting.disk.boot().unwrap().meta.version, "1.1.0");
}

#[test]
fn a_reboot_command_that_nobody_listens_to_still_runs() {
    let setting = Setting::new();
    let flag = setting.dir.path().join("rebooted");
    // More than a pipe holds, on both outputs.
    let reboot = format!("head -c 200000 /dev/zero >&2; head -c 200000 /dev/zero; touch {}", flag.display());
    let mut command = setting.command(&["--reboot-command", &reboot]);
    let mut device = Device(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    setting.saw("join", joined);
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    setting.hub.deploy(Firmware::from_archive(&update).unwrap());
    assert!(device.0.wait().unwrap().success());
    assert!(flag.exists());
}

#[test]
fn signals_close_the_connection_and_end_the_program_with_a_word() {
    // What is ignored in this process is ignored by what it starts; what is caught is not.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).unwrap();
    }
    for name in ["TERM", "INT", "HUP"] {
        let setting = Setting::new();
        let device = setting.device(&[]);
        setting.saw("join", joined);
        device.signal(name);
        let text = device.said();
        assert!(text.contains(&format!("SIG{name}: closing the connection")), "{text}");
        assert!(text.lines().last().unwrap().ends_with("stopped"), "{text}");
        setting.saw("close", |event| matches!(event, HubEvent::Disconnected { code: None, .. }));
    }
}

#[test]
fn a_signal_in_the_middle_of_an_update_leaves_the_running_firmware() {
    let setting = Setting::new();
    let mut device = setting.device(&["--retry-delay", "3600"]);
    setting.saw("join", joined);
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    setting.hub.mischief(Mischief::CutDownload { after: 700_000 }, Times::Once);
    setting.hub.deploy(Firmware::from_archive(&update).unwrap());
    let mut out = std::io::BufReader::new(device.0.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("download broke at") {
        assert!(std::io::BufRead::read_line(&mut out, &mut text).unwrap() > 0, "{text}");
    }
    device.signal("TERM");
    out.read_to_string(&mut text).unwrap();
    assert!(device.0.wait().unwrap().success(), "{text}");
    assert!(text.contains("the update under way is broken off, and the running firmware stays"), "{text}");
    assert_eq!(setting.disk.boot().unwrap().meta.version, "1.0.0");
}

#[test]
fn a_signal_ends_a_device_whose_output_nobody_reads_within_the_limit() {
    let setting = Setting::with(HubConfig::default());
    let mut command = setting.command(&[]);
    let mut device = Device(command.stdout(Stdio::piped()).spawn().unwrap());
    setting.saw("join", joined);
    flood(&setting);
    let begin = Instant::now();
    device.signal("TERM");
    assert!(device.0.wait().unwrap().success());
    assert!(begin.elapsed() < PATIENCE);
}
