//! Inputs of targets that talk: devices, downloads, messages, HTTP and WebSocket.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{Inputs, WIRE_MAX, named};
use crate::harness::files;

/// What is announced and configured, the size of the file, and things that happen.
pub fn planner() -> Inputs {
    let opened: &[u8] = &[5];
    let head: &[u8] = &[8, 0, 0];
    let right = |low: u8, high: u8| [10, 0, low, high, 200];
    let wrong: &[u8] = &[10, 0, 0, 4, 0];
    let settled: &[u8] = &[5, 5, 5, 5];
    vec![
        named(
            "parts",
            [&[0, 0, 20][..], opened, head, &right(0, 4), settled, &right(0, 8), settled].concat(),
        ),
        named("at_once", [&[0x18, 0, 22][..], opened, head, &[8, 1, 0, 8, 2, 0], &right(0, 4)].concat()),
        named("wrong_part", [&[0, 0, 20][..], opened, head, wrong, head, &right(0, 4), settled].concat()),
        named("restarted", [&[2, 0, 20][..], opened, head, &right(0, 6), settled, &[2], opened].concat()),
        named("spoilt", [&[0, 0, 20][..], opened, head, &right(0, 4), settled, &[2, 3, 0, 8]].concat()),
        named(
            "cached",
            [&[0x22, 0, 20][..], opened, head, &right(0, 6), settled, &[13, 0, 1, 0, 8, 0, 1]].concat(),
        ),
        named("gone", [&[0, 0, 20][..], opened, &[8, 0, 5]].concat()),
    ]
}

/// Scenarios: two bytes of settings, then steps as the harness reads them.
pub fn link() -> Inputs {
    let joined: &[u8] = &[0, 1, 2, 0, 0, 11, 8, 3];
    let taken: &[u8] = &[4, 1, 0, 0, 0, 0, 5, 0, 11, 8];
    let head: &[u8] = &[7, 0, 0, 1];
    let half: &[u8] = &[8, 0, 0xf4, 1, 10];
    let done: &[u8] = &[16, 0, 18, 0, 100, 2, 18, 0, 0, 0, 0, 11, 8, 0, 0];
    vec![
        named("joined", joined),
        named("updated", [joined, taken, head, half, half, done].concat()),
        named(
            "resumed",
            [
                joined,
                taken,
                &[7, 0, 0, 9],
                // The first tick is for the question whether the firmware is validated.
                &[8, 0, 0x90, 1, 10, 17, 0, 0, 0, 7, 0, 1, 2],
                &[8, 0, 0x58, 2, 10],
                done,
            ]
            .concat(),
        ),
        named(
            "redirected",
            [&[0, 1, 14, 0, 3, 16, 0][..], &joined[2..], &[15, 0, 2, 0, 2, 0, 0, 3]].concat(),
        ),
        named("refused", [joined, &[4, 1, 0, 0, 0, 0, 6, 0, 4, 0, 6, 60, 5, 0, 0, 1, 200, 0]].concat()),
        named("hoarded", [joined, taken, &[20, 30], head, half, half, done].concat()),
        named(
            "kicked",
            // The third kick looks like another device with the same identity, and makes this one wait for minutes.
            [joined, &[15, 0, 2, 0, 2, 0, 0, 3, 15, 0, 2, 0, 2, 0, 0, 3, 15, 0, 2], &[1, 255, 255]].concat(),
        ),
        named("rebooted", [joined, &[13, 9, 11, 8, 0, 0]].concat()),
        named("heartbeats", [joined, &[0, 22, 0, 22, 0, 0, 0]].concat()),
        // The same with more than updates: the upper half of the second byte says with what, and the third.
        named("packed", [&[0, 0x81, 0][..], &joined[2..], taken, head, half, half, done].concat()),
        named(
            "visited",
            [
                &[0, 0x11, 0][..],
                &joined[2..],
                // The console is joined, somebody types, a shell starts, writes and ends.
                &[11, 8, 24, 0, 0, 25, 0, 28, 0, 0, 0, 28, 1, 32, 0, 0, 11, 8, 28, 3, 0, 0],
                // The server asks for extensions, attaches some, and wants to know how it is.
                &[13, 5, 11, 8, 24, 1, 0, 11, 8, 26, 0, 27, 0, 11, 8],
            ]
            .concat(),
        ),
        named(
            "kept",
            [
                &[0, 0x21, 0][..],
                &joined[2..],
                taken,
                &[29, 0, 0, 0, 0],
                head,
                half,
                half,
                &[16, 0, 29, 0, 0, 0, 0, 30, 0, 0xe8, 3, 10, 30, 200, 0, 0],
                &done[2..],
            ]
            .concat(),
        ),
        named(
            "archived",
            [
                &[0, 0x11, 0][..],
                &joined[2..],
                &[31, 0, 1, 31, 3, 0, 29, 0, 0, 0, 0],
                head,
                half,
                half,
                &[16, 0, 29, 0, 0, 0, 0, 31, 7, 0],
            ]
            .concat(),
        ),
        named(
            "asked",
            [
                &[0, 0x11, 0x13][..],
                &joined[2..],
                // A script runs and ends; the device asks and sets who decides, and is answered.
                &[32, 0, 255, 255, 32, 104, 3, 0, 34, 0, 33, 5, 34, 2, 33, 7, 34, 4, 33, 0, 11, 8],
                // A file goes to operators.
                &[24, 0, 0, 37, 0, 20, 0, 37, 100, 20, 0, 11, 8],
                // Extensions are attached, and one of the application's and the log have something to say.
                &[
                    13, 5, 11, 8, 24, 1, 2, 11, 8, 38, 0, 3, 0, 0, 0, 38, 1, 0, 0, 0, 0, 38, 6, 0, 0, 0, 0,
                    0, 11, 8,
                ],
                // Another tool takes an update over.
                &taken[..6],
                &[36, 0, 0, 36, 84, 50, 36, 80, 0, 11, 8, 0, 0],
            ]
            .concat(),
        ),
        named("set_anew", [&[0, 0x11, 0x20][..], &[0, 39, 6, 0, 0, 35, 0, 0x10, 1], &joined[2..]].concat()),
    ]
}

