//! Archives: offered, decided about, downloaded, checked, and nothing told to the server about it.

use std::time::Duration;

use crate::common::recordings::{from_server, recordings};
use crate::common::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const OTHER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn quiet() -> Config {
    let mut config = config();
    config.heartbeat = Duration::ZERO;
    config
}

fn described(uuid: &str) -> Value {
    json!({"size": 1000, "uuid": uuid, "version": "0.9.0", "description": "an archive", "platform": "generic",
        "architecture": null, "uploaded_at": "2026-11-23T14:39:56",
        "url": "https://files.example/archives/../../a.fw?signature=TOPSECRET"})
}

fn news(out: &[Output]) -> Vec<ArchiveEvent> {
    let archive = |event: Event| match event {
        Event::Archive(event) => Some(event),
        _ => None,
    };
    events(out).into_iter().filter_map(archive).collect()
}

fn offer(device: &mut Device, payload: Value) -> ArchiveId {
    let out = device.broadcast("archive", payload);
    match news(&out).last() {
        Some(ArchiveEvent::Offered { archive, .. }) => *archive,
        other => panic!("{other:?}"),
    }
}

fn decide(device: &mut Device, archive: ArchiveId, decision: ArchiveDecision) -> Vec<Output> {
    device.command(Command::Archive(ArchiveCommand::Decide { archive, decision }))
}

fn opened(out: &[Output]) -> OpenStore {
    let open = |output: &Output| match output {
        Output::OpenStore(open) => Some(open.clone()),
        _ => None,
    };
    out.iter().find_map(open).expect("no store")
}

/// A device that downloads an archive, whose store is open.
fn downloading(parts: &[(u32, u64)]) -> (Device, ArchiveId, StoreId) {
    let mut device = Device::joined(quiet());
    let archive = offer(&mut device, described("one"));
    let open = opened(&decide(&mut device, archive, ArchiveDecision::Download));
    let store = open.store;
    device.input(Input::StoreOpened { store, parts });
    (device, archive, store)
}

/// A device whose archive is there and is being checked.
fn verifying() -> (Device, ArchiveId, StoreId) {
    let (mut device, archive, store) = downloading(&[]);
    device.head(200, &[("content-length", "1000")]);
    device.chunk(&[7; 1000]);
    device.input(Input::PartCommitted { store, part: 0 });
    (device, archive, store)
}

