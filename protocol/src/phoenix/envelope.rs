//! The envelope of a Phoenix V2 message: five values, whatever the encoding.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use core::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

use super::payload::Payload;

/// A message from the server.
pub(super) struct Message<'a> {
    pub(super) join_ref: Reference,
    pub(super) reference: Reference,
    pub(super) topic: Cow<'a, str>,
    pub(super) event: Cow<'a, str>,
    pub(super) payload: Payload<'a>,
}

impl Message<'_> {
    /// Returns our number of the message this one answers. `None` for none or one we never gave.
    pub(super) fn reference(&self) -> Option<u64> {
        match self.reference {
            Reference::Number(number) => Some(number),
            Reference::None | Reference::Other => None,
        }
    }

    /// Returns the join this message belongs to: `None` for any, 0 for one we never made.
    pub(super) fn join_ref(&self) -> Option<u64> {
        match self.join_ref {
            Reference::None => None,
            Reference::Number(number) => Some(number),
            Reference::Other => Some(0),
        }
    }
}

/// Says what is wrong with a part of a message.
pub(super) fn format_error(what: &str, error: &serde_json::Error) -> String {
    alloc::format!("{what} is not as Phoenix sends it: {error}")
}

/// A message number. Servers echo ours; anything else can't match.
#[derive(Clone, Copy)]
pub(super) enum Reference {
    None,
    Number(u64),
    Other,
}

impl Reference {
    pub(super) fn from_text(text: &str) -> Self {
        // Only the form we write ourselves: no sign, no leading zero.
        let number = text.parse().ok().filter(|number: &u64| number.to_string() == text);
        number.map_or(Self::Other, Self::Number)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wanted;
        impl Visitor<'_> for Wanted {
            type Value = Reference;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message number as text, or null")
            }

            fn visit_unit<E: Error>(self) -> Result<Reference, E> {
                Ok(Reference::None)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Reference, E> {
                Ok(Reference::from_text(text))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Reference, E> {
                Ok(Reference::Number(number))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Reference, E> {
                Ok(Reference::Other)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Reference, E> {
                Ok(Reference::Other)
            }
        }
        deserializer.deserialize_any(Wanted)
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Message<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Five;
        impl<'de> Visitor<'de> for Five {
            type Value = Message<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of join_ref, ref, topic, event and payload")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Message<'de>, A::Error> {
                let missing = |at| move || A::Error::invalid_length(at, &Five);
                let join_ref = seq.next_element()?.ok_or_else(missing(0))?;
                let reference = seq.next_element()?.ok_or_else(missing(1))?;
                let topic: Text<'de> = seq.next_element()?.ok_or_else(missing(2))?;
                let event: Text<'de> = seq.next_element()?.ok_or_else(missing(3))?;
                let payload = Payload::Json(seq.next_element()?.ok_or_else(missing(4))?);
                // More elements are ignored, as both sides do (spec §1.5).
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Message { join_ref, reference, topic: topic.0, event: event.0, payload })
            }
        }
        deserializer.deserialize_seq(Five)
    }
}
