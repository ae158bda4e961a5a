//! Recordings as others may have made them: what the replay must follow though none at hand shows it.

use crate::common::recorded::{
    changed, end, like, lines, message, renumber, rules, run_lines, said, shift, time,
};
use nerves_hub_link_testkit::replay::{Kind, Report, Verdict};
use serde_json::{Value, json};

/// The size of the firmware in the recordings, and where the recorder cut one of the downloads.
const SIZE: u64 = 2_098_493;
const CUT: u64 = 1_114_112;

#[track_caller]
fn explained(report: &Report) {
    assert_eq!(report.verdict(), Verdict::Explained, "{report}");
}

fn position(lines: &[Value], is: impl Fn(&Value) -> bool) -> usize {
    lines.iter().position(is).unwrap()
}

fn is_download(line: &Value, kind: &str) -> bool {
    let firmware =
        || line["headers"].as_array().unwrap().iter().any(|h| h[0] == "etag" || h[1] == "NHL/2.12.0");
    line["kind"] == kind && firmware()
}

fn set_header(line: &mut Value, name: &str, value: &str) {
    let headers = line["headers"].as_array_mut().unwrap();
    headers.retain(|header| header[0] != name);
    headers.push(json!([name, value]));
}

/// Makes a request ask for a range, and the answer have it.
fn ranged(request: &mut Value, response: &mut Value, from: u64, last: Option<u64>) {
    let end = last.unwrap_or(SIZE - 1);
    set_header(
        request,
        "range",
        &format!("bytes={from}-{}", last.map_or(String::new(), |last| last.to_string())),
    );
    response["line"] = "HTTP/1.1 206 Partial Content".into();
    set_header(response, "content-length", &(end + 1 - from).to_string());
    set_header(response, "content-range", &format!("bytes {from}-{end}/{SIZE}"));
}

fn heartbeat(lines: &[Value], at: f64, number: &str) -> [Value; 2] {
    let socket = lines.iter().find(|line| said(line, "phx_join")).unwrap();
    let mut beat = message(socket, at, true, "phoenix", "heartbeat", &json!({}));
    beat["ref"] = number.into();
    let answer = json!({"status": "ok", "response": {}});
    let mut answer = message(socket, at + 0.002, false, "phoenix", "phx_reply", &answer);
    answer["ref"] = number.into();
    [beat, answer]
}

#[test]
fn a_refused_device_is_one_life_and_its_patience_is_compared() {
    let Some(report) = changed("bad_secret_client_retries", |_| ()) else { return };
    explained(&report);
    assert_eq!((report.lives, report.sockets), (1, 5), "{report}");
    // One that comes back much too soon.
    let hammer = changed("bad_secret_client_retries", |lines| {
        for line in lines.iter_mut().filter(|line| line["conn"] == 181) {
            shift(line, -8.0);
        }
    });
    let report = hammer.unwrap();
    assert!(report.unexplained().any(|d| d.kind == Kind::Delay), "{report}");
}

#[test]
fn a_clock_that_is_ahead_is_corrected_once() {
    let Some(report) = changed("bad_secret_client_retries", |lines| {
        for line in lines.iter_mut().filter(|line| line["kind"] == "http_request") {
            let ahead = line["headers"].as_array().unwrap().iter().find(|h| h[0] == "x-nh-time").unwrap()[1]
                .as_str()
                .unwrap()
                .parse::<i64>()
                .unwrap()
                + 3600;
            set_header(line, "x-nh-time", &ahead.to_string());
        }
    }) else {
        return;
    };
    explained(&report);
    assert_eq!(rules(&report).iter().filter(|rule| **rule == "clock-ahead").count(), 4, "{report}");
}

#[test]
fn messagepack_that_is_refused_is_not_asked_for_again() {
    let Some(report) = changed("bad_secret_client_retries", |lines| {
        for line in lines.iter_mut() {
            if let Some(first) = line["line"].as_str() {
                let first = first.replace("vsn=2", "vsn=3").replace("401 Unauthorized", "403 Forbidden");
                line["line"] = first.into();
            }
        }
    }) else {
        return;
    };
    explained(&report);
    assert!(rules(&report).contains(&"json-instead"), "{report}");
}

