//! The codec of Phoenix V2 JSON (`vsn=2.0.0`), and the binary frames that belong to it.

use alloc::format;
use alloc::string::String;

use super::envelope::{Message, format_error};
use crate::limits::MAX_MESSAGE_BYTES;

/// Says what is wrong with a message.
pub(crate) struct Malformed(pub(crate) String);

/// Writes a message. All strings but the payload are the program's own words, which need no
/// escaping; the payload is JSON already.
pub(super) fn encode(
    join_ref: Option<u64>,
    reference: u64,
    topic: &str,
    event: &str,
    payload: &str,
) -> String {
    match join_ref {
        Some(join_ref) => format!("[\"{join_ref}\",\"{reference}\",\"{topic}\",\"{event}\",{payload}]"),
        None => format!("[null,\"{reference}\",\"{topic}\",\"{event}\",{payload}]"),
    }
}

/// Reads a message. Its payload stays text.
pub(super) fn decode(text: &str) -> Result<Message<'_>, Malformed> {
    if text.len() > MAX_MESSAGE_BYTES {
        return Err(Malformed(format!(
            "a message of {} bytes is longer than the {MAX_MESSAGE_BYTES} allowed",
            text.len()
        )));
    }
    serde_json::from_str(text).map_err(|error| Malformed(format_error("a message", &error)))
}

/// Reads topic and event of a binary frame (spec §1.5). A reply's event is `phx_reply`.
pub(super) fn decode_binary(data: &[u8]) -> Result<(&str, &str), Malformed> {
    let bad = |what: &str| Malformed(format!("a binary message of {} bytes {what}", data.len()));
    let part = |from: usize, length: usize| {
        let bytes = data.get(from..from.saturating_add(length)).ok_or_else(|| bad("ends too early"))?;
        core::str::from_utf8(bytes).map_err(|_| bad("holds a name that is not UTF-8"))
    };
    let length = |at: usize| data.get(at).map(|byte| usize::from(*byte)).ok_or_else(|| bad("ends too early"));
    match data.first() {
        // A push from the server has no ref: join_ref, topic, event.
        Some(0) => {
            let topic = 4 + length(1)?;
            let (topic_length, event_length) = (length(2)?, length(3)?);
            Ok((part(topic, topic_length)?, part(topic + topic_length, event_length)?))
        }
        // A reply: join_ref, ref, topic, status.
        Some(1) => {
            let topic = 5 + length(1)? + length(2)?;
            let topic_length = length(3)?;
            part(topic + topic_length, length(4)?)?;
            Ok((part(topic, topic_length)?, "phx_reply"))
        }
        // A broadcast: topic, event.
        Some(2) => {
            let (topic_length, event_length) = (length(1)?, length(2)?);
            Ok((part(3, topic_length)?, part(3 + topic_length, event_length)?))
        }
        Some(_) => Err(bad("is of a kind Phoenix doesn't have")),
        None => Err(bad("is empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> alloc::vec::Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn reads_the_binary_examples_of_the_specification() {
        let read = |text| {
            let data = hex(text);
            let (topic, event) = decode_binary(&data).map_err(|bad| bad.0).unwrap();
            format!("{topic} {event}")
        };
        assert_eq!(read("0001060431646576696365626c6f620102"), "device blob");
        assert_eq!(read("010101060231346465766963656f6b0102"), "device phx_reply");
        assert_eq!(read("020604646576696365626c6f620102"), "device blob");
    }

    #[test]
    fn every_cut_of_a_binary_frame_is_refused_or_read() {
        for whole in
            ["0001060431646576696365626c6f62", "010101060231346465766963656f6b", "020604646576696365626c6f62"]
        {
            let data = hex(whole);
            for end in 0..data.len() {
                assert!(decode_binary(&data[..end]).is_err(), "{whole} cut at {end}");
            }
            assert!(decode_binary(&data).is_ok());
        }
        assert!(decode_binary(&[3, 0, 0]).is_err());
        assert!(decode_binary(&[2, 1, 1, 0xff, b'x']).is_err());
    }
}
