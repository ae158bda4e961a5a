//! The extensions channel (device-protocol §5.1).

use serde_json::{Value, json};

use super::device::version;
use super::event::{ConnId, HubEvent};
use super::frame::Frame;
use super::machine::Hub;

impl Hub {
    /// Handles a join: false when it crashes over the payload.
    pub(super) fn extensions_join(&mut self, conn: ConnId, identifier: &str, frame: &Frame) -> bool {
        let Some(offered) = frame.payload.as_object() else { return false };
        if offered.values().any(|value| !value.is_string()) {
            return false;
        }
        let attached: Vec<String> = offered
            .iter()
            .filter(|(name, _)| self.config.extensions.contains(name))
            // `~> 0.0.1`
            .filter(|(_, value)| matches!(value.as_str().and_then(version), Some((0, 0, 1..))))
            .map(|(name, _)| name.clone())
            .collect();
        if let Some(connection) = self.conns.get_mut(&conn) {
            connection.attachable = attached.iter().cloned().collect();
            connection.attached.clear();
        }
        self.reply(conn, frame, "ok", &json!(attached));
        self.log.push(HubEvent::ExtensionsJoined { identifier: identifier.to_owned(), attached });
        true
    }

    /// Handles a push: extensions that were not agreed on are told to detach.
    pub(super) fn extensions_message(&mut self, conn: ConnId, identifier: &str, frame: &Frame) {
        let event = frame.event.as_str().unwrap_or_default();
        let (name, what) = event.split_once(':').unwrap_or((event, ""));
        let Some(connection) = self.conns.get_mut(&conn) else { return };
        if !connection.attachable.contains(name) {
            return self.reply(conn, frame, "error", &json!("detach"));
        }
        match what {
            "attached" => {
                connection.attached.insert(name.to_owned());
                let join_ref = connection.topics.get("extensions").cloned().unwrap_or_default();
                let request = match name {
                    "geo" => Some("geo:location:request"),
                    "health" => Some("health:check"),
                    "local_shell" => Some("local_shell:request_shell"),
                    "network_identity" => Some("network_identity:request"),
                    _ => None,
                };
                if let Some(request) = request {
                    self.send(conn, &join_ref, &Value::Null, "extensions", request, &json!({}));
                }
            }
            "detached" | "error" => {
                connection.attached.remove(name);
            }
            _ if !connection.attached.contains(name) => return,
            _ => {}
        }
        self.log.push(HubEvent::Extension {
            identifier: identifier.to_owned(),
            event: event.to_owned(),
            payload: frame.payload.clone(),
        });
    }
}
