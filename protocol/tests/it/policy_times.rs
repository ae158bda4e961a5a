//! When updates may begin, and how fast they may come.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const DAY: i64 = 24 * 3600;
/// Monday, 2026-11-23 00:00:00 UTC.
const MONDAY: i64 = 1_795_392_000;

/// Tuesday 22:00 for four hours and Saturday 10:00 for an hour, in a zone an hour east of UTC.
fn windows() -> Maintenance {
    let windows = vec![
        Window { day: Weekday::Tuesday, start_minute: 22 * 60, minutes: 240 },
        Window { day: Weekday::Saturday, start_minute: 10 * 60, minutes: 60 },
    ];
    Maintenance { windows, utc_offset_minutes: 60, ..Maintenance::default() }
}

/// Offers an update at a time. Returns the minutes by which it is put off, if it is.
fn offered(maintenance: Maintenance, wall: Option<i64>, by_hand: bool) -> Option<u64> {
    let mut config = config();
    config.maintenance = maintenance;
    let mut device = Device::new(config);
    device.now.wall = wall.map(UnixTime);
    device.connect();
    device.join();
    let mut update = update();
    if by_hand {
        update["deployment_id"] = Value::Null;
    }
    let out = device.broadcast("update", update);
    let Some(reason) = refusal(&out) else {
        assert_eq!(device.statuses(), [json!({"status": "received"})]);
        return None;
    };
    let statuses = device.statuses();
    assert_eq!(statuses.len(), 1, "one answer, and no `received`: {statuses:?}");
    assert_eq!((&statuses[0]["status"], &statuses[0]["reason"]), (&json!("rescheduled"), &json!(reason)));
    Some(statuses[0]["delay_for"].as_u64().unwrap() / 60_000)
}

#[test]
fn outside_its_windows_a_device_asks_once_to_be_offered_the_update_when_the_next_begins() {
    let at = |days: i64, hour: i64, minute: i64| Some(MONDAY + days * DAY + hour * 3600 + minute * 60);
    // In UTC the windows are Tuesday 21:00 to Wednesday 01:00, and Saturday 9:00 to 10:00.
    for (wall, minutes) in [
        (at(1, 21, 0), None),
        (at(2, 0, 59), None),
        (at(5, 9, 0), None),
        (at(5, 9, 59), None),
        (at(1, 20, 0), Some((60, 30))),
        (at(2, 1, 0), Some((3 * 1440 + 8 * 60, 15))),
        (at(5, 10, 0), Some((3 * 1440 + 11 * 60, 30))),
        (at(0, 0, 0), Some((1440 + 21 * 60, 30))),
        // Five minutes at least.
        (at(1, 20, 59), Some((5, 30))),
    ] {
        let waited = offered(windows(), wall, false);
        match (waited, minutes) {
            (None, None) => {}
            (Some(waited), Some((least, spread))) => {
                assert!((least..=least + spread).contains(&waited), "{wall:?}: {waited} minutes");
            }
            other => panic!("{wall:?}: {other:?}"),
        }
    }
}

#[test]
fn a_fleet_returns_within_a_quarter_of_the_window_and_half_an_hour_at_most() {
    let hour = Duration::from_secs(3600);
    for (minutes, most) in [(60, 15 * 60), (120, 30 * 60), (240, MAX_WINDOW_SPREAD.as_secs())] {
        let mut config = config();
        let window = Window { day: Weekday::Monday, start_minute: 60, minutes };
        config.maintenance = Maintenance { windows: vec![window], ..Maintenance::default() };
        let wait = |seed: u64| {
            let mut device = Device::new(config.clone());
            device.now.wall = Some(UnixTime(MONDAY));
            device.link = Link::new(config.clone(), seed, device.now).unwrap();
            device.connect();
            device.join();
            device.broadcast("update", update());
            device.statuses()[0]["delay_for"].as_u64().unwrap() / 1000 - hour.as_secs()
        };
        let waits: Vec<u64> = (0..100).map(wait).collect();
        assert!(waits.iter().all(|wait| *wait <= most), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait > most * 9 / 10), "spread over all of it: {waits:?}");
    }
}

#[test]
fn a_window_may_span_the_end_of_the_week_or_all_of_it() {
    let one = |minutes| {
        let windows = vec![Window { day: Weekday::Sunday, start_minute: 23 * 60, minutes }];
        Maintenance { windows, ..Maintenance::default() }
    };
    assert_eq!(offered(one(120), Some(MONDAY + 3599), false), None);
    assert!(offered(one(120), Some(MONDAY + 3600), false).is_some());
    assert_eq!(offered(one(10_080), Some(MONDAY + 3 * DAY), false), None);
    // Before 1970, and at the end of time.
    assert!(offered(one(1), Some(i64::MIN), false).is_some());
    assert!(offered(one(1), Some(i64::MAX), false).is_some());
}

