//! One HTTP/1.1 response: head, then body, out of plain bytes. Limits here, grammar in ureq-proto.

use http::Response;
use ureq_proto::BodyMode;
use ureq_proto::client::state::{RecvBody, RecvResponse};
use ureq_proto::client::{Call, RecvResponseResult};
use ureq_proto::parser::try_parse_response;

use crate::limits::{HEAD_MAX, HEADERS_MAX, INTERIM_MAX, TRAILER_MAX};
use crate::pipe::PeerEnd;
use crate::{Stage, TransportError};

/// The head of a response.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

pub(crate) struct ResponseReader {
    host: String,
    state: State,
    /// Bytes of an unfinished head already searched for its end.
    searched: usize,
    interim: usize,
    received: u64,
    expected: Option<u64>,
    trailer: usize,
}

enum State {
    Head(Call<RecvResponse>),
    Body(Call<RecvBody>),
    Done,
}

/// How every HTTP/1 answer starts.
const START: &[u8] = b"HTTP/1.";

/// What `ResponseReader::body` did with its input.
pub(crate) struct BodyStep {
    pub(crate) consumed: usize,
    pub(crate) produced: usize,
}

impl ResponseReader {
    pub(crate) fn new(host: &str, call: Call<RecvResponse>) -> Self {
        Self {
            host: host.to_owned(),
            state: State::Head(call),
            searched: 0,
            interim: 0,
            received: 0,
            expected: None,
            trailer: 0,
        }
    }

    /// Reads the head from the front of `input`; answers how many bytes to drop, and the final head
    /// once it is there. Call again after a drop without a head: an interim response was skipped.
    pub(crate) fn head(&mut self, input: &[u8]) -> Result<(usize, Option<Head>), TransportError> {
        let window = input.get(..HEAD_MAX).unwrap_or(input);
        // Say at once that this is no HTTP, rather than wait for an end that never comes.
        if !window.iter().zip(START).all(|(got, wanted)| got == wanted) {
            return Err(self.not_http("the answer does not start with HTTP/1."));
        }
        let Some(end) = self.find_end(window) else {
            if input.len() >= HEAD_MAX {
                return Err(TransportError::HeadTooLarge { host: self.host.clone(), limit: HEAD_MAX });
            }
            return Ok((0, None));
        };
        let head = window.get(..end).unwrap_or(window);
        let response = match try_parse_response::<HEADERS_MAX>(head) {
            Ok(Some((_, response))) => response,
            Ok(None) => return Err(self.not_http("the response head is incomplete")),
            Err(ureq_proto::Error::HttpParseTooManyHeaders) => {
                return Err(TransportError::TooManyHeaders { host: self.host.clone(), limit: HEADERS_MAX });
            }
            Err(error) => return Err(self.not_http(&error.to_string())),
        };
        self.searched = 0;
        let status = response.status().as_u16();
        if (100..200).contains(&status) && status != 101 {
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                return Err(self.not_http("too many interim (1xx) responses"));
            }
            return Ok((end, None));
        }
        self.accept(head, &response)?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        Ok((end, Some(Head { status, headers })))
    }

    /// Moves body bytes from `input` to `output`.
    pub(crate) fn body(&mut self, input: &[u8], output: &mut [u8]) -> Result<BodyStep, TransportError> {
        let State::Body(call) = &mut self.state else {
            return Ok(BodyStep { consumed: 0, produced: 0 });
        };
        let (consumed, produced) = match call.read(input, output) {
            Ok(counts) => counts,
            Err(error) => return Err(self.not_http(&error.to_string())),
        };
        self.received += produced as u64;
        if call.is_ended_chunked() && produced == 0 {
            self.trailer += consumed;
            if self.trailer > TRAILER_MAX {
                return Err(self.not_http("the trailers after the body are too long"));
            }
        }
        if consumed == 0 && produced == 0 && input.len() >= HEAD_MAX && !self.complete() {
            return Err(self.not_http("a line of the chunked framing is too long"));
        }
        Ok(BodyStep { consumed, produced })
    }

    /// Tells whether the whole body was read.
    pub(crate) fn complete(&self) -> bool {
        match &self.state {
            State::Head(_) => false,
            State::Body(call) => call.can_proceed() && call.body_mode() != BodyMode::CloseDelimited,
            State::Done => true,
        }
    }

    /// Judges the end of the stream, when nothing more can be read: fine or cut short.
    pub(crate) fn end(&self, peer: PeerEnd) -> Result<(), TransportError> {
        match &self.state {
            State::Done => Ok(()),
            State::Head(_) => Err(TransportError::Ended { host: self.host.clone(), during: Stage::Answer }),
            // The zero chunk came, the empty line after it did not: the body is whole (RFC 9112 §8).
            State::Body(call) if self.complete() || call.is_ended_chunked() => Ok(()),
            State::Body(call) if call.body_mode() == BodyMode::CloseDelimited && peer == PeerEnd::Clean => {
                Ok(())
            }
            State::Body(_) => Err(TransportError::ShortBody {
                host: self.host.clone(),
                received: self.received,
                expected: self.expected,
            }),
        }
    }

    /// Hands the final head to ureq-proto, which decides how the body is framed.
    fn accept(&mut self, head: &[u8], response: &Response<()>) -> Result<(), TransportError> {
        let codings: Vec<&[u8]> = response
            .headers()
            .get_all(http::header::TRANSFER_ENCODING)
            .iter()
            .map(http::HeaderValue::as_bytes)
            .collect();
        if !(codings.is_empty()
            || matches!(codings.as_slice(), [one] if one.eq_ignore_ascii_case(b"chunked")))
        {
            return Err(
                self.not_http("the body has a transfer coding other than chunked, which was not asked for")
            );
        }
        let State::Head(mut call) = std::mem::replace(&mut self.state, State::Done) else { return Ok(()) };
        match call.try_response(head, false) {
            Ok((_, Some(_))) => {}
            Ok((_, None)) => return Err(self.not_http("the response head is incomplete")),
            Err(error) => return Err(self.not_http(&error.to_string())),
        }
        if let Some(RecvResponseResult::RecvBody(call)) = call.proceed() {
            if let BodyMode::LengthDelimited(length) = call.body_mode() {
                self.expected = Some(length);
            }
            self.state = State::Body(call);
        }
        Ok(())
    }

    /// Finds the end of the head: an empty line, with or without carriage returns.
    fn find_end(&mut self, window: &[u8]) -> Option<usize> {
        // Go back three bytes: the empty line may have been cut.
        let from = self.searched.saturating_sub(3);
        let mut rest = window.get(from..).unwrap_or_default();
        let mut at = from;
        while let Some(line) = rest.iter().position(|byte| *byte == b'\n') {
            at += line + 1;
            rest = window.get(at..).unwrap_or_default();
            match rest {
                [b'\n', ..] => return Some(at + 1),
                [b'\r', b'\n', ..] => return Some(at + 2),
                _ => {}
            }
        }
        self.searched = window.len();
        None
    }

    fn not_http(&self, why: &str) -> TransportError {
        // The peer's bytes reach no message: `why` is ours or the parser's own words.
        TransportError::Http { host: self.host.clone(), why: why.to_owned() }
    }
}
