//! Recordings of the real server and its devices, replayed against the device's machine.

use std::collections::BTreeSet;

use crate::common::recorded::{changed, recordings, run, said, text};
use nerves_hub_link_testkit::replay::{Kind, RULES, Verdict};
use serde_json::Value;

#[test]
fn every_recording_is_the_same_or_differs_as_meant() {
    let mut failed = Vec::new();
    let (mut messages, mut sockets, mut fetches, mut probes) = (0, 0, 0, 0);
    for file in recordings() {
        let report = run(&std::fs::read_to_string(&file).unwrap());
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        println!("{name}: {report}");
        if report.verdict() == Verdict::Fails {
            failed.push(name);
        }
        messages += report.messages;
        sockets += report.sockets;
        fetches += report.fetches;
        probes += report.probes;
    }
    println!(
        "{sockets} connections, {messages} messages, {fetches} requests, {probes} connections of scripts"
    );
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn every_rule_explains_something() {
    let files = recordings();
    // The selection in the tree has not every kind of recording.
    if files.len() < 40 {
        return;
    }
    let mut used = BTreeSet::new();
    for file in files {
        let report = run(&std::fs::read_to_string(&file).unwrap());
        used.extend(report.differences.iter().filter_map(|(_, rule)| rule.map(|rule| rule.name)));
    }
    let idle: Vec<_> = RULES
        .iter()
        .filter(|rule| !rule.foreseen && !used.contains(rule.name))
        .map(|rule| rule.name)
        .collect();
    assert!(idle.is_empty(), "rules without use: {idle:?}");
}

#[test]
fn a_message_the_device_did_not_send_is_found() {
    let drop = |lines: &mut Vec<Value>| {
        lines.retain(|line| !(said(line, "status_update") && line["payload"]["status"] == "received"));
    };
    let Some(report) = changed("update_deployment", drop) else { return };
    assert_eq!(report.verdict(), Verdict::Fails);
    assert!(report.unexplained().any(|d| d.kind == Kind::Extra && d.what == "device status_update received"));
}

#[test]
fn a_message_the_machine_does_not_send_is_found() {
    let add = |lines: &mut Vec<Value>| {
        let at = lines.iter().position(|line| said(line, "report_network_interface")).unwrap();
        let mut line = lines[at].clone();
        line["event"] = "rebooting".into();
        line["ref"] = "900".into();
        lines.insert(at + 1, line);
    };
    let Some(report) = changed("heartbeat", add) else { return };
    assert!(report.unexplained().any(|d| d.kind == Kind::Missing && d.what == "device rebooting"));
}

#[test]
fn another_value_and_another_form_are_found() {
    let change = |lines: &mut Vec<Value>| {
        for line in lines.iter_mut().filter(|line| said(line, "report_network_interface")) {
            line["payload"] = serde_json::json!({"name": "lo", "interface": "lo"});
        }
        for line in lines.iter_mut().filter(|line| said(line, "heartbeat")) {
            line["join_ref"] = "1".into();
        }
    };
    let Some(report) = changed("heartbeat", change) else { return };
    assert!(report.unexplained().any(|d| d.is(Kind::Payload, "device report_network_interface", "/name")));
    assert!(report.unexplained().any(|d| d.kind == Kind::Numbers && d.what == "phoenix heartbeat"));
}

#[test]
fn another_order_is_found() {
    let swap = |lines: &mut Vec<Value>| {
        let status = |name: &str| {
            lines
                .iter()
                .position(|line| said(line, "status_update") && line["payload"]["status"] == name)
                .unwrap()
        };
        let (received, completed) = (status("received"), status("completed"));
        let payload = lines[received]["payload"].clone();
        lines[received]["payload"] = lines[completed]["payload"].clone();
        lines[completed]["payload"] = payload;
    };
    let Some(report) = changed("update_deployment", swap) else { return };
    assert!(report.unexplained().any(|d| d.kind == Kind::Order), "{report}");
}

#[test]
fn another_address_range_and_header_are_found() {
    let change = |lines: &mut Vec<Value>| {
        for line in lines.iter_mut().filter(|line| line["kind"] == "http_request") {
            let text = line["line"].as_str().unwrap().replace("vsn=2.0.0", "vsn=2.0.0&x=1");
            line["line"] = text.into();
            for pair in line["headers"].as_array_mut().unwrap() {
                if pair[0] == "range" {
                    pair[1] = "bytes=1048000-2098493".into();
                }
                if pair[0] == "x-retry-number" {
                    pair[1] = "7".into();
                }
            }
        }
    };
    let Some(report) = changed("update_download_resumed", change) else { return };
    assert!(report.unexplained().any(|d| d.is(Kind::Payload, "dial", "target")));
    assert!(report.unexplained().any(|d| d.is(Kind::Payload, "fetch", "x-retry-number")));
}

#[test]
fn a_connection_the_machine_does_not_open_is_found() {
    // The server refuses with a page that asks for a day of patience.
    let change = |lines: &mut Vec<Value>| {
        for line in lines.iter_mut().filter(|line| line["kind"] == "http_response") {
            line["line"] = "HTTP/1.1 503 Service Unavailable".into();
            line["headers"] = serde_json::json!([["retry-after", "86400"]]);
        }
    };
    let Some(report) = changed("bad_secret_client_retries", change) else { return };
    assert!(report.unexplained().any(|d| d.kind == Kind::Missing && d.what == "dial"), "{report}");
}

#[test]
fn unknown_lines_are_named_and_do_not_matter() {
    let add = |lines: &mut Vec<Value>| {
        let mut line = lines[0].clone();
        line["kind"] = "weather".into();
        lines.insert(3, line);
    };
    let Some(report) = changed("heartbeat", add) else { return };
    assert_ne!(report.verdict(), Verdict::Fails, "{report}");
    assert!(report.to_string().contains("line 4 passed over: the kind \"weather\" is unknown"), "{report}");
}

#[test]
fn what_is_no_recording_fails() {
    for text in ["", "not json", "{\"t\":0,\"kind\":\"note\",\"text\":\"nothing happens\"}"] {
        assert_eq!(run(text).verdict(), Verdict::Fails, "{text}");
    }
}

#[test]
fn a_replay_gives_the_same_result_twice() {
    for name in ["update_download_resumed", "protocol_oddities_msgpack", "redirect"] {
        let Some(text) = text(name) else { continue };
        assert_eq!(run(&text).to_string(), run(&text).to_string(), "{name}");
    }
}

/// One recording after the other, as if one device had been stopped and started again.
#[test]
fn a_device_that_was_started_again_is_another_life() {
    let (Some(first), Some(second)) = (text("heartbeat"), text("extensions_toggle")) else { return };
    let parse = |text: &str| {
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let (first, mut second) = (parse(&first), parse(&second));
    for line in &mut second {
        line["t"] = (line["t"].as_f64().unwrap() + 100.0).into();
        if let Some(conn) = line["conn"].as_u64() {
            line["conn"] = (conn + 1000).into();
        }
    }
    let both: Vec<String> = first.iter().chain(&second).map(Value::to_string).collect();
    let report = run(&both.join("\n"));
    assert_eq!(report.verdict(), Verdict::Explained, "{report}");
    assert_eq!((report.lives, report.sockets), (2, 2));
}

#[test]
fn a_recording_cut_or_with_lines_missing_anywhere_comes_to_an_end() {
    for name in
        ["update_download_resumed", "server_shutdown", "console", "connect_join_msgpack", "join_payloads"]
    {
        let Some(text) = text(name) else { continue };
        let lines: Vec<&str> = text.lines().collect();
        for at in (0..lines.len()).step_by(lines.len().div_ceil(12)) {
            run(&lines[..at].join("\n"));
            run(&lines[at..].join("\n"));
            let holes: Vec<&str> =
                lines.iter().enumerate().filter(|(n, _)| n % 7 != at % 7).map(|(_, l)| *l).collect();
            run(&holes.join("\n"));
        }
    }
}

#[test]
fn what_other_recordings_may_hold_is_foreseen() {
    type Change = fn(&mut Vec<Value>);
    let changes: [(&str, &[&str], Change); 5] = [
        ("update_reconnect_during_download", &["rhythm"], |lines| {
            let at = lines
                .iter()
                .position(|line| said(line, "fwup_progress") && line["payload"]["value"] == 41)
                .unwrap();
            let mut line = lines[at].clone();
            line["payload"]["value"] = 42.into();
            line["t"] = (line["t"].as_f64().unwrap() + 0.1).into();
            lines.insert(at + 1, line);
        }),
        ("health_report", &["no-report-of-nothing"], |lines| {
            for line in lines.iter_mut().filter(|line| said(line, "health:report")) {
                line["payload"] = serde_json::json!({"value": null});
            }
        }),
        ("server_disconnect", &["from-the-beginning"], |lines| {
            let request = lines.iter_mut().rfind(|line| line["kind"] == "http_request").unwrap();
            request["headers"][0][1] = "elsewhere:5000".into();
        }),
        ("update_download_404", &["patient", "patient-again"], |lines| {
            for line in lines.iter_mut().filter(|line| line["line"] == "HTTP/1.1 404 Not Found") {
                line["line"] = "HTTP/1.1 503 Service Unavailable".into();
            }
            let failed = lines.iter_mut().find(|line| line["payload"]["status"] == "failed").unwrap();
            failed["payload"]["reason"] = "Download failed : {:http_error, 503}".into();
            // Long enough for another attempt.
            let mut last = lines.iter().rfind(|line| line["kind"] == "tcp_closed").unwrap().clone();
            last["t"] = 60.into();
            lines.push(last);
        }),
        ("heartbeat", &["sent-by-hand"], |lines| {
            let at = lines.iter().position(|line| said(line, "report_network_interface")).unwrap();
            let mut line = lines[at].clone();
            line["event"] = "made_up".into();
            line["ref"] = "900".into();
            lines.insert(at + 1, line);
        }),
    ];
    let mut shown = BTreeSet::new();
    let mut complete = true;
    for (name, rules, change) in changes {
        let Some(report) = changed(name, change) else {
            complete = false;
            continue;
        };
        let used: Vec<_> =
            report.differences.iter().filter_map(|(_, rule)| rule.map(|rule| rule.name)).collect();
        for rule in rules {
            assert!(used.contains(rule), "{name}: {rule}\n{report}");
            shown.insert(*rule);
        }
    }
    // These are shown in `replay_unseen.rs`, where recordings are changed more.
    shown.extend(["archive-once", "clock-ahead", "twin", "twin-alarm", "waited", "json-instead", "cut"]);
    let foreseen: BTreeSet<_> = RULES.iter().filter(|rule| rule.foreseen).map(|rule| rule.name).collect();
    assert!(!complete || shown == foreseen, "not shown: {:?}", foreseen.difference(&shown));
}
