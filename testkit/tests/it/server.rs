//! The hub on real sockets, spoken to by tungstenite over TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nerves_hub_link_testkit::disk::DiskLayout;
use nerves_hub_link_testkit::firmware::{FirmwareArchive, FirmwareBuilder, SigningKey};
use nerves_hub_link_testkit::hub::{HubEvent, sign};
use nerves_hub_link_testkit::limits::MESSAGE;
use nerves_hub_link_testkit::server::{Firmware, Garbage, HubOptions, HubServer, Mischief, Times};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Error, Message, WebSocket};

type Tls = StreamOwned<ClientConnection, TcpStream>;

const LONG: Duration = Duration::from_secs(60);

fn tls(server: &HubServer) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpStream::connect(server.address()).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn upgrade(server: &HubServer, identifier: &str, time: u64) -> Result<WebSocket<Tls>, Error> {
    let url = format!("{}/device-socket/websocket?vsn=2.0.0", server.url());
    let mut request = url.into_client_request().unwrap();
    let pair = server.product();
    let headers = sign("NH1-HMAC-sha256-1000-32", &pair.key, &pair.secret, identifier, time).unwrap();
    for (name, value) in headers {
        let name = tungstenite::http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    match tungstenite::client(request, tls(server)) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(error)) => Err(error),
        Err(tungstenite::HandshakeError::Interrupted(_)) => panic!("interrupted"),
    }
}

