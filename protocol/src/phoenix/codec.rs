//! The seam between messages and their encodings: nothing above it knows which one is in use.

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

use super::envelope::Message;
use super::{binary, json, msgpack};
use crate::config::Serializer;
use crate::fault::Fault;
use crate::limits::MAX_MESSAGE_BYTES;

/// Says what is wrong with a message.
#[derive(Debug)]
pub(crate) struct Malformed(pub(crate) String);

/// A WebSocket message to send.
pub(crate) enum Frame {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// A WebSocket message that arrived.
#[derive(Clone, Copy)]
pub(crate) enum Received<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// A message to the server. All strings but the payload's are the program's own words.
pub(super) struct Outgoing<'a> {
    pub(super) join_ref: Option<u64>,
    pub(super) reference: u64,
    pub(super) topic: &'a str,
    pub(super) event: &'a str,
    pub(super) payload: &'a Value,
}

/// Writes a message.
pub(super) fn encode(serializer: Serializer, message: &Outgoing<'_>) -> Result<Frame, Fault> {
    Ok(match serializer {
        Serializer::Json => Frame::Text(json::encode(message)?),
        Serializer::MsgPack => Frame::Binary(msgpack::encode(message)?),
    })
}

/// Reads a message. Its payload stays as it is.
pub(super) fn decode(serializer: Serializer, received: Received<'_>) -> Result<Message<'_>, Malformed> {
    let length = match received {
        Received::Text(text) => text.len(),
        Received::Binary(data) => data.len(),
    };
    if length > MAX_MESSAGE_BYTES {
        return Err(Malformed(alloc::format!(
            "a message of {length} bytes is longer than the {MAX_MESSAGE_BYTES} allowed"
        )));
    }
    match (serializer, received) {
        (Serializer::Json, Received::Text(text)) => json::decode(text),
        (Serializer::Json, Received::Binary(data)) => binary::decode(data),
        (Serializer::MsgPack, Received::Binary(data)) => msgpack::decode(data),
        (Serializer::MsgPack, Received::Text(_)) => Err(Malformed(alloc::format!(
            "a text message of {length} bytes on a connection that speaks MessagePack"
        ))),
    }
}
