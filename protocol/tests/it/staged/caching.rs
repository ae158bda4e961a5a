//! Updates kept in one file.

use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::json;

use super::bench::*;
use super::{failed_with, folder};
use crate::common::*;

#[test]
fn caching_applies_what_it_kept_and_keeps_it() {
    let mut bench = Bench::plain(UpdateStrategy::Caching, 5000);
    let open = bench.open.clone().unwrap();
    assert_eq!(
        (open.parts, open.part_size, open.size, open.kind),
        (1, u64::MAX, Some(5000), StoreKind::Firmware)
    );
    assert!(open.key.starts_with(NEW_UUID), "{}", open.key);
    let starts =
        |bench: &Bench| bench.device.out.iter().any(|output| matches!(output, Output::StartApply(_)));
    bench.serve(0, 4999);
    assert!(!starts(&bench), "no applier before the file is there");
    assert_eq!(bench.device.link.status().currently_downloading_uuid.as_deref(), Some(NEW_UUID));
    bench.serve_all();
    assert!(starts(&bench));
    assert_eq!(bench.ranges, ["all"]);
    assert_eq!(bench.reads, [(0, 5000)], "read once, by the applier");
    bench.assert_complete();
    assert_eq!(folder(&bench.disk).parts[&0].len(), 5000);
    assert_eq!(folder(&bench.disk).committed, [0]);
}

#[test]
fn caching_goes_on_after_a_restart_where_it_was_at_another_address() {
    let mut bench = Bench::plain(UpdateStrategy::Caching, 5000);
    bench.serve(0, 3000);
    let mut bench = bench.restarted(UpdateStrategy::Caching);
    assert_eq!(bench.reads, [(0, 3000)], "what is there counts towards the checksum");
    assert_eq!(bench.ranges, ["bytes=3000-"]);
    assert_eq!(bench.requests[0].fetch.url.expose(), "https://elsewhere.example/other?signature=TOPSECRET");
    bench.serve_all();
    bench.assert_complete();
}

#[test]
fn caching_asks_for_nothing_when_all_is_there() {
    let mut bench = Bench::plain(UpdateStrategy::Caching, 5000);
    bench.serve_all();
    let mut bench = bench.restarted(UpdateStrategy::Caching);
    assert!(bench.ranges.is_empty());
    bench.assert_complete();
}

#[test]
fn what_a_power_loss_spoiled_is_fetched_again() {
    let mut bench = Bench::plain(UpdateStrategy::Caching, 5000);
    bench.serve(0, 3000);
    let spoilt = bench.disk.0.values_mut().next().unwrap().parts.get_mut(&0).unwrap();
    spoilt[2000..].fill(0);
    let mut bench = bench.restarted(UpdateStrategy::Caching);
    bench.serve_all();
    assert_eq!(bench.ranges, ["bytes=3000-", "all"], "once to the end, once afresh");
    bench.assert_complete();
}

/// The number of the request under way, after some bytes of it.
fn begun(extra: serde_json::Value) -> Bench {
    let file = file(5000);
    let mut bench = Bench::started(UpdateStrategy::Caching, file, Disk::default(), extra);
    assert_eq!(bench.open.as_ref().unwrap().public_keys, [KEY], "the adapter checks what comes");
    bench.serve(0, 100);
    bench
}

#[test]
fn what_nobody_vouches_for_is_refused_at_once() {
    let mut bench = begun(json!({"size": 5000}));
    let store = bench.open.clone().unwrap().store;
    let out = bench.device.input(Input::StoreRefused { store, reason: "it is not signed" });
    assert!(out.iter().any(|output| matches!(output, Output::Abort { .. })), "{out:?}");
    assert!(!out.iter().any(|output| matches!(output, Output::CloseStore { .. })), "it is closed: {out:?}");
    let reason = bench.device.failure();
    assert!(reason.ends_with("it is not signed"), "{reason}");
}

#[test]
fn bytes_that_are_not_those_announced_are_fetched_again_a_few_times() {
    let mut bench = begun(announced(&file(5000)));
    for round in 0..=FRESH_STARTS {
        let store = bench.open.clone().unwrap().store;
        let out = bench.device.input(Input::StoreRefused { store, reason: "it is not signed" });
        let opens = out.iter().find_map(|output| match output {
            Output::OpenStore(open) => Some(open.clone()),
            _ => None,
        });
        assert_eq!(opens.is_some(), round < FRESH_STARTS, "{out:?}");
        if let Some(open) = opens {
            assert_ne!(open.store, store);
            bench.open = Some(open);
        }
    }
    let reason = bench.device.failure();
    assert!(reason.ends_with("it is not signed"), "{reason}");
}

#[test]
fn other_tools_take_files_of_their_own() {
    let mut config = settings(UpdateStrategy::Caching);
    config.update_tool =
        UpdateTool::Other { name: "own".to_owned(), params: std::collections::BTreeMap::new() };
    let mut device = Device::joined(config);
    let offer = device.offer(json!({}));
    let out = device.command(Command::Decide { offer, decision: Decision::Apply });
    let keys = out.iter().find_map(|output| match output {
        Output::OpenStore(open) => Some(open.public_keys.clone()),
        _ => None,
    });
    assert_eq!(keys, Some(Vec::new()), "nothing of fwup's is looked for");
}

