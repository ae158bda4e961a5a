//! Downloads that are cut, redirected, answered wrongly, too slow, too long or too big.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const TAG: (&str, &str) = ("ETag", "\"30CFA03\"");

/// A joined device whose update of 1000 bytes was accepted.
fn started(change: impl FnOnce(&mut Config), extra: Value) -> Device {
    let mut config = config();
    config.heartbeat = Duration::ZERO;
    change(&mut config);
    let mut device = Device::joined(config);
    device.start(extra);
    device
}

fn plain() -> Device {
    started(|_| {}, json!({}))
}

/// A device with 400 of 1000 bytes, whose next request is out.
fn resuming() -> Device {
    let mut device = plain();
    device.head(200, &[("Content-Length", "1000"), TAG]);
    device.chunk(&[1; 400]);
    broke(&mut device, "reset by peer");
    device.pass(Duration::from_secs(15));
    device
}

fn broke(device: &mut Device, reason: &str) -> Vec<Output> {
    let fetch = device.fetch().fetch;
    device.input(Input::FetchFailed { fetch, reason })
}

fn completes(mut device: Device, rest: usize) {
    let offset = 1000 - rest as u64;
    let keep = device.chunk(&vec![2; rest]);
    assert_eq!(keep, Keep { range: 0..rest, offset, not_before: None });
    assert!(device.out.iter().any(|output| matches!(output, Output::FinishApply { .. })));
}

#[test]
fn a_cut_download_resumes_where_it_stopped() {
    let mut device = plain();
    device.head(200, &[("Content-Length", "1000"), TAG]);
    device.chunk(&[1; 400]);
    let out = broke(&mut device, "reset by peer");
    let Event::DownloadInterrupted { reason, received, retry_in, .. } = &events(&out)[0] else { panic!() };
    assert_eq!((reason.as_str(), *received, *retry_in), ("reset by peer", 400, Duration::from_secs(15)));
    let first = device.fetch();
    device.pass(Duration::from_millis(14_999));
    assert_eq!(device.fetch(), first);
    device.pass(Duration::from_millis(1));
    let fetch = device.fetch();
    assert!(fetch.fetch > first.fetch);
    assert_eq!(header(&fetch.headers, "range"), Some("bytes=400-"));
    assert_eq!(header(&fetch.headers, "if-range"), Some("\"30CFA03\""));
    assert_eq!(header(&fetch.headers, "x-retry-number"), Some("1"));
    let out = device.head(206, &[("Content-Range", "bytes 400-999/1000"), ("Content-Length", "600"), TAG]);
    let offer = offer_of(&fetch);
    assert_eq!(
        events(&out),
        [Event::DownloadStarted { offer, offset: 400, total: Some(1000), received: 400 }]
    );
    let started = device.statuses().iter().filter(|status| status["status"] == "started").count();
    assert_eq!(started, 1, "once per update");
    completes(device, 600);
}

#[test]
fn no_tag_no_if_range() {
    for tag in ["W/\"weak\"", "bare"] {
        let mut device = plain();
        device.head(200, &[("Content-Length", "1000"), ("ETag", tag)]);
        device.chunk(&[1; 400]);
        device.end();
        device.pass(Duration::from_secs(15));
        assert_eq!(header(&device.fetch().headers, "if-range"), None);
        assert_eq!(header(&device.fetch().headers, "range"), Some("bytes=400-"));
    }
}

#[test]
fn a_server_that_ignores_ranges_is_skipped_over() {
    let mut device = resuming();
    device.head(200, &[("Content-Length", "1000"), TAG]);
    assert_eq!(device.chunk(&[1; 300]), Keep { range: 0..0, offset: 0, not_before: None });
    assert_eq!(device.chunk(&[1; 200]), Keep { range: 100..200, offset: 400, not_before: None });
    completes(device, 500);
}

