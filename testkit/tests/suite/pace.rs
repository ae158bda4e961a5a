//! Slow and idle devices. Not for a program with other tests, since they look at the processor time of the process.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bench::{Adapter as _, Bench, Device, SERIAL};
use nerves_hub_link_platform::pty::ShellCommand;
use nerves_hub_link_protocol::{ConsoleConfig, Decision, Event};
use nerves_hub_link_runtime::Exit;
use nerves_hub_link_testkit::server::Firmware;

/// One at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Updates a device, at so many bytes a second or as fast as it can. Returns how long that took, and how much of it the
/// processor worked.
fn update(rate: impl Fn(u64) -> Option<u64>) -> (Duration, Duration) {
    let bench = Bench::new();
    let archive = bench.firmware("1.1.0");
    let mut config = bench.config();
    config.rate.bytes_per_second = rate(archive.bytes().unwrap().len() as u64);
    let device = bench.start_with(config, bench.installer());
    device.until_joined();
    let (begin, before) = (Instant::now(), processor_time());
    bench.hub.deploy(Firmware::from_archive(&archive).unwrap());
    assert!(matches!(device.exit(), Exit::Reboot { .. }), "the hub: {:#?}", bench.hub.log());
    let (took, busy) = (begin.elapsed(), processor_time().saturating_sub(before));
    let interrupted = |event: &Event| matches!(event, Event::DownloadInterrupted { .. });
    assert!(!device.events.try_iter().any(|event| interrupted(&event)), "a pause was taken for a failure");
    (took, busy)
}

#[test]
fn a_limited_download_takes_its_time_without_burning_the_processor() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // What an update costs on this machine now, which may be busy.
    let (_, cost) = update(|_| None);
    // A second and a half, less what may come at once.
    let (took, busy) = update(|size| Some(size * 2 / 3));
    assert!(took >= Duration::from_millis(1200), "an update took {took:?}");
    let most = 2 * cost + Duration::from_millis(400);
    assert!(busy < most, "{busy:?} of processor time in {took:?}; without a limit {cost:?}");
}

#[test]
fn an_idle_device_with_an_idle_shell_costs_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::new();
    let mut config = bench.config();
    config.console = Some(ConsoleConfig::default());
    // It sleeps in its terminal with what was typed unread, and its own child left behind.
    let shell = ShellCommand::new("/bin/sh").argument("-c").argument("stty raw -echo; echo up; sleep 600");
    let device = Device::start_as(
        config,
        bench.tls(),
        bench.installer(),
        |_| Decision::Apply,
        |options| options.shell(shell),
    );
    device.status_when("the console is joined", |status| status.link.console_joined);
    let types = |text: String| {
        bench.hub.with_hub(|hub, _| hub.console(SERIAL, "dn", &serde_json::json!({"data": text})));
    };
    types("x".to_owned());
    device.status_when("the shell runs", |status| status.link.console_active);
    // More than a terminal holds: the rest waits for it to be writable, which it never is.
    for _ in 0..20 {
        types("y".repeat(5000));
    }
    device.answers(&bench.hub);
    // What was begun may take a while to end where the machine is busy.
    let half_a_second = || {
        let before = processor_time();
        let (status, ended) = device.handle.wait_until(Duration::from_millis(500), |it| it.exit.is_some());
        assert!(!ended && status.link.console_active, "{status:?}");
        processor_time().saturating_sub(before)
    };
    let is_idle = |busy: &Vec<Duration>| busy.last().is_some_and(|last| *last < Duration::from_millis(120));
    let mut busy = Vec::new();
    while busy.len() < 10 && !is_idle(&busy) {
        busy.push(half_a_second());
    }
    assert!(is_idle(&busy), "{busy:?} of processor time in half a second each");
    device.stop();
}

/// The processor time of this process so far.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Ticks of ten milliseconds in user and in kernel mode; the name before them is in brackets.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
