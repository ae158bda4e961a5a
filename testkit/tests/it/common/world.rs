//! A hub to speak to by hand.

use nerves_hub_link_testkit::hub::{ConnId, Hub, HubConfig, HubEvent, HubOutput, KeyPair, Release, sign};
use nerves_hub_link_testkit::meta::FirmwareMeta;
use serde_json::{Value, json};

pub const KEY: &str = "nhp_key";
pub const SECRET: &str = "secret";
pub const ALG: &str = "NH1-HMAC-sha256-1000-32";
pub const PATH: &str = "/device-socket/websocket";
pub const VSN: Option<&str> = Some("vsn=2.0.0");
pub const OLD: &str = "00000000-0000-5000-0000-000000000001";
pub const NEW: &str = "00000000-0000-5000-0000-000000000002";
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A hub, and devices that speak by hand.
pub struct World {
    pub hub: Hub,
    pub conns: u64,
}

impl World {
    pub fn new(config: HubConfig) -> Self {
        Self { hub: Hub::new(config, KeyPair::new(KEY, SECRET)), conns: 0 }
    }

    pub fn connect(&mut self, now: u64, identifier: &str) -> ConnId {
        self.conns += 1;
        let conn = ConnId(self.conns);
        let headers = sign(ALG, KEY, SECRET, identifier, 1000).unwrap();
        let device = self.hub.authenticate(1_000_000, PATH, VSN, &headers).unwrap();
        self.hub.connected(now, conn, device);
        conn
    }

    pub fn join(&mut self, now: u64, conn: ConnId, uuid: &str, more: &Value) {
        let mut params = json!({
            "nerves_fw_uuid": uuid, "nerves_fw_product": "gadget", "nerves_fw_version": "1.0.0",
            "nerves_fw_platform": "testkit", "nerves_fw_architecture": "generic",
            "device_api_version": "2.1.0", "meta": {"firmware_validated": true},
        });
        for (name, value) in more.as_object().unwrap() {
            params[name] = value.clone();
        }
        self.say(now, conn, &json!(["1", "1", "device", "phx_join", params]));
    }

    pub fn status(&mut self, now: u64, conn: ConnId, payload: &Value) {
        self.say(now, conn, &json!(["1", "9", "device", "status_update", payload]));
    }

    pub fn say(&mut self, now: u64, conn: ConnId, frame: &Value) {
        self.hub.text(now, conn, &frame.to_string());
    }

    /// What the hub sent to anyone, closes as `{"close": code}`.
    pub fn heard(&mut self) -> Vec<Value> {
        let mut heard = Vec::new();
        while let Some(output) = self.hub.poll() {
            heard.push(match output {
                HubOutput::Send { text, .. } => serde_json::from_str(&text).unwrap(),
                HubOutput::SendBinary { data, .. } => {
                    nerves_hub_link_testkit::msgpack::decode(&data).unwrap()
                }
                HubOutput::Close { code, .. } => json!({"close": code}),
            });
        }
        heard
    }

    pub fn offers(&mut self) -> usize {
        self.heard().iter().filter(|frame| frame[3] == "update").count()
    }

    pub fn has(&self, wanted: impl Fn(&HubEvent) -> bool) -> bool {
        self.hub.events().any(wanted)
    }
}

/// The firmware that devices are offered.
pub fn release() -> Release {
    Release {
        meta: FirmwareMeta {
            version: "1.1.0".to_owned(),
            product: "gadget".to_owned(),
            uuid: NEW.to_owned(),
            platform: "testkit".to_owned(),
            architecture: "generic".to_owned(),
            ..FirmwareMeta::default()
        },
        url: "https://localhost/firmware/1/x.fw".to_owned(),
        size: 3,
        checksum: "AB".to_owned(),
        partials: vec!["AB".to_owned()],
    }
}
