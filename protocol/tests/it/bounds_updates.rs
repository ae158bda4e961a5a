//! How often a server can make a device overwrite its other slot, and how long failures hold it back.

use std::time::Duration;

use crate::common::{Device, UUID, WALL, events, update};
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A device with the bounds as they are by default, whose connection lasts without heartbeats.
fn config() -> Config {
    let mut config = crate::common::config();
    config.heartbeat = Duration::ZERO;
    config.bounds = Bounds::default();
    config
}

/// The same without the pause, so that the bound shows.
fn without_pause() -> Config {
    let mut config = config();
    config.bounds.failure_pause = Duration::ZERO;
    config
}

/// What was saved last, as the next start reads it.
fn kept(out: &[Output]) -> Option<History> {
    let mut histories = out.iter().rev().filter_map(|output| match output {
        Output::SaveHistory { history } => Some(history),
        _ => None,
    });
    let text = histories.next()?.to_text();
    assert!(!text.contains('\n'));
    Some(History::from_text(&text))
}

/// A device that starts with a history, at a time of the wall clock.
fn started(config: &Config, history: History, wall: Option<i64>) -> Device {
    let mut config = config.clone();
    config.history = history;
    let now = Now { mono: Instant::from_micros(5_000_000), wall: wall.map(UnixTime) };
    let mut device = Device::new(config.clone());
    device.now = now;
    device.link = Link::new(config, 7, now).unwrap();
    device.connect();
    device.join();
    device
}

/// A UUID that was never offered before.
fn name(number: u32) -> String {
    format!("{number:08x}-3245-5751-0c33-2b884ef5f37f")
}

/// What the server offers under that name.
fn named(uuid: &str) -> Value {
    let mut update = update();
    update["firmware_meta"]["uuid"] = json!(uuid);
    update
}

/// The signed metadata of that firmware.
fn signed(uuid: &str) -> FirmwareMeta {
    FirmwareMeta { uuid: uuid.into(), version: "1.0.0".into(), ..crate::common::firmware() }
}

/// Offers a firmware, which the device takes up, or says for how long it puts it off, and why.
fn begin(device: &mut Device, uuid: &str) -> Result<OfferId, (Option<Duration>, String)> {
    for event in events(&device.broadcast("update", named(uuid))) {
        match event {
            Event::UpdateOffered { offer, .. } => {
                device.command(Command::Decide { offer, decision: Decision::Apply });
                return Ok(offer);
            }
            Event::UpdateRefused { retry_in, reason, .. } => return Err((retry_in, reason)),
            _ => {}
        }
    }
    panic!("no word about an offer")
}

/// An update that is allowed to write and fails then. Returns what came out when it was allowed.
fn fail(device: &mut Device, uuid: &str) -> Result<Vec<Output>, (Option<Duration>, String)> {
    let offer = begin(device, uuid)?;
    let out = device.input(Input::FirmwareSigned { offer, firmware: &signed(uuid) });
    assert!(out.contains(&Output::ContinueApply { offer }), "{out:?}");
    device.input(Input::ApplyFailed { offer, reason: "disk on fire" });
    Ok(out)
}

fn wait(refused: Result<Vec<Output>, (Option<Duration>, String)>) -> Duration {
    let (wait, reason) = refused.expect_err("it was taken up");
    assert!(!reason.is_empty());
    wait.expect("the device asks for no time")
}

/// A device that overwrote its slot as often as it may at once, and what it kept.
fn full(config: &Config) -> (Device, History) {
    let mut device = started(config, History::default(), Some(WALL));
    for number in 0..OVERWRITES_PER_DAY {
        fail(&mut device, &name(number)).expect("within the bound");
    }
    let history = kept(&device.out).unwrap();
    (device, history)
}

#[test]
fn new_names_do_not_lift_the_bound_on_overwrites() {
    let (mut device, _) = full(&without_pause());
    let waits = wait(fail(&mut device, &name(100)));
    assert!(waits <= DAY && waits + HOUR > DAY, "{waits:?}");
    assert!(
        !device.statuses().iter().any(|status| status["status"] == "received" && status["uuid"] == name(100))
    );
    // By hand neither.
    let mut by_hand = named(&name(101));
    by_hand["deployment_id"] = Value::Null;
    let out = device.broadcast("update", by_hand);
    assert!(matches!(&events(&out)[..], [Event::UpdateRefused { info, .. }] if info.by_hand), "{out:?}");
    // Up to the end of the day since the first, which then makes room.
    device.pass(DAY.saturating_sub(Duration::from_secs(1)));
    assert!(fail(&mut device, &name(102)).is_err());
    device.pass(Duration::from_secs(1));
    for number in 200..200 + OVERWRITES_PER_DAY {
        fail(&mut device, &name(number)).expect("a day later");
    }
    assert!(fail(&mut device, &name(300)).is_err());
    // Offers without end, with the pause: in every stretch of a day at most that many begin.
    let mut device = started(&config(), History::default(), Some(WALL));
    let mut began: Vec<Instant> = Vec::new();
    for number in 0..72 * 12 {
        if fail(&mut device, &name(number)).is_ok() {
            began.push(device.now.mono);
        }
        device.pass(HOUR / 12);
    }
    assert!(began.len() > 10, "{}", began.len());
    let most = usize::try_from(OVERWRITES_PER_DAY).unwrap();
    for window in began.windows(most + 1) {
        assert!(window[most].saturating_since(window[0]) >= OVERWRITE_WINDOW, "{began:?}");
    }
}