#[test]
fn a_download_that_stands_still_is_given_up_and_resumed() {
    let Some(mut lines) = lines("update_download_resumed") else { return };
    // It stood still for a minute, then the device gave up.
    for line in lines.iter_mut().filter(|line| time(line) > 3.0) {
        shift(line, 60.0);
    }
    lines.retain(|line| line["kind"] != "note");
    let beats = [heartbeat(&lines, 31.05, "801"), heartbeat(&lines, 61.05, "802")];
    lines.extend(beats.into_iter().flatten());
    renumber(&mut lines);
    let report = run_lines(lines);
    explained(&report);
    assert_eq!(report.fetches, 2, "{report}");
}

#[test]
fn a_download_that_finds_no_server_is_tried_again() {
    let Some(mut lines) = lines("update_download_resumed") else { return };
    let first = position(&lines, |line| is_download(line, "http_request"));
    let conn = lines[first]["conn"].clone();
    lines[first]["kind"] = "upstream_connect_failed".into();
    lines.retain(|line| !(line["conn"] == conn && line["kind"] == "http_response"));
    lines.retain(|line| line["kind"] != "note" && !(said(line, "fwup_progress") && time(line) < 3.0));
    for line in lines.iter_mut().filter(|line| time(line) > 10.0) {
        if is_download_head(line) {
            line["headers"].as_array_mut().unwrap().retain(|h| h[0] != "range" && h[0] != "content-range");
        }
        match line["kind"].as_str() {
            Some("http_response") => {
                line["line"] = "HTTP/1.1 200 OK".into();
                set_header(line, "content-length", &SIZE.to_string());
            }
            Some("http_body") => line["bytes"] = SIZE.into(),
            _ => {}
        }
    }
    renumber(&mut lines);
    let report = run_lines(lines);
    explained(&report);
    assert_eq!(report.fetches, 1, "{report}");
}

fn is_download_head(line: &Value) -> bool {
    is_download(line, "http_request") || is_download(line, "http_response")
}

#[test]
fn what_the_device_had_kept_is_not_asked_for_again() {
    let Some(mut half) = lines("update_caching_updater") else { return };
    let all = half.clone();
    let (request, response) = (
        position(&half, |l| is_download(l, "http_request")),
        position(&half, |l| is_download(l, "http_response")),
    );
    let (mut asked, mut answer) = (half[request].clone(), half[response].clone());
    ranged(&mut asked, &mut answer, CUT, None);
    (half[request], half[response]) = (asked, answer);
    for line in &mut half {
        if line["kind"] == "http_body" {
            line["bytes"] = (SIZE - CUT).into();
        }
        if said(line, "fwup_progress")
            && line["payload"]["stage"] == "downloading"
            && line["payload"]["value"] == 0
        {
            line["payload"]["value"] = 53.into();
        }
    }
    let report = run_lines(half);
    explained(&report);
    // All of it: no request, no start.
    let mut there = all;
    let conn = there[request]["conn"].clone();
    let started = |line: &Value| said(line, "status_update") && line["payload"]["status"] == "started";
    there.retain(|line| line["conn"] != conn && !started(line));
    there.retain(|line| !(line["payload"]["stage"] == "downloading" && line["payload"]["value"] == 0));
    renumber(&mut there);
    let report = run_lines(there);
    explained(&report);
    assert_eq!(report.fetches, 0, "{report}");
}

