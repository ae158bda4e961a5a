//! Traffic recorded between the real server and the real clients.
//!
//! The recordings lie in `../shared/golden/wire` beside the workspace, a small selection of them in
//! `testkit/golden/wire` for a fresh clone.

use std::collections::BTreeMap;

use crate::common::recordings::{from_server, recordings};
use crate::common::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

fn messages(lines: &[Value], event: &str) -> Vec<Value> {
    lines
        .iter()
        .filter(|line| line["dir"] == "client_to_server" && line["kind"] == "text")
        .filter_map(|line| serde_json::from_str(line["text"].as_str()?).ok())
        .filter(|message: &Value| message[3] == event && message[2] == "device")
        .collect()
}

/// The keys of an object with the types of their values.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(_) => json!("array"),
        Value::String(_) => json!("string"),
        Value::Number(number) => json!(if number.is_u64() { "integer" } else { "number" }),
        Value::Bool(_) => json!("bool"),
        Value::Null => json!("null"),
    }
}

#[test]
fn every_recorded_message_of_the_server_is_survived() {
    let Some(recordings) = recordings() else { return };
    let (mut count, mut recorded_in_bytes) = (0, 0);
    for (name, lines) in &recordings {
        let mut config = config();
        let msgpack = from_server(lines, "binary").len();
        if msgpack > 0 {
            config.serializer = Serializer::MsgPack;
        }
        let mut device = Device::joined(config);
        for line in from_server(lines, "text") {
            let socket = device.socket();
            let text = line["text"].as_str().unwrap();
            device.input(Input::SocketText { socket, text });
            count += 1;
            assert_eq!(device.socket(), socket, "{name}: {text} cost the connection");
        }
        for line in from_server(lines, "binary") {
            let socket = device.socket();
            let data = STANDARD.decode(line["base64"].as_str().unwrap()).unwrap();
            device.input(Input::SocketBinary { socket, data: &data });
            count += 1;
        }
        if device.link.status().connection == ConnectionState::Connected {
            device.pass(std::time::Duration::from_secs(5));
            device.join();
        }
        assert_eq!(device.link.status().connection, ConnectionState::Joined, "{name}");
        let malformed =
            device.events().iter().filter(|event| matches!(event, Event::Malformed { .. })).count();
        // One probe used a number as topic, and the server echoed it.
        let numbers = from_server(lines, "text").iter().filter(|line| line["topic"].is_number()).count();
        assert!(malformed <= numbers, "{name}: {:?}", device.events());
        recorded_in_bytes += msgpack;
    }
    println!("{count} messages in {} recordings, {recorded_in_bytes} of them MessagePack", recordings.len());
    assert!(count > 50);
}

#[test]
fn recorded_signatures_are_reproduced() {
    let Some(recordings) = recordings() else { return };
    let credentials = &recordings["credentials"][0];
    let key = credentials["product_key"].as_str().unwrap();
    let product_secret = credentials["product_secret"].as_str().unwrap();
    let (mut equal, mut other) = (0, Vec::new());
    for (name, lines) in &recordings {
        for line in lines.iter().filter(|line| line["kind"] == "http_request") {
            let headers: BTreeMap<String, String> = line["headers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|pair| (pair[0].as_str().unwrap().to_lowercase(), pair[1].as_str().unwrap().to_owned()))
                .collect();
            let Some(identifier) = headers
                .get("x-nh-signature")
                .filter(|_| headers.get("x-nh-key").is_some_and(|recorded| recorded == key))
                .and_then(|signature| identifier(signature))
            else {
                continue;
            };
            let Some(time) = headers.get("x-nh-time").and_then(|time| time.parse().ok()) else { continue };
            let secret = SharedSecret::new(key, product_secret, identifier);
            let mut config = config();
            config.auth = Auth::SharedSecret(secret);
            if Link::new(config.clone(), 0, Now::default()).is_err() {
                // A probe without identifier.
                other.push(name.clone());
                continue;
            }
            let mut device = Device::new(config);
            device.now.wall = Some(UnixTime(time));
            device.command(Command::Connect);
            let ours: Vec<_> =
                device.dial().headers.iter().map(|(_, value)| value.expose().to_owned()).collect();
            let theirs =
                ["x-nh-alg", "x-nh-key", "x-nh-time", "x-nh-signature"].map(|name| headers.get(name));
            if ours.iter().map(Some).eq(theirs) {
                equal += 1;
            } else {
                other.push(name.clone());
            }
        }
    }
    println!("{equal} signatures equal; others in {other:?}");
    assert!(equal >= 5);
    // These show what wrong secrets and tampered headers look like.
    let wrong = [
        "bad_secret_client_retries",
        "auth_refused_device_endpoint",
        "auth_refused_web_endpoint",
        "rate_limit",
    ];
    assert!(other.iter().all(|name| wrong.contains(&name.as_str())), "{other:?}");
}

/// Takes the identifier out of a token.
fn identifier(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let length = usize::try_from(u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?)).ok()?;
    String::from_utf8(payload.get(8..8 + length)?.to_vec()).ok()
}