/// The first byte says what the rest is.
pub fn texts() -> Inputs {
    let of = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    // An Ed25519 key (RFC 8410) that opens nothing, and always the same certificate of it.
    let key = [&hex("302e020100300506032b657004220420")[..], &[7; 32]].concat();
    let key = rcgen::KeyPair::try_from(key).unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["device-1".into()]).unwrap().self_signed(&key).unwrap();
    vec![
        named("address", of(0, "wss://hub.example:4001/device-socket/websocket?vsn=2.0.0")),
        named("address_v6", of(0, "http://[2001:db8::1]:8080/a/b.fw?x=1#part")),
        named("proxy", of(1, "proxy.example:3128")),
        named(
            "way",
            [&[2, 0x12, 0x34][..], b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"].concat(),
        ),
        named(
            "no_way",
            [
                &[2, 0, 0][..],
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
            ]
            .concat(),
        ),
        named(
            "places",
            of(3, "# two copies\n/dev/mmcblk0 0x2000 0x2000\n/dev/mmcblk0\t16384 8192 0x200 16\n"),
        ),
        named("attempts", of(4, "8a8b902c-d1a9-58aa-6111-04ab57c2f2a8:3:1795444757 digest:1:")),
        named("certificate", of(5, &(certificate.pem() + &key.serialize_pem()))),
        named("certificate_der", [&[5][..], certificate.der()].concat()),
    ]
}

/// Bytes of hexadecimal digits.
fn hex(digits: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(pair).collect()
}

pub fn wire_json() -> Inputs {
    let mut inputs = vec![named("binary", b"\x1f\x04\x01\x01\x00\x0612deviceevent{}")];
    for (title, lines) in recordings() {
        let mut known = BTreeSet::new();
        let mut input = Vec::new();
        for text in lines.iter().filter_map(text_of) {
            if known.insert(text.clone()) && input.len() + text.len() < WIRE_MAX {
                input.extend(text.as_bytes());
                input.push(0x1e);
            }
        }
        if !input.is_empty() {
            inputs.push((title, input));
        }
    }
    inputs
}

pub fn wire_msgpack() -> Inputs {
    let message = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat();
    let mut inputs = vec![named("refused", message(b"\x95\xc0\xa11\xa6device\xa9phx_reply\x80"))];
    for (title, lines) in recordings() {
        let mut known = BTreeSet::new();
        let mut input = Vec::new();
        for line in lines.iter().filter(|line| line["encoding"] == "msgpack") {
            let bytes = STANDARD.decode(line["base64"].as_str().unwrap_or_default()).unwrap();
            if input.len() + bytes.len() < WIRE_MAX && known.insert(bytes.clone()) {
                input.extend(message(&bytes));
            }
        }
        if !input.is_empty() {
            inputs.push((title, input));
        }
    }
    inputs
}