#[test]
fn an_overwrite_is_saved_before_it_begins_and_counts_once() {
    let mut device = started(&without_pause(), History::default(), Some(WALL));
    let offer = begin(&mut device, &name(1)).unwrap();
    assert_eq!(kept(&device.out), None, "nothing is written yet");
    let out = device.input(Input::FirmwareSigned { offer, firmware: &signed(&name(1)) });
    let save = out.iter().position(|output| matches!(output, Output::SaveHistory { .. })).unwrap();
    let go = out.iter().position(|output| matches!(output, Output::ContinueApply { .. })).unwrap();
    assert!(save < go, "{out:?}");
    device.input(Input::ApplyProgress { offer, percent: 50 });
    assert_eq!(kept(&device.out).unwrap().writes.len(), 1);
    // One that doesn't wait for permission counts when it got further.
    let mut device = started(&without_pause(), History::default(), Some(WALL));
    let offer = begin(&mut device, &name(2)).unwrap();
    device.input(Input::ApplyProgress { offer, percent: 1 });
    device.input(Input::ApplyProgress { offer, percent: 2 });
    assert_eq!(kept(&device.out).unwrap().writes.len(), 1);
}

#[test]
fn overwrites_and_failures_count_over_restarts_whatever_the_clock_says() {
    let (_, history) = full(&without_pause());
    let (at, hours) = (i64::from(OVERWRITES_PER_DAY) + WALL, |hours: i64| hours * 3600);
    for wall in [Some(at), Some(at + hours(23)), Some(at - hours(24 * 400)), Some(5), None] {
        let mut device = started(&without_pause(), history.clone(), wall);
        assert!(fail(&mut device, &name(50)).is_err(), "{wall:?}");
        // The clock of a device that runs jumps.
        for jump in [-hours(48), hours(20), hours(22)] {
            device.now.wall = wall.map(|wall| UnixTime(wall.max(at) + jump));
            assert!(fail(&mut device, &name(51)).is_err(), "{wall:?} {jump}");
        }
    }
    // The clock shows that it was off for a day.
    let mut device = started(&without_pause(), history.clone(), Some(at + hours(24)));
    fail(&mut device, &name(52)).unwrap();
    // Without a clock, the day passes while it runs.
    let mut device = started(&without_pause(), history, None);
    device.pass(DAY);
    fail(&mut device, &name(53)).unwrap();
    // The pause is as long after a restart as before.
    let mut device = started(&config(), History::default(), Some(WALL));
    fail(&mut device, &name(1)).unwrap();
    device.pass(FAILURE_PAUSE);
    fail(&mut device, &name(2)).unwrap();
    let history = kept(&device.out).unwrap();
    assert_eq!(history.failures, 2);
    let mut device = started(&config(), history, None);
    device.pass((FAILURE_PAUSE * 2).saturating_sub(Duration::from_millis(1)));
    assert!(fail(&mut device, &name(3)).is_err());
    device.pass(Duration::from_millis(1));
    fail(&mut device, &name(4)).unwrap();
}

#[test]
fn the_pause_after_failures_grows_whatever_they_are_named() {
    let mut config = config();
    config.bounds.overwrites_per_day = 0;
    let mut device = started(&config, History::default(), Some(WALL));
    let mut pause = FAILURE_PAUSE;
    for number in 0..14 {
        fail(&mut device, &name(number)).expect("the pause is over");
        assert_eq!(wait(fail(&mut device, &name(number + 100))), pause.max(MIN_RESCHEDULE), "{number}");
        device.pass(pause.saturating_sub(Duration::from_millis(1)));
        assert!(fail(&mut device, &name(number + 200)).is_err(), "{number}");
        device.pass(Duration::from_millis(1));
        pause = (pause * 2).min(MAX_FAILURE_PAUSE);
    }
    assert_eq!(pause, MAX_FAILURE_PAUSE);
    // A day without failure ends it.
    device.pass(DAY);
    fail(&mut device, &name(300)).unwrap();
    device.pass(FAILURE_PAUSE);
    fail(&mut device, &name(301)).expect("as after the first failure");
}