#[test]
fn an_answer_that_is_no_use_leads_to_the_whole_file() {
    for headers in [
        vec![("Content-Range", "bytes 401-999/1000")],
        vec![("Content-Range", "bytes 0-399/1000")],
        vec![("Content-Range", "bytes 400-999/1000"), ("Content-Length", "5")],
        vec![("Content-Range", "bytes 400-999/1001")],
        vec![("Content-Range", "bytes */1000")],
        vec![("Content-Range", "octets 400-999/1000")],
        vec![("Content-Type", "Multipart/ByteRanges; boundary=x"), ("Content-Length", "600")],
        vec![],
    ] {
        let mut device = resuming();
        let fetch = device.fetch().fetch;
        let out = device.head(206, &headers);
        assert!(out.contains(&Output::Abort { fetch }), "{headers:?}");
        assert!(matches!(&events(&out)[..], [Event::DownloadInterrupted { .. }]));
        device.pass(Duration::ZERO);
        assert_ne!(device.fetch().fetch, fetch, "the next request is out at once");
        assert_eq!(header(&device.fetch().headers, "range"), None, "{headers:?}");
        assert_eq!(header(&device.fetch().headers, "if-range"), None);
        assert_eq!(device.link.body(device.now, fetch, &[9; 10]), Keep::default(), "its bytes are stale");
        device.head(200, &[("Content-Length", "1000")]);
        assert_eq!(device.chunk(&[1; 400]), Keep::default());
        completes(device, 600);
    }
}

#[test]
fn what_an_answer_offers_is_used() {
    for (headers, skip) in [
        (vec![("Content-Range", "bytes 0-999/1000")], 400),
        (vec![("Content-Range", "bytes 399-999/1000")], 1),
        (vec![("Content-Range", "bytes=400-999/1000")], 0),
        (vec![("Content-Range", "bytes 400-999")], 0),
        (vec![("Content-Length", "600")], 0),
        (vec![("Content-Length", "600"), ("Content-Range", "nonsense")], 0),
        (vec![("Content-Length", "1000")], 400),
    ] {
        let mut device = resuming();
        device.head(206, &headers);
        if skip > 0 {
            assert_eq!(device.chunk(&vec![1; skip]), Keep::default(), "{headers:?}");
        }
        completes(device, 600);
    }
}

#[test]
fn a_range_that_is_refused_leads_to_the_whole_file() {
    for status in [204, 400, 401, 403, 404, 405, 410, 412, 416, 418, 451] {
        let mut device = resuming();
        device.head(status, &[]);
        device.pass(Duration::ZERO);
        assert_eq!(header(&device.fetch().headers, "range"), None, "{status}");
        device.head(200, &[("Content-Length", "1000"), TAG]);
        device.chunk(&[1; 400]);
        completes(device, 600);
    }
    // These may pass, so a range is worth a second try.
    for status in [408, 425, 429, 500, 501, 502, 503, 511] {
        let mut device = resuming();
        for _ in 0..2 {
            assert_eq!(header(&device.fetch().headers, "range"), Some("bytes=400-"), "{status}");
            device.head(status, &[]);
            device.pass(Duration::from_secs(15));
        }
        assert_eq!(header(&device.fetch().headers, "range"), None, "{status}");
        device.head(200, &[("Content-Length", "1000"), TAG]);
        device.chunk(&[1; 400]);
        completes(device, 600);
    }
}

#[test]
fn a_server_that_refuses_everything_is_given_up() {
    for (status, headers) in
        [(500, vec![]), (206, vec![]), (416, vec![]), (200, vec![("Content-Length", "7")])]
    {
        let mut device = resuming();
        let mut requests = 0;
        while matches!(device.link.status().update, UpdateState::Downloading { .. }) {
            device.head(status, &headers);
            device.pass(Duration::from_secs(15));
            requests += 1;
            assert!(requests <= 40, "{status}");
        }
        assert!(device.failure().starts_with("Download failed : "), "{status}");
    }
}

