//! Reading a recording: one JSON object a line.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

/// Which end said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The device, or the script that stood in for one.
    Device,
    /// The server.
    Server,
}

/// A recording, line by line.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// What happened, in order.
    pub lines: Vec<Line>,
    /// What could not be read, in words. Such lines are passed over.
    pub warnings: Vec<String>,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct Line {
    /// Where in the file, from 1.
    pub number: usize,
    /// Microseconds since the recording began.
    pub at: u64,
    /// The same moment in microseconds of Unix time, if the recording says.
    pub unix_micros: Option<i64>,
    /// The TCP connection, if it was on one.
    pub conn: Option<u64>,
    /// What it was.
    pub kind: Kind,
}

/// What a line is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Words of whoever recorded.
    Note(String),
    /// A connection was opened; which way it took.
    Open(String),
    /// One side ended the connection first.
    Eof(Side),
    /// The connection is gone.
    Closed,
    /// The server was not there, or the connection broke.
    Failed(String),
    /// The head of a request.
    Request(Request),
    /// The head of a response.
    Response {
        /// The HTTP status.
        status: u16,
        /// Its headers.
        headers: Vec<(String, String)>,
    },
    /// A whole body.
    Body {
        /// How long it was.
        bytes: u64,
        /// The bytes, where the recording has them.
        data: Option<Vec<u8>>,
    },
    /// A WebSocket message.
    Message(Side, Box<Message>),
    /// A WebSocket close frame.
    Close(Side, Option<u16>),
    /// A WebSocket ping or pong.
    Control,
    /// One attempt at TLS: its error, if it failed, and the status of what was answered.
    Tls {
        /// Why it failed.
        error: Option<String>,
        /// The status of the HTTP answer, if there was one.
        status: Option<u16>,
    },
}

/// The head of an HTTP request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path and query.
    pub target: String,
    /// Headers as sent.
    pub headers: Vec<(String, String)>,
}

/// A whole WebSocket message.
#[derive(Debug, Clone)]
pub struct Message {
    /// As it was on the wire.
    pub raw: Raw,
    /// What it says, if it is a Phoenix message of five elements.
    pub envelope: Option<Envelope>,
}

/// The bytes of a message.
#[derive(Debug, Clone)]
pub enum Raw {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

/// A Phoenix message.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The join it belongs to.
    pub join_ref: Option<String>,
    /// Its own number.
    pub reference: Option<String>,
    /// The topic.
    pub topic: String,
    /// The event.
    pub event: String,
    /// The payload.
    pub payload: Value,
}

impl Recording {
    /// Reads a file's text. Never fails: what is not understood becomes a warning.
    pub fn parse(text: &str) -> Self {
        let mut recording = Self::default();
        for (index, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let number = index + 1;
            let parsed = match serde_json::from_str::<Value>(text) {
                Ok(value) => line(number, &value),
                Err(error) => Err(format!("no JSON ({error})")),
            };
            match parsed {
                Ok(line) => recording.lines.push(line),
                Err(why) => recording.warnings.push(format!("line {number} passed over: {why}")),
            }
        }
        recording
    }
}

impl Request {
    /// Returns a header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Returns whether it asks for a WebSocket.
    pub fn is_upgrade(&self) -> bool {
        self.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    }
}

impl Envelope {
    /// Reads a text message, or `None` if it is no Phoenix message.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::from_value(serde_json::from_str(text).ok()?)
    }

    /// Reads a binary MessagePack message, or `None` if it is no Phoenix message.
    pub fn from_msgpack(data: &[u8]) -> Option<Self> {
        Self::from_value(crate::msgpack::decode(data)?)
    }

    fn from_value(value: Value) -> Option<Self> {
        let Value::Array(items) = value else { return None };
        let [join_ref, reference, topic, event, payload] = <[Value; 5]>::try_from(items).ok()?;
        Some(Self {
            join_ref: reference_text(&join_ref)?,
            reference: reference_text(&reference)?,
            topic: topic.as_str()?.to_owned(),
            event: event.as_str()?.to_owned(),
            payload,
        })
    }

    /// Writes it as the machine's own values.
    pub fn to_value(&self) -> Value {
        serde_json::json!([self.join_ref, self.reference, self.topic, self.event, self.payload])
    }
}

/// Returns a header by its name in lower case.
pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// A reference as text: strings, and numbers as some clients send them. `None` for anything else.
#[expect(clippy::option_option, reason = "no reference, and nothing that could be one")]
fn reference_text(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text.clone())),
        Value::Number(number) => Some(Some(number.to_string())),
        _ => None,
    }
}

fn line(number: usize, value: &Value) -> Result<Line, String> {
    let kind = value.get("kind").and_then(Value::as_str).ok_or("it has no kind")?;
    let seconds = value.get("t").and_then(Value::as_f64).ok_or("it has no time")?;
    if !(0.0..1e9).contains(&seconds) {
        return Err(format!("{seconds} is no time"));
    }
    Ok(Line {
        number,
        at: micros(seconds),
        unix_micros: value.get("at").and_then(Value::as_str).and_then(unix_micros),
        conn: value.get("conn").and_then(Value::as_u64),
        kind: kind_of(kind, value)?,
    })
}