#[test]
fn several_requests_at_a_time_are_told_apart_by_their_ranges() {
    let Some(mut lines) = lines("update_caching_updater") else { return };
    let (request, response) = (
        position(&lines, |l| is_download(l, "http_request")),
        position(&lines, |l| is_download(l, "http_response")),
    );
    let (asked, answer, at) = (lines[request].clone(), lines[response].clone(), time(&lines[request]));
    let conn = asked["conn"].clone();
    lines.retain(|line| line["conn"] != conn);
    for line in lines.iter_mut().filter(|line| time(line) > at && !said(line, "status_update")) {
        let begun = line["payload"]["stage"] == "downloading" && line["payload"]["value"] == 0;
        shift(line, if begun { 0.0 } else { 0.05 });
    }
    for line in lines.iter_mut().filter(|line| line["payload"]["status"] == "completed") {
        shift(line, 0.06);
    }
    // The second one is opened first.
    for (conn, from, last, at) in [(900, 1_048_576, None, at), (901, 0, Some(1_048_575), at + 0.001)] {
        let (mut asked, mut answer) =
            (like(&asked, at, &json!({"conn": conn})), like(&answer, at + 0.003, &json!({"conn": conn})));
        ranged(&mut asked, &mut answer, from, last);
        let bytes = last.map_or(SIZE, |last| last + 1) - from;
        let body = like(&answer, at + 0.03, &json!({"kind": "http_body", "bytes": bytes}));
        lines.extend([asked, answer, body]);
        lines.extend(end(&body_of(&lines), at + 0.031, conn, "client"));
    }
    let report = run_lines(lines);
    explained(&report);
    assert_eq!(report.fetches, 2, "{report}");
}

fn body_of(lines: &[Value]) -> Value {
    lines.iter().rfind(|line| line["kind"] == "http_body").unwrap().clone()
}

#[test]
fn the_patience_of_a_console_is_read_from_its_notice() {
    let Some(mut lines) = lines("console") else { return };
    let last = lines.iter().rposition(|line| said(line, "up")).unwrap();
    let (at, socket) = (time(&lines[last]), lines[last].clone());
    let text = "\r\n****************************************\r\n*   Session timeout due to inactivity  *\r\n\
        *                                      *\r\n*   Press any key to continue...       *\r\n\
        ****************************************\r\n";
    for line in lines.iter_mut().filter(|line| time(line) > at) {
        shift(line, 20.0);
    }
    lines.push(message(&socket, at + 15.01, true, "console", "up", &json!({"data": text})));
    let beats = [heartbeat(&lines, 31.3, "801")];
    lines.extend(beats.into_iter().flatten());
    renumber(&mut lines);
    explained(&run_lines(lines));
}

#[test]
fn devices_with_the_same_offer_have_their_own_downloads() {
    let Some(first) = lines("update_caching_updater") else { return };
    let mut second = first.clone();
    for line in &mut second {
        shift(line, 0.002);
        if let Some(conn) = line["conn"].as_u64() {
            line["conn"] = (conn + 1000).into();
        }
        if line["kind"] == "http_request" && !is_download(line, "http_request") {
            set_header(line, "x-nh-key", "nhp_another");
        }
    }
    let report = run_lines(first.into_iter().chain(second).collect());
    explained(&report);
    assert_eq!((report.lives, report.fetches), (2, 2), "{report}");
}

#[test]
fn a_device_that_is_replaced_again_and_again_keeps_away() {
    let Some(session) = lines("connect_join_shared_secret") else { return };
    let begin = time(session.iter().find(|line| line["kind"] == "tcp_open").unwrap());
    let open = |line: &&Value| time(line) < begin + 1.0 && line["conn"].is_u64();
    let session: Vec<Value> = session.iter().filter(open).cloned().collect();
    let mut all = Vec::new();
    for nth in 0_u32..5 {
        let (conn, later) = (100 + u64::from(nth), f64::from(nth) * 3.3);
        // The shell goes on.
        let again = |line: &&Value| {
            let event = line["event"].as_str().unwrap_or_default();
            nth == 0 || !["local_shell:request_status", "local_shell:shell_output"].contains(&event)
        };
        let mut part: Vec<Value> = session.iter().filter(again).cloned().collect();
        for line in &mut part {
            line["conn"] = conn.into();
            shift(line, later);
            let signed = |h: &Value| h[0] == "x-nh-time";
            if let Some(header) =
                line["headers"].as_array().and_then(|all| all.iter().find(|h| signed(h))).cloned()
            {
                let old: f64 = header[1].as_str().unwrap().parse().unwrap();
                set_header(line, "x-nh-time", &format!("{}", (old + later).floor()));
            }
        }
        let kick = like(
            &part[0],
            begin + later + 2.0,
            &json!({
                "kind": "close", "dir": "server_to_client", "code": 1001, "reason": "",
            }),
        );
        let by = if nth < 4 { "server" } else { "client" };
        let ends = end(&part[0], begin + later + 2.001, conn, by);
        all.extend(part);
        if nth < 4 {
            all.push(kick);
        }
        all.extend(ends);
    }
    renumber(&mut all);
    let report = run_lines(all);
    explained(&report);
    for rule in ["twin", "twin-alarm"] {
        assert!(rules(&report).contains(&rule), "{report}");
    }
}