#[test]
fn another_tag_for_as_many_bytes_is_no_trouble() {
    for (status, headers) in [
        (200, vec![("Content-Length", "1000"), ("ETag", "\"other\"")]),
        (206, vec![("Content-Range", "bytes 400-999/1000"), ("ETag", "\"other\"")]),
        (206, vec![("Content-Range", "bytes 400-999/*"), ("ETag", "\"other\"")]),
    ] {
        let mut device = resuming();
        device.head(status, &headers);
        if status == 200 {
            device.chunk(&[1; 400]);
        }
        device.chunk(&[1; 100]);
        broke(&mut device, "reset");
        device.pass(Duration::from_secs(15));
        assert_eq!(header(&device.fetch().headers, "range"), Some("bytes=500-"));
        assert_eq!(header(&device.fetch().headers, "if-range"), None, "the tags of mirrors never agree");
        device.head(206, &[("Content-Range", "bytes 500-999/1000"), TAG]);
        completes(device, 500);
    }
}

/// What stops and starts an applier, in order.
fn appliers(out: &[Output]) -> Vec<&'static str> {
    out.iter()
        .filter_map(|output| match output {
            Output::StartApply(_) => Some("start"),
            Output::CancelApply { .. } => Some("cancel"),
            Output::FinishApply { .. } => Some("finish"),
            _ => None,
        })
        .collect()
}

#[test]
fn a_mixture_of_two_files_starts_over_and_not_for_ever() {
    // SHA-256 of 1000 zero bytes.
    let right = "541B3E9DAA09B20BF85FA273E5CBD3E80185AA4EC298E765DB87742B70138A53";
    for checksum in [json!(null), json!(right)] {
        let mut device = started(|_| {}, json!({"checksum": checksum}));
        for round in 0..3 {
            assert_eq!(header(&device.fetch().headers, "range"), None);
            device.head(200, &[("Content-Length", "1000"), ("ETag", "\"one\"")]);
            device.chunk(&[1; 400]);
            broke(&mut device, "reset");
            device.pass(Duration::from_secs(15));
            device.head(206, &[("Content-Range", "bytes 400-999/1000"), ("ETag", "\"two\"")]);
            let offer = offer_of(&device.fetch());
            let seen = device.out.len();
            device.chunk(&[2; 600]);
            if checksum.is_null() {
                device.input(Input::FileRefused { offer, reason: "bad digest" });
            }
            let orders = appliers(&device.out[seen..]).into_iter().filter(|order| *order != "finish");
            let orders: Vec<_> = orders.collect();
            match (round, checksum.is_null()) {
                (0 | 1, true) => assert_eq!(orders, ["start"]),
                (0 | 1, false) => assert_eq!(orders, ["cancel", "start"]),
                _ => {}
            }
        }
        let reason = device.failure();
        assert!(reason.contains("bad digest") || reason.contains("SHA-256"), "{reason}");
    }
    // A single file that is wrong is not fetched again.
    let mut device = plain();
    device.head(200, &[("Content-Length", "1000")]);
    device.chunk(&[1; 1000]);
    let offer = offer_of(&device.fetch());
    device.input(Input::FileRefused { offer, reason: "bad signature" });
    assert!(device.failure().contains("bad signature"));
}

/// A download of what may be bytes of two files, the second half still to come.
fn mixed(checksum: &Value) -> Device {
    let mut device = started(|_| {}, json!({"checksum": checksum}));
    device.head(200, &[("Content-Length", "1000"), ("ETag", "\"one\"")]);
    device.chunk(&[1; 400]);
    broke(&mut device, "reset");
    device.pass(Duration::from_secs(15));
    device.head(206, &[("Content-Range", "bytes 400-999/1000"), ("ETag", "\"two\"")]);
    device
}

#[test]
fn a_disk_that_fails_is_no_reason_to_download_again() {
    let mut device = mixed(&Value::Null);
    let offer = offer_of(&device.fetch());
    device.chunk(&[2; 600]);
    let seen = device.out.len();
    device.input(Input::ApplyFailed { offer, reason: "cannot write at offset 4096: EIO" });
    assert_eq!(appliers(&device.out[seen..]), [""; 0]);
    assert!(device.failure().contains("EIO"));
}

