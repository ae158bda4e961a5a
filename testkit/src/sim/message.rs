//! Messages on their way, and the front of one, read independently of the machine.

use serde_json::Value;

use crate::msgpack;

/// A WebSocket message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// JSON, or what no server should send.
    Text(String),
    /// MessagePack, or what no server should send.
    Binary(Vec<u8>),
}

impl Frame {
    /// Reads the front of it.
    pub fn message(&self) -> Option<Message<'_>> {
        match self {
            Self::Text(text) => Message::read(text),
            Self::Binary(data) => Message::read_binary(data),
        }
    }

    /// Whether it may arrive twice. The mode of updates may not: an old word behind a newer one would be believed, and no
    /// connection changes the order of two.
    pub fn may_double(&self) -> bool {
        self.message().is_none_or(|message| message.event != "update_mode")
    }

    /// What it is made of.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(data) => data,
        }
    }

    /// The same for a person.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Binary(data) => {
                msgpack::decode(data).map_or_else(|| format!("{data:02x?}"), |value| value.to_string())
            }
        }
    }
}

/// `[join reference, reference, topic, event, payload]` of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub join_ref: Option<u64>,
    pub reference: Option<u64>,
    pub topic: &'a str,
    pub event: &'a str,
    rest: Rest<'a>,
}

/// What stands behind the event.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rest<'a> {
    /// The payload and the closing bracket.
    Json(&'a str),
    /// The payload.
    MsgPack(&'a [u8]),
}

impl<'a> Message<'a> {
    /// Reads a message whose references are numbers or null, and whose names need no escapes, as all do that mean
    /// something.
    pub fn read(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix('[')?;
        let (join_ref, rest) = field(rest)?;
        let (reference, rest) = field(rest)?;
        let (topic, rest) = field(rest)?;
        let (event, rest) = field(rest)?;
        Self::of([join_ref, reference, topic, event], Rest::Json(rest))
    }

    /// The same in MessagePack: an array of five, with texts of less than 256 bytes in front.
    pub fn read_binary(data: &'a [u8]) -> Option<Self> {
        let rest = data.strip_prefix(&[0x95])?;
        let (join_ref, rest) = binary_field(rest)?;
        let (reference, rest) = binary_field(rest)?;
        let (topic, rest) = binary_field(rest)?;
        let (event, rest) = binary_field(rest)?;
        Self::of([join_ref, reference, topic, event], Rest::MsgPack(rest))
    }

    fn of([join_ref, reference, topic, event]: [Option<&'a str>; 4], rest: Rest<'a>) -> Option<Self> {
        let number = |text: Option<&str>| text.map_or(Some(None), |text| text.parse().ok().map(Some));
        Some(Self {
            join_ref: number(join_ref)?,
            reference: number(reference)?,
            topic: topic?,
            event: event?,
            rest,
        })
    }

    /// The payload.
    pub fn payload(&self) -> Option<Value> {
        match self.rest {
            Rest::Json(text) => serde_json::from_str(text.strip_suffix(']')?).ok(),
            Rest::MsgPack(data) => msgpack::decode(data),
        }
    }

    /// Whether it is the answer to a heartbeat.
    pub fn answers_heartbeat(&self) -> bool {
        self.topic == "phoenix" && self.event == "phx_reply"
    }

    /// Whether it tells the server that an update failed: its payload has to say so.
    pub fn tells_failure(&self) -> bool {
        let failed = |payload: Value| payload.get("status").is_some_and(|status| status == "failed");
        self.event == "status_update" && self.payload().is_some_and(failed)
    }
}

/// Reads a quoted text or null, and the comma behind it.
fn field(text: &str) -> Option<(Option<&str>, &str)> {
    if let Some(rest) = text.strip_prefix("null,") {
        return Some((None, rest));
    }
    let (word, rest) = text.strip_prefix('"')?.split_once('"')?;
    if word.contains('\\') {
        return None;
    }
    Some((Some(word), rest.strip_prefix(',')?))
}

/// Reads a text or nil.
fn binary_field(data: &[u8]) -> Option<(Option<&str>, &[u8])> {
    let (mark, rest) = data.split_first()?;
    let (length, rest) = match mark {
        0xc0 => return Some((None, rest)),
        0xa0..0xc0 => (mark & 31, rest),
        0xd9 => rest.split_first().map(|(length, rest)| (*length, rest))?,
        _ => return None,
    };
    let (word, rest) = rest.split_at_checked(usize::from(length))?;
    Some((Some(core::str::from_utf8(word).ok()?), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_both_sides_write() {
        let text = r#"["1","2","device","phx_reply",{"status":"ok","response":{}}]"#;
        let data = msgpack::encode(&serde_json::from_str(text).unwrap());
        for frame in [Frame::Text(text.to_owned()), Frame::Binary(data)] {
            let message = frame.message().unwrap();
            assert_eq!((message.join_ref, message.reference), (Some(1), Some(2)));
            assert_eq!((message.topic, message.event), ("device", "phx_reply"));
            assert_eq!(message.payload().unwrap()["status"], "ok");
            assert!(!message.answers_heartbeat() && !message.tells_failure());
        }
        assert_eq!(Message::read(r#"[null,null,"device","update",{}]"#).unwrap().join_ref, None);
        for text in [
            "",
            "[]",
            "{}",
            r#"["1","2","de\"v","x",{}]"#,
            r#"["x","2","d","x",{}]"#,
            r#"[1,"2","d","x",{}]"#,
        ] {
            assert_eq!(Message::read(text), None, "{text}");
        }
        for data in [&[][..], &[0x95], &[0x94, 0xc0, 0xc0, 0xc0, 0xc0], &[0x95, 0xc0, 0xc0, 0xa2, b'a']] {
            assert_eq!(Message::read_binary(data), None, "{data:?}");
        }
    }

    #[test]
    fn failures_are_told_by_their_status_alone() {
        let tells = |text: &str| Message::read(text).unwrap().tells_failure();
        assert!(tells(r#"["1","2","device","status_update",{"reason":"x","status":"failed"}]"#));
        assert!(!tells(r#"["1","2","device","status_update",{"reason":"\"failed\"","status":"ignored"}]"#));
    }
}