#[test]
fn heartbeats_go_on_while_the_machine_waits_longer() {
    let Some(mut lines) = lines("heartbeat") else { return };
    // The channel crashes, and the device joins again five seconds later; ours needs up to half as much more.
    let join = lines.iter().find(|line| said(line, "phx_join") && line["topic"] == "device").unwrap().clone();
    let last = lines.iter().rfind(|line| said(line, "heartbeat")).map(time).unwrap();
    let error = json!({"reason": "channel_crash"});
    let mut crash = message(&join, 3.5, false, "device", "phx_error", &error);
    (crash["ref"], crash["join_ref"]) = ("1".into(), "1".into());
    let mut again = message(&join, 8.5, true, "device", "phx_join", &join["payload"]);
    again["ref"] = "900".into();
    let mut ok = message(&join, 8.51, false, "device", "phx_reply", &json!({"status": "ok", "response": {}}));
    (ok["ref"], ok["join_ref"]) = ("900".into(), "900".into());
    let interface = json!({"interface": "lo"});
    let interface = message(&join, 8.52, true, "device", "report_network_interface", &interface);
    lines.extend([crash, again, ok, interface]);
    // Ended just after a heartbeat, so that those of ours beyond it are more than the last one.
    for line in lines.iter_mut().filter(|line| time(line) > last + 0.5) {
        let to = last + 1.5 - time(line);
        shift(line, to);
    }
    renumber(&mut lines);
    let report = run_lines(lines);
    explained(&report);
    assert!(rules(&report).contains(&"waited"), "{report}");
}

#[test]
fn a_connection_that_breaks_is_one_connection() {
    let Some(report) = changed("server_shutdown", |lines| {
        lines.retain(|line| line["kind"] != "close");
        let eof = position(lines, |line| line["kind"] == "tcp_eof");
        lines[eof]["kind"] = "tcp_error".into();
        lines[eof]["error"] = "Connection reset by peer".into();
    }) else {
        return;
    };
    explained(&report);
    assert_eq!((report.lives, report.sockets), (1, 5), "{report}");
}

#[test]
fn a_recording_may_end_anywhere() {
    let mut cut = 0;
    for name in
        ["update_download_resumed", "console", "local_shell", "update_rescheduled", "connect_join_msgpack"]
    {
        let Some(text) = crate::common::recorded::text(name) else { continue };
        let lines: Vec<&str> = text.lines().collect();
        // Before that there is no connection.
        let first = lines.iter().position(|line| line.contains("101 Switching Protocols")).unwrap() + 1;
        for end in first..lines.len() {
            let report = crate::common::recorded::run(&lines[..end].join("\n"));
            assert_ne!(report.verdict(), Verdict::Fails, "{name}, {end} lines: {report}");
            cut += rules(&report).iter().filter(|rule| **rule == "cut").count();
        }
    }
    assert!(cut > 50, "{cut}");
}

#[test]
fn what_is_missing_before_the_end_of_a_recording_is_found() {
    let Some(mut lines) = lines("heartbeat") else { return };
    // The recording ends while the device is connected, and a second before the end a message is missing.
    let last = lines.iter().rposition(|line| said(line, "heartbeat")).unwrap();
    lines.truncate(last + 2);
    let report = position(&lines, |line| said(line, "report_network_interface"));
    lines[report]["payload"] = json!({"interface": "lo", "more": 1});
    assert!(run_lines(lines.clone()).unexplained().any(|d| d.kind == Kind::Payload));
    let attached = position(&lines, |line| said(line, "health:attached"));
    lines.remove(attached);
    assert!(run_lines(lines).unexplained().any(|d| d.kind == Kind::Extra));
}

