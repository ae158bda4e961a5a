//! What real servers answered, replayed: every HTTP answer of the recordings, and their text messages.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::common::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nerves_hub_link_transport::{Exchange, ExchangeRequest, Socket, SocketRequest};
use serde_json::Value;

/// Headers the connection writes itself; the recorded clients' own choices are left out.
const OWN: &[&str] = &[
    "host",
    "upgrade",
    "connection",
    "origin",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
];

fn recordings() -> Option<Vec<(String, Vec<Value>)>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = [root.join("../shared/golden/wire"), root.join("testkit/golden/wire")]
        .into_iter()
        .find(|folder| folder.is_dir());
    let Some(folder) = folder else {
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: no recordings (../shared/golden/wire, testkit/golden/wire)\n"),
        ));
        return None;
    };
    println!("recordings from {}", folder.display());
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    Some(
        files
            .iter()
            .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), read(path)))
            .collect(),
    )
}

fn headers(entry: &Value) -> Vec<(String, String)> {
    let pair =
        |pair: &Value| (pair[0].as_str().unwrap().to_lowercase(), pair[1].as_str().unwrap().to_owned());
    entry["headers"].as_array().unwrap().iter().map(pair).collect()
}

fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

/// A recorded answer: its bytes on the wire, and what must be seen of it.
struct Answer {
    bytes: Vec<u8>,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Reads a recorded answer. Extensions are left out: none was offered.
fn answered(entry: &Value) -> Answer {
    let line = entry["line"].as_str().unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = headers(entry);
    headers.retain(|(name, _)| name != "sec-websocket-extensions");
    // Bodies are not in the recordings, their lengths are.
    let length: usize = value(&headers, "content-length").map_or(0, |length| length.parse().unwrap());
    let body = vec![b'.'; length];
    let mut bytes = format!("{line}\r\n").into_bytes();
    for (name, value) in &headers {
        bytes.extend(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(&body);
    Answer { bytes, status, headers, body }
}

#[test]
fn every_recorded_answer_is_understood() {
    let Some(recordings) = recordings() else { return };
    let mut counts = BTreeMap::new();
    for (file, entries) in &recordings {
        let mut requests = BTreeMap::new();
        for entry in entries {
            match entry["kind"].as_str().unwrap() {
                "http_request" => {
                    requests.insert(entry["conn"].as_u64().unwrap(), entry);
                }
                "http_response" => {
                    let request = requests[&entry["conn"].as_u64().unwrap()];
                    let status = replay(file, request, entry);
                    *counts.entry(status).or_insert(0) += 1;
                }
                _ => {}
            }
        }
    }
    println!("answers by status: {counts:?}");
    assert!(counts.get(&101).is_some_and(|count| *count > 0) && counts.contains_key(&401), "{counts:?}");
}

fn replay(file: &str, request: &Value, response: &Value) -> u16 {
    let mut given = headers(request);
    let target = request["line"].as_str().unwrap().split(' ').nth(1).unwrap();
    let url = format!("http://hub.test{target}");
    let nonce = value(&given, "sec-websocket-key").and_then(|key| STANDARD.decode(key).ok());
    given.retain(|(name, _)| !OWN.contains(&name.as_str()));
    let Answer { bytes, status, headers, body } = answered(response);
    let expected_of_socket = if status == 101 {
        Seen::Up
    } else {
        Seen::Refused(status, headers.clone(), body.iter().copied().take(4096).collect())
    };
    for cuts in [Cuts::whole(), Cuts::bytewise()] {
        let mut cuts = if bytes.len() > 100_000 { Cuts::of(vec![1, 50_000, 3]) } else { cuts };
        // Without a usable key (some recordings try bad requests) the answer is read as a plain one.
        if let Some(nonce) = nonce.as_ref().filter(|nonce| nonce.len() == 16) {
            let mut random = [0; 32];
            random[..16].copy_from_slice(nonce);
            let request = SocketRequest { url: &url, headers: &given, tls: None };
            let mut socket = Socket::new(&request, random).unwrap();
            let (seen, _) = answer(&mut socket, Link::Plain, &mut cuts, &bytes, Finish::Stay);
            assert!(seen == [expected_of_socket.clone()], "{file}: {seen:?}");
        } else {
            assert_ne!(status, 101, "{file}");
            let mut exchange =
                Exchange::new(&ExchangeRequest { url: &url, headers: &given, tls: None }).unwrap();
            let (seen, _) = answer(&mut exchange, Link::Plain, &mut cuts, &bytes, Finish::Stay);
            let mut expected = vec![Seen::Head(status, headers.clone())];
            if !body.is_empty() {
                expected.push(Seen::Body(body.clone()));
            }
            expected.push(Seen::End);
            assert!(seen == expected, "{file}: {} events", seen.len());
        }
    }
    status
}

/// First bytes as they came out of TLS, with the body (recording `tls_client_certificates`).
#[test]
fn recorded_first_bytes_after_tls() {
    let Some(recordings) = recordings() else { return };
    let Some((_, entries)) = recordings.iter().find(|(file, _)| file == "tls_client_certificates.jsonl")
    else {
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: no recording tls_client_certificates.jsonl\n"),
        ));
        return;
    };
    let mut seen_statuses = Vec::new();
    for bytes in entries.iter().filter_map(|entry| entry["first_bytes_of_answer"].as_str()) {
        // The recording client used the key of RFC 6455 §1.3.
        let mut random = [0; 32];
        random[..16].copy_from_slice(b"the sample nonce");
        for link in LINKS {
            let url = link.url(true);
            let mut socket =
                Socket::new(&SocketRequest { url: &url, headers: &[], tls: Some(client_tls()) }, random)
                    .unwrap();
            let (seen, _) = answer(&mut socket, link, &mut Cuts::bytewise(), bytes.as_bytes(), Finish::Stay);
            match seen.as_slice() {
                [Seen::Up] => seen_statuses.push(101),
                [Seen::Refused(401, headers, body)] => {
                    seen_statuses.push(401);
                    let reason = "no certificate pair or shared secrets connection settings were provided";
                    assert_eq!(value(headers, "nh-connection-error-reason"), Some(reason));
                    assert_eq!(body, reason.as_bytes());
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(seen_statuses.contains(&101) && seen_statuses.contains(&401), "{seen_statuses:?}");
}

/// Each recorded text message, framed as the server frames it.
#[test]
fn every_recorded_text_comes_out_as_it_went_in() {
    let Some(recordings) = recordings() else { return };
    let mut count = 0;
    for (file, entries) in &recordings {
        let texts: Vec<&str> = entries
            .iter()
            .filter(|entry| entry["kind"] == "text" && entry["dir"] == "server_to_client")
            .filter_map(|entry| entry["text"].as_str())
            .collect();
        if texts.is_empty() {
            continue;
        }
        let mut bytes = upgraded().into_bytes();
        for text in &texts {
            bytes.extend(frame(0x81, text.as_bytes()));
        }
        for mut cuts in [Cuts::bytewise(), Cuts::of(vec![1, 4096, 77])] {
            let (seen, _) = answer(&mut socket(Link::Plain), Link::Plain, &mut cuts, &bytes, Finish::Stay);
            let expected: Vec<Seen> = std::iter::once(Seen::Up)
                .chain(texts.iter().map(|text| Seen::Text((*text).to_owned())))
                .collect();
            assert!(seen == expected, "{file}");
        }
        count += texts.len();
    }
    println!("{count} text messages");
    assert!(count > 0);
}