#[test]
fn a_file_that_is_always_wrong_is_given_up_and_not_kept() {
    let mut bench = Bench::plain(UpdateStrategy::Caching, 5000);
    bench.corrupt = Some((100, u32::MAX));
    bench.serve_all();
    assert_eq!(bench.ranges.len() as u32, WHOLE_FILE_ATTEMPTS);
    failed_with(&mut bench, &["Update failed : the file did not match", "2 times"]);
    assert!(folder(&bench.disk).parts.is_empty());
    assert!(bench.applied.is_empty());
}

#[test]
fn without_any_word_of_the_server_caching_works_too() {
    for (size, left) in
        [(json!(null), 0), (json!(5000), 0), (json!(null), 3000), (json!(null), 5000), (json!(5000), 5000)]
    {
        println!("{size} {left}");
        let extra = json!({"size": size, "checksum": null, "partials_checksums": []});
        let file = file(5000);
        let mut first = Bench::started(UpdateStrategy::Caching, file.clone(), Disk::default(), extra.clone());
        first.serve(0, left.min(4999));
        let mut disk = first.disk;
        disk.0.values_mut().for_each(|folder| drop(folder.parts.insert(0, file[..left].to_vec())));
        let mut bench = Bench::started(UpdateStrategy::Caching, file, disk, extra);
        if left == 5000 && size.is_null() {
            nothing_more(&mut bench);
        }
        bench.serve_all();
        bench.assert_complete();
        assert!(bench.ranges.len() <= 1, "{:?}", bench.ranges);
    }
}

/// Asked for what is past the end, the server tells the size.
fn nothing_more(bench: &mut Bench) -> FetchId {
    let fetch = bench.requests.remove(0).fetch.fetch;
    let headers = [("content-range", "bytes */5000")];
    bench.device.input_quietly(Input::FetchHead { fetch, status: 416, headers: &headers, interface: None });
    bench.carry_out();
    fetch
}

#[test]
fn a_file_that_is_whole_and_wrong_is_asked_for_again_once_the_refusal_is_dropped() {
    let file = file(5000);
    let mut extra = announced(&file);
    extra["size"] = json!(null);
    let mut first = Bench::started(UpdateStrategy::Caching, file.clone(), Disk::default(), extra.clone());
    first.serve(0, 4999);
    let mut disk = first.disk;
    disk.0.values_mut().for_each(|folder| drop(folder.parts.insert(0, vec![0; 5000])));
    let mut bench = Bench::started(UpdateStrategy::Caching, file, disk, extra);
    let fetch = nothing_more(&mut bench);
    let orders = &bench.device.out;
    let at = |wanted: &dyn Fn(&Output) -> bool| orders.iter().position(wanted);
    let dropped = at(&|output| matches!(output, Output::Abort { fetch: gone } if *gone == fetch));
    assert!(dropped.is_some(), "{orders:?}");
    bench.serve_all();
    assert_eq!(bench.ranges, ["bytes=5000-", "all"]);
    bench.assert_complete();
}

#[test]
fn an_applier_that_refuses_unchecked_bytes_does_not_get_them_again() {
    for (checked, kept) in [(false, 0), (true, 1)] {
        let file = file(5000);
        let mut extra = json!({"size": 5000});
        if checked {
            extra = announced(&file);
        }
        let mut bench = Bench::started(UpdateStrategy::Caching, file, Disk::default(), extra);
        bench.serve_all();
        let offer = bench.device.out.iter().find_map(|output| match output {
            Output::StartApply(start) => Some(start.offer),
            _ => None,
        });
        bench.device.input_quietly(Input::FileRefused { offer: offer.unwrap(), reason: "bad signature" });
        failed_with(&mut bench, &["FWUP error : bad signature"]);
        assert_eq!(bench.disk.0.len(), kept);
    }
}

#[test]
fn a_file_that_is_gone_clears_what_was_kept() {
    for status in [404, 410, 416] {
        for strategy in [UpdateStrategy::Caching, parts(1)] {
            let mut bench = Bench::plain(strategy, 5000);
            bench.serve(0, 3000);
            let mut bench = bench.restarted(strategy);
            // The second answer is to a request for the whole file.
            for range in [Some("bytes=3000-"), None] {
                let request = &bench.requests[0].fetch;
                assert_eq!(header(&request.headers, "range"), range);
                let fetch = request.fetch;
                bench.device.input_quietly(Input::FetchHead { fetch, status, headers: &[], interface: None });
                bench.carry_out();
            }
            failed_with(&mut bench, &["Download failed : HTTP", &status.to_string()]);
            assert!(bench.disk.0.is_empty());
        }
    }
}

#[test]
fn kept_bytes_that_may_be_another_file_s_are_fetched_again_when_the_applier_refuses_them() {
    let extra = json!({"size": 5000});
    let file = file(5000);
    let mut first = Bench::started(UpdateStrategy::Caching, file.clone(), Disk::default(), extra.clone());
    first.serve(0, 3000);
    let mut bench = Bench::started(UpdateStrategy::Caching, file, first.disk, extra);
    assert_eq!(bench.ranges, ["bytes=3000-"]);
    bench.serve_all();
    let offer = bench.device.out.iter().find_map(|output| match output {
        Output::StartApply(start) => Some(start.offer),
        _ => None,
    });
    bench.device.input_quietly(Input::FileRefused { offer: offer.unwrap(), reason: "bad signature" });
    bench.carry_out();
    assert_eq!(bench.ranges, ["bytes=3000-", "all"]);
    assert!(bench.device.statuses().iter().all(|status| status["status"] != "failed"));
}