#[test]
fn a_socket_and_a_download_that_find_no_server_are_told_apart() {
    let Some(original) = lines("update_reconnect_during_download") else { return };
    let (asked, answer) = (
        original.iter().find(|line| is_download(line, "http_request")).unwrap().clone(),
        original.iter().find(|line| is_download(line, "http_response")).unwrap().clone(),
    );
    let (download, second) = (asked["conn"].clone(), original.last().unwrap()["conn"].clone());
    let from = 400_000;
    // The server vanishes five seconds after the beginning and is back for the socket after 38.
    let mut all: Vec<Value> = original
        .iter()
        .filter(|line| line["kind"] != "note" && line["kind"] != "close")
        .filter(|line| line["conn"] != download || time(line) < 5.0)
        .cloned()
        .collect();
    for line in all.iter_mut().filter(|line| line["conn"] == second) {
        let joining = time(line) < 6.5;
        shift(line, if joining { 32.0 } else { 43.9 });
        if line["kind"] == "http_request" {
            let headers = line["headers"].as_array().unwrap();
            let signed = headers.iter().find(|header| header[0] == "x-nh-time").unwrap()[1].as_str().unwrap();
            set_header(line, "x-nh-time", &(signed.parse::<i64>().unwrap() + 32).to_string());
        }
    }
    all.extend(end(&answer, 5.06, download.as_u64().unwrap(), "server"));
    // Those after 15 and 30 seconds are the download's.
    for (conn, at) in [(300, 6.2), (301, 8.9), (302, 13.7), (303, 20.07), (304, 22.6), (305, 35.08)] {
        let failed = json!({"conn": conn, "kind": "upstream_connect_failed", "error": "refused"});
        all.push(like(&answer, at - 0.001, &json!({"conn": conn, "kind": "tcp_open", "via": "plain"})));
        all.push(like(&answer, at, &failed));
        all.extend(end(&answer, at + 0.002, conn, "server"));
    }
    let (mut asked, mut answer) =
        (like(&asked, 50.09, &json!({"conn": 306})), like(&answer, 50.1, &json!({"conn": 306})));
    ranged(&mut asked, &mut answer, from, None);
    set_header(&mut asked, "x-retry-number", "3");
    let body = like(&answer, 55.28, &json!({"kind": "http_body", "bytes": SIZE - from}));
    let started = json!({"status": "started", "downloader_network_interface": "lo"});
    let socket = all.iter().find(|line| line["conn"] == second && said(line, "phx_join")).unwrap().clone();
    all.push(message(&socket, 50.11, true, "device", "status_update", &started));
    all.extend(end(&answer, 55.281, 306, "client"));
    all.extend([asked, answer, body]);
    renumber(&mut all);
    let report = run_lines(all);
    explained(&report);
    assert_eq!((report.lives, report.fetches), (1, 2), "{report}");
}

/// The connection on which the recorded device fetches an archive, and its request, once more.
fn second_connection(lines: &[Value], by: f64) -> Vec<Value> {
    let again = lines.iter().filter(|line| line["conn"] == 21 || line["conn"] == 22);
    let again = again.map(|line| (line, line["conn"].as_u64().unwrap() + 1000));
    again.map(|(line, conn)| like(line, time(line) + by, &json!({"conn": conn}))).collect()
}

#[test]
fn an_archive_that_comes_again_on_the_next_connection_is_not_fetched_again() {
    let Some(all) = lines("archive") else { return };
    // The server ends the connection at moments when the recorded client, slower than this device, owes no answer.
    for at in [4.662, 4.706, 6.0] {
        let mut lines = all.clone();
        lines.retain(|line| !(line["conn"] == 21 && time(line) > at));
        lines.extend(end(&all[0], at, 21, "server"));
        lines.extend(second_connection(&all, at - 3.4));
        let report = run_lines(lines);
        explained(&report);
        assert_eq!((report.lives, report.sockets, report.fetches), (1, 3, 1), "{report}");
        assert!(rules(&report).contains(&"archive-once"), "{report}");
    }
}

#[test]
fn two_connections_of_one_identity_fetch_the_same_archive() {
    let Some(all) = lines("archive") else { return };
    for by in [0.05, 0.5, 2.0] {
        let mut lines = all.clone();
        lines.extend(second_connection(&all, by));
        let report = run_lines(lines);
        explained(&report);
        assert_eq!((report.lives, report.fetches), (2, 2), "{report}");
    }
}
