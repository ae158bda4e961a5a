//! The device channel: joins and what devices push (device-protocol §3).

use serde_json::{Value, json};

use super::event::{ConnId, HubEvent};
use super::frame::Frame;
use super::machine::Hub;
use super::update::JoinFacts;

/// Names a `status` or a `stage` may have; any other makes the server's database raise.
const STATUSES: [&str; 10] = [
    "requested",
    "rescheduled",
    "ignored",
    "received",
    "started",
    "downloading",
    "updating",
    "completed",
    "failed",
    "expired",
];

impl Hub {
    /// Handles a join: false when it crashes over the payload.
    pub(super) fn device_join(&mut self, now_ms: u64, conn: ConnId, identifier: &str, frame: &Frame) -> bool {
        let Some(facts) = facts(&frame.payload) else { return false };
        let payload = &frame.payload;
        self.reply(conn, frame, "ok", &json!({}));
        self.log.push(HubEvent::Joined {
            identifier: identifier.to_owned(),
            uuid: facts.meta.uuid.clone(),
            version: facts.meta.version.clone(),
            validated: facts.validated,
            auto_revert_detected: facts.auto_revert_detected,
            currently_downloading: facts.currently_downloading.clone(),
            fwup_version: facts.fwup_version.clone(),
        });
        let keys = self.public_keys.clone();
        for event in ["fwup_public_keys", "archive_public_keys"] {
            // Never an empty list: the server sends nothing when the organisation has no keys.
            let wanted = payload.get(event).and_then(Value::as_str) == Some("on_connect");
            if wanted && !keys.is_empty() {
                self.send(conn, &Value::Null, &Value::Null, "device", event, &json!({"keys": keys}));
            }
        }
        let api_version = facts.api_version;
        if let Some(connection) = self.conns.get_mut(&conn) {
            connection.api_version = api_version;
        }
        self.send_archive(conn);
        if api_version >= (2, 2, 0) {
            let payload = self.advertisement();
            self.send(conn, &Value::Null, &Value::Null, "device", "extensions:get", &payload);
        }
        self.record_join(now_ms, conn, facts);
        let code = self.device_of(conn).and_then(|device| device.connecting_code.clone());
        if let Some(code) = code.filter(|_| api_version >= (2, 1, 0)) {
            let payload = json!({"ref": "connecting_code", "text": code});
            self.send(conn, &frame.join_ref, &Value::Null, "device", "scripts/run", &payload);
        }
        self.tell_mode_on_join(now_ms, conn, &frame.join_ref);
        true
    }

    /// Handles a push on the joined device channel. None gets a reply.
    pub(super) fn device_message(&mut self, now_ms: u64, conn: ConnId, identifier: &str, frame: &Frame) {
        let event = frame.event.as_str().unwrap_or_default();
        let payload = &frame.payload;
        let identifier_owned = identifier.to_owned();
        match event {
            "status_update" => self.status_update(now_ms, conn, identifier, payload),
            "fwup_progress" | "update_progress" if payload.get("value").is_some() => {
                self.progress(now_ms, conn, identifier, payload);
            }
            "firmware_validated" => {
                if let Some(device) = self.device_of(conn) {
                    device.validated = Some(true);
                }
                self.log.push(HubEvent::Validated { identifier: identifier_owned });
                self.mark(now_ms, conn);
            }
            "rebooting" => self.log.push(HubEvent::Rebooting { identifier: identifier_owned }),
            "report_network_interface" => {
                let interface = payload.get("interface").and_then(Value::as_str).map(str::to_owned);
                self.log.push(HubEvent::NetworkInterface { identifier: identifier_owned, interface });
            }
            "scripts/run" => {
                let payload = payload.clone();
                self.log.push(HubEvent::ScriptAnswered { identifier: identifier_owned, payload });
            }
            "connection_types" => {
                let values = payload.get("values").cloned().unwrap_or_default();
                self.log.push(HubEvent::ConnectionTypes { identifier: identifier_owned, values });
            }
            _ => {
                if !self.managed_message(now_ms, conn, event, payload) {
                    self.ignored(identifier, "device", event);
                }
            }
        }
    }

