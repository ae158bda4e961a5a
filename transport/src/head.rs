//! Heads of HTTP/1 responses, read the same way for downloads, the WebSocket upgrade and `CONNECT`.
//!
//! Real servers and middleboxes send header lines that HTTP does not allow. Such a line is skipped, as browsers do, and the
//! rest of the answer counts. Lines that say where the answer ends, or what the connection becomes, are the exception:
//! where one of those is malformed, two readers may disagree about what follows, so the answer is refused.

use http::Response;
use ureq_proto::parser::try_parse_response;

use crate::TransportError;
use crate::limits::{HEAD_MAX, HEADERS_MAX, INTERIM_MAX};

/// The head of a response.
pub(crate) struct Head {
    pub(crate) status: u16,
    /// In the order received, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The head without its malformed lines.
    pub(crate) clean: Vec<u8>,
}

/// Finds heads at the front of what a peer sent.
#[derive(Default)]
pub(crate) struct HeadReader {
    /// Bytes of an unfinished head already searched for its end.
    searched: usize,
    /// Interim responses skipped.
    interim: usize,
}

/// What is wrong with a head. The peer's bytes reach no message.
pub(crate) enum HeadError {
    TooLarge,
    TooManyLines,
    Wrong(String),
    /// A mistake of this library.
    Internal(&'static str),
}

impl HeadError {
    pub(crate) fn of(self, host: &str) -> TransportError {
        let host = host.to_owned();
        match self {
            Self::Internal(what) => TransportError::Internal { what: what.to_owned() },
            Self::TooLarge => TransportError::HeadTooLarge { host, limit: HEAD_MAX },
            Self::TooManyLines => TransportError::TooManyHeaders { host, limit: HEADERS_MAX },
            Self::Wrong(why) => TransportError::Http { host, why },
        }
    }
}

/// How every HTTP/1 answer starts.
const START: &[u8] = b"HTTP/1.";

impl HeadReader {
    /// Reads the head from the front of `input`. Returns how many bytes to drop, and the final head once it is there.
    /// Call again after a drop without a head: an interim response was skipped.
    pub(crate) fn read(&mut self, input: &[u8]) -> Result<(usize, Option<Head>), HeadError> {
        let window = input.get(..HEAD_MAX).unwrap_or(input);
        // Say at once that this is no HTTP, rather than wait for an end that never comes.
        if !window.iter().zip(START).all(|(got, wanted)| got == wanted) {
            return Err(wrong("the answer does not start with HTTP/1."));
        }
        let Some(end) = self.find_end(window) else {
            return if input.len() >= HEAD_MAX { Err(HeadError::TooLarge) } else { Ok((0, None)) };
        };
        let (head, _) = window.split_at_checked(end).ok_or_else(|| {
            debug_assert!(false, "a head ends behind what was received");
            HeadError::Internal("a head ends behind what was received")
        })?;
        self.searched = 0;
        // A head without a line break is all status line.
        let (status, fields) =
            head.split_at(head.iter().position(|byte| *byte == b'\n').map_or(head.len(), |at| at + 1));
        let headers = fields_of(fields)?;
        let mut clean = status.to_vec();
        for (name, value) in &headers {
            clean.extend_from_slice(name);
            clean.extend_from_slice(b": ");
            clean.extend_from_slice(value);
            clean.extend_from_slice(b"\r\n");
        }
        clean.extend_from_slice(b"\r\n");
        let response: Response<()> = match try_parse_response::<HEADERS_MAX>(&clean) {
            Ok(Some((_, response))) => response,
            Ok(None) => return Err(wrong("the response head is incomplete")),
            Err(ureq_proto::Error::HttpParseTooManyHeaders) => return Err(HeadError::TooManyLines),
            Err(error) => return Err(HeadError::Wrong(error.to_string())),
        };
        let status = response.status().as_u16();
        if (100..200).contains(&status) && status != 101 {
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                return Err(wrong("too many interim (1xx) responses"));
            }
            return Ok((head.len(), None));
        }
        let headers = headers.iter().map(|(name, value)| readable(name, value)).collect();
        Ok((head.len(), Some(Head { status, headers, clean })))
    }