fn failure(out: &[Output]) -> String {
    match news(out).last() {
        Some(ArchiveEvent::Failed { reason, .. } | ArchiveEvent::Refused { reason, .. }) => {
            assert!(!reason.contains("TOPSECRET"));
            reason.clone()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_archive_is_downloaded_checked_and_handed_over() {
    let mut device = Device::joined(quiet());
    let id = offer(&mut device, described("one"));
    let open = opened(&decide(&mut device, id, ArchiveDecision::Download));
    assert_eq!((open.kind, open.parts, open.size), (StoreKind::Archive, 1, Some(1000)));
    assert_eq!(open.key, "one_1000");
    let store = open.store;
    device.input(Input::StoreOpened { store, parts: &[] });
    let fetch = device.fetch();
    assert_eq!(fetch.into, Sink::Store(store));
    assert_eq!(device.link.status().downloading_archive.as_deref(), Some("one"));
    assert_eq!(device.link.status().currently_downloading_uuid, None, "that is for firmware");
    device.head(200, &[("content-length", "1000")]);
    assert_eq!(device.chunk(&[7; 400]), Keep { range: 0..400, offset: 0, not_before: None });
    device.chunk(&[7; 600]);
    assert!(device.out.contains(&Output::CommitPart { store, part: 0 }));
    let out = device.input(Input::PartCommitted { store, part: 0 });
    let (public_keys, allow_mismatch) = (vec![KEY.into()], AllowMismatch::default());
    let [Output::VerifyArchive(verify)] = &out[..] else { panic!("{out:?}") };
    let offered = verify.offered.clone();
    assert_eq!((offered.uuid.as_str(), offered.version.as_str()), ("one", "0.9.0"));
    assert_eq!(*verify, VerifyArchive { store, archive: id, public_keys, offered, allow_mismatch });
    let out = device.input(Input::ArchiveVerified { store, path: "/data/archives/one_1000.fw" });
    let [ArchiveEvent::Ready { archive, info, path }] = &news(&out)[..] else { panic!("{out:?}") };
    assert_eq!((*archive, info.uuid.as_str(), path.as_str()), (id, "one", "/data/archives/one_1000.fw"));
    assert!(device.statuses().is_empty(), "a server takes any status for one of firmware");
    assert!(device.sent().iter().all(|message| message[3] != "fwup_progress"));
    // The server repeats it after every join; it is known now.
    assert!(news(&device.broadcast("archive", described("one"))).is_empty());
}

#[test]
fn the_recorded_archive_is_taken_as_the_reference_client_takes_it() {
    let Some(recordings) = recordings() else { return };
    let Some(lines) = recordings.get("archive") else {
        println!("SKIPPED: no archive among the recordings");
        return;
    };
    let mut config = quiet();
    config.public_keys.clear();
    // Recorded without TLS.
    config.insecure_plain_hub = true;
    let mut device = Device::new(config);
    device.connect();
    assert_eq!(device.last_sent("phx_join")[4]["archive_public_keys"], "on_connect");
    device.join();
    let mut offered = None;
    for line in from_server(lines, "text").iter().filter(|line| line["topic"] == "device") {
        if line["event"] == "archive" || line["event"] == "archive_public_keys" {
            let out = device.broadcast(line["event"].as_str().unwrap(), line["payload"].clone());
            offered = news(&out).pop().or(offered);
        }
    }
    let Some(ArchiveEvent::Offered { archive, info }) = offered else { panic!("{offered:?}") };
    assert_eq!((info.version.as_str(), info.size), ("0.9.0", Some(40662)));
    assert_eq!(info.uploaded_at.as_deref(), Some("2026-11-23T14:39:56"));
    let open = opened(&decide(&mut device, archive, ArchiveDecision::Download));
    device.input(Input::StoreOpened { store: open.store, parts: &[] });
    let request = lines.iter().find(|line| {
        line["kind"] == "http_request" && line["line"].as_str().unwrap().contains("/uploads/archives/")
    });
    let path = request.unwrap()["line"].as_str().unwrap().split(' ').nth(1).unwrap();
    assert!(device.fetch().url.expose().ends_with(path));
    device.head(200, &[("content-length", "40662"), ("etag", "\"232EFF8\"")]);
    let body = lines.iter().find(|line| line["kind"] == "http_body").unwrap();
    let bytes = STANDARD.decode(body["base64"].as_str().unwrap()).unwrap();
    assert_eq!(device.chunk(&bytes).range.len(), 40662);
    let out = device.input(Input::PartCommitted { store: open.store, part: 0 });
    assert!(matches!(&out[..], [Output::VerifyArchive(verify)] if verify.public_keys == [KEY]));
    // The reference client reports an archive as firmware that was started, which it isn't.
    assert!(device.statuses().is_empty());
}

#[test]
fn keys_are_asked_for_unless_some_are_there() {
    let asks = |change: &dyn Fn(&mut Config)| {
        let mut config = quiet();
        config.public_keys.clear();
        change(&mut config);
        let mut device = Device::new(config);
        device.connect();
        device.last_sent("phx_join")[4].get("archive_public_keys").is_some()
    };
    assert!(asks(&|_| {}));
    assert!(!asks(&|config| config.public_keys = vec![KEY.into()]));
    assert!(!asks(&|config| config.archive_public_keys = vec![KEY.into()]));
    assert!(asks(&|config| {
        config.archive_public_keys = vec![KEY.into()];
        config.request_archive_public_keys = true;
    }));
    assert!(!asks(&|config| (config.accept_server_keys, config.request_archive_public_keys) = (false, true)));
    let mut config = quiet();
    config.archive_public_keys = vec!["no key".into()];
    let now = Now { mono: Instant::from_micros(0), wall: None };
    assert_eq!(Link::new(config, 1, now).map(drop), Err(ConfigError::PublicKey(1)));
}

#[test]
fn without_a_key_an_archive_is_refused_and_nobody_is_asked() {
    let mut config = quiet();
    config.public_keys.clear();
    let mut device = Device::joined(config);
    for keys in [json!([]), json!(["-----BEGIN PUBLIC KEY-----"]), json!([7, null, {}]), json!("x")] {
        device.broadcast("archive_public_keys", json!({"keys": keys}));
        let out = device.broadcast("archive", described("one"));
        assert!(failure(&out).contains("no public key"));
        assert_eq!(news(&out).len(), 1);
    }
    device.broadcast("fwup_public_keys", json!({"keys": [KEY]}));
    assert!(
        failure(&device.broadcast("archive", described("one"))).contains("no public key"),
        "those are others"
    );
    device.broadcast("archive_public_keys", json!({"keys": [OTHER_KEY, "nonsense"]}));
    let id = offer(&mut device, described("one"));
    // An empty list never clears.
    device.broadcast("archive_public_keys", json!({"keys": []}));
    let store = opened(&decide(&mut device, id, ArchiveDecision::Download)).store;
    device.input(Input::StoreOpened { store, parts: &[(0, 1000)] });
    let keys = device.out.iter().find_map(|output| match output {
        Output::VerifyArchive(verify) => Some(verify.public_keys.clone()),
        _ => None,
    });
    assert_eq!(keys.unwrap(), [OTHER_KEY]);
}

#[test]
fn pinned_keys_are_not_replaced_and_firmware_keys_are_the_fallback() {
    for (own, pinned, trusted) in
        [(vec![], true, KEY), (vec![OTHER_KEY.to_owned()], true, OTHER_KEY), (vec![], false, OTHER_KEY)]
    {
        let mut config = quiet();
        config.archive_public_keys = own;
        config.accept_server_keys = !pinned;
        let mut device = Device::joined(config);
        let keys = if trusted == KEY { OTHER_KEY } else { trusted };
        device.broadcast("archive_public_keys", json!({"keys": [keys]}));
        let id = offer(&mut device, described("one"));
        let store = opened(&decide(&mut device, id, ArchiveDecision::Download)).store;
        let out = device.input(Input::StoreOpened { store, parts: &[(0, 1000)] });
        assert!(
            matches!(&out[..], [Output::VerifyArchive(verify)] if verify.public_keys == [trusted]),
            "{out:?}"
        );
    }
}

#[test]
fn what_cannot_be_fetched_is_refused_in_words() {
    let mut device = Device::joined({
        let mut config = quiet();
        config.download.allow_http = false;
        config.download.max_size = 10;
        config.download.max_archive_size = 1000;
        config
    });
    for (field, value, word) in [
        ("url", json!("http://files.example/a"), "only https"),
        ("url", json!("ftp://files.example/a"), "must begin with"),
        ("size", json!(1001), "1001 bytes"),
        ("size", json!(0), "0 bytes"),
        ("size", json!(-1), "-1 bytes"),
        ("size", json!(1e300), "1e300 bytes"),
    ] {
        let mut payload = described("one");
        payload[field] = value;
        assert!(failure(&device.broadcast("archive", payload)).contains(word), "{word}");
    }
    let mut payload = described("at the limit");
    payload["size"] = json!(1000);
    offer(&mut device, payload);
    for payload in [json!({}), json!({"url": null}), json!({"url": 7}), json!([]), json!({"url": ""})] {
        let out = device.broadcast("archive", payload);
        assert!(
            matches!(&events(&out)[..], [Event::Malformed { reason }] if reason.contains("archive")),
            "{out:?}"
        );
    }
    // Everything else may be missing or odd.
    let odd = json!({"url": URL, "uuid": 7, "size": "big", "version": null, "platform": ["x"]});
    let id = offer(&mut device, odd);
    assert_eq!(opened(&decide(&mut device, id, ArchiveDecision::Download)).key, "file_any");
}

#[test]
fn an_archive_whose_first_bytes_are_not_to_be_trusted_ends_at_once() {
    let mut device = Device::joined(quiet());
    let archive = offer(&mut device, described("one"));
    let open = opened(&decide(&mut device, archive, ArchiveDecision::Download));
    assert_eq!(open.public_keys, [KEY], "the adapter checks what comes");
    let store = open.store;
    device.input(Input::StoreOpened { store, parts: &[] });
    device.head(200, &[]);
    device.chunk(&[7; 10]);
    let out = device.input(Input::StoreRefused { store, reason: "it is not signed" });
    assert!(out.iter().any(|output| matches!(output, Output::Abort { .. })), "{out:?}");
    assert!(!out.iter().any(|output| matches!(output, Output::CloseStore { .. })), "it is closed: {out:?}");
    assert_eq!(failure(&out), "it is not to be trusted, and was deleted: it is not signed");
    let stale = device.link.status().counters.stale_inputs;
    device.input(Input::StoreRefused { store, reason: "again" });
    assert_eq!(device.link.status().counters.stale_inputs, stale + 1);
}

#[test]
fn an_archive_that_was_dropped_is_offered_again() {
    let mut device = Device::joined({
        let mut config = quiet();
        config.known_archives = vec!["old".to_owned(), "other".to_owned()];
        config
    });
    assert!(news(&device.broadcast("archive", described("old"))).is_empty());
    let out = device.input(Input::ArchiveDropped { path: "/data/archives/old_1000.fw" });
    let (uuid, path) = ("old".to_owned(), "/data/archives/old_1000.fw".to_owned());
    assert_eq!(news(&out), [ArchiveEvent::Dropped { uuid, path }]);
    offer(&mut device, described("old"));
    assert!(news(&device.broadcast("archive", described("other"))).is_empty());
    // One that nobody remembers is told by what its name says.
    let out = device.input(Input::ArchiveDropped { path: "/data/archives/stranger_any.fw" });
    assert!(matches!(&news(&out)[..], [ArchiveEvent::Dropped { uuid, .. }] if uuid == "stranger"), "{out:?}");
}

#[test]
fn an_archive_larger_than_allowed_is_deleted_though_nobody_announced_its_size() {
    let mut device = Device::joined({
        let mut config = quiet();
        config.download.max_archive_size = 500;
        config
    });
    let mut payload = described("one");
    payload["size"] = json!(null);
    let archive = offer(&mut device, payload);
    let store = opened(&decide(&mut device, archive, ArchiveDecision::Download)).store;
    device.input(Input::StoreOpened { store, parts: &[] });
    device.head(200, &[]);
    assert_eq!(device.chunk(&[7; 500]).range, 0..500);
    device.chunk(&[7; 1]);
    let out = device.out.clone();
    assert!(out.contains(&Output::CloseStore { store, clear: true }), "{out:?}");
    assert!(failure(&out).contains("bigger than the 500 bytes"));
}

#[test]
fn the_same_archive_is_ignored_and_another_takes_its_place() {
    let (mut device, first, store) = downloading(&[]);
    let fetch = device.fetch().fetch;
    assert!(device.broadcast("archive", described("one")).is_empty());
    let out = device.broadcast("archive", described("two"));
    assert_eq!(out[..2], [Output::Abort { fetch }, Output::CloseStore { store, clear: true }]);
    let [ArchiveEvent::Replaced { archive }, ArchiveEvent::Offered { archive: second, .. }] = news(&out)[..]
    else {
        panic!("{out:?}")
    };
    assert_eq!(archive, first);
    // While the application thinks, too.
    let out = device.broadcast("archive", described("three"));
    let [ArchiveEvent::Replaced { archive }, ArchiveEvent::Offered { archive: third, .. }] = news(&out)[..]
    else {
        panic!("{out:?}")
    };
    assert_eq!(archive, second);
    let decision = ArchiveDecision::Download;
    let stale = device
        .link
        .command(device.now, Command::Archive(ArchiveCommand::Decide { archive: second, decision }));
    assert_eq!(stale, Err(CommandError::UnknownArchive(second)));
    assert!(!stale.unwrap_err().is_retryable());
    decide(&mut device, third, decision);
    // And while one is checked.
    let (mut device, _, store) = verifying();
    let out = device.broadcast("archive", described("two"));
    assert!(out.contains(&Output::CloseStore { store, clear: true }));
    let stale = device.link.status().counters.stale_inputs;
    assert!(device.input(Input::ArchiveVerified { store, path: "/x" }).is_empty());
    assert!(device.input(Input::ArchiveRefused { store, reason: "x" }).is_empty());
    assert_eq!(device.link.status().counters.stale_inputs, stale + 2);
}

#[test]
fn a_rescheduled_archive_is_asked_about_again_with_the_freshest_address() {
    let mut device = Device::joined(quiet());
    let id = offer(&mut device, described("one"));
    decide(&mut device, id, ArchiveDecision::Reschedule { delay: Duration::from_millis(90_500) });
    device.pass(Duration::from_secs(60));
    let mut fresh = described("one");
    fresh["url"] = json!("https://files.example/fresh?signature=TOPSECRET");
    assert!(device.broadcast("archive", fresh).is_empty(), "not before its time");
    assert!(news(&device.pass(Duration::from_millis(30_499))).is_empty());
    let out = device.pass(Duration::from_millis(1));
    let [ArchiveEvent::Offered { archive: id, .. }] = news(&out)[..] else { panic!("{out:?}") };
    let store = opened(&decide(&mut device, id, ArchiveDecision::Download)).store;
    device.input(Input::StoreOpened { store, parts: &[] });
    assert_eq!(device.fetch().url.expose(), "https://files.example/fresh?signature=TOPSECRET");

    // Another one ends the rest.
    let mut device = Device::joined(quiet());
    let id = offer(&mut device, described("one"));
    decide(&mut device, id, ArchiveDecision::Reschedule { delay: Duration::from_secs(3600) });
    offer(&mut device, described("two"));

    // No delay at all would be a tight loop; none is for ever.
    for (delay, taken) in [(Duration::ZERO, MIN_ARCHIVE_RESCHEDULE), (Duration::MAX, MAX_RESCHEDULE)] {
        let mut device = Device::joined(quiet());
        let id = offer(&mut device, described("one"));
        decide(&mut device, id, ArchiveDecision::Reschedule { delay });
        let deadline = device.link.deadline().unwrap();
        assert_eq!((deadline.why, deadline.at - device.now.mono), (Timer::Archive, taken));
    }
}

struct Defaults;
impl Client for Defaults {}

#[test]
fn silence_and_ignorance_leave_it_until_the_next_join() {
    let mut device = Device::joined(quiet());
    offer(&mut device, described("one"));
    let out = device.pass(Duration::from_secs(60));
    assert!(failure(&out).contains("did not decide"));
    let id = offer(&mut device, described("one"));
    assert!(decide(&mut device, id, ArchiveDecision::Ignore).is_empty());
    offer(&mut device, described("one"));
    // The default of an application.
    let event = Event::Archive(ArchiveEvent::Offered { archive: id, info: ArchiveInfo::default() });
    let answer = client::deliver(&mut Defaults, &firmware(), &event);
    let ignore = ArchiveCommand::Decide { archive: id, decision: ArchiveDecision::Ignore };
    assert_eq!(answer, Some(Command::Archive(ignore)));
}

#[test]
fn callbacks_decide_and_are_told() {
    #[derive(Default)]
    struct App(Vec<String>);
    impl Client for App {
        fn archive_available(&mut self, archive: &ArchiveInfo) -> Option<ArchiveDecision> {
            self.0.push(archive.uuid.clone());
            Some(ArchiveDecision::Download)
        }
        fn archive_ready(&mut self, archive: &ArchiveInfo, path: &str) {
            self.0.push(format!("{} {path}", archive.uuid));
        }
    }
    let mut app = App::default();
    let info = ArchiveInfo { uuid: "one".into(), ..ArchiveInfo::default() };
    let archive = ArchiveId(7);
    let event = Event::Archive(ArchiveEvent::Offered { archive, info: info.clone() });
    let download = ArchiveCommand::Decide { archive, decision: ArchiveDecision::Download };
    assert_eq!(client::deliver(&mut app, &firmware(), &event), Some(Command::Archive(download)));
    let event = Event::Archive(ArchiveEvent::Ready { archive, info, path: "/x".into() });
    assert_eq!(client::deliver(&mut app, &firmware(), &event), None);
    assert_eq!(app.0, ["one", "one /x"]);
}

#[test]
fn known_archives_are_not_offered_up_to_the_limit() {
    let mut config = quiet();
    config.known_archives = (0..=MAX_KNOWN_ARCHIVES).map(|number| number.to_string()).collect();
    let mut device = Device::joined(config);
    let id = offer(&mut device, described("0"));
    decide(&mut device, id, ArchiveDecision::Ignore);
    for number in 1..=MAX_KNOWN_ARCHIVES {
        assert!(device.broadcast("archive", described(&number.to_string())).is_empty());
    }
    device.command(Command::Archive(ArchiveCommand::Known { uuid: "new".into() }));
    assert!(device.broadcast("archive", described("new")).is_empty());
    let id = offer(&mut device, described("1"));
    decide(&mut device, id, ArchiveDecision::Ignore);
    device.command(Command::Archive(ArchiveCommand::Forget { uuid: "new".into() }));
    offer(&mut device, described("new"));
}

#[test]
fn an_archive_that_is_not_to_be_trusted_fails_and_is_offered_again() {
    let (mut device, _, store) = verifying();
    let out = device.input(Input::ArchiveRefused { store, reason: "no key fits" });
    assert!(failure(&out).contains("deleted: no key fits"));
    assert!(!out.iter().any(|output| matches!(output, Output::CloseStore { .. })), "the adapter did");
    offer(&mut device, described("one"));
    assert!(device.statuses().is_empty());
}

#[test]
fn an_archive_that_may_be_a_mixture_of_two_starts_over_and_not_for_ever() {
    let (mut device, _, mut store) = downloading(&[]);
    for round in 0..3 {
        device.head(200, &[("content-length", "1000"), ("etag", "\"one\"")]);
        device.chunk(&[7; 400]);
        let fetch = device.fetch().fetch;
        device.input(Input::FetchFailed { fetch, reason: "reset" });
        device.pass(std::time::Duration::from_secs(15));
        device.head(206, &[("content-range", "bytes 400-999/1000"), ("etag", "\"two\"")]);
        device.chunk(&[8; 600]);
        device.input(Input::PartCommitted { store, part: 0 });
        let out = device.input(Input::ArchiveRefused { store, reason: "a digest is wrong" });
        if round == 2 {
            assert!(failure(&out).contains("a digest is wrong"));
            break;
        }
        assert!(
            matches!(&news(&out)[..], [ArchiveEvent::DownloadInterrupted { received: 0, .. }]),
            "{out:?}"
        );
        store = opened(&out).store;
        device.input(Input::StoreOpened { store, parts: &[] });
        assert_eq!(header(&device.fetch().headers, "range"), None);
    }
}

#[test]
fn failures_end_the_archive_and_leave_the_rest_alone() {
    for (status, clear) in [(404, true), (403, false)] {
        let (mut device, _, store) = downloading(&[(0, 400)]);
        assert_eq!(header(&device.fetch().headers, "range"), Some("bytes=400-"));
        // The server may only not know ranges.
        device.head(status, &[]);
        assert_eq!(header(&device.fetch().headers, "range"), None);
        let out = device.head(status, &[]);
        assert!(failure(&out).contains(&status.to_string()));
        assert!(out.contains(&Output::CloseStore { store, clear }));
        assert_eq!(device.link.status().downloading_archive, None);
        offer(&mut device, described("one"));
    }
    let (mut device, _, store) = downloading(&[]);
    let fetch = device.fetch().fetch;
    let out = device.input(Input::StoreFailed { store, reason: "disk full" });
    assert_eq!(failure(&out), "disk full");
    assert!(out.contains(&Output::Abort { fetch }));
    let (mut device, _, store) = verifying();
    let out = device.pass(APPLY_STALL);
    assert!(failure(&out).contains("15 minutes"));
    assert!(out.contains(&Output::CloseStore { store, clear: true }));
    // A download that breaks is resumed.
    let (mut device, _, _) = downloading(&[]);
    device.head(200, &[("content-length", "1000")]);
    device.chunk(&[7; 400]);
    let fetch = device.fetch().fetch;
    let out = device.input(Input::FetchFailed { fetch, reason: "reset" });
    let [ArchiveEvent::DownloadInterrupted { received: 400, retry_in, .. }] = &news(&out)[..] else {
        panic!("{out:?}")
    };
    device.pass(*retry_in);
    assert_eq!(header(&device.fetch().headers, "range"), Some("bytes=400-"));
}

#[test]
fn bytes_of_an_archive_are_not_taken_for_those_of_an_update() {
    let mut device = Device::joined(quiet());
    let (update, firmware) = device.start(json!({}));
    device.head(200, &[]);
    let id = offer(&mut device, described("one"));
    let store = opened(&decide(&mut device, id, ArchiveDecision::Download)).store;
    device.input(Input::StoreOpened { store, parts: &[] });
    let first = device.fetch().fetch;
    device.head(200, &[]);
    device.link.body(device.now, firmware.fetch, &[1; 1000]);
    assert_eq!(device.link.body(device.now, first, &[1; 1000]).range, 0..1000);
    // Another archive takes its place, and then its bytes are reported.
    offer(&mut device, described("two"));
    let stale = device.link.status().counters.stale_inputs;
    device.link.stored(device.now, first, 1000);
    device.drain();
    assert_eq!(device.link.status().counters.stale_inputs, stale + 1);
    assert!(!device.out.contains(&Output::FinishApply { offer: update }), "the applier took nothing yet");
    device.link.stored(device.now, firmware.fetch, 1000);
    device.drain();
    assert!(device.out.contains(&Output::FinishApply { offer: update }));
}

#[test]
fn an_archive_and_an_update_go_side_by_side() {
    let (mut device, _, store) = downloading(&[]);
    let first = device.fetch();
    let (update, second) = device.start(json!({}));
    assert_eq!(second.into, Sink::Applier(update));
    let body = |device: &mut Device, fetch: FetchId, len: usize| {
        device.input(Input::FetchHead { fetch, status: 200, headers: &[], interface: None });
        let keep = device.link.body(device.now, fetch, &vec![1; len]);
        device.link.stored(device.now, fetch, keep.range.len());
        device.drain();
        keep.range.len()
    };
    assert_eq!(body(&mut device, first.fetch, 1000), 1000);
    assert_eq!(body(&mut device, second.fetch, 1000), 1000);
    assert!(device.out.contains(&Output::FinishApply { offer: update }));
    assert!(device.out.contains(&Output::CommitPart { store, part: 0 }));
    let started = device.statuses().iter().filter(|status| status["status"] == "started").count();
    assert_eq!(started, 1, "for the firmware alone");
}

#[test]
fn late_bytes_of_archives_given_up_are_not_taken_for_firmware_s() {
    // Whether bytes of the first of so many archives are known as such, while firmware is downloaded, too.
    let known = |archives: usize| {
        let mut device = Device::joined(quiet());
        device.start(json!({}));
        device.head(200, &[]);
        let fetches: Vec<FetchId> = (0..archives)
            .map(|number| {
                let archive = offer(&mut device, described(&number.to_string()));
                let store = opened(&decide(&mut device, archive, ArchiveDecision::Download)).store;
                device.input(Input::StoreOpened { store, parts: &[] });
                device.fetch().fetch
            })
            .collect();
        let before = device.link.status().counters.stale_inputs;
        device.link.stored(device.now, fetches[0], 10);
        device.link.status().counters.stale_inputs == before + 1
    };
    assert!(known(MAX_RECENT_FETCHES));
    assert!(!known(MAX_RECENT_FETCHES + 1), "forgotten");
}
