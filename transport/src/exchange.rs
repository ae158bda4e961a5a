//! One HTTP/1.1 GET as a byte machine.

use std::fmt;

use crate::limits::BODY_PIECE_MAX;
use crate::pipe::{PeerEnd, Pipe};
use crate::response::ResponseReader;
use crate::{Address, Proxy, Tls, TransportError, request};

/// A GET to be made.
pub struct ExchangeRequest<'a> {
    /// `http` or `https` (`ws` and `wss` mean the same here).
    pub url: &'a str,
    /// Headers to send beside `Host` and `Connection: close`. `Accept-Encoding: identity` is added
    /// where no `accept-encoding` is given: byte ranges of a compressed body would be useless.
    pub headers: &'a [(String, String)],
    /// TLS settings; needed for `https`.
    pub tls: Option<&'a Tls>,
}

/// One HTTP/1.1 GET: bytes in, bytes out, events out.
///
/// The loop: send [`transmit`](Self::transmit); while [`wants_input`](Self::wants_input), read the
/// stream into [`receive`](Self::receive); then [`poll`](Self::poll) until `None`. Redirects are not
/// followed. Memory stays under 256 KiB whatever comes in, as long as each `receive` hands over at most
/// [`RECEIVE_PENDING_MAX`](crate::limits::RECEIVE_PENDING_MAX) bytes; more fails the exchange.
pub struct Exchange {
    address: Address,
    /// What the connection goes through, if anything.
    proxy: Option<String>,
    pipe: Pipe,
    response: ResponseReader,
    phase: Phase,
    /// The last `Body` handed out.
    piece: Vec<u8>,
    /// `poll` used up all input: more is needed.
    starved: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head,
    Body,
    Done,
}

/// What an exchange has to say. `End` and `Failed` are final.
#[derive(Clone, PartialEq, Eq)]
pub enum ExchangeEvent<'a> {
    /// The final response head. Interim (1xx) responses are skipped.
    Head {
        /// Status code, 200 to 999.
        status: u16,
        /// Headers in the order received, names in lower case.
        headers: Vec<(String, String)>,
    },
    /// The next bytes of the body, at most [`BODY_PIECE_MAX`], chunked framing removed.
    Body(&'a [u8]),
    /// The body is whole.
    End,
    /// The exchange failed; body bytes handed out before are as the server sent them.
    Failed(TransportError),
}

