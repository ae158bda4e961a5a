//! The codec of Phoenix V2 JSON text (`vsn=2.0.0`).

use alloc::format;
use alloc::string::String;

use super::codec::{Malformed, Outgoing};
use super::envelope::{Message, format_error};

/// Writes a message. Names need no escaping, as they are the program's own words.
pub(super) fn encode(message: &Outgoing<'_>) -> String {
    let Outgoing { join_ref, reference, topic, event, payload } = message;
    match join_ref {
        Some(join_ref) => format!("[\"{join_ref}\",\"{reference}\",\"{topic}\",\"{event}\",{payload}]"),
        None => format!("[null,\"{reference}\",\"{topic}\",\"{event}\",{payload}]"),
    }
}

/// Reads a message. Its payload stays text.
pub(super) fn decode(text: &str) -> Result<Message<'_>, Malformed> {
    serde_json::from_str(text).map_err(|error| Malformed(format_error("a message", &error)))
}
