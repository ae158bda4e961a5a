//! Updates that are kept on disk before they are applied: in one file, or in verified parts.
#![allow(clippy::cast_possible_truncation, clippy::cast_lossless)]

mod bench;
mod caching;
mod chaos;
mod property;

use std::time::Duration;

use crate::common::*;
use bench::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::json;

fn folder(disk: &Disk) -> &Folder {
    assert_eq!(disk.0.len(), 1, "{:?}", disk.0.keys());
    disk.0.values().next().unwrap()
}

/// A disk with these parts of the file of `len` bytes, left by an earlier attempt.
fn left(len: usize, parts: &[u32]) -> Disk {
    let mut bench = Bench::plain(bench::parts(1), len);
    bench.serve_all();
    let mut disk = bench.disk;
    for folder in disk.0.values_mut() {
        folder.parts.retain(|part, _| parts.contains(part));
    }
    disk
}

fn failed_with(bench: &mut Bench, words: &[&str]) {
    bench.carry_out();
    let reason = bench.device.failure();
    assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
    assert!(!reason.contains("TOPSECRET"));
    assert!(bench.open.is_none(), "the store is closed");
    assert!(bench.requests.is_empty(), "nothing goes on");
}

#[test]
fn parts_come_over_one_request_and_are_kept() {
    let mut bench = Bench::plain(parts(1), 5 * PART + 1);
    bench.serve_all();
    assert_eq!(bench.ranges, ["all"]);
    bench.assert_complete();
    assert_eq!(folder(&bench.disk).committed, [0, 1, 2, 3, 4, 5]);
    assert_eq!(folder(&bench.disk).parts.len(), 6);
}

#[test]
fn parts_resume_after_the_verified_ones_and_within_a_part() {
    let mut bench = Bench::with(parts(1), 5 * PART, left(5 * PART, &[0, 1]));
    assert_eq!(bench.ranges, ["bytes=2048-"]);
    bench.serve(0, 300);
    let mut bench = bench.restarted(parts(1));
    assert_eq!(bench.ranges, ["bytes=2348-"]);
    assert_eq!(bench.reads, [(0, 1024), (1024, 2048), (2048, 2348)]);
    bench.serve_all();
    bench.assert_complete();
}

#[test]
fn nothing_is_asked_for_when_all_parts_are_there() {
    let mut bench = Bench::with(parts(4), 5 * PART, left(5 * PART, &[0, 1, 2, 3, 4]));
    assert!(bench.ranges.is_empty());
    bench.assert_complete();
}

#[test]
fn a_bad_part_on_disk_is_fetched_again_and_a_long_one_too() {
    for length in [PART, PART + 1] {
        let mut disk = left(5 * PART, &[0, 1, 2, 3, 4]);
        disk.0.values_mut().next().unwrap().parts.insert(2, vec![9; length]);
        let mut bench = Bench::with(parts(1), 5 * PART, disk);
        assert_eq!(bench.ranges, ["bytes=2048-3071"]);
        bench.serve_all();
        bench.assert_complete();
    }
}

#[test]
fn leftovers_reached_by_streaming_are_overwritten() {
    let mut disk = left(5 * PART, &[0]);
    let folder = disk.0.values_mut().next().unwrap();
    folder.parts.insert(1, vec![9; 100]);
    folder.parts.insert(2, vec![9; 200]);
    let mut bench = Bench::with(parts(1), 5 * PART, disk);
    assert_eq!(bench.ranges, ["bytes=1124-"]);
    bench.serve_all();
    // The leftover of part 1 was wrong; part 2's was never used.
    assert_eq!(bench.ranges, ["bytes=1124-", "bytes=1024-"]);
    bench.assert_complete();
}

#[test]
fn eight_parts_come_over_four_requests() {
    let mut bench = Bench::plain(parts(4), 8 * PART);
    assert_eq!(bench.ranges, ["bytes=0-2047", "bytes=2048-4095", "bytes=4096-6143", "bytes=6144-"]);
    bench.serve_all();
    assert_eq!(bench.ranges.len(), 4);
    bench.assert_complete();
}

