//! The pure hub against recorded traffic of the real server: the device's side is replayed, the hub's
//! answers must be the server's, per connection and whatever their order.

use crate::common;

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nerves_hub_link_testkit::hub::{Archive, ConnId, Hub, HubConfig, HubEvent, HubOutput, KeyPair, Release};
use nerves_hub_link_testkit::meta::FirmwareMeta;
use nerves_hub_link_testkit::msgpack;
use serde_json::{Value, json};

/// One recording being replayed.
struct Replay {
    hub: Hub,
    devices: BTreeMap<u64, Option<ConnId>>,
    expected: BTreeMap<u64, Vec<Value>>,
    actual: BTreeMap<u64, Vec<Value>>,
    /// Connections whose client closed first: the echo of its close is not the hub's work.
    leaving: Vec<u64>,
    upgrades: usize,
    /// Does at the hub what people did at the recorded server, as its messages show.
    operator: Option<Operator>,
}

/// What people have in store for the devices of a recording.
#[derive(Default)]
struct Operator {
    connecting_code: Option<String>,
    archive: Option<Archive>,
}

fn lines(name: &str) -> Option<Vec<Value>> {
    let path = common::golden(&format!("wire/{name}.jsonl"))?;
    let text = std::fs::read_to_string(path).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn hub() -> Hub {
    let product = KeyPair::new(
        "nhp_J7pTJU1YxbuQLexF+39OrX3af5URyy19autv33E+ugU",
        "1OTGR3H6sJa2KStS+PlQkZ84+QM2WUrT4PfR3ax8nQQ",
    );
    let mut hub = Hub::new(HubConfig::recorded(), product);
    hub.add_public_key("u1dJgAcnFUqREJB0shvP+bwDx8wOrVtoRlj7XsvF6Ds=");
    hub
}

/// The milliseconds of an `at`, which all recordings have within one day of November 2026.
fn unix_ms(at: &str) -> u64 {
    // 2026-11-23T14:33:35.123456Z
    let (day, clock) = at.split_once('T').unwrap();
    assert_eq!(day, "2026-11-23");
    let mut parts = clock.trim_end_matches('Z').trim_end_matches("+00:00").split(':');
    let (h, m) = (parts.next().unwrap(), parts.next().unwrap());
    let seconds: f64 = parts.next().unwrap().parse().unwrap();
    let whole = h.parse::<u64>().unwrap() * 3600 + m.parse::<u64>().unwrap() * 60;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 60000.
    let millis = (seconds * 1000.0).floor() as u64;
    (1_795_392_000 + whole) * 1000 + millis
}

fn headers(line: &Value) -> Vec<(String, String)> {
    let pairs = line["headers"].as_array().unwrap();
    pairs.iter().map(|p| (p[0].as_str().unwrap().to_owned(), p[1].as_str().unwrap().to_owned())).collect()
}

/// The release that a recorded `update` offers.
fn release(update: &Value) -> Release {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let meta = &update["firmware_meta"];
    Release {
        meta: FirmwareMeta {
            version: text(&meta["version"]).unwrap(),
            description: text(&meta["description"]),
            product: text(&meta["product"]).unwrap(),
            author: text(&meta["author"]),
            uuid: text(&meta["uuid"]).unwrap(),
            misc: text(&meta["misc"]),
            architecture: text(&meta["architecture"]).unwrap(),
            platform: text(&meta["platform"]).unwrap(),
            vcs_identifier: text(&meta["vcs_identifier"]),
        },
        url: text(&update["firmware_url"]).unwrap(),
        size: update["size"].as_u64().unwrap(),
        checksum: text(&update["checksum"]).unwrap(),
        partials: update["partials_checksums"].as_array().unwrap().iter().filter_map(text).collect(),
    }
}

impl Replay {
    fn new() -> Self {
        Self {
            hub: hub(),
            devices: BTreeMap::new(),
            expected: BTreeMap::new(),
            actual: BTreeMap::new(),
            leaving: Vec::new(),
            upgrades: 0,
            operator: None,
        }
    }

    fn line(&mut self, line: &Value, requests: &mut BTreeMap<u64, Result<ConnId, Value>>) {
        let Some(conn) = line["conn"].as_u64() else { return };
        let now = unix_ms(line["at"].as_str().unwrap());
        let from_device = line["dir"] == "client_to_server";
        match line["kind"].as_str().unwrap() {
            "http_request" if !is_file(line["line"].as_str().unwrap()) => {
                requests.insert(conn, self.request(line, now, conn));
            }
            "http_response" => {
                let Some(answer) = requests.remove(&conn) else { return };
                let recorded = line["line"].as_str().unwrap();
                match answer {
                    // 400 is for wrong upgrade headers, which the pure hub does not look at.
                    Ok(_) => assert!(recorded.contains(" 101 ") || recorded.contains(" 400 "), "{recorded}"),
                    Err(ours) => {
                        let mut theirs: Vec<_> = headers(line);
                        theirs.retain(|(name, _)| {
                            !["date", "content-length", "connection"].contains(&name.as_str())
                        });
                        theirs.sort();
                        let status: u16 = recorded[9..12].parse().unwrap();
                        assert_eq!(ours, json!({"status": status, "headers": theirs}), "{line}");
                    }
                }
                self.upgrades += 1;
            }
            "text" | "binary" | "close" if !from_device => {
                let is_close = line["kind"] == "close";
                if self.operator.is_some() {
                    self.act(line, now, conn);
                }
                if !(is_close && self.leaving.contains(&conn)) {
                    let seen = if is_close { json!({"close": line["code"]}) } else { message(line) };
                    self.expected.entry(conn).or_default().push(seen);
                }
            }
            "text" => {
                let text = match line["text"].as_str() {
                    Some(text) => text.to_owned(),
                    None => line["value"].to_string(),
                };
                self.hub.text(now, ConnId(conn), &text);
            }
            "binary" => {
                let bytes = STANDARD.decode(line["base64"].as_str().unwrap()).unwrap();
                self.hub.binary(now, ConnId(conn), &bytes);
            }
            "close" => self.leaving.push(conn),
            "tcp_closed" => self.hub.disconnected(ConnId(conn)),
            _ => {}
        }
        self.drain();
    }

    /// Does what made the recorded server say that.
    fn act(&mut self, line: &Value, now: u64, conn: u64) {
        if line["kind"] == "close" {
            let closed =
                self.actual.get(&conn).into_iter().flatten().any(|message| message["close"].is_number());
            if !closed && !self.leaving.contains(&conn) {
                self.hub.close_all(u16::try_from(line["code"].as_u64().unwrap()).unwrap(), "");
                self.drain();
                let archive = self.operator.as_mut().unwrap().archive.take();
                self.hub.set_archive(archive);
            }
            return;
        }
        let (topic, event) = (line["topic"].as_str().unwrap(), line["event"].as_str().unwrap());
        let payload = &line["payload"];
        let device = self.identifier(conn);
        match (topic, event) {
            ("device", "identify" | "reboot") => self.hub.broadcast(event, payload),
            ("device", "update") if payload["deployment_id"].is_null() => {
                assert!(self.hub.push_update(now, &device, &release(payload)));
            }
            ("device", "update") => self.hub.deploy(now, release(payload)),
            ("device", "scripts/run") if payload["ref"] != "connecting_code" => {
                let text = |name: &str| payload[name].as_str().unwrap();
                assert!(self.hub.run_script(&device, text("ref"), text("text")));
            }
            ("console", event) if !event.starts_with("phx_") => {
                assert!(self.hub.console(&device, event, payload));
            }
            ("extensions", "attach" | "detach") => {
                for name in payload["extensions"].as_array().unwrap() {
                    self.hub.set_device_extension(&device, name.as_str().unwrap(), event == "attach");
                }
            }
            ("extensions", event) if event.contains(':') => {
                // What the hub asks by itself has been said already.
                let count = |list: Option<&Vec<Value>>| {
                    list.into_iter().flatten().filter(|message| message[3] == event).count()
                };
                if count(self.actual.get(&conn)) <= count(self.expected.get(&conn)) {
                    assert!(self.hub.extension(&device, event, payload));
                }
            }
            _ => {}
        }
        self.drain();
    }

    fn identifier(&self, conn: u64) -> String {
        let name = self.hub.events().find_map(|event| match event {
            HubEvent::Connected { conn: id, identifier } if id.0 == conn => Some(identifier.clone()),
            _ => None,
        });
        name.unwrap()
    }

    fn request(&mut self, line: &Value, now: u64, conn: u64) -> Result<ConnId, Value> {
        let target = line["line"].as_str().unwrap().split(' ').nth(1).unwrap().to_owned();
        let (path, query) = target.split_once('?').map_or((target.as_str(), None), |(p, q)| (p, Some(q)));
        let headers = headers(line);
        // What TLS proved, the recorder took off.
        let certificate = path == "/socket/websocket" && self.operator.is_some();
        let device = if certificate {
            Ok(self.hub.authenticate_certificate("elixir-cert").unwrap())
        } else {
            self.hub.authenticate(now, path, query, &headers)
        };
        match device {
            Ok(device) => {
                let speaks = self.hub.serializer(query).unwrap();
                self.hub.connected_speaking(now, ConnId(conn), device, speaks);
                self.devices.insert(conn, Some(ConnId(conn)));
                if let Some(code) =
                    self.operator.as_ref().and_then(|operator| operator.connecting_code.clone())
                {
                    let device = self.identifier(conn);
                    self.hub.set_connecting_code(&device, Some(&code));
                }
                Ok(ConnId(conn))
            }
            Err(refusal) => {
                let mut headers = refusal.headers;
                headers.sort();
                Err(json!({"status": refusal.status, "headers": headers}))
            }
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.hub.poll() {
            let (conn, seen) = match output {
                HubOutput::Send { conn, text } => (conn, serde_json::from_str(&text).unwrap()),
                HubOutput::SendBinary { conn, data } => (conn, msgpack::decode(&data).unwrap()),
                HubOutput::Close { conn, code, reason } => {
                    assert_eq!(reason, "");
                    (conn, json!({"close": code}))
                }
            };
            self.actual.entry(conn.0).or_default().push(seen);
        }
    }

    /// Compares, and says how many messages were compared.
    fn compare(mut self, name: &str) -> usize {
        let sorted = |list: Option<&Vec<Value>>| {
            let mut list: Vec<String> = list.into_iter().flatten().map(Value::to_string).collect();
            list.sort();
            list
        };
        let mut compared = 0;
        let conns: Vec<u64> = self.devices.keys().copied().collect();
        for conn in conns {
            // The number of the deployment group in the recorded server's database means nothing.
            for message in
                self.actual.get_mut(&conn).into_iter().chain(self.expected.get_mut(&conn)).flatten()
            {
                if message[3] == "update" && message[4]["deployment_id"].is_number() {
                    message[4]["deployment_id"] = 1.into();
                }
            }
            let (ours, theirs) = (sorted(self.actual.get(&conn)), sorted(self.expected.get(&conn)));
            assert_eq!(ours, theirs, "{name}, connection {conn}");
            compared += theirs.len();
        }
        self.drain();
        println!("{name}: {} upgrades and {compared} messages agree", self.upgrades);
        compared
    }
}

fn is_file(request: &str) -> bool {
    request.contains("/firmware/") || request.contains("/uploads/")
}

fn message(line: &Value) -> Value {
    if line["kind"] == "binary" {
        return msgpack::decode(&STANDARD.decode(line["base64"].as_str().unwrap()).unwrap()).unwrap();
    }
    match line["text"].as_str() {
        Some(text) => serde_json::from_str(text).unwrap(),
        None => line["value"].clone(),
    }
}

fn replay(name: &str) -> Option<Replay> {
    let mut replay = Replay::new();
    let mut requests = BTreeMap::new();
    for line in lines(name)? {
        replay.line(&line, &mut requests);
    }
    Some(replay)
}

/// Replays a recording and asks for at least so many messages, so that an empty one cannot pass.
fn agrees(name: &str, at_least: usize) {
    let Some(replay) = replay(name) else { return };
    assert!(replay.upgrades > 0);
    assert!(replay.compare(name) >= at_least);
}

#[test]
fn connect_and_join() {
    agrees("connect_join_shared_secret", 9);
    agrees("connect_join_shared_secret_tls", 9);
}

#[test]
fn join_payloads_good_and_bad() {
    agrees("join_payloads", 50);
}

#[test]
fn protocol_oddities() {
    agrees("protocol_oddities", 80);
}

#[test]
fn heartbeats() {
    agrees("heartbeat", 5);
}

#[test]
fn duplicate_connection() {
    agrees("duplicate_connection", 5);
}

#[test]
fn firmware_validated() {
    let Some(replay) = replay("firmware_validated") else { return };
    assert!(replay.hub.events().any(|e| matches!(e, HubEvent::Joined { validated: Some(false), .. })));
    assert!(replay.hub.events().any(|e| matches!(e, HubEvent::Validated { .. })));
    assert!(replay.compare("firmware_validated") >= 5);
}

#[test]
fn refused_authentication() {
    let Some(replay) = replay("auth_refused_device_endpoint") else { return };
    // All but the two whose upgrade headers are wrong, which the pure hub does not see.
    assert!(replay.upgrades >= 25, "{}", replay.upgrades);
}

#[test]
fn a_deployment_from_offer_to_success() {
    let Some(lines) = lines("update_deployment") else { return };
    let update = lines.iter().find(|line| line["event"] == "update").unwrap()["payload"].clone();
    let release = release(&update);
    let mut replay = Replay::new();
    let mut requests = BTreeMap::new();
    for line in &lines {
        if line["text"] == "the device reconnects" {
            replay.hub.close_all(1001, "");
            replay.drain();
            replay.hub.deploy(unix_ms(line["at"].as_str().unwrap()), release.clone());
        }
        replay.line(line, &mut requests);
    }
    let names: Vec<&str> = replay
        .hub
        .events()
        .filter_map(|event| match event {
            HubEvent::Offered { .. } => Some("offered"),
            HubEvent::Status { status, .. } => Some(match status.as_str() {
                "received" => "received",
                "started" => "started",
                "completed" => "completed",
                _ => "other",
            }),
            HubEvent::Progress { value: 0, .. } => Some("0 %"),
            HubEvent::Progress { value: 100, .. } => Some("100 %"),
            HubEvent::UpdateSucceeded { to, .. } if *to == release.meta.uuid => Some("succeeded"),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["offered", "received", "started", "0 %", "100 %", "completed", "succeeded"]);
    assert!(replay.compare("update_deployment") >= 28);
}

#[test]
fn updates_pushed_by_hand() {
    for (name, statuses) in [
        ("update_manual_complete", vec!["received", "started", "completed"]),
        ("update_download_resumed", vec!["received", "started", "started", "completed"]),
        ("update_caching_updater", vec!["received", "started", "completed"]),
        ("update_failed_bad_signature", vec!["received", "started", "failed"]),
        ("update_download_404", vec!["received", "started", "failed"]),
        ("update_ignored", vec!["received", "ignored", "received", "ignored"]),
        ("update_rescheduled", vec!["received", "rescheduled", "received", "rescheduled"]),
        ("update_reconnect_during_download", vec!["received", "started", "completed"]),
    ] {
        let Some(lines) = lines(name) else { return };
        let mut replay = Replay::new();
        let mut requests = BTreeMap::new();
        for line in &lines {
            let from_server = line["dir"] == "server_to_client";
            if from_server && line["event"] == "update" {
                let now = unix_ms(line["at"].as_str().unwrap());
                assert!(replay.hub.push_update(now, "elixir-1", &release(&line["payload"])), "{name}");
            }
            if from_server && line["kind"] == "close" {
                let code = line["code"].as_u64().unwrap();
                replay.hub.close_all(u16::try_from(code).unwrap(), "");
            }
            replay.line(line, &mut requests);
        }
        let seen: Vec<String> = replay
            .hub
            .events()
            .filter_map(|event| match event {
                HubEvent::Status { status, .. } => Some(status.clone()),
                HubEvent::Blocked { .. } | HubEvent::ChannelCrashed { .. } => {
                    Some("no such thing".to_owned())
                }
                _ => None,
            })
            .collect();
        assert_eq!(seen, statuses, "{name}");
        assert!(replay.compare(name) >= 10, "{name}");
    }
}

#[test]
fn whatever_people_do_is_said_as_the_real_server_says_it() {
    for (name, at_least) in [
        ("archive", 22),
        ("clock_one_hour_behind", 10),
        ("connect_join_client_certificate", 10),
        ("connect_join_msgpack", 11),
        ("connecting_code", 11),
        ("console", 29),
        ("extensions_toggle", 17),
        ("health_report", 10),
        ("identify", 11),
        ("local_shell", 25),
        ("network_identity", 10),
        ("network_interface", 10),
        ("protocol_oddities_msgpack", 40),
        ("reboot", 11),
        ("script_run", 13),
        ("server_disconnect", 21),
        ("server_shutdown", 21),
        ("update_delta", 21),
        ("update_ignored_in_deployment", 11),
        ("update_manual_complete", 21),
        ("update_parts_updater", 11),
    ] {
        let Some(lines) = lines(name) else { continue };
        let mut replay = Replay::new();
        let payload = |event: &str, wanted: &dyn Fn(&Value) -> bool| {
            lines
                .iter()
                .find(|line| line["event"] == event && wanted(&line["payload"]))
                .map(|l| &l["payload"])
        };
        let code = payload("scripts/run", &|payload| payload["ref"] == "connecting_code");
        replay.operator = Some(Operator {
            connecting_code: code.map(|payload| payload["text"].as_str().unwrap().to_owned()),
            archive: payload("archive", &|_| true).map(archive),
        });
        let mut requests = BTreeMap::new();
        for line in &lines {
            replay.line(line, &mut requests);
        }
        let compared = replay.compare(name);
        assert!(compared >= at_least, "{name}: {compared}");
    }
}

fn archive(payload: &Value) -> Archive {
    let text = |name: &str| payload[name].as_str().map(str::to_owned);
    Archive {
        size: payload["size"].as_u64().unwrap(),
        uuid: text("uuid").unwrap(),
        version: text("version").unwrap(),
        description: text("description"),
        platform: text("platform"),
        architecture: text("architecture"),
        uploaded_at: text("uploaded_at").unwrap(),
        url: text("url").unwrap(),
    }
}
