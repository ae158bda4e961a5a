//! One WebSocket connection, from the upgrade to the close, as a byte machine.

use std::fmt;

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::exchange::{describe, header_names};
use crate::frames::{Breach, Decoder, Encoder, INTERNAL, Incoming, sendable};
use crate::head::Head;
use crate::limits::{CONTROL_MAX, MESSAGE_MAX, PONG_BACKLOG_MAX, REFUSED_BODY_MAX, TRANSMIT_MAX};
use crate::pipe::{PeerEnd, Pipe};
use crate::response::ResponseReader;
use crate::upgrade::Upgrade;
use crate::{Address, Proxy, Stage, Tls, TransportError, request};

/// A WebSocket connection to be made.
pub struct SocketRequest<'a> {
    /// `ws` or `wss` (`http` and `https` mean the same here).
    pub url: &'a str,
    /// Headers to send beside those of the upgrade.
    pub headers: &'a [(String, String)],
    /// TLS settings; needed for `wss`.
    pub tls: Option<&'a Tls>,
}

/// One WebSocket connection: bytes in, bytes out, messages both ways.
///
/// The loop: after each [`receive`](Self::receive), [`poll`](Self::poll) until `None`, then send
/// [`transmit`](Self::transmit). Pings are answered inside. No extension and no subprotocol is offered,
/// and no `Origin` sent (device-protocol §1.2).
pub struct Socket {
    address: Address,
    /// What the connection goes through, if anything.
    proxy: Option<String>,
    pipe: Pipe,
    phase: Phase,
    decoder: Decoder,
    encoder: Encoder,
    /// The newest ping not answered yet, as too much waits for the network.
    pong: Option<Vec<u8>>,
}

enum Phase {
    Upgrade {
        response: Box<ResponseReader>,
        upgrade: Upgrade,
    },
    Refused {
        response: Box<ResponseReader>,
        head: Head,
        body: Vec<u8>,
        /// Nobody waits for the rest of the body.
        overdue: bool,
    },
    Open,
    /// We sent a close frame and wait for the peer's.
    Closing,
    /// `close` was called before the socket was open; `Closed` is to be said.
    Abandoned,
    Done,
}

/// What a socket has to say. `Refused`, `Closed` and `Failed` are final: hang up after sending what
/// [`Socket::transmit`] still holds.
#[derive(Clone, PartialEq, Eq)]
pub enum SocketEvent {
    /// The upgrade was accepted; messages may be sent.
    Up,
    /// The server answered the upgrade with something else than 101.
    Refused {
        /// Status code.
        status: u16,
        /// Headers in the order received, names in lower case.
        headers: Vec<(String, String)>,
        /// The body, or the first [`REFUSED_BODY_MAX`] bytes of it, or what came until
        /// [`Socket::out_of_time`].
        body: Vec<u8>,
    },
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping or a pong came: the peer lives.
    Alive,
    /// The closing handshake is done.
    Closed {
        /// The peer's close code; `None` where it gave none or the connection ended after our own close.
        code: Option<u16>,
        /// The peer's reason, at most 123 bytes.
        reason: String,
    },
    /// The connection failed.
    Failed(TransportError),
}