#[test]
fn people_and_the_device_itself_may_update_at_any_time_unless_told_otherwise() {
    let closed = Some(MONDAY);
    assert_eq!(offered(windows(), closed, true), None);
    let mut strict = windows();
    strict.by_hand_any_time = false;
    assert!(offered(strict, closed, true).is_some());
    for any_time in [true, false] {
        let mut config = config();
        config.maintenance = windows();
        config.maintenance.requested_any_time = any_time;
        let mut device = Device::new(config);
        device.now.wall = closed.map(UnixTime);
        device.connect();
        device.join();
        device.broadcast("update_mode", json!({"mode": "device_managed", "managed_updates_allowed": true}));
        device.command(Command::RequestUpdate);
        assert_eq!(refusal(&device.broadcast("update", update())).is_none(), any_time);
    }
}

#[test]
fn without_a_clock_updates_are_put_off_by_an_hour_unless_told_otherwise() {
    assert_eq!(offered(windows(), None, false), Some(60));
    let mut lenient = windows();
    lenient.without_clock = true;
    assert_eq!(offered(lenient, None, false), None);
    assert_eq!(offered(Maintenance::default(), None, false), None, "no windows, no clock needed");
}

#[test]
fn windows_and_rates_that_make_no_sense_are_refused() {
    let error = |change: &dyn Fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        Link::new(config, 0, Now::default()).err()
    };
    let window = |start_minute, minutes| Window { day: Weekday::Monday, start_minute, minutes };
    for (bad, fine) in [((1440, 1), (1439, 1)), ((0, 0), (0, 1)), ((0, 10_081), (0, 10_080))] {
        assert_eq!(
            error(&|c| c.maintenance.windows = vec![window(bad.0, bad.1)]),
            Some(ConfigError::Maintenance)
        );
        assert_eq!(error(&|c| c.maintenance.windows = vec![window(fine.0, fine.1)]), None);
    }
    assert_eq!(error(&|c| c.maintenance.windows = vec![window(0, 1); MAX_WINDOWS]), None);
    assert_eq!(
        error(&|c| c.maintenance.windows = vec![window(0, 1); MAX_WINDOWS + 1]),
        Some(ConfigError::Maintenance)
    );
    for (offset, fine) in [(1439, true), (-1439, true), (1440, false), (i16::MIN, false)] {
        assert_eq!(error(&|c| c.maintenance.utc_offset_minutes = offset).is_none(), fine);
        assert_eq!(error(&|c| c.rate.utc_offset_minutes = offset).is_none(), fine);
    }
    let rate = |start_minute, end_minute, bytes_per_second| RateWindow {
        start_minute,
        end_minute,
        bytes_per_second,
    };
    for (window, fine) in [
        (rate(1439, 1440, Some(MIN_RATE)), true),
        (rate(1440, 1440, None), false),
        (rate(0, 1441, None), false),
        (rate(0, 0, Some(MIN_RATE - 1)), false),
    ] {
        assert_eq!(error(&|c| c.rate.by_time = vec![window]).is_none(), fine, "{window:?}");
    }
    assert_eq!(error(&|c| c.rate.by_time = vec![rate(0, 0, None); MAX_WINDOWS]), None);
    assert_eq!(
        error(&|c| c.rate.by_time = vec![rate(0, 0, None); MAX_WINDOWS + 1]),
        Some(ConfigError::RateLimit)
    );
    assert_eq!(error(&|c| c.rate.bytes_per_second = Some(MIN_RATE)), None);
    assert_eq!(error(&|c| c.rate.bytes_per_second = Some(MIN_RATE - 1)), Some(ConfigError::RateLimit));
}

/// Downloads at the speed allowed, in reads of 32 KiB, and returns the seconds it took.
fn download(config: Config, wall: Option<i64>, size: u64) -> f64 {
    let mut device = Device::new(config);
    device.now.wall = wall.map(UnixTime);
    device.connect();
    device.join();
    device.start(json!({"size": size}));
    device.head(200, &[]);
    let begin = device.now.mono;
    let mut left = size;
    while left > 0 {
        let read = left.min(32 * 1024);
        let fetch = device.fetch().fetch;
        let keep = device.link.body(device.now, fetch, &vec![0; usize::try_from(read).unwrap()]);
        device.link.stored(device.now, fetch, keep.range.len());
        device.drain();
        left -= read;
        if let Some(at) = keep.not_before {
            assert!(at > device.now.mono, "a pause in the past");
            assert!(at - device.now.mono < Duration::from_secs(40), "a pause of {:?}", at - device.now.mono);
            device.pass(at - device.now.mono);
        }
    }
    assert!(device.out.iter().any(|output| matches!(output, Output::FinishApply { .. })), "not complete");
    (device.now.mono - begin).as_secs_f64()
}

fn quiet() -> Config {
    let mut config = config();
    config.heartbeat = Duration::ZERO;
    config
}