#[test]
fn a_late_report_of_the_applier_before_is_nobody_s() {
    let wrong = "00".repeat(32);
    let mut device = mixed(&json!(wrong));
    let old = offer_of(&device.fetch());
    let seen = device.out.len();
    device.chunk(&[2; 600]);
    assert_eq!(appliers(&device.out[seen..]), ["cancel", "start"]);
    let new = offer_of(&device.fetch());
    assert_ne!(old, new);
    for late in [
        Input::ApplyProgress { offer: old, percent: 99 },
        Input::ApplyDone { offer: old },
        Input::FileRefused { offer: old, reason: "late" },
        Input::DeltaFailed { offer: old, reason: "late" },
        Input::ApplyFailed { offer: old, reason: "late" },
    ] {
        assert_eq!(device.input(late), [], "taken for the second applier's");
    }
    device.head(200, &[("Content-Length", "1000")]);
    device.chunk(&[3; 400]);
    device.input(Input::ApplyFailed { offer: new, reason: "its own" });
    assert!(device.failure().contains("its own"));
}

#[test]
fn a_file_of_another_length_starts_over() {
    for (status, headers) in [
        (200, vec![("Content-Length", "900")]),
        (206, vec![("Content-Range", "bytes 400-899/900")]),
        (200, vec![("ETag", "\"other\"")]),
    ] {
        let mut device = started(|_| {}, json!({"size": null}));
        device.head(200, &[("Content-Length", "1000"), TAG]);
        device.chunk(&[1; 400]);
        broke(&mut device, "reset");
        device.pass(Duration::from_secs(15));
        let out = device.head(status, &headers);
        assert_eq!(appliers(&out), ["cancel", "start"], "{headers:?}");
        assert_eq!(header(&device.fetch().headers, "range"), None);
        device.head(200, &[("Content-Length", "900")]);
        assert_eq!(device.chunk(&[3; 900]), Keep { range: 0..900, offset: 0, not_before: None });
        assert!(device.out.iter().any(|output| matches!(output, Output::FinishApply { .. })));
    }
}

#[test]
fn the_login_page_of_a_network_is_no_firmware() {
    for headers in [
        vec![("Content-Length", "999")],
        vec![("Content-Type", "text/html; charset=utf-8"), ("Content-Length", "321")],
        vec![("Content-Type", "text/html")],
        vec![("Content-Type", "Application/XHTML+XML")],
    ] {
        let mut device = plain();
        let out = device.head(200, &headers);
        assert!(matches!(&events(&out)[..], [Event::DownloadInterrupted { .. }]), "{headers:?}");
        device.pass(Duration::from_secs(15));
        assert_eq!(device.fetch().url.expose(), URL);
        device.head(200, &[("Content-Length", "1000"), ("Content-Type", "text/html")]);
        completes(device, 1000);
    }
}

#[test]
fn without_tls_redirects_that_lead_nowhere_are_tried_again() {
    for location in [None, Some("ftp://portal/"), Some("http://portal/login")] {
        let insecure = |config: &mut Config| config.insecure_plain_hub = true;
        let mut device = started(insecure, json!({"firmware_url": "http://files.example/1.fw"}));
        let headers: Vec<_> = location.map(|location| ("Location", location)).into_iter().collect();
        for _ in 0..6 {
            device.head(302, &headers);
        }
        assert!(
            device.events().iter().any(|event| matches!(event, Event::DownloadInterrupted { .. })),
            "{location:?}"
        );
        device.pass(Duration::from_secs(15));
        assert_eq!(device.fetch().url.expose(), "http://files.example/1.fw");
        device.head(200, &[]);
        completes(device, 1000);
    }
}

#[test]
fn more_bytes_than_expected_fail_the_update() {
    let mut device = plain();
    device.head(200, &[]);
    assert_eq!(device.chunk(&[0; 1001]), Keep::default());
    assert!(device.failure().contains("more than the 1000 bytes"));
    // After the last byte, before it is stored.
    let mut device = plain();
    device.head(200, &[]);
    let fetch = device.fetch().fetch;
    device.link.body(device.now, fetch, &[0; 1000]);
    device.link.body(device.now, fetch, &[]);
    assert_eq!(device.link.body(device.now, fetch, &[0; 1]), Keep::default());
    device.drain();
    assert!(device.failure().contains("more than the 1000 bytes"));
}

