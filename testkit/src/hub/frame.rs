//! Phoenix V2 JSON envelopes, as the server reads and writes them (device-protocol §1.5).

use serde_json::Value;

/// One message. References and topic stay JSON values because the server echoes what it was given.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame {
    pub join_ref: Value,
    pub reference: Value,
    pub topic: Value,
    pub event: Value,
    pub payload: Value,
}

impl Frame {
    /// Reads a text frame. Elements past the fifth are ignored; anything else that is no array of
    /// five crashes the server's socket, which `None` stands for.
    pub fn parse(text: &str) -> Option<Self> {
        let Value::Array(items) = serde_json::from_str(text).ok()? else { return None };
        let mut items = items.into_iter();
        Some(Self {
            join_ref: items.next()?,
            reference: items.next()?,
            topic: items.next()?,
            event: items.next()?,
            payload: items.next()?,
        })
    }

    /// Reads a binary frame in the layout of a client push; the payload is raw bytes and becomes null.
    pub fn parse_binary(bytes: &[u8]) -> Option<Self> {
        let (&[kind, join_len, ref_len, topic_len, event_len], rest) = bytes.split_first_chunk::<5>()?;
        if kind != 0 {
            return None;
        }
        let mut rest = rest;
        let mut field = |length: u8| {
            let (head, tail) = rest.split_at_checked(usize::from(length))?;
            rest = tail;
            core::str::from_utf8(head).ok().map(Value::from)
        };
        Some(Self {
            join_ref: field(join_len)?,
            reference: field(ref_len)?,
            topic: field(topic_len)?,
            event: field(event_len)?,
            payload: Value::Null,
        })
    }
}

/// Writes a message as the server does.
pub(super) fn encode(
    join_ref: &Value,
    reference: &Value,
    topic: &Value,
    event: &str,
    payload: &impl serde::Serialize,
) -> String {
    // Serialising these to a string cannot fail: no maps with other than string keys.
    serde_json::to_string(&(join_ref, reference, topic, event, payload)).unwrap_or_default()
}