fn kind_of(kind: &str, value: &Value) -> Result<Kind, String> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let from = || match value.get("dir").and_then(Value::as_str) {
        Some("client_to_server") => Ok(Side::Device),
        Some("server_to_client") => Ok(Side::Server),
        other => Err(format!("the direction {other:?} is unknown")),
    };
    Ok(match kind {
        "note" => Kind::Note(text("text")),
        "tcp_open" => Kind::Open(text("via")),
        "tcp_eof" => Kind::Eof(if text("by") == "server" { Side::Server } else { Side::Device }),
        "tcp_closed" => Kind::Closed,
        "tcp_error" | "upstream_connect_failed" => Kind::Failed(text("error")),
        "http_request" => {
            let target = text("line").split(' ').nth(1).ok_or("the request has no target")?.to_owned();
            Kind::Request(Request { target, headers: headers(value) })
        }
        "http_response" => {
            let line = text("line");
            let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
            Kind::Response {
                status: status.ok_or_else(|| format!("{line:?} has no status"))?,
                headers: headers(value),
            }
        }
        "http_body" => {
            let data = match (value.get("base64"), value.get("text")) {
                (Some(Value::String(base64)), _) => STANDARD.decode(base64).ok(),
                (_, Some(Value::String(text))) => Some(text.clone().into_bytes()),
                _ => None,
            };
            Kind::Body { bytes: value.get("bytes").and_then(Value::as_u64).ok_or("no length")?, data }
        }
        "text" | "binary" => Kind::Message(from()?, Box::new(message(kind, value)?)),
        "close" => Kind::Close(
            from()?,
            value.get("code").and_then(Value::as_u64).and_then(|c| u16::try_from(c).ok()),
        ),
        "ping" | "pong" => Kind::Control,
        "tls" => Kind::Tls {
            error: value.get("error").and_then(Value::as_str).map(str::to_owned),
            status: text("first_bytes_of_answer").split(' ').nth(1).and_then(|word| word.parse().ok()),
        },
        other => return Err(format!("the kind {other:?} is unknown")),
    })
}

fn message(kind: &str, value: &Value) -> Result<Message, String> {
    let base64 = value.get("base64").and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
    let raw = match (kind, value.get("text").and_then(Value::as_str), base64) {
        ("text", Some(text), _) => Raw::Text(text.to_owned()),
        // Text that isn't UTF-8, or too long to be kept as text.
        ("text", None, Some(data)) => Raw::Text(String::from_utf8_lossy(&data).into_owned()),
        ("text", None, None) => match value.get("value") {
            Some(value) => Raw::Text(value.to_string()),
            None => Raw::Text(String::new()),
        },
        (_, _, Some(data)) => Raw::Binary(data),
        _ => return Err("a binary message without its bytes".to_owned()),
    };
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let reference = |name: &str| value.get(name).and_then(reference_text);
    let envelope = match (reference("join_ref"), reference("ref"), text("topic"), text("event")) {
        (Some(join_ref), Some(reference), Some(topic), Some(event)) => Some(Envelope {
            join_ref,
            reference,
            topic,
            event,
            payload: value.get("payload").cloned().unwrap_or_default(),
        }),
        _ => None,
    };
    Ok(Message { raw, envelope })
}

fn headers(value: &Value) -> Vec<(String, String)> {
    let pairs = value.get("headers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let pair = |pair: &Value| Some((pair.get(0)?.as_str()?.to_owned(), pair.get(1)?.as_str()?.to_owned()));
    pairs.iter().filter_map(pair).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked by the caller: 0 to 1e9 seconds"
)]
fn micros(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}

/// Reads `2026-11-23T14:33:36.294726Z`.
pub fn unix_micros(at: &str) -> Option<i64> {
    let (day, clock) = at.split_once('T')?;
    let mut day = day.split('-').map(|word| word.parse::<i64>().ok());
    let (year, month, day) = (day.next()??, day.next()??, day.next()??);
    let mut clock = clock.trim_end_matches('Z').trim_end_matches("+00:00").split(':');
    let (hour, minute) = (clock.next()?.parse::<i64>().ok()?, clock.next()?.parse::<i64>().ok()?);
    let seconds: f64 = clock.next()?.parse().ok().filter(|s| (0.0..61.0).contains(s))?;
    let days = days_from_civil(year, month, day)?;
    let whole = days.checked_mul(86_400)?.checked_add(hour * 3600 + minute * 60)?;
    whole.checked_mul(1_000_000)?.checked_add(i64::try_from(micros(seconds)).ok()?)
}

/// Days since 1970-01-01, in years that begin in March.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_era = year.rem_euclid(400);
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    Some(year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(unix_micros("1970-01-01T00:00:01.5Z"), Some(1_500_000));
        assert_eq!(unix_micros("2026-11-23T14:33:35.000000Z"), Some(1_795_444_415_000_000));
        for bad in ["", "2026-11-23", "2026-13-01T00:00:00Z", "T::", "2026-11-23T14:33:xZ"] {
            assert_eq!(unix_micros(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_not_understood_are_named_and_passed_over() {
        let text = "{\"t\":1,\"kind\":\"note\",\"text\":\"x\"}\nno\n{\"t\":2,\"kind\":\"smoke\"}\n\n{\"kind\":\"note\"}\n\
            {\"t\":-1,\"kind\":\"note\"}\n{\"t\":1,\"kind\":\"text\",\"text\":\"x\"}";
        let recording = Recording::parse(text);
        assert_eq!(recording.lines.len(), 1);
        assert_eq!(recording.warnings.len(), 5, "{:?}", recording.warnings);
        assert!(recording.warnings[1].contains("line 3") && recording.warnings[1].contains("smoke"));
    }
}