#[test]
fn only_missing_parts_are_asked_for_and_the_rest_waits_its_turn() {
    let mut bench = Bench::with(parts(4), 8 * PART, left(8 * PART, &[0, 1, 4, 5]));
    assert_eq!(bench.ranges, ["bytes=2048-3071", "bytes=3072-4095", "bytes=6144-7167", "bytes=7168-"]);
    bench.serve_all();
    bench.assert_complete();
    let mut bench = Bench::with(parts(2), 8 * PART, left(8 * PART, &[1, 3, 5]));
    assert_eq!(bench.ranges, ["bytes=0-1023", "bytes=2048-3071"]);
    bench.serve_all();
    assert_eq!(bench.ranges[2..], ["bytes=4096-5119", "bytes=6144-"]);
    bench.assert_complete();
}

#[test]
fn a_bad_part_costs_its_own_run_only() {
    let mut bench = Bench::plain(parts(2), 8 * PART);
    bench.corrupt = Some((PART + 7, 1));
    bench.serve_all();
    assert_eq!(bench.ranges, ["bytes=0-4095", "bytes=4096-", "bytes=1024-4095"]);
    let interrupted = bench.device.events().into_iter().find_map(|event| match event {
        Event::DownloadInterrupted { reason, retry_in, .. } => Some((reason, retry_in)),
        _ => None,
    });
    let (reason, retry_in) = interrupted.unwrap();
    assert!(reason.contains("part 1 of 8") && retry_in.is_zero(), "{reason}");
    bench.assert_complete();
}

#[test]
fn a_part_that_stays_bad_ends_the_update_at_the_limit() {
    for (bad, ok) in [(2, true), (3, false)] {
        let mut bench = Bench::plain(parts(1), 4 * PART);
        bench.corrupt = Some((PART, bad));
        bench.serve_all();
        assert_eq!(bench.ranges.len() as u32, bad.min(2) + 1);
        if ok {
            bench.assert_complete();
        } else {
            failed_with(&mut bench, &["Update failed : part 1 of 4", "3 times"]);
            let kept: Vec<_> = folder(&bench.disk).parts.keys().copied().collect();
            assert_eq!(kept, [0], "what is good is kept");
        }
    }
}

#[test]
fn a_bad_part_waits_for_the_disk_before_it_is_asked_for_again() {
    let mut bench = Bench::plain(parts(1), 4 * PART);
    bench.corrupt = Some((PART, 1));
    bench.reports = false;
    bench.serve(0, PART + 500);
    bench.serve(0, 600);
    assert_eq!(bench.ranges.len(), 1, "bytes of the bad part are still on their way to the disk");
    assert!(bench.requests.is_empty());
    let deadline = bench.device.link.deadline().unwrap();
    assert!(deadline.at > bench.device.now.mono, "{deadline:?}");
    bench.report();
    assert_eq!(bench.ranges, ["all", "bytes=1024-"]);
    bench.reports = true;
    bench.serve_all();
    bench.assert_complete();
}

#[test]
fn checksums_that_do_not_fit_mean_one_part() {
    let file = file(5 * PART);
    for (change, word) in [
        (json!({"partials_checksums": []}), "no usable"),
        (json!({"partials_checksums": null}), "no usable"),
        (json!({"partials_checksums": "x"}), "no usable"),
        (json!({"partials_checksums": [hex(&file), "not hex"]}), "no usable"),
        (json!({"partials_checksums": [hex(&file), 7]}), "no usable"),
        (json!({"partials_checksums": [hex(&file)]}), "1 checksums"),
        (json!({"size": null}), "how big"),
    ] {
        let mut extra = announced(&file);
        for (key, value) in change.as_object().unwrap() {
            extra[key] = value.clone();
        }
        let mut bench = Bench::started(parts(4), file.clone(), Disk::default(), extra);
        let told = bench.device.events().into_iter().find_map(|event| match event {
            Event::PartsUnavailable { reason, .. } => Some(reason),
            _ => None,
        });
        let told = told.unwrap();
        assert!(told.contains(word), "{told}");
        assert_eq!(bench.ranges, ["all"]);
        bench.serve_all();
        bench.assert_complete();
    }
}