#[test]
fn a_file_that_is_refused_before_it_is_written_makes_others_wait_but_is_no_overwrite() {
    let mut device = started(&config(), History::default(), Some(WALL));
    let offer = begin(&mut device, &name(1)).unwrap();
    // Another firmware than the one that was offered.
    let out = device.input(Input::FirmwareSigned { offer, firmware: &signed(&name(9)) });
    assert!(!out.contains(&Output::ContinueApply { offer }));
    let history = kept(&device.out).unwrap();
    assert_eq!((history.writes.len(), history.failures), (0, 1));
    assert!(fail(&mut device, &name(2)).is_err());
}

#[test]
fn a_download_that_breaks_before_anything_is_written_counts_for_nothing() {
    let mut config = config();
    config.download.max_disconnects = 0;
    let mut device = started(&config, History::default(), Some(WALL));
    for number in 0..20 {
        begin(&mut device, &name(number)).expect("nothing holds it back");
        device.head(404, &[]);
        assert!(matches!(device.events().pop(), Some(Event::UpdateFailed { .. })), "{:?}", device.events());
    }
    assert_eq!(kept(&device.out), None);
}

#[test]
fn a_firmware_that_proves_good_or_a_person_ends_the_pause() {
    let mut device = started(&config(), History::default(), Some(WALL));
    fail(&mut device, &name(1)).unwrap();
    let history = kept(&device.out).unwrap();
    // It starts again with a firmware that it tried.
    let mut tried = config();
    tried.past_attempts = vec![Attempt { uuid: UUID.into(), starts: 1, last: Some(UnixTime(WALL)) }];
    fail(&mut started(&tried, history.clone(), Some(WALL)), &name(2)).expect("it runs what it installed");
    // One that isn't known to be good ends it once it is.
    tried.firmware_validated = Some(false);
    let mut device = started(&tried, history.clone(), Some(WALL));
    assert!(fail(&mut device, &name(2)).is_err());
    device.command(Command::FirmwareValidated);
    fail(&mut device, &name(2)).expect("it proved good");
    // A restart alone doesn't.
    let mut device = started(&config(), history, Some(WALL));
    assert!(fail(&mut device, &name(2)).is_err());
    device.command(Command::ForgetHistory);
    fail(&mut device, &name(2)).expect("a person wants it");
    // The same for the overwrites, which success doesn't lift.
    let (_, history) = full(&without_pause());
    let mut device = started(&tried, history, Some(WALL));
    device.command(Command::FirmwareValidated);
    assert!(fail(&mut device, &name(80)).is_err());
    device.command(Command::ForgetHistory);
    fail(&mut device, &name(80)).unwrap();
}

#[test]
fn starts_count_by_the_signed_uuid() {
    let mut config = without_pause();
    config.allow_mismatch.offer = true;
    let content = signed(&name(77));
    let mut device = started(&config, History::default(), Some(WALL));
    let limit = AttemptPolicy::default().limit;
    for number in 0..limit {
        let offer = begin(&mut device, &name(number)).unwrap();
        let out = device.input(Input::FirmwareSigned { offer, firmware: &content });
        assert!(out.contains(&Output::ContinueApply { offer }), "{number}: {out:?}");
        device.input(Input::ApplyFailed { offer, reason: "bad image" });
        let attempts = crate::common::saved(&device.out).pop().unwrap();
        let starts: Vec<_> = attempts.iter().map(|past| (past.uuid.as_str(), past.starts)).collect();
        assert_eq!(starts, [(content.uuid.as_str(), number + 1)]);
    }
    // Under yet another name it is refused before anything is written.
    let offer = begin(&mut device, &name(50)).unwrap();
    let writes = kept(&device.out).unwrap().writes.len();
    let out = device.input(Input::FirmwareSigned { offer, firmware: &content });
    assert!(!out.contains(&Output::ContinueApply { offer }) && out.contains(&Output::CancelApply { offer }));
    assert_eq!(kept(&device.out).unwrap().writes.len(), writes);
}

#[test]
fn bounds_that_make_no_sense_are_refused() {
    let link = |overwrites: u32, pause: Duration| {
        let mut config = config();
        (config.bounds.overwrites_per_day, config.bounds.failure_pause) = (overwrites, pause);
        Link::new(config, 7, Now::default()).map(|_| ())
    };
    assert_eq!(link(MAX_BOUND, MAX_FAILURE_PAUSE), Ok(()));
    assert_eq!(link(0, Duration::ZERO), Ok(()));
    assert_eq!(link(MAX_BOUND + 1, Duration::ZERO), Err(ConfigError::Bounds));
    assert_eq!(link(0, MAX_FAILURE_PAUSE + Duration::from_secs(1)), Err(ConfigError::Bounds));
}
