//! The codec of MessagePack (`vsn=3.0.0`, device-protocol §1.6): one value per binary frame.
//!
//! Announced lengths never decide an allocation: texts are borrowed from the message, lists grow as their
//! values are read, and depth and number of values are bounded.

mod de;
mod read;
#[cfg(test)]
mod tests;
mod write;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use super::codec::{Malformed, Outgoing};
use super::envelope::{Message, Reference};
use super::payload::{Payload, Reply};
use crate::fault::Fault;
use read::{Head, Reader};

/// Values of a message: `join_ref`, `ref`, topic, event and payload.
const PARTS: u32 = 5;

/// Writes a message.
pub(super) fn encode(message: &Outgoing<'_>) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(128);
    write::array(&mut out, PARTS);
    match message.join_ref {
        Some(join_ref) => write::text(&mut out, &format!("{join_ref}")),
        None => write::nil(&mut out),
    }
    write::text(&mut out, &format!("{}", message.reference));
    write::text(&mut out, message.topic);
    write::text(&mut out, message.event);
    write::value(&mut out, message.payload)?;
    Ok(out)
}

/// Reads a message. Its payload stays as it is.
pub(super) fn decode(data: &[u8]) -> Result<Message<'_>, Malformed> {
    message(data)
        .map_err(|why| Malformed(format!("a message of {} bytes is not readable: {why}", data.len())))
}

/// Reads one value with nothing behind it.
pub(super) fn read<'de, T: Deserialize<'de>>(data: &'de [u8]) -> Result<T, de::Error> {
    let mut deserializer = de::Deserializer::new(data);
    let value = T::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Passes over one value, or says what is wrong with it.
pub(super) fn ignore(data: &[u8]) -> Result<(), String> {
    let mut reader = Reader::new(data);
    reader.skip()?;
    reader.end()
}

/// Reads the payload of a `phx_reply`.
pub(super) fn reply(data: &[u8]) -> Result<Reply<'_>, Malformed> {
    fields(data).map_err(|why| Malformed(format!("a reply is not as Phoenix sends it: {why}")))
}

fn message(data: &[u8]) -> Result<Message<'_>, String> {
    let mut reader = Reader::new(data);
    match reader.head()? {
        Head::Array(PARTS) => {}
        Head::Array(count) => return Err(format!("it has {count} values instead of {PARTS}")),
        other => return Err(format!("{} instead of a list", other.name())),
    }
    let join_ref = reference(&mut reader)?;
    let reference = reference(&mut reader)?;
    let topic = Cow::Borrowed(reader.text("topic")?);
    let event = Cow::Borrowed(reader.text("event")?);
    // Looked at once somebody knows as what.
    let payload = Payload::MsgPack(reader.rest());
    Ok(Message { join_ref, reference, topic, event, payload })
}

fn reference(reader: &mut Reader<'_>) -> Result<Reference, String> {
    match reader.head()? {
        Head::Nil => Ok(Reference::None),
        Head::Unsigned(number) => Ok(Reference::Number(number)),
        Head::Signed(_) | Head::Float(_) => Ok(Reference::Other),
        Head::Text(text) => Ok(core::str::from_utf8(text).map_or(Reference::Other, Reference::from_text)),
        other => Err(format!("{} as a message number", other.name())),
    }
}

fn fields(data: &[u8]) -> Result<Reply<'_>, String> {
    let mut reader = Reader::new(data);
    let Head::Map(count) = reader.head()? else { return Err(String::from("not a map")) };
    let (mut status, mut response) = (None, None);
    for _ in 0..count {
        match reader.text("key")? {
            "status" => status = Some(Cow::Borrowed(reader.text("status")?)),
            "response" => response = Some(Payload::MsgPack(reader.skip()?)),
            _ => {
                reader.skip()?;
            }
        }
    }
    reader.end()?;
    let status = status.ok_or_else(|| String::from("without status"))?;
    Ok(Reply { status, response })
}
