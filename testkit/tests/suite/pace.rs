//! A download that keeps to its speed. Not for a program with other tests, since it looks at the processor time of the process.

use std::time::{Duration, Instant};

use crate::bench::Bench;
use nerves_hub_link_protocol::Event;
use nerves_hub_link_runtime::Exit;
use nerves_hub_link_testkit::server::Firmware;

#[test]
fn a_limited_download_takes_its_time_without_burning_the_processor() {
    let bench = Bench::new();
    let archive = bench.firmware("1.1.0");
    let size = archive.bytes().unwrap().len() as u64;
    let mut config = bench.config();
    // A second and a half, less what may come at once.
    config.rate.bytes_per_second = Some(size * 2 / 3);
    let device = bench.start_with(config, bench.installer());
    device.until_joined();
    let (begin, before) = (Instant::now(), processor_time());
    bench.hub.deploy(Firmware::from_archive(&archive).unwrap());
    assert!(matches!(device.exit(), Exit::Reboot { .. }), "the hub: {:#?}", bench.hub.log());
    let (took, busy) = (begin.elapsed(), processor_time().saturating_sub(before));
    assert!(took >= Duration::from_millis(1200), "{size} bytes took {took:?}");
    assert!(busy < Duration::from_millis(700), "{busy:?} of processor time in {took:?}");
    let interrupted = |event: &Event| matches!(event, Event::DownloadInterrupted { .. });
    assert!(!device.events.try_iter().any(|event| interrupted(&event)), "a pause was taken for a failure");
}

/// The processor time of this process so far.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Ticks of ten milliseconds in user and in kernel mode; the name before them is in brackets.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