#[test]
fn an_encoded_body_fails_the_update() {
    for coding in
        ["gzip", "x-gzip", "GZip", "br", "deflate", "compress", "zstd", "aws-chunked, gzip", "gzip,identity"]
    {
        let mut device = plain();
        device.head(200, &[("Content-Encoding", coding)]);
        assert!(device.failure().contains("another encoding"), "{coding}");
    }
    let mut device = plain();
    device.head(200, &[("Content-Encoding", "aws-chunked"), ("content-encoding", "br")]);
    assert!(device.failure().contains("another encoding"));
    for coding in ["identity", "", "aws-chunked", "binary", "utf-8", "none, aws-chunked", "gzipped"] {
        let mut device = plain();
        device.head(200, &[("Content-Encoding", coding)]);
        completes(device, 1000);
    }
}

#[test]
fn an_early_end_is_tried_again() {
    let mut device = plain();
    device.head(200, &[]);
    device.chunk(&[0; 999]);
    let out = device.end();
    assert!(
        matches!(&events(&out)[..], [Event::DownloadInterrupted { reason, .. }] if reason == "the body ended after 999 of 1000 bytes")
    );
    assert!(!out.iter().any(|output| matches!(output, Output::Abort { .. })), "it ended by itself");
}

#[test]
fn statuses_that_may_pass_are_tried_again() {
    for status in [408, 425, 429, 500, 502, 503, 504, 599] {
        let mut device = plain();
        let out = device.head(status, &[("Retry-After", "40")]);
        let Event::DownloadInterrupted { reason, retry_in, .. } = &events(&out)[0] else { panic!() };
        assert!(reason.starts_with(&format!("HTTP {status}, ")), "{reason}");
        assert_eq!(*retry_in, Duration::from_secs(40));
        device.pass(Duration::from_secs(40));
        device.head(200, &[]);
        completes(device, 1000);
    }
    let mut device = plain();
    let out = device.head(503, &[("Retry-After", "99999")]);
    assert!(
        matches!(&events(&out)[0], Event::DownloadInterrupted { retry_in, .. } if retry_in.as_secs() == 900)
    );
    let mut device = plain();
    let out = device.head(503, &[("Retry-After", "1")]);
    assert!(
        matches!(&events(&out)[0], Event::DownloadInterrupted { retry_in, .. } if retry_in.as_secs() == 15)
    );
}

#[test]
fn statuses_that_stay_fail_the_update_and_name_the_status() {
    for status in [204, 304, 400, 401, 403, 404, 410, 416, 418, 451, 600, 0] {
        let mut device = plain();
        let fetch = device.fetch().fetch;
        let out = device.head(status, &[]);
        assert!(out.contains(&Output::Abort { fetch }));
        let reason = device.failure();
        assert!(reason.starts_with(&format!("Download failed : HTTP {status}, ")), "{reason}");
    }
}

#[test]
fn nothing_left_to_fetch_is_complete() {
    let mut device = started(|_| {}, json!({"size": null}));
    device.head(200, &[]);
    device.chunk(&[0; 400]);
    broke(&mut device, "reset");
    device.pass(Duration::from_secs(15));
    let out = device.head(416, &[("Content-Range", "bytes */400")]);
    assert!(out.iter().any(|output| matches!(output, Output::FinishApply { .. })));
    // The words about the refusal are no part of the file.
    device.chunk(b"out of range");
    device.end();
    assert!(device.sent().iter().all(|message| message[4]["status"] != "failed"));
    let mut device = resuming();
    device.head(416, &[("Content-Range", "bytes */300")]);
    device.pass(Duration::ZERO);
    assert_eq!(header(&device.fetch().headers, "range"), None);
}

#[test]
fn an_unknown_size_is_known_at_the_end() {
    let mut device = started(|_| {}, json!({"size": null}));
    device.head(200, &[]);
    device.chunk(&[0; 400]);
    assert!(!device.sent().iter().any(|message| message[3] == "fwup_progress"), "no percentage of nothing");
    let out = device.end();
    assert!(out.iter().any(|output| matches!(output, Output::FinishApply { .. })));
    let mut device = started(|_| {}, json!({"size": null}));
    device.head(200, &[]);
    let out = device.end();
    assert!(matches!(&events(&out)[..], [Event::DownloadInterrupted { .. }]), "an empty file is none");
}