impl fmt::Debug for SocketEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => write!(f, "Up"),
            Self::Refused { status, headers, body } => {
                let names = header_names(headers);
                write!(f, "Refused {{ status: {status}, headers: {names:?}, body: {} bytes }}", body.len())
            }
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
            Self::Alive => write!(f, "Alive"),
            Self::Closed { code, reason } => {
                f.debug_struct("Closed").field("code", code).field("reason", reason).finish()
            }
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl Socket {
    /// Prepares a connection; the first bytes wait in `transmit`.
    ///
    /// `random` must come from the system's secure generator: half becomes the handshake key, half the
    /// seed of the masks. With the same `random` a plain (`ws`) connection sends the same bytes.
    ///
    /// # Errors
    /// [`TransportError`] when the URL, a header or the TLS settings cannot be used. `Connection`,
    /// `Upgrade`, `Origin`, `Host` and `Sec-WebSocket-*` headers are refused, and so are line breaks.
    pub fn new(request: &SocketRequest<'_>, random: [u8; 32]) -> Result<Self, TransportError> {
        let address = Address::parse(request.url)?;
        let (nonce, seed) = halves(random);
        let upgrade = Upgrade::new(nonce);
        let (call, bytes) = request::write(&address, &upgrade.headers(), request.headers)?;
        let mut pipe = Pipe::new(&address, request.tls, true)?;
        pipe.write(&bytes);
        let response = Box::new(ResponseReader::new(&address.host, call));
        let phase = Phase::Upgrade { response, upgrade };
        let encoder = Encoder::new(seed);
        Ok(Self { address, proxy: None, pipe, phase, decoder: Decoder::default(), encoder, pong: None })
    }

    /// Where to connect to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Says that the connection goes through this proxy, so that failures it may have caused name it.
    pub fn through(&mut self, proxy: &Proxy) {
        self.proxy = Some(proxy.address().authority());
    }

    /// Takes bytes from the TCP stream, cut anywhere; at most
    /// [`RECEIVE_PENDING_MAX`](crate::limits::RECEIVE_PENDING_MAX) before `poll` is drained.
    pub fn receive(&mut self, bytes: &[u8]) {
        if !matches!(self.phase, Phase::Done) {
            self.pipe.receive(bytes);
        }
    }

    /// Notes the end of the TCP stream.
    pub fn receive_eof(&mut self) {
        self.pipe.receive_eof();
    }

    /// Notes that the time for an answer is over: the next `poll` tells of a refusal whose body has not ended, and may
    /// never. Where no answer has come at all there is nothing to tell; give the connection up.
    pub fn out_of_time(&mut self) {
        if let Phase::Refused { overdue, .. } = &mut self.phase {
            *overdue = true;
        }
    }

    /// Bytes for the TCP stream.
    pub fn transmit(&mut self) -> &[u8] {
        self.pipe.transmit()
    }

    /// Notes that the first `count` bytes of `transmit` were sent.
    pub fn transmitted(&mut self, count: usize) {
        self.pipe.transmitted(count);
        self.flush_pong();
    }

    /// The next event; `None` when more input is needed or all was said.
    pub fn poll(&mut self) -> Option<SocketEvent> {
        loop {
            let (consumed, event) = match self.advance() {
                Ok(step) => step,
                Err(error) => return Some(self.fail(error)),
            };
            self.pipe.consume(consumed);
            if event.is_some() {
                return event;
            }
            if consumed > 0 || (!matches!(self.phase, Phase::Done) && self.pipe.pull()) {
                continue;
            }
            return self.ended();
        }
    }

    /// Queues a text message.
    ///
    /// # Errors
    /// [`NotOpen`](TransportError::NotOpen) before `Up` and after `close` or the end;
    /// [`MessageTooLarge`](TransportError::MessageTooLarge) over
    /// [`MESSAGE_MAX`] bytes; [`TransmitFull`](TransportError::TransmitFull) when it would not fit
    /// behind what is queued. Nothing of a refused message is sent.
    pub fn send_text(&mut self, text: &str) -> Result<(), TransportError> {
        self.send(OpCode::Data(Data::Text), text.as_bytes())
    }

    /// Queues a binary message.
    ///
    /// # Errors
    /// As [`send_text`](Self::send_text).
    pub fn send_binary(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        self.send(OpCode::Data(Data::Binary), bytes)
    }

    /// Queues an empty ping; the answer is an [`SocketEvent::Alive`].
    ///
    /// # Errors
    /// As [`send_text`](Self::send_text).
    pub fn ping(&mut self) -> Result<(), TransportError> {
        self.send(OpCode::Control(Control::Ping), &[])
    }

    /// Starts the closing handshake; [`SocketEvent::Closed`] follows when the peer answers or hangs up.
    ///
    /// A code that RFC 6455 §7.4 keeps out of close frames becomes 1000; a reason over 123 bytes is cut.
    /// Before `Up` the connection is given up and `Closed` follows at once. A second call does nothing.
    pub fn close(&mut self, code: u16, reason: &str) {
        match self.phase {
            Phase::Open => {
                self.pong = None;
                let sent = self.encoder.close(Some(sendable(code)), reason, |bytes| self.pipe.write(bytes));
                // Without it the server sees only the end of TCP.
                self.phase = if sent.is_ok() { Phase::Closing } else { Phase::Abandoned };
            }
            Phase::Upgrade { .. } | Phase::Refused { .. } => self.phase = Phase::Abandoned,
            Phase::Closing | Phase::Abandoned | Phase::Done => {}
        }
    }

    /// One step over the plain bytes at hand: how many are used up, and what that means.
    fn advance(&mut self) -> Result<(usize, Option<SocketEvent>), TransportError> {
        match &mut self.phase {
            Phase::Upgrade { response, upgrade } => {
                let (consumed, head) = response.head(self.pipe.plain())?;
                let Some(head) = head else { return Ok((consumed, None)) };
                if head.status == 101 {
                    upgrade
                        .check(&head)
                        .map_err(|why| TransportError::Upgrade { host: self.address.host.clone(), why })?;
                    self.phase = Phase::Open;
                    return Ok((consumed, Some(SocketEvent::Up)));
                }
                let Phase::Upgrade { response, .. } = std::mem::replace(&mut self.phase, Phase::Done) else {
                    return Err(TransportError::internal("what is no upgrade was refused"));
                };
                self.phase = Phase::Refused { response, head, body: Vec::new(), overdue: false };
                // The refusal's body may be empty: the next step must look even if no input is left.
                self.pipe.consume(consumed);
                self.advance()
            }
            Phase::Refused { response, body, overdue, .. } => {
                let mut piece = [0; REFUSED_BODY_MAX];
                let too_much = || TransportError::internal("more of a refusal came than there was room for");
                let left = REFUSED_BODY_MAX.checked_sub(body.len());
                let room = left.and_then(|left| piece.get_mut(..left)).ok_or_else(too_much)?;
                let step = response.body(self.pipe.plain(), room)?;
                body.extend(room.get(..step.produced).ok_or_else(too_much)?);
                if response.complete() || body.len() >= REFUSED_BODY_MAX || *overdue {
                    return Ok((step.consumed, self.refused()));
                }
                Ok((step.consumed, None))
            }
            Phase::Open | Phase::Closing => {
                let (consumed, incoming) = match self.decoder.step(self.pipe.plain()) {
                    Ok(step) => step,
                    Err(breach) => return Err(self.breach(breach)),
                };
                Ok((consumed, incoming.and_then(|incoming| self.incoming(incoming))))
            }
            Phase::Abandoned => Ok((0, Some(self.finish(closed())))),
            Phase::Done => Ok((0, None)),
        }
    }

    fn incoming(&mut self, incoming: Incoming) -> Option<SocketEvent> {
        let open = matches!(self.phase, Phase::Open);
        match incoming {
            Incoming::Text(text) => open.then_some(SocketEvent::Text(text)),
            Incoming::Binary(bytes) => open.then_some(SocketEvent::Binary(bytes)),
            Incoming::Ping(payload) => {
                if open {
                    self.pong = Some(payload);
                    self.flush_pong();
                }
                Some(SocketEvent::Alive)
            }
            Incoming::Pong => Some(SocketEvent::Alive),
            Incoming::Close { code, reason } => {
                if open {
                    // The connection ends either way.
                    let _ = self.encoder.close(code, "", |bytes| self.pipe.write(bytes));
                }
                Some(self.finish(SocketEvent::Closed { code, reason }))
            }
        }
    }

    /// Answers the newest ping, unless the network is behind.
    fn flush_pong(&mut self) {
        if self.pipe.queued() <= PONG_BACKLOG_MAX
            && let Some(payload) = self.pong.take()
        {
            let pong = OpCode::Control(Control::Pong);
            // The server closes the connection if pongs fail to come.
            let _ = self.encoder.frame(pong, &payload, |bytes| self.pipe.write(bytes));
        }
    }

    fn send(&mut self, opcode: OpCode, payload: &[u8]) -> Result<(), TransportError> {
        if !matches!(self.phase, Phase::Open) || self.pipe.failure().is_some() {
            return Err(TransportError::NotOpen);
        }
        if payload.len() > MESSAGE_MAX {
            return Err(TransportError::MessageTooLarge { size: payload.len(), limit: MESSAGE_MAX });
        }
        let queued = self.pipe.queued();
        // Room is kept for what the connection itself has to say: a close frame, a pong, an alert.
        if queued + payload.len() + payload.len() / 32 + RESERVE > TRANSMIT_MAX {
            return Err(TransportError::TransmitFull { queued, limit: TRANSMIT_MAX });
        }
        self.encoder.frame(opcode, payload, |bytes| self.pipe.write(bytes))
    }

    /// Nothing more can be decoded from what is there: why?
    fn ended(&mut self) -> Option<SocketEvent> {
        if matches!(self.phase, Phase::Done) {
            return None;
        }
        if let Some(error) = self.pipe.failure() {
            let error = error.clone();
            return Some(self.fail(error));
        }
        let peer = self.pipe.peer();
        if peer == PeerEnd::Open {
            return None;
        }
        let host = self.address.host.clone();
        match &self.phase {
            Phase::Upgrade { response, .. } => {
                let error = response.end(peer).err();
                let error = error.unwrap_or(TransportError::Ended { host, during: Stage::Answer });
                Some(self.fail(error))
            }
            // The status is what counts; a body cut short is still worth showing.
            Phase::Refused { .. } => self.refused(),
            Phase::Open => Some(self.fail(TransportError::Ended { host, during: Stage::Open })),
            Phase::Closing | Phase::Abandoned => Some(self.finish(closed())),
            Phase::Done => None,
        }
    }

    fn refused(&mut self) -> Option<SocketEvent> {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Refused { head, body, .. } => {
                let event = SocketEvent::Refused { status: head.status, headers: head.headers, body };
                Some(self.finish(event))
            }
            _ => None,
        }
    }

    /// Tells the peer what it did, in a close frame.
    fn breach(&mut self, breach: Breach) -> TransportError {
        if matches!(self.phase, Phase::Open) {
            // The connection ends either way.
            let _ = self.encoder.close(Some(breach.code), &breach.why, |bytes| self.pipe.write(bytes));
        }
        if breach.code == INTERNAL {
            return TransportError::Internal { what: breach.why };
        }
        TransportError::WebSocket { host: self.address.host.clone(), why: breach.why, code: breach.code }
    }

    fn fail(&mut self, error: TransportError) -> SocketEvent {
        let error = match &self.proxy {
            Some(proxy) => error.through(proxy),
            None => error,
        };
        self.finish(SocketEvent::Failed(error))
    }

    fn finish(&mut self, event: SocketEvent) -> SocketEvent {
        self.phase = Phase::Done;
        self.decoder = Decoder::default();
        self.pong = None;
        self.pipe.close();
        event
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Upgrade { .. } => "Upgrade",
            Phase::Refused { .. } => "Refused",
            Phase::Open => "Open",
            Phase::Closing => "Closing",
            Phase::Abandoned => "Abandoned",
            Phase::Done => "Done",
        };
        f.debug_struct("Socket")
            .field("address", &self.address)
            .field("phase", &phase)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SocketRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketRequest({})", describe(self.url, self.headers))
    }
}

/// Bytes of `TRANSMIT_MAX` that messages leave free.
const RESERVE: usize = 4 * CONTROL_MAX;

fn closed() -> SocketEvent {
    SocketEvent::Closed { code: None, reason: String::new() }
}

fn halves(random: [u8; 32]) -> ([u8; 16], [u8; 16]) {
    let (mut nonce, mut seed) = ([0; 16], [0; 16]);
    let (front, back) = random.split_at(16);
    nonce.copy_from_slice(front);
    seed.copy_from_slice(back);
    (nonce, seed)
}