#[test]
fn the_whole_is_checked_before_the_applier_gets_the_last_bytes() {
    let file = file(5 * PART);
    let mut extra = announced(&file);
    extra["checksum"] = json!(hex(b"something else"));
    let mut bench = Bench::started(parts(1), file, Disk::default(), extra);
    bench.serve_all();
    failed_with(&mut bench, &["Update failed : SHA-256 is"]);
    assert!(bench.applied.len() < bench.file.len() && !bench.finished);
    assert!(bench.device.out.iter().any(|output| matches!(output, Output::CancelApply { .. })));
    assert!(bench.disk.0.is_empty(), "parts of nothing that exists are not kept");
}

#[test]
fn a_server_that_ignores_ranges_is_read_up_to_what_is_wanted() {
    let mut bench = Bench::plain(parts(2), 8 * PART);
    bench.whole = true;
    let first = bench.requests[0].fetch.fetch;
    bench.serve_all();
    assert!(bench.device.out.contains(&Output::Abort { fetch: first }), "the rest is not wanted twice");
    bench.assert_complete();
}

#[test]
fn ranges_that_are_refused_cost_one_request_for_the_whole_file() {
    for status in [400, 403, 404, 405, 412, 416, 500, 501, 503] {
        for (at_once, runs) in [(2, 2), (4, 4)] {
            let mut bench = Bench::plain(parts(at_once), 8 * PART);
            assert_eq!(bench.requests.len(), runs);
            // At most two refusals for each of the runs, then one request for all that none of them has.
            for _ in 0..2 * runs {
                let ranged = |headers: &[(String, String)]| header(headers, "range").is_some();
                let Some(at) = bench.requests.iter().position(|request| ranged(&request.fetch.headers))
                else {
                    break;
                };
                let fetch = bench.requests[at].fetch.fetch;
                bench.device.input_quietly(Input::FetchHead { fetch, status, headers: &[], interface: None });
                bench.carry_out();
                bench.requests.retain(|request| request.fetch.fetch != fetch);
                if bench.requests.is_empty() {
                    bench.pass(Duration::from_secs(15));
                }
            }
            assert_eq!(bench.requests.len(), 1, "{status} {at_once}");
            assert_eq!(header(&bench.requests[0].fetch.headers, "range"), None);
            bench.serve_all();
            bench.assert_complete();
        }
    }
}

#[test]
fn a_kept_file_that_is_whole_is_applied_though_the_server_ignores_ranges() {
    let extra = json!({"size": null, "checksum": null, "partials_checksums": []});
    let file = file(5000);
    let mut first = Bench::started(UpdateStrategy::Caching, file.clone(), Disk::default(), extra.clone());
    first.serve(0, 4999);
    let mut disk = first.disk;
    disk.0.values_mut().for_each(|folder| drop(folder.parts.insert(0, file.clone())));
    let mut bench = Bench::started(UpdateStrategy::Caching, file, disk, extra);
    bench.whole = true;
    bench.serve_all();
    bench.assert_complete();
}

#[test]
fn more_than_was_asked_for_is_refused() {
    // Said in the head, it is left out.
    let mut bench = Bench::plain(parts(2), 8 * PART);
    let fetch = bench.requests[0].fetch.fetch;
    let headers = [("content-range", "bytes 0-4096/8192")];
    bench.device.input(Input::FetchHead { fetch, status: 206, headers: &headers, interface: None });
    let chunk = bench.file[..4097].to_vec();
    assert_eq!(bench.device.link.body(bench.device.now, fetch, &chunk).range, 0..4096);
    // In the body: the end.
    let mut bench = Bench::plain(parts(2), 8 * PART);
    let fetch = bench.requests[0].fetch.fetch;
    let headers = [("content-range", "bytes 0-4095/8192")];
    bench.device.input(Input::FetchHead { fetch, status: 206, headers: &headers, interface: None });
    bench.device.link.body(bench.device.now, fetch, &bench.file[..4097]);
    failed_with(&mut bench, &["Download failed : the server sent more"]);
}