/// What is sent in place of a body.
const BODY: &[u8] = b"0123456789";

pub fn exchange() -> Inputs {
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nt: 1\r\n\r\n";
    let interim = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 206 Partial Content\r\ncontent-length: 2\r\n\r\nab";
    let mut inputs = vec![
        named("chunked", [&[1, 0x43, 0x21][..], chunked].concat()),
        named("interim", [&[0, 0x43, 0x21][..], interim].concat()),
        named("to-the-end", [&[1, 0x43, 0x21][..], b"HTTP/1.1 200 OK\r\n\r\nabc"].concat()),
        named(
            "tls",
            [&[0xf1, 0x10, 0x32][..], b"\x16\x03\x03\0\x04\x02\0\0\0\x15\x03\x03\0\x02\x02\x28"].concat(),
        ),
    ];
    let mut known = BTreeSet::new();
    for (title, lines) in recordings() {
        for head in lines.iter().filter_map(head_of) {
            // Heads that differ in their names alone or less are one.
            let names: String = head.lines().map(|line| line.split(':').next().unwrap_or_default()).collect();
            if known.insert(names) {
                let input = [&[1, 0x54, 0x76][..], head.as_bytes(), BODY].concat();
                inputs.push((format!("{title}-{}", known.len()), input));
            }
        }
    }
    inputs
}

pub fn socket() -> Inputs {
    let frame = |first: u8, payload: &[u8]| {
        let length = u16::try_from(payload.len()).unwrap();
        let header = match length {
            0..=125 => vec![first, length.to_le_bytes()[0]],
            _ => [&[first, 126][..], &length.to_be_bytes()].concat(),
        };
        [header, payload.to_vec()].concat()
    };
    // Settings, what the client does after each event, cuts.
    let header = [4, 4, 0, 20, 210, 120, 0x43, 0x21];
    let mixed = [
        frame(0x01, b"{"),
        frame(0x89, b"hi"),
        frame(0x80, b"}"),
        frame(0x8a, b""),
        frame(0x82, &[0; 200]),
        frame(0x88, b"\x03\xe9bye"),
    ];
    let mut inputs = vec![
        named("mixed", [&header[..], &mixed.concat()].concat()),
        named("closed-by-us", [&[4, 1, 230, 0x43, 0x21][..], &frame(0x88, b"\x03\xe8")].concat()),
        named(
            "refused",
            [&[1, 0, 0x43, 0x21][..], b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\n\r\nnope"].concat(),
        ),
        named("masked", [&[4, 0, 0, 0][..], &[0x81, 0x82, 1, 2, 3, 4, 5, 6]].concat()),
    ];
    for (title, lines) in recordings().into_iter().take(6) {
        let frames: Vec<u8> =
            lines.iter().filter_map(text_of).take(6).flat_map(|text| frame(0x81, text.as_bytes())).collect();
        let input = [&header[..], &frames].concat();
        if !frames.is_empty() && input.len() <= 2 * WIRE_MAX {
            inputs.push((title, input));
        }
    }
    inputs
}

/// What the server says in each recording.
fn recordings() -> Vec<(String, Vec<Value>)> {
    let Some(golden) = crate::common::golden("wire") else { return Vec::new() };
    let jsonl = files(&golden).into_iter().filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    jsonl
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let title = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (title, lines.filter(|line| line["dir"] == "server_to_client").collect())
        })
        .collect()
}

fn text_of(line: &Value) -> Option<String> {
    (line["kind"] == "text").then_some(())?;
    line["text"].as_str().map(str::to_owned).or_else(|| line.get("value").map(Value::to_string))
}

fn head_of(line: &Value) -> Option<String> {
    (line["kind"] == "http_response").then_some(())?;
    let mut head = format!("{}\r\n", line["line"].as_str()?);
    for header in line["headers"].as_array()? {
        head += &[header[0].as_str()?, ": ", header[1].as_str()?, "\r\n"].concat();
    }
    Some(head + "\r\n")
}
