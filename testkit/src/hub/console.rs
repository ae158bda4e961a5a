//! The console channel (device-protocol §4).

use serde_json::Value;

use super::event::{ConnId, HubEvent};
use super::frame::Frame;
use super::machine::Hub;

impl Hub {
    /// Handles a push: output and files are taken, everything else crashes the channel.
    pub(super) fn console_message(&mut self, conn: ConnId, identifier: &str, frame: &Frame) {
        let event = frame.event.as_str().unwrap_or_default();
        let fine = match event {
            "up" => frame.payload.get("data").is_some_and(is_text),
            "file-data/start" | "file-data" | "file-data/stop" => true,
            _ => false,
        };
        if fine {
            let (identifier, event) = (identifier.to_owned(), event.to_owned());
            self.log.push(HubEvent::Console { identifier, event, payload: frame.payload.clone() });
        } else {
            self.crash(conn, "console", &format!("console event {event}"));
        }
    }
}

/// Text, or the bytes that MessagePack has in its place.
fn is_text(value: &Value) -> bool {
    value.is_string() || value.get("$bytes_base64").is_some()
}