fn status(result: Result<WebSocket<Tls>, Error>) -> (u16, Option<String>) {
    match result {
        Err(Error::Http(response)) => {
            let retry = response.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
            (response.status().as_u16(), retry)
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("not refused"),
    }
}

fn connect(server: &HubServer, identifier: &str) -> WebSocket<Tls> {
    upgrade(server, identifier, now()).unwrap()
}

fn say(socket: &mut WebSocket<Tls>, frame: &Value) {
    socket.send(Message::text(frame.to_string())).unwrap();
}

fn hear(socket: &mut WebSocket<Tls>) -> Value {
    match socket.read().unwrap() {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn join(socket: &mut WebSocket<Tls>, uuid: &str, version: &str) {
    let params = json!({
        "nerves_fw_uuid": uuid, "nerves_fw_product": "gadget", "nerves_fw_version": version,
        "nerves_fw_platform": "testkit", "nerves_fw_architecture": "generic",
        "device_api_version": "2.3.0", "fwup_public_keys": "on_connect",
        "meta": {"firmware_validated": true, "firmware_auto_revert_detected": false},
    });
    say(socket, &json!(["1", "1", "device", "phx_join", params]));
    assert_eq!(hear(socket), json!(["1", "1", "device", "phx_reply", {"status": "ok", "response": {}}]));
}

fn archive() -> FirmwareArchive {
    let layout = DiskLayout::with_slots_of(4);
    let builder = FirmwareBuilder::new("gadget", "1.1.0").rootfs(3_000_000, 1).ab_layout(&layout);
    builder.build(&SigningKey::from_seed(1)).unwrap()
}

/// One request on its own connection: the head and as much of the body as comes.
fn get(server: &HubServer, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut stream = tls(server);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = Vec::new();
    // A cut connection ends in an error; what came until then counts.
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end..].to_vec())
}

fn path_of(url: &Value) -> String {
    let url = url.as_str().unwrap();
    url[url.find("/firmware").unwrap()..].to_owned()
}

#[test]
fn joins_is_offered_an_update_and_downloads_it_in_ranges() {
    let server = HubServer::start(HubOptions::default()).unwrap();
    let archive = archive();
    let bytes = archive.bytes().unwrap();
    let mut socket = connect(&server, "device-1");
    join(&mut socket, "00000000-0000-5000-0000-000000000001", "1.0.0");
    let invitation = hear(&mut socket);
    assert_eq!((&invitation[0], &invitation[3]), (&Value::Null, &json!("extensions:get")));
    server.deploy(Firmware::from_archive(&archive).unwrap());
    let update = hear(&mut socket);
    assert_eq!(update[0], Value::Null);
    assert_eq!(update[3], "update");
    let payload = &update[4];
    assert_eq!(payload["firmware_meta"]["uuid"], archive.meta.uuid);
    assert_eq!(payload["firmware_meta"]["version"], "1.1.0");
    assert_eq!(payload["size"], bytes.len());
    assert_eq!(payload["partials_checksums"].as_array().unwrap().len(), bytes.len().div_ceil(1 << 20));
    let checksum = payload["checksum"].as_str().unwrap();
    assert_eq!(checksum, checksum.to_uppercase());
    assert_eq!(checksum.len(), 64);

    let path = path_of(&payload["firmware_url"]);
    let (head, body) = get(&server, &path, "");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("accept-ranges: bytes\r\n"));
    assert_eq!(body, bytes[..]);
    let (head, body) = get(&server, &path, "range: bytes=1048576-\r\n");
    assert!(head.starts_with("HTTP/1.1 206 Partial Content\r\n"), "{head}");
    let range = format!("content-range: bytes 1048576-{}/{}\r\n", bytes.len() - 1, bytes.len());
    assert!(head.contains(&range), "{head}");
    assert_eq!(body, bytes[1_048_576..]);
    let (head, _) = get(&server, &path, &format!("range: bytes={}-\r\n", bytes.len()));
    assert!(head.starts_with("HTTP/1.1 416 "), "{head}");
    assert!(head.contains(&format!("content-range: bytes */{}\r\n", bytes.len())));
    let (head, body) = get(&server, &path, "range: bytes=5-\r\nif-range: \"another\"\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(body.len(), bytes.len());
    let (head, _) = get(&server, "/firmware/1/none.fw", "");
    assert!(head.starts_with("HTTP/1.1 404 "));

    say(&mut socket, &json!(["1", "2", "device", "status_update", {"status": "received"}]));
    let received =
        server.wait_for(LONG, |e| matches!(e, HubEvent::Status { status, .. } if status == "received"));
    assert!(received.is_some());
    // The new firmware joins: the hub concludes success, and hands out the deployed key.
    let mut socket = connect(&server, "device-1");
    join(&mut socket, &archive.meta.uuid, "1.1.0");
    let keys = hear(&mut socket);
    assert_eq!(keys[3], "fwup_public_keys");
    assert_eq!(keys[4]["keys"][0], SigningKey::from_seed(1).public_key());
    assert!(server.wait_for(LONG, |e| matches!(e, HubEvent::UpdateSucceeded { .. })).is_some());
}

#[test]
fn serves_a_firmware_from_a_file_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.fw");
    let layout = DiskLayout::with_slots_of(16);
    let builder = FirmwareBuilder::new("gadget", "2.0.0").rootfs(12 << 20, 3).ab_layout(&layout).level(1);
    let archive = builder.build_file(&SigningKey::from_seed(1), &path).unwrap();
    let server = HubServer::start(HubOptions::default()).unwrap();
    let firmware = Firmware::from_file(&path).unwrap();
    assert_eq!(firmware.meta, archive.meta);
    server.deploy(firmware);
    let (_, body) = get(&server, &format!("/firmware/1/{}.fw", archive.uuid()), "");
    assert_eq!(body, std::fs::read(&path).unwrap());
}

