//! A server without TLS proves nothing: it gets no shell, and its keys, its clock and its checksums are not believed.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::{CLOCK_DOUBTS, CLOCK_DRIFT_SECONDS, CLOCK_HORIZON, RELEASED};
use nerves_hub_link_protocol::*;
use serde_json::json;

/// A key that no device is configured with.
const FOREIGN: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// [`WALL`] and the year 2037 as dates.
const DATE: &str = "Mon, 23 Nov 2026 14:39:17 GMT";
const YEAR_2037: &str = "Sun, 01 Nov 2037 00:00:00 GMT";

fn plain(trusted: bool) -> Config {
    let mut config = config();
    config.host = "ws://hub.example".into();
    config.insecure_plain_hub = trusted;
    config
}

/// Dials, is refused with that date, and returns what came of it.
fn refuse(device: &mut Device, date: &str) -> Vec<Event> {
    let socket = device.socket();
    let headers = [("date", date)];
    events(&device.input(Input::SocketRefused { socket, status: 401, headers: &headers, body: b"" }))
}

fn corrected(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::ClockCorrected { .. }))
}

fn explanation(events: &[Event]) -> &str {
    let text = events.iter().rev().find_map(|event| match event {
        Event::Refused { explanation, .. } => Some(explanation.as_str()),
        _ => None,
    });
    text.unwrap()
}

/// The time in the newest dial's signature.
fn signed(device: &Device) -> i64 {
    let headers = device.dial().headers;
    headers.iter().find(|(name, _)| name == "x-nh-time").unwrap().1.expose().parse().unwrap()
}

