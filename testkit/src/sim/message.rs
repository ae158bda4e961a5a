//! The front of a message, read independently of the machine.

use serde_json::Value;

/// `[join reference, reference, topic, event, payload]` of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub join_ref: Option<u64>,
    pub reference: Option<u64>,
    pub topic: &'a str,
    pub event: &'a str,
    /// The payload and the closing bracket.
    pub rest: &'a str,
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
        serde_json::from_str(self.rest.strip_suffix(']')?).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_both_sides_write() {
        let message =
            Message::read(r#"["1","2","device","phx_reply",{"status":"ok","response":{}}]"#).unwrap();
        assert_eq!((message.join_ref, message.reference), (Some(1), Some(2)));
        assert_eq!((message.topic, message.event), ("device", "phx_reply"));
        assert_eq!(message.payload().unwrap()["status"], "ok");
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
    }
}