#[test]
fn refuses_upgrades_with_the_recorded_answers() {
    let server = HubServer::start(HubOptions::default()).unwrap();
    assert_eq!(status(upgrade(&server, "d", now() - 91)).0, 401);
    assert_eq!(status(upgrade(&server, "d", now() + 60)).0, 401);
    let (head, body) = get(&server, "/device-socket/websocket?vsn=2.0.0", "");
    assert!(head.starts_with("HTTP/1.1 401 Unauthorized\r\n"));
    assert_eq!(body, b"no certificate pair or shared secrets connection settings were provided");
    let (head, body) = get(&server, "/nothing", "");
    assert!(head.starts_with("HTTP/1.1 301 Moved Permanently\r\n"));
    assert!(head.contains("location: https://docs.nerves-hub.org/\r\n"));
    assert!(body.is_empty());
    server.mischief(Mischief::RefuseUpgrade { status: 503, retry_after: Some(7) }, Times::Once);
    assert_eq!(status(upgrade(&server, "d", now())), (503, Some("7".to_owned())));
    server.mischief(Mischief::RedirectUpgrade { location: "wss://elsewhere".to_owned() }, Times::Once);
    assert_eq!(status(upgrade(&server, "d", now())).0, 302);
    server.mischief(Mischief::ClockSkew { seconds: 3600 }, Times::UntilCleared);
    assert_eq!(status(upgrade(&server, "d", now())).0, 401);
    assert!(upgrade(&server, "d", now() + 3600).is_ok());
    server.clear_mischief();
    assert!(upgrade(&server, "d", now()).is_ok());
}

#[test]
fn spoils_downloads_as_asked() {
    let server = HubServer::start(HubOptions::default()).unwrap();
    let archive = archive();
    let bytes = archive.bytes().unwrap();
    let length = bytes.len();
    server.deploy(Firmware::from_archive(&archive).unwrap());
    let path = format!("/firmware/1/{}.fw", archive.uuid());

    server.mischief(Mischief::CutDownload { after: 100_000 }, Times::Count(2));
    assert_eq!(get(&server, &path, "").1, bytes[..100_000]);
    assert_eq!(get(&server, &path, "range: bytes=7-\r\n").1, bytes[7..100_007]);
    assert_eq!(get(&server, &path, "").1.len(), length);

    server.mischief(Mischief::IgnoreRange, Times::Once);
    let (head, body) = get(&server, &path, "range: bytes=7-\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(body.len(), length);

    server.mischief(Mischief::WrongContentRange { by: 3 }, Times::Once);
    let (head, _) = get(&server, &path, "range: bytes=7-9\r\n");
    assert!(head.contains(&format!("content-range: bytes 10-12/{length}\r\n")), "{head}");

    for by in [-5, 5] {
        server.mischief(Mischief::WrongLength { by }, Times::Once);
        let (head, body) = get(&server, &path, "");
        let said = length.checked_add_signed(isize::try_from(by).unwrap()).unwrap();
        assert!(head.contains(&format!("content-length: {said}\r\n")), "{head}");
        assert_eq!(body.len(), length);
    }

    server.mischief(Mischief::CorruptByte { offset: 70_000 }, Times::Once);
    let body = get(&server, &path, "range: bytes=60000-\r\n").1;
    let differ: Vec<usize> = (0..body.len()).filter(|i| body[*i] != bytes[60_000 + i]).collect();
    assert_eq!(differ, [10_000]);

    server.mischief(Mischief::SlowBody { bytes: 1_000_000, every_ms: 1 }, Times::Once);
    assert_eq!(get(&server, &path, "").1.len(), length);

    server.mischief(Mischief::RefuseDownload { status: 503, retry_after: Some(1) }, Times::Once);
    let (head, _) = get(&server, &path, "");
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 1\r\n"), "{head}");

    server.mischief(Mischief::RedirectDownload { location: None }, Times::Once);
    let (head, _) = get(&server, &path, "");
    assert!(head.contains(&format!("location: {path}?moved=1\r\n")), "{head}");
    assert_eq!(get(&server, &format!("{path}?moved=1"), "").1.len(), length);
}

#[test]
fn sends_garbage_closes_duplicates_and_leaves_heartbeats_unanswered() {
    let server = HubServer::start(HubOptions::default()).unwrap();
    let mut socket = connect(&server, "device-1");
    join(&mut socket, "00000000-0000-5000-0000-000000000001", "1.0.0");
    hear(&mut socket);
    server.send_garbage(&Garbage::InvalidJson);
    assert!(
        matches!(socket.read().unwrap(), Message::Text(text) if serde_json::from_str::<Value>(&text).is_err())
    );
    server.send_garbage(&Garbage::Oversize(100_000));
    assert_eq!(socket.read().unwrap().len(), 100_000);
    server.send_garbage(&Garbage::Binary);
    assert!(socket.read().unwrap().is_binary());
    server.mischief(Mischief::NoHeartbeatReplies, Times::Once);
    say(&mut socket, &json!([null, "2", "phoenix", "heartbeat", {}]));
    say(&mut socket, &json!([null, "3", "phoenix", "heartbeat", {}]));
    assert_eq!(hear(&mut socket)[1], "3");
    server.crash_channels();
    assert_eq!(hear(&mut socket), json!(["1", "1", "device", "phx_error", {"reason": "channel_crash"}]));
    assert!(server.duplicate("device-1"));
    let Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("no close") };
    assert_eq!(u16::from(frame.code), 1001);
    let mut socket = connect(&server, "device-1");
    let twice = |e: &HubEvent| matches!(e, HubEvent::Disconnected { code: Some(1001), .. });
    assert!(server.wait_for(LONG, twice).is_some());
    server.send_garbage(&Garbage::InvalidUtf8);
    assert!(matches!(socket.read(), Err(Error::Utf8(_))));
}