    fn status_update(&mut self, now_ms: u64, conn: ConnId, identifier: &str, payload: &Value) {
        let Some(status) = payload.get("status").and_then(Value::as_str) else {
            return self.crash(conn, "device", "status_update without status");
        };
        // Clients older than 2.0 put fwup's message where the status belongs.
        let status = if status.to_lowercase().contains("fwup error") { "failed" } else { status };
        if !STATUSES.contains(&status) {
            return self.crash(conn, "device", &format!("unknown status {status}"));
        }
        let reason = payload.get("reason");
        let ends = matches!(status, "failed" | "ignored");
        if reason.is_some_and(|r| !r.is_string() && !r.is_null()) || (ends && reason.is_none()) {
            return self.crash(conn, "device", &format!("{status} whose reason is no text"));
        }
        let delay = payload.get("delay_for");
        let delay_for = delay.and_then(Value::as_i64);
        if status == "rescheduled" && delay.is_some() && delay_for.is_none() {
            return self.crash(conn, "device", "rescheduled whose delay_for is no integer");
        }
        let text = |name: &str| payload.get(name).and_then(Value::as_str).map(str::to_owned);
        self.log.push(HubEvent::Status {
            identifier: identifier.to_owned(),
            status: status.to_owned(),
            reason: text("reason"),
            delay_for,
            interface: text("downloader_network_interface"),
        });
        self.record_status(now_ms, conn, status, delay_for);
    }

    fn progress(&mut self, now_ms: u64, conn: ConnId, identifier: &str, payload: &Value) {
        let value = payload.get("value").unwrap_or(&Value::Null);
        let stage = payload.get("stage");
        if let Some(stage) = stage {
            if !stage.as_str().is_some_and(|name| STATUSES.contains(&name)) {
                return self.crash(conn, "device", &format!("unknown stage {stage}"));
            }
            if value.as_i64().is_none() {
                return self.crash(conn, "device", &format!("progress value {value} is no integer"));
            }
        }
        self.log.push(HubEvent::Progress {
            identifier: identifier.to_owned(),
            stage: stage.and_then(Value::as_str).map(str::to_owned),
            // Without a stage the old form: only whether it is 100 matters to the server.
            value: value.as_i64().unwrap_or_default(),
        });
        self.record_attempt(now_ms, conn);
    }
}

/// What a join says. `None` where the server's join crashes (recording `join_payloads`).
fn facts(payload: &Value) -> Option<JoinFacts> {
    let params = payload.as_object()?;
    let api_version = match params.get("device_api_version") {
        None | Some(Value::Null) => (1, 0, 0),
        Some(Value::String(text)) => version(text).unwrap_or((1, 0, 0)),
        Some(_) => return None,
    };
    let meta = match params.get("meta") {
        None | Some(Value::Null) => None,
        Some(Value::Object(meta)) => Some(meta),
        Some(_) => return None,
    };
    let flag = |name: &str| match meta.and_then(|m| m.get(name)) {
        None | Some(Value::Null) => Some(None),
        Some(Value::Bool(value)) => Some(Some(*value)),
        Some(_) => None,
    };
    let text = |name: &str| params.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let optional = |name: &str| Some(text(name)).filter(|value| !value.is_empty());
    Some(JoinFacts {
        api_version,
        meta: crate::meta::FirmwareMeta {
            version: text("nerves_fw_version"),
            description: optional("nerves_fw_description"),
            product: text("nerves_fw_product"),
            author: optional("nerves_fw_author"),
            uuid: text("nerves_fw_uuid"),
            misc: optional("nerves_fw_misc"),
            architecture: text("nerves_fw_architecture"),
            platform: text("nerves_fw_platform"),
            vcs_identifier: optional("nerves_fw_vcs_identifier"),
        },
        validated: flag("firmware_validated")?,
        auto_revert_detected: flag("firmware_auto_revert_detected")?.unwrap_or(false),
        currently_downloading: optional("currently_downloading_uuid"),
        fwup_version: optional("fwup_version"),
    })
}

/// Reads `MAJOR.MINOR.PATCH` with an optional pre-release and build; three parts are required.
pub(super) fn version(text: &str) -> Option<(u64, u64, u64)> {
    let core = text.split(['-', '+']).next()?;
    let mut parts = core.split('.').map(|part| part.parse::<u64>().ok());
    let version = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(version)
}