#[test]
fn a_download_keeps_to_its_speed() {
    assert!(download(quiet(), None, 1_000_000).abs() < f64::EPSILON, "no limit, no pause");
    for rate in [MIN_RATE, 50_000, 1_000_000] {
        let mut config = quiet();
        config.rate.bytes_per_second = Some(rate);
        let size = rate * 40;
        let took = download(config, None, size);
        assert!((39.0..=40.0).contains(&took), "{took} seconds at {rate} bytes per second");
    }
}

#[test]
fn the_speed_follows_the_time_of_day_and_the_slowest_counts_without_a_clock() {
    let config = || {
        let mut config = quiet();
        config.rate.bytes_per_second = Some(100_000);
        config.rate.utc_offset_minutes = -120;
        config.rate.by_time = vec![
            RateWindow { start_minute: 22 * 60, end_minute: 6 * 60, bytes_per_second: None },
            RateWindow { start_minute: 8 * 60, end_minute: 18 * 60, bytes_per_second: Some(20_000) },
            RateWindow { start_minute: 0, end_minute: 0, bytes_per_second: Some(40_000) },
        ];
        config
    };
    // Hours of UTC; local time is two hours earlier.
    for (hour, seconds) in [(0, 0.0), (7, 0.0), (8, 10.0), (10, 20.0), (19, 20.0), (20, 10.0), (23, 10.0)] {
        let took = download(config(), Some(MONDAY + hour * 3600), 400_000);
        assert!((took - seconds).abs() < 1.0, "{took} seconds at {hour} o'clock");
    }
    let took = download(config(), None, 400_000);
    assert!((took - 20.0).abs() < 1.0, "{took} seconds without a clock");
    // Across a border: nine seconds at 40 kB/s, then without limit.
    let mut config = config();
    config.rate.by_time.pop();
    config.rate.bytes_per_second = Some(40_000);
    let took = download(config, Some(MONDAY + DAY - 9), 1_000_000);
    assert!((8.0..11.0).contains(&took), "{took}");
}

#[test]
fn a_pause_is_not_blamed_on_the_network() {
    let mut config = quiet();
    config.rate.bytes_per_second = Some(MIN_RATE);
    config.download.idle_timeout = Duration::from_secs(5);
    let mut device = Device::joined(config);
    device.start(json!({"size": 100_000}));
    device.head(200, &[]);
    let keep = device.chunk(&vec![0; 30_000]);
    let at = keep.not_before.unwrap();
    assert_eq!((at - device.now.mono).as_millis(), 30_000 - RATE_BURST.as_millis());
    let out = device.pass(at - device.now.mono + Duration::from_millis(4999));
    assert_eq!(events(&out), [], "five seconds of silence begin where the pause ends");
    let out = device.pass(Duration::from_millis(1));
    assert!(matches!(&events(&out)[..], [Event::DownloadInterrupted { .. }]), "{out:?}");
    // Bytes read in spite of it are taken, and paid for.
    device.pass(Duration::from_secs(15));
    device.head(206, &[("content-range", "bytes 30000-99999/100000")]);
    let first = device.chunk(&[0; 10_000]).not_before.unwrap();
    let second = device.chunk(&[0; 10_000]).not_before.unwrap();
    assert_eq!(second - first, Duration::from_secs(10));
}

#[test]
fn parallel_parts_share_the_speed() {
    let mut config = quiet();
    config.rate.bytes_per_second = Some(10_000);
    let parts = PartsConfig { max_concurrent_parts: 2, ..PartsConfig::default() };
    config.strategy = UpdateStrategy::Parts(parts);
    let mut device = Device::joined(config);
    let sums = ["ab".repeat(32), "cd".repeat(32)];
    let offer = device.offer(json!({"size": 2_097_152, "partials_checksums": sums}));
    let out = device.command(Command::Decide { offer, decision: Decision::Apply });
    assert_eq!(saved(&out), [] as [Vec<Attempt>; 0], "counted when the applier is opened");
    let store = out.iter().find_map(|output| match output {
        Output::OpenStore(open) => Some(open.store),
        _ => None,
    });
    let out = device.input(Input::StoreOpened { store: store.unwrap(), parts: &[] });
    let fetches: Vec<FetchId> = out
        .iter()
        .filter_map(|output| match output {
            Output::Fetch(fetch) => Some(fetch.fetch),
            _ => None,
        })
        .collect();
    assert_eq!(fetches.len(), 2, "{out:?}");
    let mut pauses = Vec::new();
    for (fetch, range) in fetches.iter().zip(["bytes 0-1048575/2097152", "bytes 1048576-2097151/2097152"]) {
        let headers = [("content-range", range)];
        device.input(Input::FetchHead { fetch: *fetch, status: 206, headers: &headers, interface: None });
        let keep = device.link.body(device.now, *fetch, &[0; 10_000]);
        assert_eq!(keep.range, 0..10_000);
        pauses.push(keep.not_before.unwrap() - device.now.mono);
    }
    assert_eq!(pauses, [Duration::from_millis(750), Duration::from_millis(1750)]);
}