#[test]
fn a_silent_hub_says_nothing_and_still_stops() {
    let server = HubServer::start(HubOptions::default()).unwrap();
    server.mischief(Mischief::Silent, Times::Once);
    let mut silent = TcpStream::connect(server.address()).unwrap();
    silent.write_all(&[22, 3, 1, 0, 5]).unwrap();
    // The next connection is served as ever.
    connect(&server, "device-1");
    drop(server);
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn goes_down_with_1012_and_comes_back_on_the_same_port() {
    let mut server = HubServer::start(HubOptions::default()).unwrap();
    let url = server.url();
    let mut socket = connect(&server, "device-1");
    join(&mut socket, "00000000-0000-5000-0000-000000000001", "1.0.0");
    hear(&mut socket);
    server.down();
    assert_eq!(hear(&mut socket), json!(["1", "1", "device", "phx_close", {}]));
    let Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("no close") };
    assert_eq!(u16::from(frame.code), 1012);
    assert!(TcpStream::connect(server.address()).is_err());
    server.up().unwrap();
    assert_eq!(server.url(), url);
    let mut events = server.events();
    assert!(
        events.wait_for(LONG, |e| matches!(e, HubEvent::Disconnected { code: Some(1012), .. })).is_some()
    );
    let mut socket = connect(&server, "device-1");
    join(&mut socket, "00000000-0000-5000-0000-000000000001", "1.0.0");
    assert!(events.wait_for(LONG, |e| matches!(e, HubEvent::Joined { .. })).is_some());
    server.restart().unwrap();
    assert_eq!(server.url(), url);
}

#[test]
fn speaks_plain_http_when_told_to() {
    let server = HubServer::start(HubOptions { tls: false, ..HubOptions::default() }).unwrap();
    assert!(server.url().starts_with("ws://localhost:"));
    let mut stream = TcpStream::connect(server.address()).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
}

#[test]
fn messages_have_a_limit() {
    let server = HubServer::start(HubOptions::default()).unwrap();
    let mut socket = connect(&server, "device-1");
    let message = |length: usize| {
        let frame = json!([null, "1", "phoenix", "heartbeat", {"x": ""}]).to_string();
        Message::text(frame.replace("\"\"", &format!("\"{}\"", "y".repeat(length - frame.len()))))
    };
    assert_eq!(message(MESSAGE).len(), MESSAGE);
    socket.send(message(MESSAGE)).unwrap();
    assert_eq!(hear(&mut socket)[3], "phx_reply");
    // One more, and the connection ends without a close frame, as at the real server.
    let _ = socket.send(message(MESSAGE + 1));
    assert!(socket.read().is_err());
}

#[test]
fn text_that_is_no_utf8_is_answered_with_1007() {
    let server = HubServer::start(HubOptions::default()).unwrap();
    let mut socket = connect(&server, "device-1");
    let bad = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    socket.send(Message::Frame(bad)).unwrap();
    let Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("no close") };
    assert_eq!(u16::from(frame.code), 1007);
}
