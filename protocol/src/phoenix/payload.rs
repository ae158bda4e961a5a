//! Payloads, unparsed until somebody wants them.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::codec::Malformed;
use super::{json, msgpack};
use crate::limits::{MAX_PAYLOAD_BYTES, MAX_TEXT_CHARS};
use crate::text::cut;

/// Longest answer of a failure looked into; longer ones are shown by their beginning.
const LOOK: usize = 4096;

/// The payload of a message, as the server wrote it.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    /// JSON text that ends a message, the end of the message included. Nobody has looked at it yet.
    Last(&'a str),
    /// JSON text.
    Json(&'a RawValue),
    /// One MessagePack value. Nobody has looked at it yet.
    MsgPack(&'a [u8]),
    /// The data of a V2 binary frame, which no event of NervesHub uses.
    Data(&'a [u8]),
    /// The status and the data of a V2 binary reply.
    DataReply {
        /// The status.
        status: &'a str,
        /// The response.
        data: &'a [u8],
    },
}

/// The payload of a `phx_reply`.
pub(super) struct Reply<'a> {
    pub(super) status: Cow<'a, str>,
    pub(super) response: Option<Payload<'a>>,
}

impl<'a> Payload<'a> {
    /// Reads it, or says why that can't be. Bounded by [`MAX_PAYLOAD_BYTES`].
    pub(crate) fn read<T: Deserialize<'a>>(self) -> Result<T, String> {
        let length = self.length();
        if length > MAX_PAYLOAD_BYTES {
            return Err(format!(
                "a payload of {length} bytes is longer than the {MAX_PAYLOAD_BYTES} allowed"
            ));
        }
        match self {
            Self::Last(text) => json::last(text).map_err(|error| format!("{error}")),
            Self::Json(json) => serde_json::from_str(json.get()).map_err(|error| format!("{error}")),
            Self::MsgPack(data) => msgpack::read(data).map_err(|error| format!("{error}")),
            Self::Data(_) | Self::DataReply { .. } => Err(format!("{length} bytes of data")),
        }
        .map_err(|error| format!("a payload that can't be read: {error}"))
    }

    /// Reads it as a tree, as [`Payload::read`] does.
    pub(crate) fn value(self) -> Result<Value, String> {
        self.read()
    }

    /// Passes it over, whatever it is, or says what is wrong with it.
    pub(crate) fn ignore(self) -> Result<(), String> {
        match self {
            Self::Last(text) => {
                json::last::<IgnoredAny>(text).map(|_| ()).map_err(|error| format!("{error}"))
            }
            Self::MsgPack(data) => msgpack::ignore(data),
            // The others were looked at when their message was.
            Self::Json(_) | Self::Data(_) | Self::DataReply { .. } => Ok(()),
        }
        .map_err(|error| format!("a payload that can't be read: {error}"))
    }

    pub(super) fn reply(self) -> Result<Reply<'a>, Malformed> {
        #[derive(Deserialize)]
        struct Json<'a> {
            #[serde(borrow)]
            status: Cow<'a, str>,
            #[serde(borrow, default)]
            response: Option<&'a RawValue>,
        }

        match self {
            Self::Last(text) => {
                let reply: Json<'a> = json::last(text)
                    .map_err(|error| Malformed(format!("a reply is not as Phoenix sends it: {error}")))?;
                Ok(Reply { status: reply.status, response: reply.response.map(Payload::Json) })
            }
            Self::Json(_) => Err(Malformed(String::from("a reply inside a reply"))),
            Self::MsgPack(data) => msgpack::reply(data),
            Self::DataReply { status, data } => {
                Ok(Reply { status: Cow::Borrowed(status), response: Some(Payload::Data(data)) })
            }
            Self::Data(data) => Err(Malformed(format!("a reply of {} bytes without status", data.len()))),
        }
    }

    /// Returns the words of a failure: the text under `reason` or `error`, or all of it as JSON.
    pub(super) fn explain(self) -> String {
        let value = if self.length() <= LOOK { self.value().ok() } else { None };
        let words = value.as_ref().and_then(|value| {
            ["reason", "error"].iter().find_map(|key| value.get(key)?.as_str()).or_else(|| value.as_str())
        });
        match (words, self, value.as_ref()) {
            (Some(words), ..) => cut(words, MAX_TEXT_CHARS),
            (None, Self::Json(json), _) => cut(json.get(), MAX_TEXT_CHARS),
            (None, _, Some(value)) => cut(&format!("{value}"), MAX_TEXT_CHARS),
            (None, ..) => format!("{} bytes", self.length()),
        }
    }

    fn length(self) -> usize {
        match self {
            // Without the bracket that ends the message.
            Self::Last(text) => text.len().saturating_sub(1),
            Self::Json(json) => json.get().len(),
            Self::MsgPack(data) | Self::Data(data) | Self::DataReply { data, .. } => data.len(),
        }
    }
}
