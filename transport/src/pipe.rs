//! The bottom of both machines: TCP bytes on one side, plain bytes on the other, TLS between or not.

use std::io::{Read as _, Write as _};

use rustls::ClientConnection;

use crate::client_identity::Shown;
use crate::limits::{PLAINTEXT_TARGET, RECEIVE_PENDING_MAX};
use crate::{Address, Stage, Tls, TlsError, TransportError};

/// How the peer's direction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerEnd {
    /// More may come.
    Open,
    /// It ended as it should: TCP end on a plain connection, `close_notify` on TLS.
    Clean,
    /// TCP ended with no `close_notify`: bytes may be missing, by accident or malice.
    Truncated,
}

pub(crate) struct Pipe {
    tls: Option<Session>,
    host: String,
    /// Received, not decrypted yet. Bounded by `RECEIVE_PENDING_MAX`.
    raw: Queue,
    /// Decrypted, not decoded yet. Bounded by `PLAINTEXT_TARGET` and one more TLS buffer.
    plain: Queue,
    /// For the TCP stream. Bounded by the users of the pipe, who look at `queued`.
    out: Queue,
    eof: bool,
    /// Whether this is a connection to the hub, not one to a file server.
    hub: bool,
    peer: PeerEnd,
    failed: Option<TransportError>,
    closed: bool,
}

struct Session {
    connection: ClientConnection,
    roots: String,
    /// Counts the showings of the device's certificate, and what it counted before this connection.
    shown: Shown,
    before: usize,
}

impl Pipe {
    pub(crate) fn new(address: &Address, tls: Option<&Tls>, hub: bool) -> Result<Self, TransportError> {
        let session = match (address.secure, tls) {
            (false, _) => None,
            (true, None) => return Err(TransportError::TlsMissing { host: address.host.clone() }),
            (true, Some(tls)) => {
                let (shown, before) = (tls.shown().clone(), tls.shown().count());
                let connection = tls.connect(&address.host)?;
                Some(Session { connection, roots: tls.roots().to_owned(), shown, before })
            }
        };
        let mut pipe = Self {
            tls: session,
            host: address.host.clone(),
            raw: Queue::default(),
            plain: Queue::default(),
            out: Queue::default(),
            eof: false,
            hub,
            peer: PeerEnd::Open,
            failed: None,
            closed: false,
        };
        pipe.flush_tls();
        Ok(pipe)
    }