#[test]
fn another_tag_of_a_file_as_long_is_no_trouble_and_its_parts_are_judged() {
    for headers in [
        vec![("content-range", "bytes 4096-8191/8192"), ("etag", "\"other\"")],
        vec![("content-range", "bytes 4096-8191/*"), ("etag", "\"other\"")],
    ] {
        let mut bench = Bench::plain(parts(2), 8 * PART);
        bench.serve(0, 10);
        let fetch = bench.requests[1].fetch.fetch;
        bench.device.input_quietly(Input::FetchHead {
            fetch,
            status: 206,
            headers: &headers,
            interface: None,
        });
        let rest = bench.file[4 * PART..].to_vec();
        let keep = bench.device.link.body(bench.device.now, fetch, &rest);
        assert_eq!((keep.offset, keep.range), (4096, 0..4 * PART));
    }
    // Another size than announced is another file: that server is asked for the whole, and in the end it fails.
    let mut bench = Bench::plain(parts(2), 8 * PART);
    bench.serve(0, 10);
    let fetch = bench.requests[1].fetch.fetch;
    let headers = [("content-range", "bytes 4096-8191/8193")];
    bench.device.input_quietly(Input::FetchHead { fetch, status: 206, headers: &headers, interface: None });
    bench.carry_out();
    assert_eq!(header(&bench.requests[1].fetch.headers, "range"), None);
    // And the tag is sent along.
    let mut bench = Bench::plain(parts(2), 8 * PART);
    bench.serve(0, 10);
    bench.cut(1);
    bench.pass(Duration::from_secs(15));
    assert_eq!(header(&bench.requests[1].fetch.headers, "if-range"), Some(TAG));
    assert_eq!(header(&bench.requests[1].fetch.headers, "x-retry-number"), Some("1"));
}

#[test]
fn each_request_has_its_own_idle_time_and_its_own_attempts() {
    let mut bench = Bench::plain(parts(2), 8 * PART);
    let (one, two) = (bench.requests[0].fetch.fetch, bench.requests[1].fetch.fetch);
    for _ in 0..2 {
        bench.pass(Duration::from_secs(45));
        bench.serve(0, 10);
    }
    // Time to connect, and of silence.
    assert!(bench.device.out.contains(&Output::Abort { fetch: two }));
    assert!(!bench.device.out.contains(&Output::Abort { fetch: one }));
    for _ in 0..9 {
        bench.pass(Duration::from_secs(15));
        bench.serve(0, 10);
        let second =
            |request: &bench::Request| header(&request.fetch.headers, "range") == Some("bytes=4096-");
        bench.cut(bench.requests.iter().position(second).unwrap());
    }
    failed_with(&mut bench, &["Download failed : given up after 10 attempts"]);
    assert!(!folder(&bench.disk).parts.is_empty(), "kept for the next offer");
}

#[test]
fn a_store_that_fails_fails_the_update_and_the_next_one_works() {
    let mut device = Device::joined(settings(parts(1)));
    for stage in 0..3 {
        let offer = device.offer(announced(&file(4 * PART)));
        let out = device.command(Command::Decide { offer, decision: Decision::Apply });
        let Some(Output::OpenStore(open)) = out.into_iter().find(|o| matches!(o, Output::OpenStore(_)))
        else {
            panic!()
        };
        let store = open.store;
        if stage > 0 {
            device.input(Input::StoreOpened { store, parts: &[] });
        }
        if stage > 1 {
            device.head(200, &[]);
            device.chunk(&file(4 * PART)[..1500]);
        }
        let reason = "/data has 10 bytes left and 4096 are needed: No space left on device";
        let out = device.input(Input::StoreFailed { store, reason });
        assert!(out.contains(&Output::CloseStore { store, clear: false }), "{out:?}");
        assert!(device.failure().starts_with("Update failed : /data has 10 bytes left"));
        let stale = device.link.status().counters.stale_inputs;
        device.input(Input::PartCommitted { store, part: 0 });
        device.input(Input::StoreOpened { store, parts: &[] });
        device.input(Input::StoreFailed { store, reason });
        assert_eq!(device.link.status().counters.stale_inputs, stale + 3);
        device.out.clear();
    }
}