#[test]
fn our_messages_have_the_shape_of_the_reference_client_s() {
    let Some(recordings) = recordings() else { return };
    let lines = &recordings["update_deployment"];
    let mut config = config();
    config.public_keys.clear();
    // What the reference client sends besides: all keys of the slot.
    config.extra_join_params.insert("nerves_fw_validated".into(), "1".into());
    let mut device = Device::new(config);
    device.connect();
    device.join();
    let recorded = from_server(lines, "text");
    let keys = recorded.iter().find(|line| line["event"] == "fwup_public_keys").unwrap();
    device.broadcast("fwup_public_keys", keys["payload"].clone());
    let update = recorded.iter().find(|line| line["event"] == "update").expect("an update");
    let out = device.broadcast("update", update["payload"].clone());
    let Some(Event::UpdateOffered { offer, info }) = events(&out).pop() else { panic!("{out:?}") };
    assert_eq!(info.firmware.uuid, update["payload"]["firmware_meta"]["uuid"]);
    assert_eq!(info.size, update["payload"]["size"].as_u64());
    assert_eq!(info.checksum.unwrap(), update["payload"]["checksum"].as_str().unwrap().to_lowercase());
    device.command(Command::Decide { offer, decision: Decision::Apply });
    device.head(200, &[]);
    for percent in [0, 50] {
        device.pass(std::time::Duration::from_secs(1));
        device.input(Input::ApplyProgress { offer, percent });
    }
    device.input(Input::ApplyDone { offer });

    let mut compared = 0;
    for event in ["phx_join", "report_network_interface", "status_update", "fwup_progress"] {
        let theirs: Vec<_> = messages(lines, event)
            .iter()
            .map(|message| (message[4]["status"].clone(), shape(&message[4])))
            .collect();
        assert!(!theirs.is_empty(), "no {event} recorded");
        for message in device.sent().iter().filter(|message| message[3] == event) {
            let like = (message[4]["status"].clone(), shape(&message[4]));
            assert!(theirs.contains(&like), "{message} is not like {theirs:?}");
            assert_eq!(shape(&message[0]), "string");
            assert_eq!(shape(&message[1]), "string");
            compared += 1;
        }
    }
    assert!(compared >= 8, "{compared}");
    // And in the same order as far as the server's bookkeeping goes.
    let order: Vec<_> = device.statuses().iter().map(|status| status["status"].clone()).collect();
    assert_eq!(order, ["received", "started", "completed"]);
}

#[test]
fn a_recorded_resumption_is_followed() {
    let Some(recordings) = recordings() else { return };
    let lines = &recordings["update_download_resumed"];
    let heads: Vec<_> = lines
        .iter()
        .filter(|line| line["kind"] == "http_response")
        .filter(|line| {
            let line = line["line"].as_str().unwrap();
            line.contains("200") || line.contains("206")
        })
        .map(|line| {
            let pairs = line["headers"].as_array().unwrap();
            let headers: Vec<_> = pairs
                .iter()
                .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned()))
                .collect();
            let status: u16 = line["line"].as_str().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
            (status, headers)
        })
        .collect();
    let statuses: Vec<_> = heads.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 206]);
    let mut config = config();
    // Recorded without TLS.
    config.insecure_plain_hub = true;
    let mut device = Device::joined(config);
    let update = from_server(lines, "text").into_iter().find(|line| line["event"] == "update").unwrap();
    let mut payload = update["payload"].clone();
    payload["checksum"] = json!(null);
    let total = usize::try_from(payload["size"].as_u64().unwrap()).unwrap();
    device.start(payload);
    let answer = |device: &mut Device, at: usize| {
        let (status, headers): &(u16, Vec<(String, String)>) = &heads[at];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        device.head(*status, &headers)
    };
    answer(&mut device, 0);
    let got = 1_048_576;
    for _ in 0..16 {
        device.chunk(&vec![0; got / 16]);
    }
    device.end();
    device.pass(std::time::Duration::from_secs(15));
    assert_eq!(header(&device.fetch().headers, "range"), Some("bytes=1048576-"));
    assert_eq!(header(&device.fetch().headers, "if-range"), Some("\"30CFA03\""));
    assert_eq!(header(&device.fetch().headers, "x-retry-number"), Some("1"));
    answer(&mut device, 1);
    let keep = device.chunk(&vec![0; total - got]);
    assert_eq!((keep.range.len(), keep.offset), (total - got, got as u64));
    assert!(device.out.iter().any(|output| matches!(output, Output::FinishApply { .. })));
    // The recorded client says so at both requests.
    let started = device.statuses().iter().filter(|status| status["status"] == "started").count();
    assert_eq!(started, 1);
}

#[test]
fn a_recorded_redirect_and_recorded_refusals_are_followed() {
    let Some(recordings) = recordings() else { return };
    let response = |name: &str, status: &str| {
        let lines = &recordings[name];
        let line = lines
            .iter()
            .find(|line| line["kind"] == "http_response" && line["line"].as_str().unwrap().contains(status));
        let pairs = line.unwrap()["headers"].as_array().unwrap().clone();
        pairs
            .iter()
            .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let refuse = |device: &mut Device, status, headers: &[(String, String)]| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let socket = device.socket();
        device.input(Input::SocketRefused { socket, status, headers: &headers, body: b"" })
    };
    let mut config = config();
    config.host = "ws://localhost:5004".into();
    config.insecure_plain_hub = true;
    // The recorded client shows who it is wherever it is redirected to.
    config.trusted_origins = vec!["ws://localhost:5000".into()];
    let mut device = Device::new(config);
    device.command(Command::Connect);
    refuse(&mut device, 302, &response("redirect", "302"));
    assert_eq!(device.dial().url, "ws://localhost:5000/device-socket/websocket?vsn=2.0.0");

    let out = refuse(&mut device, 401, &response("bad_secret_client_retries", "401"));
    let date = response("bad_secret_client_retries", "401")
        .iter()
        .find(|(name, _)| name == "date")
        .unwrap()
        .1
        .clone();
    let corrected = events(&out).iter().any(|event| matches!(event, Event::ClockCorrected { .. }));
    assert!(corrected, "the test's clock is not the recording's, {date}");
}
