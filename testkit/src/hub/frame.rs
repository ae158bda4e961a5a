//! Envelopes as the server reads and writes them: Phoenix V2 JSON and MessagePack (device-protocol §1.5, §1.6).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::msgpack;

/// What a connection speaks, by the `vsn` it was opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Serializer {
    /// `vsn=2.0.0`.
    #[default]
    Json,
    /// `vsn=3.0.0`.
    MsgPack,
}

/// A message on its way out.
pub(super) enum Encoded {
    Text(String),
    Binary(Vec<u8>),
}

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

    /// Reads a MessagePack frame: an array of exactly five, or the socket crashes.
    pub fn parse_msgpack(bytes: &[u8]) -> Option<Self> {
        let Value::Array(items) = msgpack::decode(bytes)? else { return None };
        let [join_ref, reference, topic, event, payload] = <[Value; 5]>::try_from(items).ok()?;
        Some(Self {
            join_ref: plain(join_ref),
            reference: plain(reference),
            topic: plain(topic),
            event: plain(event),
            payload,
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

impl Serializer {
    /// Writes a message.
    pub(super) fn encode(
        self,
        join_ref: &Value,
        reference: &Value,
        topic: &Value,
        event: &str,
        payload: &impl serde::Serialize,
    ) -> Encoded {
        match self {
            Self::Json => Encoded::Text(encode(join_ref, reference, topic, event, payload)),
            Self::MsgPack => {
                let payload = serde_json::to_value(payload);
                debug_assert!(payload.is_ok(), "a payload of the hub is no JSON value: {payload:?}");
                let payload = payload.unwrap_or_default();
                let parts = [join_ref, reference, topic, &Value::from(event), &payload];
                Encoded::Binary(msgpack::encode_array(&parts))
            }
        }
    }
}

/// A text of an envelope: MessagePack may have it as bytes, and references as numbers.
fn plain(value: Value) -> Value {
    match &value {
        Value::Number(number) => Value::from(number.to_string()),
        Value::Object(_) => {
            let bytes = value.get("$bytes_base64").and_then(Value::as_str).map(|text| STANDARD.decode(text));
            match bytes.and_then(Result::ok).and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(text) => Value::from(text),
                None => value,
            }
        }
        _ => value,
    }
}

/// Writes a message as the server does.
fn encode(
    join_ref: &Value,
    reference: &Value,
    topic: &Value,
    event: &str,
    payload: &impl serde::Serialize,
) -> String {
    // Serialising these to a string cannot fail: no maps with other than string keys.
    let text = serde_json::to_string(&(join_ref, reference, topic, event, payload));
    debug_assert!(text.is_ok(), "a message of the hub is not valid JSON: {text:?}");
    text.unwrap_or_default()
}
