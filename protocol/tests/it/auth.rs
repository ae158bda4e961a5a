//! Shared-secret signatures and recovering from a wrong clock.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::*;

fn signed(secret: SharedSecret, at: Option<i64>) -> Vec<(String, String)> {
    let mut config = config();
    config.auth = Auth::SharedSecret(secret);
    let mut device = Device::new(config);
    device.now.wall = at.map(UnixTime);
    device.command(Command::Connect);
    headers(&device)
}

fn headers(device: &Device) -> Vec<(String, String)> {
    device.dial().headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect()
}

fn time(device: &Device) -> i64 {
    header(&headers(device), "x-nh-time").unwrap().parse().unwrap()
}

#[test]
fn the_vectors_of_the_specification_come_out_byte_for_byte() {
    let key = "nhp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let secret = SharedSecret::new(key, "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB", "test-device-0001");
    let expected = [
        ("x-nh-alg", "NH1-HMAC-sha256-1000-32"),
        ("x-nh-key", key),
        ("x-nh-time", "1700000000"),
        (
            "x-nh-signature",
            "SFMyNTY.g2gDbQAAABB0ZXN0LWRldmljZS0wMDAxbgYAAGjlz4sBYgABUYA.sCEfBzhSVsC8UMGf4LblA-nmepmjWsvFgNMeWx9ETxw",
        ),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(signed(secret, Some(1_700_000_000)), expected);

    let secret = SharedSecret::new(
        "nhd_q3/7xP0+dEfGhIjKlMnOpQrStUvWxYz0123456789ab",
        "Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4OWFiY2RlZmdoaWo",
        "b827eb4d2c1f",
    );
    assert_eq!(
        header(&signed(secret, Some(1_787_389_200)), "x-nh-signature"),
        Some(
            "SFMyNTY.g2gDbQAAAAxiODI3ZWI0ZDJjMWZuBgCAxrIooAFiAAFRgA.2TIHUIx7GQH1QyJf4fcK8nWdXjqJcYZmlPtKvVDHgec"
        )
    );

    let mut secret = SharedSecret::new("nhp_unicode", "s3cr3t", "gerät-ü-1");
    (secret.digest, secret.iterations, secret.key_length) = (KeyDigest::Sha512, 2048, 64);
    let headers = signed(secret, Some(1));
    assert_eq!(header(&headers, "x-nh-alg"), Some("NH1-HMAC-sha512-2048-64"));
    assert_eq!(
        header(&headers, "x-nh-signature"),
        Some("SFMyNTY.g2gDbQAAAAtnZXLDpHQtw7wtMWIAAAPoYgABUYA.9KNQLcMYS897pxm7Evhv5Pdwqzd4YE0m10-P6cGhZAw")
    );
}

#[test]
fn user_headers_are_added_and_secrets_never_print() {
    let mut config = config();
    config.headers.push(("X-Site".into(), Secret::new("roof")));
    let mut device = Device::new(config);
    device.command(Command::Connect);
    assert_eq!(headers(&device).last().unwrap(), &("X-Site".to_owned(), "roof".to_owned()));
    let printed = format!("{:?} {:?}", device.dial(), SharedSecret::new("k", "hunter2", "id"));
    for secret in ["roof", "hunter2", "SFMyNTY"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn each_attempt_is_signed_when_it_is_made() {
    let mut device = Device::new(config());
    device.command(Command::Connect);
    assert_eq!(time(&device), WALL);
    device.down(None);
    device.pass(Duration::from_millis(999));
    assert_eq!(time(&device), WALL);
    device.pass(Duration::from_millis(1));
    assert_eq!(time(&device), WALL + 1);
}

/// Refuses the dial with a date, `offset` seconds from the device's clock; returns the events.
fn refuse(device: &mut Device, status: u16, date: &str) -> Vec<Event> {
    let socket = device.socket();
    let headers = [("date", date)];
    events(&device.input(Input::SocketRefused { socket, status, headers: &headers, body: b"" }))
}

fn corrected(events: &[Event]) -> Option<i64> {
    events.iter().find_map(|event| match event {
        Event::ClockCorrected { offset_seconds } => Some(*offset_seconds),
        _ => None,
    })
}

/// WALL as a date.
const DATE: &str = "Mon, 23 Nov 2026 14:39:17 GMT";

#[test]
fn a_clock_behind_or_ahead_is_corrected_from_the_refusal() {
    for wrong in [-3600, -61, 3, 3600, 400_000_000] {
        let mut device = Device::new(config());
        device.now.wall = Some(UnixTime(WALL + wrong));
        device.command(Command::Connect);
        assert_eq!(corrected(&refuse(&mut device, 401, DATE)), Some(-wrong), "{wrong}");
        device.pass(Duration::from_secs(1));
        assert_eq!(time(&device), WALL + 1, "{wrong}");
        // And it stays so.
        device.down(None);
        device.pass(Duration::from_secs(2));
        assert_eq!(time(&device), WALL + 3, "{wrong}");
    }
}

#[test]
fn a_right_clock_is_not_blamed() {
    for slow in [0, 1, 60] {
        let mut device = Device::new(config());
        device.now.wall = Some(UnixTime(WALL - slow));
        device.command(Command::Connect);
        assert_eq!(corrected(&refuse(&mut device, 401, DATE)), None, "{slow}");
        device.pass(Duration::from_secs(1));
        assert_eq!(time(&device), WALL - slow + 1);
    }
    let mut device = Device::new(config());
    device.now.wall = Some(UnixTime(5));
    device.command(Command::Connect);
    assert_eq!(corrected(&refuse(&mut device, 503, DATE)), None, "only a 401 speaks about the signature");
    assert_eq!(corrected(&refuse(&mut device, 401, "yesterday")), None);
}

#[test]
fn whole_seconds_are_not_blamed_on_the_clock_and_still_made_up_for() {
    for ahead in [1, 2] {
        let mut device = Device::new(config());
        device.now.wall = Some(UnixTime(WALL + ahead));
        device.command(Command::Connect);
        let told = refuse(&mut device, 401, DATE);
        assert_eq!(corrected(&told), None, "{ahead}");
        let credentials = |event: &Event| matches!(event, Event::Refused { kind: Refusal::Credentials, .. });
        assert!(told.iter().any(credentials), "{told:?}");
        device.pass(Duration::from_secs(1));
        assert_eq!(time(&device), WALL + 1, "a clock that is really ahead must not keep the device away");
    }
}

#[test]
fn a_device_without_clock_signs_with_the_server_s_time() {
    let mut device = Device::new(config());
    device.now.wall = None;
    device.command(Command::Connect);
    assert_eq!(time(&device), 0);
    assert_eq!(corrected(&refuse(&mut device, 401, DATE)), Some(WALL));
    device.pass(Duration::from_secs(1));
    assert_eq!(time(&device), WALL + 1);
}

#[test]
fn a_clock_set_right_later_is_no_trouble() {
    let mut device = Device::new(config());
    device.now.wall = Some(UnixTime(100));
    device.command(Command::Connect);
    refuse(&mut device, 401, DATE);
    device.now.wall = Some(UnixTime(WALL));
    device.pass(Duration::from_secs(1));
    assert_eq!(time(&device), WALL + 1);
}
