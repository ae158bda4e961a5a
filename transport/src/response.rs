//! One HTTP/1.1 response: head, then body, out of plain bytes. Limits here, framing in ureq-proto.

use ureq_proto::BodyMode;
use ureq_proto::client::state::{RecvBody, RecvResponse};
use ureq_proto::client::{Call, RecvResponseResult};

use crate::head::{Head, HeadReader};
use crate::limits::{HEAD_MAX, TRAILER_MAX};
use crate::pipe::PeerEnd;
use crate::{Stage, TransportError};

pub(crate) struct ResponseReader {
    host: String,
    state: State,
    heads: HeadReader,
    received: u64,
    expected: Option<u64>,
    trailer: usize,
}

enum State {
    Head(Call<RecvResponse>),
    Body(Call<RecvBody>),
    Done,
}

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
            heads: HeadReader::default(),
            received: 0,
            expected: None,
            trailer: 0,
        }
    }

    /// Reads the head from the front of `input`; answers how many bytes to drop, and the final head
    /// once it is there. Call again after a drop without a head: an interim response was skipped.
    pub(crate) fn head(&mut self, input: &[u8]) -> Result<(usize, Option<Head>), TransportError> {
        let (consumed, head) = self.heads.read(input).map_err(|error| error.of(&self.host))?;
        if let Some(head) = &head {
            self.accept(head)?;
        }
        Ok((consumed, head))
    }

    /// Moves body bytes from `input` to `output`.
    pub(crate) fn body(&mut self, input: &[u8], output: &mut [u8]) -> Result<BodyStep, TransportError> {
        let call = match &mut self.state {
            State::Body(call) => call,
            // There is none.
            State::Done => return Ok(BodyStep { consumed: 0, produced: 0 }),
            State::Head(_) => return Err(TransportError::internal("a body was read before its head")),
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
    fn accept(&mut self, head: &Head) -> Result<(), TransportError> {
        let mut codings = head.headers.iter().filter(|(name, _)| name == "transfer-encoding");
        if codings.next().is_some_and(|(_, coding)| !coding.eq_ignore_ascii_case("chunked"))
            || codings.next().is_some()
        {
            return Err(
                self.not_http("the body has a transfer coding other than chunked, which was not asked for")
            );
        }
        let State::Head(mut call) = std::mem::replace(&mut self.state, State::Done) else {
            return Err(TransportError::internal("a response had a second final head"));
        };
        match call.try_response(&head.clean, false) {
            Ok((_, Some(_))) => {}
            Ok((_, None)) => return Err(self.not_http("the response head is incomplete")),
            Err(error) => return Err(self.not_http(&error.to_string())),
        }
        let body = call.proceed();
        let body = body.ok_or_else(|| TransportError::internal("a whole head has no response"))?;
        // Of other responses no body is read.
        if let RecvResponseResult::RecvBody(call) = body {
            if let BodyMode::LengthDelimited(length) = call.body_mode() {
                self.expected = Some(length);
            }
            self.state = State::Body(call);
        }
        Ok(())
    }

    fn not_http(&self, why: &str) -> TransportError {
        // The peer's bytes reach no message: `why` is ours or the parser's own words.
        TransportError::Http { host: self.host.clone(), why: why.to_owned() }
    }
}