#[test]
fn the_end_of_a_part_is_not_the_end_of_a_file_of_unknown_size() {
    let mut device = started(|_| {}, json!({"size": null}));
    device.head(200, &[]);
    device.chunk(&[0; 400]);
    broke(&mut device, "reset");
    device.pass(Duration::from_secs(15));
    device.head(206, &[("Content-Range", "bytes 400-499/*")]);
    device.chunk(&[0; 100]);
    let out = device.end();
    assert!(matches!(&events(&out)[..], [Event::DownloadInterrupted { received: 500, .. }]), "{out:?}");
    // Nor is the end of a repetition that is shorter than what is known.
    device.pass(Duration::from_secs(15));
    device.head(200, &[]);
    device.chunk(&[0; 499]);
    let out = device.end();
    assert!(matches!(&events(&out)[..], [Event::DownloadInterrupted { received: 500, .. }]), "{out:?}");
    device.pass(Duration::from_secs(15));
    device.head(200, &[]);
    device.chunk(&[0; 500]);
    let out = device.end();
    assert!(out.iter().any(|output| matches!(output, Output::FinishApply { .. })));
}

#[test]
fn a_content_length_of_no_use_is_tried_again_with_its_reason() {
    for (length, words) in [
        ("0", "an empty file (Content-Length: 0)"),
        ("18446744073709551616", "no number of bytes: 18446744073709551616"),
        ("-1", "no number of bytes: -1"),
        ("1e300", "no number of bytes: 1e300"),
        ("", "no number of bytes: "),
    ] {
        let mut device = started(|_| {}, json!({"size": null}));
        device.head(200, &[("content-length", length)]);
        let events = device.events();
        let told = |event: &Event| matches!(event, Event::DownloadInterrupted { reason, .. } if reason.contains(words));
        assert!(events.iter().any(told), "{length}: {events:?}");
        device.pass(Duration::from_secs(15));
        device.head(200, &[("content-length", "1")]);
        assert_eq!(device.chunk(&[0; 1]).range, 0..1, "{length}");
    }
}

#[test]
fn the_size_limit_holds_with_and_without_an_announced_length() {
    let limit = |config: &mut Config| config.download.max_size = 500;
    let mut device = started(limit, json!({"size": null}));
    device.head(200, &[("Content-Length", "501")]);
    assert!(device.failure().contains("bigger than the 500 bytes"));
    let mut device = started(limit, json!({"size": null}));
    device.head(200, &[]);
    assert_eq!(device.chunk(&[0; 500]).range, 0..500);
    assert_eq!(device.chunk(&[0; 1]), Keep::default());
    assert!(device.failure().contains("bigger than the 500 bytes"));
}

#[test]
fn a_checksum_is_checked_before_the_applier_may_finish() {
    // SHA-256 of 1000 zero bytes.
    let right = "541B3E9DAA09B20BF85FA273E5CBD3E80185AA4EC298E765DB87742B70138A53";
    let mut device = started(|_| {}, json!({"checksum": right}));
    device.head(200, &[]);
    device.chunk(&[0; 400]);
    broke(&mut device, "reset");
    device.pass(Duration::from_secs(15));
    device.head(200, &[]);
    device.chunk(&[0; 1000]);
    assert!(
        device.out.iter().any(|output| matches!(output, Output::FinishApply { .. })),
        "{:?}",
        device.events()
    );

    let mut device = started(|_| {}, json!({"checksum": right}));
    let (offer, fetch) = (offer_of(&device.fetch()), device.fetch().fetch);
    device.head(200, &[]);
    device.chunk(&[0; 999]);
    assert_eq!(device.chunk(&[1; 1]), Keep::default(), "the last bytes never reach the applier");
    assert!(device.out.contains(&Output::CancelApply { offer }));
    assert!(device.out.contains(&Output::Abort { fetch }));
    assert!(!device.out.iter().any(|output| matches!(output, Output::FinishApply { .. })));
    assert!(device.failure().starts_with("Download failed : SHA-256 is "));
}