/// Seconds since 1970 as an HTTP date (the algorithm of Howard Hinnant's `civil_from_days`).
fn date_of(time: i64) -> String {
    let (days, second) = (time.div_euclid(86_400), time.rem_euclid(86_400));
    let since_march = days + 719_468;
    let (era, day_of_era) = (since_march.div_euclid(146_097), since_march.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = usize::try_from((march_month + 2) % 12).unwrap();
    let year = era * 400 + year_of_era + i64::from(month < 2);
    let weekday =
        ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from(days.rem_euclid(7)).unwrap()];
    let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

#[test]
fn every_start_says_that_there_is_no_tls() {
    for trusted in [false, true] {
        let mut device = Device::new(plain(trusted));
        let out = device.command(Command::Connect);
        assert!(events(&out).contains(&Event::NotEncrypted { trusted }), "{out:?}");
    }
    let mut device = Device::new(config());
    let out = device.command(Command::Connect);
    assert!(!events(&out).iter().any(|event| matches!(event, Event::NotEncrypted { .. })));
}

#[test]
fn keys_are_neither_asked_for_nor_taken() {
    for trusted in [false, true] {
        let mut config = plain(trusted);
        config.public_keys.clear();
        let mut device = Device::new(config);
        device.connect();
        let join = device.last_sent("phx_join");
        assert_eq!(join[4].get("fwup_public_keys").is_some(), trusted, "{join}");
        assert_eq!(join[4].get("archive_public_keys").is_some(), trusted, "{join}");
        device.join();
        device.broadcast("fwup_public_keys", json!({"keys": [FOREIGN]}));
        device.broadcast("archive_public_keys", json!({"keys": [FOREIGN]}));
        device.broadcast("update", update());
        let refused = device.events().iter().any(|event| matches!(event, Event::UpdateRefused { .. }));
        assert_eq!(refused, !trusted);
        let archive =
            json!({"uuid": "one", "version": "1.0.0", "size": 1000, "url": "https://files.example/a.fw"});
        let offered = |out: &[Output]| {
            events(out).iter().any(|event| matches!(event, Event::Archive(ArchiveEvent::Offered { .. })))
        };
        assert_eq!(offered(&device.broadcast("archive", archive)), trusted);
    }
}

#[test]
fn no_shell_opens_and_no_script_runs() {
    for trusted in [false, true] {
        let mut config = plain(trusted);
        config.console = Some(ConsoleConfig::default());
        config.scripts = true;
        config.extensions.local_shell = true;
        let mut device = Device::new(config);
        device.connect();
        device.join();
        let joins = |device: &Device, topic: &str| {
            device.sent().iter().any(|message| message[2] == topic && message[3] == "phx_join")
        };
        assert_eq!(joins(&device, "console"), trusted);
        let offered = device.invite(json!({}));
        assert_eq!(offered.get("local_shell").is_some(), trusted, "{offered}");
        let out = device.broadcast("scripts/run", json!({"ref": "1", "text": "reboot"}));
        let ran = events(&out).iter().any(|event| matches!(event, Event::ScriptRequested { .. }));
        assert_eq!(ran, trusted);
        if !trusted {
            assert!(device.last_sent("scripts/run")[4].to_string().contains("without TLS"));
            // A server that goes on as if the shell had been offered gets none either.
            let mut out = device.accept(json!(["local_shell"]));
            out.extend(device.extension("local_shell:request_shell", json!({})));
            assert!(!events(&out).iter().any(|event| matches!(event, Event::Shell(_))), "{out:?}");
            let out = device.server(&json!([null, null, "console", "dn", {"data": "id\n"}]));
            assert!(!events(&out).iter().any(|event| matches!(event, Event::Shell(_))), "{out:?}");
        }
    }
}

#[test]
fn firmware_over_http_needs_a_checksum_that_came_over_tls() {
    let http = |checksum: bool| {
        let mut update = update();
        update["firmware_url"] = json!("http://files.example/1.fw");
        if checksum {
            update["checksum"] = json!("AB".repeat(32));
        }
        update
    };
    let taken = |config: Config, update: serde_json::Value| {
        let mut device = Device::joined(config);
        device.broadcast("update", update);
        device.events().iter().any(|event| matches!(event, Event::UpdateOffered { .. }))
    };
    assert!(taken(config(), http(true)));
    assert!(!taken(config(), http(false)));
    assert!(!taken(plain(false), http(true)), "whoever forges the file forges its checksum");
    assert!(taken(plain(true), http(false)));
    assert!(taken(plain(false), update()), "the key decides about what comes over TLS");
}

#[test]
fn a_redirect_from_a_server_without_tls_leads_to_no_trust() {
    let mut config = plain(false);
    config.public_keys.clear();
    let mut device = Device::new(config);
    device.command(Command::Connect);
    let socket = device.socket();
    let headers = [("location", "wss://attacker.example/device-socket/websocket")];
    device.input(Input::SocketRefused { socket, status: 302, headers: &headers, body: b"" });
    let socket = device.socket();
    device.input(Input::SocketUp { socket, interface: None });
    assert!(device.last_sent("phx_join")[4].get("fwup_public_keys").is_none());
}

#[test]
fn a_date_counts_only_over_tls_from_the_configured_server() {
    let mut wrong = Device::new(plain(false));
    wrong.now.wall = Some(UnixTime(WALL - 100_000));
    wrong.command(Command::Connect);
    let events = refuse(&mut wrong, DATE);
    assert!(!corrected(&events));
    assert!(explanation(&events).contains("without TLS"), "{events:?}");
    wrong.pass(Duration::from_secs(1));
    assert_eq!(signed(&wrong), WALL - 100_000 + 1);

    for host in ["wss://hub.example", "wss://HUB.example:443"] {
        let mut config = config();
        config.host = host.into();
        let mut device = Device::new(config);
        device.now.wall = Some(UnixTime(WALL - 100_000));
        device.command(Command::Connect);
        assert!(corrected(&refuse(&mut device, DATE)), "{host}");
    }

    for location in
        ["wss://other.example/socket", "wss://hub.example:444/socket", "wss://hub.example.:443/socket"]
    {
        let mut device = Device::new(config());
        device.now.wall = Some(UnixTime(WALL - 100_000));
        device.command(Command::Connect);
        let socket = device.socket();
        let headers = [("location", location)];
        device.input(Input::SocketRefused { socket, status: 302, headers: &headers, body: b"" });
        assert!(!corrected(&refuse(&mut device, DATE)), "{location}");
    }

    let mut insecure = Device::new(plain(true));
    insecure.now.wall = Some(UnixTime(WALL - 100_000));
    insecure.command(Command::Connect);
    assert!(corrected(&refuse(&mut insecure, DATE)));
}

#[test]
fn a_date_counts_only_within_a_plausible_range() {
    let horizon = i64::try_from(CLOCK_HORIZON.as_secs()).unwrap();
    let cases = [
        (RELEASED.0 - 1, false),
        (RELEASED.0, true),
        (RELEASED.0 + horizon, true),
        (RELEASED.0 + horizon + 1, false),
    ];
    for (time, believed) in cases {
        for wall in [None, Some(UnixTime(WALL))] {
            let mut device = Device::new(config());
            device.now.wall = wall;
            device.command(Command::Connect);
            let events = refuse(&mut device, &date_of(time));
            assert_eq!(corrected(&events), believed, "{time} {wall:?}");
            device.pass(Duration::from_secs(1));
            let expected = if believed { time + 1 } else { wall.map_or(0, |wall| wall.0 + 1) };
            assert_eq!(signed(&device), expected, "{time} {wall:?}");
        }
    }
    let mut device = Device::new(config());
    device.command(Command::Connect);
    assert!(explanation(&refuse(&mut device, YEAR_2037)).contains("not plausible"));
    let mut patient = config();
    patient.clock_horizon = CLOCK_HORIZON * 2;
    let mut device = Device::new(patient);
    device.command(Command::Connect);
    assert!(corrected(&refuse(&mut device, YEAR_2037)));
}

#[test]
fn a_date_counts_only_within_minutes_once_the_clock_was_right() {
    let accepted = || {
        let mut device = Device::joined(config());
        device.pass(Duration::from_secs(3600));
        device
    };
    for (off, believed) in [(CLOCK_DRIFT_SECONDS, true), (CLOCK_DRIFT_SECONDS + 1, false), (-86_400, false)] {
        let mut device = accepted();
        // The device's own clock went wrong since.
        device.now.wall = Some(UnixTime(1000));
        device.command(Command::Reconnect);
        let now = device.now.mono.saturating_since(Device::new(config()).now.mono).as_secs();
        let expected = WALL + i64::try_from(now).unwrap();
        let events = refuse(&mut device, &date_of(expected + off));
        assert_eq!(corrected(&events), believed, "{off}");
        assert_eq!(explanation(&events).contains("10 minutes"), !believed, "{off}");
    }
}

#[test]
fn a_device_that_lost_its_idea_of_the_time_believes_a_plausible_date_in_the_end() {
    let mut device = Device::joined(config());
    device.now.wall = None;
    for attempt in 0..=CLOCK_DOUBTS {
        device.command(Command::Reconnect);
        let events = refuse(&mut device, "Mon, 22 Nov 2027 14:39:17 GMT");
        assert_eq!(corrected(&events), attempt == CLOCK_DOUBTS, "{attempt}");
    }
}