impl fmt::Debug for ExchangeEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head { status, headers } => {
                write!(f, "Head {{ status: {status}, headers: {:?} }}", header_names(headers))
            }
            Self::Body(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Self::End => write!(f, "End"),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl Exchange {
    /// Prepares a GET; its bytes wait in `transmit`.
    ///
    /// # Errors
    /// [`TransportError`] when the URL, a header or the TLS settings cannot be used. Reserved headers
    /// (`host`, `connection`, framing) are refused, and so are line breaks in values.
    pub fn new(request: &ExchangeRequest<'_>) -> Result<Self, TransportError> {
        let address = Address::parse(request.url)?;
        let own = [("connection", "close"), ("accept-encoding", "identity")];
        let (call, bytes) = request::write(&address, &own, request.headers)?;
        let mut pipe = Pipe::new(&address, request.tls, false)?;
        pipe.write(&bytes);
        let response = ResponseReader::new(&address.host, call);
        Ok(Self {
            address,
            proxy: None,
            pipe,
            response,
            phase: Phase::Head,
            piece: Vec::new(),
            starved: true,
        })
    }

    /// Where to connect to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Says that the connection goes through this proxy, so that failures it may have caused name it.
    pub fn through(&mut self, proxy: &Proxy) {
        self.proxy = Some(proxy.address().authority());
    }

    /// Takes bytes from the TCP stream, cut anywhere.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.phase == Phase::Done || bytes.is_empty() {
            return;
        }
        self.pipe.receive(bytes);
        self.starved = false;
    }

    /// Notes the end of the TCP stream.
    pub fn receive_eof(&mut self) {
        self.pipe.receive_eof();
        self.starved = false;
    }

    /// Tells whether the TCP stream should be read: `false` while received bytes wait to be polled, so
    /// that a slow consumer slows the sender, and `false` for ever after the end.
    pub fn wants_input(&self) -> bool {
        self.starved && self.phase != Phase::Done
    }

    /// Bytes for the TCP stream. Not empty before the request is sent, during TLS and at the end.
    pub fn transmit(&mut self) -> &[u8] {
        self.pipe.transmit()
    }

    /// Notes that the first `count` bytes of `transmit` were sent.
    pub fn transmitted(&mut self, count: usize) {
        self.pipe.transmitted(count);
    }

    /// The next event; `None` when more input is needed or all was said.
    pub fn poll(&mut self) -> Option<ExchangeEvent<'_>> {
        loop {
            match self.phase {
                Phase::Done => return None,
                Phase::Head => match self.response.head(self.pipe.plain()) {
                    Err(error) => return Some(self.fail(error)),
                    Ok((consumed, head)) => {
                        self.pipe.consume(consumed);
                        if let Some(head) = head {
                            if head.status == 101 {
                                let why =
                                    "101 was answered to a request that asked for no upgrade".to_owned();
                                let host = self.address.host.clone();
                                return Some(self.fail(TransportError::Http { host, why }));
                            }
                            self.phase = Phase::Body;
                            return Some(ExchangeEvent::Head { status: head.status, headers: head.headers });
                        }
                        if consumed > 0 {
                            continue;
                        }
                    }
                },
                Phase::Body => {
                    self.piece.resize(BODY_PIECE_MAX, 0);
                    let step = match self.response.body(self.pipe.plain(), &mut self.piece) {
                        Err(error) => return Some(self.fail(error)),
                        Ok(step) => step,
                    };
                    self.pipe.consume(step.consumed);
                    if step.produced > self.piece.len() {
                        let error = TransportError::internal("more of a body came than there was room for");
                        return Some(self.fail(error));
                    }
                    if step.produced > 0 {
                        // Measured above.
                        return Some(ExchangeEvent::Body(
                            self.piece.get(..step.produced).unwrap_or_default(),
                        ));
                    }
                    if self.response.complete() {
                        return Some(self.finish(ExchangeEvent::End));
                    }
                    if step.consumed > 0 {
                        continue;
                    }
                }
            }
            // Nothing more can be decoded from what is there.
            if self.pipe.pull() {
                continue;
            }
            if let Some(error) = self.pipe.failure() {
                let error = error.clone();
                return Some(self.fail(error));
            }
            let peer = self.pipe.peer();
            if peer == PeerEnd::Open {
                self.starved = true;
                return None;
            }
            return Some(match self.response.end(peer) {
                Ok(()) => self.finish(ExchangeEvent::End),
                Err(error) => self.fail(error),
            });
        }
    }

    fn fail(&mut self, error: TransportError) -> ExchangeEvent<'static> {
        let error = match &self.proxy {
            Some(proxy) => error.through(proxy),
            None => error,
        };
        self.finish(ExchangeEvent::Failed(error))
    }

    fn finish(&mut self, event: ExchangeEvent<'static>) -> ExchangeEvent<'static> {
        self.phase = Phase::Done;
        self.piece = Vec::new();
        self.pipe.close();
        event
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("address", &self.address)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ExchangeRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExchangeRequest({})", describe(self.url, self.headers))
    }
}

/// Header names alone: a value may be a credential or a signed URL.
pub(crate) fn header_names(headers: &[(String, String)]) -> Vec<&str> {
    headers.iter().map(|(name, _)| name.as_str()).collect()
}

/// A request in words that hold no credential.
pub(crate) fn describe(url: &str, headers: &[(String, String)]) -> String {
    let target = match Address::parse(url) {
        Ok(address) => address.to_string(),
        Err(error) => error.to_string(),
    };
    format!("{target}, headers: {:?}", header_names(headers))
}

#[cfg(test)]
mod tests {
    use super::{Exchange, ExchangeRequest};
    use crate::limits::RECEIVE_PENDING_MAX;

    /// The bound the type promises, less 48 KiB for rustls, under the worst a loop may hand over.
    #[test]
    fn memory_is_bounded_whatever_comes_in() {
        let head: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk: &[u8] = b"10000\r\n";
        let ones = vec![b'1'; RECEIVE_PENDING_MAX];
        for rest in [chunk, b"", b"1\r\n"] {
            for size in [1, 1000, 65_536, RECEIVE_PENDING_MAX] {
                let request = ExchangeRequest { url: "http://hub.test/", headers: &[], tls: None };
                let mut exchange = Exchange::new(&request).unwrap();
                exchange.receive(&[head, rest].concat());
                for piece in ones.chunks(size).cycle().take(2 * RECEIVE_PENDING_MAX / size + 2) {
                    exchange.receive(piece);
                    exchange.poll();
                    let held = exchange.pipe.capacity() + exchange.piece.capacity();
                    assert!(held <= 208 * 1024, "{held} bytes held with pieces of {size}");
                }
            }
        }
    }
}