fn opened(device: &mut Device, parts: &[(u32, u64)]) {
    let store = device.out.iter().find_map(|output| match output {
        Output::OpenStore(open) => Some(open.store),
        _ => None,
    });
    device.input(Input::StoreOpened { store: store.unwrap(), parts });
}

#[test]
fn a_store_that_stands_still_is_given_up() {
    let stalls = |prepare: &dyn Fn(&mut Device)| {
        let mut device = Device::joined(settings(parts(1)));
        let offer = device.offer(announced(&file(4 * PART)));
        device.command(Command::Decide { offer, decision: Decision::Apply });
        prepare(&mut device);
        device.pass(STORE_STALL.checked_sub(Duration::from_millis(1)).unwrap());
        assert!(matches!(device.link.status().update, UpdateState::Downloading { .. }));
        assert_eq!(device.link.deadline().unwrap().why, Timer::Store);
        device.pass(Duration::from_millis(1));
        assert!(device.failure().contains("stood still"), "{}", device.failure());
    };
    stalls(&|_| {});
    stalls(&|device| opened(device, &[(0, PART as u64)]));
    stalls(&|device| {
        opened(device, &[]);
        device.head(200, &[]);
        device.chunk(&file(4 * PART));
    });
    stalls(&|device| {
        opened(device, &[]);
        device.head(200, &[]);
        let fetch = device.fetch().fetch;
        device.link.body(device.now, fetch, &file(4 * PART)[..100]);
        device.drain();
    });
}

#[test]
fn commits_are_bounded() {
    let mut device = Device::joined(settings(parts(1)));
    let count = MAX_COMMITS as usize + 1;
    let offer = device.offer(announced(&file(count * PART)));
    let out = device.command(Command::Decide { offer, decision: Decision::Apply });
    let Some(Output::OpenStore(open)) = out.into_iter().find(|o| matches!(o, Output::OpenStore(_))) else {
        panic!()
    };
    let store = open.store;
    device.input(Input::StoreOpened { store, parts: &[] });
    device.head(200, &[]);
    device.chunk(&file(count * PART));
    let commits = |device: &Device| {
        device.out.iter().filter(|output| matches!(output, Output::CommitPart { .. })).count()
    };
    assert_eq!(commits(&device), count - 1);
    device.input(Input::PartCommitted { store, part: 0 });
    assert_eq!(commits(&device), count);
}

#[test]
fn rules_of_parts_are_checked() {
    let valid = |change: &dyn Fn(&mut PartsConfig)| {
        let mut parts = PartsConfig::default();
        change(&mut parts);
        let now = Now { mono: Instant::from_micros(0), wall: None };
        Link::new(settings(UpdateStrategy::Parts(parts)), 1, now).map(drop)
    };
    for size in [MIN_PART_SIZE, MAX_PART_SIZE] {
        assert_eq!(valid(&|parts| parts.part_size = size), Ok(()));
    }
    for size in [MIN_PART_SIZE - 1, MAX_PART_SIZE + 1] {
        assert_eq!(valid(&|parts| parts.part_size = size), Err(ConfigError::Parts));
    }
    for (requests, ok) in
        [(0, false), (1, true), (MAX_CONCURRENT_PARTS, true), (MAX_CONCURRENT_PARTS + 1, false)]
    {
        assert_eq!(valid(&|parts| parts.max_concurrent_parts = requests).is_ok(), ok);
    }
    assert_eq!(valid(&|parts| parts.max_part_attempts = 0), Err(ConfigError::Parts));
}
