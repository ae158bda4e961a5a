//! The codec of Phoenix V2 JSON text (`vsn=2.0.0`).

#[cfg(test)]
mod tests;

use crate::fault::Fault;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

use serde::de::{Error as _, IgnoredAny};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Error;

use super::codec::{Malformed, Outgoing};
use super::envelope::Message;
use super::payload::Payload;

/// What JSON has for white space (RFC 8259 §2).
const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

/// Writes a message.
pub(super) fn encode(message: &Outgoing<'_>) -> Result<String, Fault> {
    serde_json::to_string(message).map_err(|_| Fault::new("a message of this device is not valid JSON"))
}

/// Reads the head of a message. Its payload stays text, read once somebody knows as what.
pub(super) fn decode(text: &str) -> Result<Message<'_>, Malformed> {
    head(text).map_err(|error| Malformed(format!("a message is not as Phoenix sends it: {error}")))
}

/// Reads a payload that stands at the end of a message, together with what ends the message.
pub(super) fn last<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    let (value, rest) = next(text)?;
    match rest.trim_matches(BLANK) {
        "]" => Ok(value),
        // More elements are ignored, as both sides do (device-protocol §1.5).
        more if more.starts_with(',') => {
            serde_json::from_str::<IgnoredAny>(&format!("[0{more}")).map(|_| value)
        }
        _ => Err(Error::custom("the list of its parts does not end")),
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn head(text: &str) -> Result<Message<'_>, Error> {
    let rest = text.trim_start_matches(BLANK).strip_prefix('[');
    let rest = rest.ok_or_else(|| Error::custom("no list of join_ref, ref, topic, event and payload"))?;
    let (join_ref, rest) = part(rest)?;
    let (reference, rest) = part(rest)?;
    let (topic, rest) = part::<Text<'_>>(rest)?;
    let (event, rest) = part::<Text<'_>>(rest)?;
    Ok(Message { join_ref, reference, topic: topic.0, event: event.0, payload: Payload::Last(rest) })
}

/// Reads a part that others follow.
fn part<'a, T: Deserialize<'a>>(text: &'a str) -> Result<(T, &'a str), Error> {
    let (part, rest) = next(text)?;
    let rest = rest.trim_start_matches(BLANK).strip_prefix(',');
    Ok((part, rest.ok_or_else(|| Error::custom("fewer than five parts"))?))
}

/// Reads a value. Returns it and what follows.
fn next<'a, T: Deserialize<'a>>(text: &'a str) -> Result<(T, &'a str), Error> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    let value = values.next().ok_or_else(|| Error::custom("fewer than five parts"))??;
    let rest = text.get(values.byte_offset()..);
    let fault = || Error::custom(String::from(Fault::new("a JSON value ended inside a character")));
    Ok((value, rest.ok_or_else(fault)?))
}

impl Serialize for Outgoing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_tuple(5)?;
        parts.serialize_element(&self.join_ref.map(Number))?;
        parts.serialize_element(&Number(self.reference))?;
        parts.serialize_element(self.topic)?;
        parts.serialize_element(self.event)?;
        parts.serialize_element(self.payload)?;
        parts.end()
    }
}

/// A message number, which both sides write as text.
struct Number(u64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
