//! Recordings of devices whose clock is wrong from the first dial, made from those at hand.

use crate::common::golden;
use crate::common::recorded::{end, like, lines, run_lines, shift, time};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nerves_hub_link_testkit::hub::sign;
use nerves_hub_link_testkit::replay::Verdict;
use serde_json::{Value, json};

fn header(line: &Value, name: &str) -> Option<String> {
    let headers = line["headers"].as_array()?;
    let header = headers.iter().find(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name))?;
    Some(header[1].as_str()?.to_owned())
}

fn set_header(line: &mut Value, name: &str, value: &str) {
    let headers = line["headers"].as_array_mut().unwrap();
    let header = headers.iter_mut().find(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name));
    header.unwrap()[1] = value.into();
}

/// The device's identifier in a token: an Erlang binary.
fn identifier(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let at = payload.iter().position(|byte| *byte == b'm')?;
    let length = usize::try_from(u32::from_be_bytes(payload.get(at + 1..at + 5)?.try_into().ok()?)).ok()?;
    String::from_utf8(payload.get(at + 5..at + 5 + length)?.to_vec()).ok()
}

/// The product's secret, if that is the one a request was signed with.
fn secret(request: &Value) -> Option<String> {
    let text = std::fs::read_to_string(golden("wire/credentials.json")?).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let secret = value["product_secret"].as_str().unwrap().to_owned();
    let [alg, key, token] = ["x-nh-alg", "x-nh-key", "x-nh-signature"].map(|name| header(request, name));
    let (alg, key, token) = (alg?, key?, token?);
    let signed: u64 = header(request, "x-nh-time")?.parse().ok()?;
    let made = sign(&alg, &key, &secret, &identifier(&token)?, signed)?;
    made.contains(&("x-nh-signature".to_owned(), token)).then_some(secret)
}

/// Has a request signed by a clock that is off by so much from the one it was signed by.
fn sign_anew(request: &mut Value, skew: i64) {
    let Some(signed) = header(request, "x-nh-time").and_then(|time| time.parse::<i64>().ok()) else { return };
    let signed = u64::try_from(signed + skew).unwrap();
    if let Some(secret) = secret(request) {
        let [alg, key, token] =
            ["x-nh-alg", "x-nh-key", "x-nh-signature"].map(|name| header(request, name).unwrap());
        let made = sign(&alg, &key, &secret, &identifier(&token).unwrap(), signed).unwrap();
        set_header(
            request,
            "x-nh-signature",
            &made.iter().find(|(name, _)| name == "x-nh-signature").unwrap().1,
        );
    }
    set_header(request, "x-nh-time", &signed.to_string());
}

fn is_dial(line: &Value) -> bool {
    line["kind"] == "http_request" && header(line, "x-nh-time").is_some()
}

/// The recording with a refused attempt before its first connection, by a clock that is off by so much. `later` is what
/// the dials after it are signed with, beyond what they are.
fn refused_first(all: &[Value], skew: i64, later: i64) -> Option<Vec<Value>> {
    let mut all = all.to_vec();
    for line in &mut all {
        shift(line, 5.0);
    }
    let dial = all.iter().position(is_dial)?;
    let conn = all[dial]["conn"].clone();
    let open = all.iter().position(|line| line["conn"] == conn && line["kind"] == "tcp_open")?;
    let (at, id) = (time(&all[open]) - 1.1, json!({"conn": 9001}));
    let (open, mut asked) = (like(&all[open], at, &id), like(&all[dial], at + 0.001, &id));
    sign_anew(&mut asked, skew + 4);
    let date = lines("clock_one_hour_behind")?.into_iter().find(|line| line["kind"] == "http_response")?;
    let mut answer = like(&asked, at + 0.004, &json!({"kind": "http_response", "dir": "server_to_client"}));
    (answer["line"], answer["headers"]) = (date["line"].clone(), date["headers"].clone());
    let clock = answer["at"].as_str()?.get(11..19)?.to_owned();
    set_header(&mut answer, "date", &format!("Mon, 23 Nov 2026 {clock} GMT"));
    for line in all.iter_mut().filter(|line| is_dial(line)) {
        sign_anew(line, later + 5);
    }
    let ended = end(&asked, at + 0.005, 9001, "client");
    all.extend([open, asked, answer]);
    all.extend(ended);
    Some(all)
}

/// Recordings without a refusal: a restart of the server, messages with times, downloads, MessagePack, two lives.
const NAMES: [&str; 6] =
    ["connect_join_msgpack", "server_shutdown", "health_report", "archive", "update_delta", "redirect"];

/// The Unix time of the recordings: a device without a clock begins that much behind.
const SINCE_1970: i64 = 1_795_444_000;

#[track_caller]
fn explained(name: &str, skew: i64, lines: Vec<Value>) {
    let report = run_lines(lines);
    assert_eq!(report.verdict(), Verdict::Explained, "{name}, {skew} s: {report}");
}

#[test]
fn a_clock_that_is_wrong_all_the_time_is_read_from_the_recording() {
    for name in NAMES {
        for skew in [-SINCE_1970, -3600, -60, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 60, 3600, 100_000_000]
        {
            let Some(mut all) = lines(name) else { return };
            all.iter_mut().filter(|line| is_dial(line)).for_each(|line| sign_anew(line, skew));
            explained(name, skew, all);
        }
    }
}

#[test]
fn a_clock_that_is_wrong_from_the_first_dial_is_corrected_by_the_refusal() {
    for name in NAMES {
        // By the refusal's date, as it was then or with the time that has passed since.
        for (skew, later) in [(-SINCE_1970, 0), (-3600, 0), (-3600, -1), (-91, 0), (3, 0), (60, 0), (3600, 0)]
        {
            let Some(all) = lines(name).and_then(|all| refused_first(&all, skew, later)) else { return };
            explained(name, skew, all);
        }
        // A client that only believes in a date that is later than its clock is refused again and again.
        let all = lines(name).and_then(|all| refused_first(&all, 3600, 3600)).unwrap();
        explained(name, 3600, all);
    }
}

#[test]
fn a_clock_that_is_set_between_two_dials_is_no_fault_of_ours() {
    for skew in [-3600, -45, 45, 3600] {
        let Some(mut all) = lines("archive") else { return };
        sign_anew(all.iter_mut().find(|line| is_dial(line)).unwrap(), skew);
        explained("archive", skew, all);
    }
}