    /// Finds the end of the head: an empty line, with or without carriage returns.
    fn find_end(&mut self, window: &[u8]) -> Option<usize> {
        // Go back three bytes: the empty line may have been cut.
        let from = self.searched.saturating_sub(3);
        debug_assert!(from <= window.len(), "bytes of a head were dropped before it was whole");
        let breaks = window.iter().enumerate().skip(from).filter(|(_, byte)| **byte == b'\n');
        for (at, _) in breaks {
            match window.get(at + 1..) {
                Some([b'\n', ..]) => return Some(at + 2),
                Some([b'\r', b'\n', ..]) => return Some(at + 3),
                _ => {}
            }
        }
        self.searched = window.len();
        None
    }
}

/// Name and value of a header line, without the blanks around the value.
type Field = (Vec<u8>, Vec<u8>);

/// Splits the lines behind the status line, and skips those that are malformed.
fn fields_of(block: &[u8]) -> Result<Vec<Field>, HeadError> {
    let mut fields: Vec<Field> = Vec::new();
    // Whether the last line is in `fields`, and was not skipped.
    let mut kept = false;
    for (number, line) in block.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            // Only the end has empty lines.
            continue;
        }
        if number >= HEADERS_MAX {
            return Err(HeadError::TooManyLines);
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            // The value of the line before goes on here (obsolete line folding, RFC 9112 §5.2): both are skipped.
            let folded = if std::mem::take(&mut kept) { fields.pop() } else { None };
            if let Some(name) =
                folded.map(|(name, _)| name).filter(|name| decides(name)).or_else(|| hidden(line))
            {
                return Err(malformed(&name));
            }
            continue;
        }
        let field = field(line);
        kept = field.is_some();
        match (field, hidden(line)) {
            (Some(field), _) => fields.push(field),
            (None, Some(name)) => return Err(malformed(&name)),
            (None, None) => {}
        }
    }
    Ok(fields)
}

/// Reads a header line as HTTP has it (RFC 9112 §5); nothing if it is malformed.
fn field(line: &[u8]) -> Option<Field> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at(colon);
    let value = value.strip_prefix(b":")?.trim_ascii();
    let sound = !name.is_empty()
        && name.iter().all(|byte| is_token(*byte))
        && value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    sound.then(|| (name.to_ascii_lowercase(), value.to_vec()))
}

/// Returns the header that decides about the connection which somebody might see in a malformed line: at its start, or
/// behind a carriage return, which some take for the end of a line.
fn hidden(line: &[u8]) -> Option<Vec<u8>> {
    line.split(|byte| *byte == b'\r').find_map(|piece| {
        let start = piece.iter().position(|byte| is_token(*byte))?;
        let word: Vec<u8> = piece.iter().skip(start).copied().take_while(|byte| is_token(*byte)).collect();
        let word = word.to_ascii_lowercase();
        decides(&word).then_some(word)
    })
}

/// Whether a header says where an answer ends or what the connection becomes.
fn decides(name: &[u8]) -> bool {
    matches!(name, b"content-length" | b"transfer-encoding" | b"connection" | b"upgrade")
        || name.starts_with(b"sec-websocket-")
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Turns a header into text. Bytes of an address that are not UTF-8 are percent-encoded, as browsers do.
fn readable(name: &[u8], value: &[u8]) -> (String, String) {
    let name = String::from_utf8_lossy(name).into_owned();
    let value = match std::str::from_utf8(value) {
        Err(_) if name == "location" => value
            .iter()
            .map(|byte| if byte.is_ascii() { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
            .collect(),
        Ok(value) => value.to_owned(),
        Err(_) => String::from_utf8_lossy(value).into_owned(),
    };
    (name, value)
}

fn malformed(name: &[u8]) -> HeadError {
    // Of the names that decide; never the peer's own words, but for the end of a Sec-WebSocket header's name.
    let known = ["content-length", "transfer-encoding", "connection", "upgrade"];
    let name = known.iter().find(|known| known.as_bytes() == name).copied().unwrap_or("sec-websocket-...");
    HeadError::Wrong(format!("its {name} header is malformed"))
}

fn wrong(why: &str) -> HeadError {
    HeadError::Wrong(why.to_owned())
}