#[test]
fn redirects_keep_the_offset_and_retries_begin_at_the_origin() {
    let mut device = resuming();
    let old = device.fetch().fetch;
    let out = device.head(302, &[("Location", "https://cdn.example/x?sig=1")]);
    assert!(matches!(&out[..], [Output::Abort { fetch }, Output::Fetch(_)] if *fetch == old), "{out:?}");
    assert_eq!(device.fetch().url.expose(), "https://cdn.example/x?sig=1");
    assert_eq!(header(&device.fetch().headers, "range"), Some("bytes=400-"));
    device.head(307, &[("Location", "../y")]);
    assert_eq!(device.fetch().url.expose(), "https://cdn.example/y");
    broke(&mut device, "reset");
    device.pass(Duration::from_secs(15));
    assert_eq!(device.fetch().url.expose(), URL);
}

#[test]
fn redirects_are_bounded_and_never_give_up_encryption() {
    let mut device = plain();
    for hop in 0..5 {
        device.head(301, &[("Location", &format!("/{hop}"))]);
    }
    assert_eq!(
        device.link.status().update,
        UpdateState::Downloading { offer: offer_of(&device.fetch()), received: 0, percent: Some(0) }
    );
    device.head(301, &[("Location", "/5")]);
    let reason = device.failure();
    assert!(reason.contains("HTTP 301") && reason.contains("5 in a row"), "{reason}");
    for (location, why) in [
        (Some("http://files.example/x"), "from https to http"),
        (Some("ftp://files.example/x?TOPSECRET"), "must begin with"),
        (None, "no address"),
    ] {
        let mut device = plain();
        let headers: Vec<_> = location.map(|location| ("Location", location)).into_iter().collect();
        device.head(302, &headers);
        let reason = device.failure();
        assert!(reason.contains(why) && !reason.contains("TOPSECRET"), "{reason}");
    }
}

#[test]
fn news_of_old_requests_is_dropped() {
    let mut device = resuming();
    let old = FetchId(device.fetch().fetch.0 - 1);
    let before = device.link.status().counters.stale_inputs;
    assert_eq!(device.input(Input::FetchEnd { fetch: old }), []);
    assert_eq!(device.input(Input::FetchFailed { fetch: old, reason: "x" }), []);
    assert_eq!(device.input(Input::FetchHead { fetch: old, status: 404, headers: &[], interface: None }), []);
    assert_eq!(device.link.body(device.now, old, &[1; 9]), Keep::default());
    device.link.stored(device.now, FetchId(0), 9);
    assert_eq!(device.link.status().counters.stale_inputs, before + 5);
}

#[test]
fn addresses_never_reach_an_event() {
    let mut device = resuming();
    device.head(302, &[("Location", "http://x/?TOPSECRET")]);
    let told =
        format!("{:?}", device.out.iter().filter(|o| !matches!(o, Output::Send { .. })).collect::<Vec<_>>());
    assert!(!told.contains("TOPSECRET"));
    assert!(!format!("{:?}", device.sent()).contains("TOPSECRET"));
}

#[test]
fn any_cut_of_the_body_gives_the_same_file() {
    let file: Vec<u8> = (0..1000).map(|at| u8::try_from(at % 251).unwrap()).collect();
    for size in [1, 2, 3, 7, 499, 1000] {
        let mut device = plain();
        device.head(200, &[]);
        let mut stored = Vec::new();
        let (mut at, mut cut) = (0, false);
        while at < 1000 {
            if at >= 500 && !cut {
                cut = true;
                broke(&mut device, "reset");
                device.pass(Duration::from_secs(15));
                device.head(200, &[]);
                at = 0;
            }
            let chunk = &file[at..(at + size).min(1000)];
            let keep = device.chunk(chunk);
            if !keep.range.is_empty() {
                assert_eq!(keep.offset, stored.len() as u64);
            }
            stored.extend_from_slice(&chunk[keep.range]);
            at += size;
        }
        assert_eq!(stored, file, "in chunks of {size}");
        assert!(device.out.iter().any(|output| matches!(output, Output::FinishApply { .. })));
    }
}