    /// Takes bytes from the TCP stream.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        if self.failed.is_some() || self.eof || self.peer != PeerEnd::Open {
            return;
        }
        if self.raw.len() + self.plain.len() + bytes.len() > RECEIVE_PENDING_MAX {
            self.failed = Some(TransportError::ReceiveOverrun { limit: RECEIVE_PENDING_MAX });
            return;
        }
        if self.tls.is_some() {
            self.raw.push(bytes);
        } else {
            self.plain.push(bytes);
        }
        self.pull();
    }

    pub(crate) fn receive_eof(&mut self) {
        self.eof = true;
        self.pull();
    }

    /// Decrypts until enough plain bytes are there or nothing is left to decrypt, and tells whether
    /// that changed anything: more plain bytes, an end or a failure.
    pub(crate) fn pull(&mut self) -> bool {
        let before = (self.plain.len(), self.peer, self.failed.is_some());
        self.decrypt();
        before != (self.plain.len(), self.peer, self.failed.is_some())
    }

    fn decrypt(&mut self) {
        while self.failed.is_none() && self.peer == PeerEnd::Open && self.plain.len() < PLAINTEXT_TARGET {
            let Some(session) = &mut self.tls else {
                if self.eof {
                    self.peer = PeerEnd::Clean;
                }
                break;
            };
            if self.raw.is_empty() && !self.eof {
                break;
            }
            let mut input = self.raw.bytes();
            let read = match session.connection.read_tls(&mut input) {
                Ok(read) => read,
                Err(error) => {
                    let why = error.to_string();
                    self.failed = Some(TlsError::Broken { host: self.host.clone(), why }.into());
                    break;
                }
            };
            self.raw.consume(read);
            let handshake = session.connection.is_handshaking();
            match session.connection.process_new_packets() {
                Ok(state) => {
                    let mut decrypted = vec![0; state.plaintext_bytes_to_read()];
                    if session.connection.reader().read_exact(&mut decrypted).is_err() {
                        let what = "the TLS layer holds fewer bytes than it said";
                        self.failed = Some(TransportError::internal(what));
                        break;
                    }
                    self.plain.push(&decrypted);
                    if state.peer_has_closed() {
                        self.peer = PeerEnd::Clean;
                    } else if read == 0 && self.eof {
                        if session.connection.is_handshaking() {
                            let host = self.host.clone();
                            self.failed = Some(TransportError::Ended { host, during: Stage::TlsHandshake });
                        }
                        self.peer = PeerEnd::Truncated;
                    }
                }
                Err(error) => {
                    let explained = {
                        let shown = session.shown.count() != session.before;
                        TlsError::explain(&error, &self.host, &session.roots, handshake, shown, self.hub)
                    };
                    self.failed = Some(explained.into());
                }
            }
            self.flush_tls();
        }
    }

    /// Plain bytes waiting to be decoded.
    pub(crate) fn plain(&self) -> &[u8] {
        self.plain.bytes()
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.plain.consume(count);
    }

    /// What ended the connection, once everything received before it was decoded.
    pub(crate) fn failure(&self) -> Option<&TransportError> {
        self.failed.as_ref()
    }

    /// How the peer's direction stands; more plain bytes never come once it is not `Open`.
    pub(crate) fn peer(&self) -> PeerEnd {
        self.peer
    }

    /// Queues plain bytes for the peer. What is written after a failure or `close` is dropped.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        if self.closed {
            return;
        }
        if self.tls.is_none() {
            self.out.push(bytes);
            return;
        }
        while let Some(session) = &mut self.tls {
            if bytes.is_empty() {
                break;
            }
            // One record at a time, so that rustls' own buffer (64 KiB) never fills.
            let piece = bytes.get(..PLAINTEXT_TARGET).unwrap_or(bytes);
            let written = session.connection.writer().write(piece).unwrap_or(0);
            match bytes.get(written..) {
                Some(rest) if written > 0 => bytes = rest,
                _ => {
                    let why = "the TLS layer takes no more bytes".to_owned();
                    self.failed = Some(TlsError::Broken { host: self.host.clone(), why }.into());
                    break;
                }
            }
            self.flush_tls();
        }
    }

    /// Ends our direction, with `close_notify` on TLS. What is queued still goes out.
    pub(crate) fn close(&mut self) {
        if let (Some(session), false) = (&mut self.tls, self.closed) {
            session.connection.send_close_notify();
        }
        self.flush_tls();
        self.closed = true;
    }

    pub(crate) fn transmit(&self) -> &[u8] {
        self.out.bytes()
    }

    pub(crate) fn transmitted(&mut self, count: usize) {
        self.out.consume(count);
    }

    /// Bytes that wait for the TCP stream.
    pub(crate) fn queued(&self) -> usize {
        self.out.len()
    }

    /// Bytes of memory the queues hold; what rustls holds (48 KiB at most after the handshake) is not seen.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.raw.buffer.capacity() + self.plain.buffer.capacity() + self.out.buffer.capacity()
    }

    fn flush_tls(&mut self) {
        let Some(session) = &mut self.tls else { return };
        while session.connection.wants_write() {
            // Writing into a vector cannot fail.
            if !matches!(session.connection.write_tls(&mut self.out.buffer), Ok(written) if written > 0) {
                self.failed = Some(TransportError::internal("the TLS layer wants to write and does not"));
                break;
            }
        }
    }
}

/// Bytes that come in at the back and leave at the front.
#[derive(Default)]
struct Queue {
    buffer: Vec<u8>,
    start: usize,
}

impl Queue {
    fn bytes(&self) -> &[u8] {
        debug_assert!(self.start <= self.buffer.len(), "a queue begins behind its end");
        self.buffer.get(self.start..).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push(&mut self, bytes: &[u8]) {
        let needed = self.buffer.len() + bytes.len();
        if needed > self.buffer.capacity() && needed <= RECEIVE_PENDING_MAX {
            // Doubling would go past the bound on what may wait.
            let capacity = needed.max((2 * self.buffer.capacity()).min(RECEIVE_PENDING_MAX));
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
        self.buffer.extend_from_slice(bytes);
    }

    fn consume(&mut self, count: usize) {
        // A calling loop that counts too much has sent all there is.
        self.start = self.start.saturating_add(count).min(self.buffer.len());
        if self.is_empty() {
            self.start = 0;
            self.buffer.clear();
            // A rare large message must not keep its memory for ever.
            self.buffer.shrink_to(PLAINTEXT_TARGET);
        } else if self.start >= 2 * PLAINTEXT_TARGET && self.start >= self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;
    use crate::limits::PLAINTEXT_TARGET;

    /// A network that is always a little behind must not make the queue remember all that ever passed.
    #[test]
    fn a_queue_that_never_runs_empty_stays_small() {
        let mut queue = Queue::default();
        queue.push(&[0; 100]);
        for round in (0..=u8::MAX).cycle().take(10_000) {
            queue.push(&[round; 1000]);
            queue.consume(1000);
            assert_eq!(queue.len(), 100);
        }
        assert_eq!(queue.bytes(), [15; 100]);
        assert!(queue.buffer.capacity() <= 8 * PLAINTEXT_TARGET, "{}", queue.buffer.capacity());
        queue.consume(usize::MAX);
        assert!(queue.is_empty() && queue.buffer.capacity() <= PLAINTEXT_TARGET);
    }
}
