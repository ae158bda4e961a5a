//! The envelope of a Phoenix V2 message: five values, whatever the encoding.

use alloc::borrow::Cow;
use core::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

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

/// A message number. Servers echo ours; anything else can't match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    None,
    Number(u64),
    Other,
}

impl Reference {
    pub(super) fn from_text(text: &str) -> Self {
        // Only the form we write ourselves: no sign, no leading zero.
        let ours = text == "0" || text.starts_with(|first| matches!(first, '1'..='9'));
        text.parse().ok().filter(|_| ours).map_or(Self::Other, Self::Number)
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
