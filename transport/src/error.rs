//! What can go wrong on a connection, in words for the person who reads the log.

use crate::{AddressError, TlsError};

/// Why a connection could not be made, used or kept.
///
/// No variant carries a header value, a query or a body: all of them may be logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The URL cannot be used.
    #[error("{0}")]
    Address(#[from] AddressError),
    /// The URL asks for TLS and no TLS settings were given.
    #[error("{host} is to be reached over TLS, but no TLS settings were given")]
    TlsMissing {
        /// The host of the URL.
        host: String,
    },
    /// TLS refused the peer, the peer refused us, or the settings are unusable.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// A request header given by the caller cannot be sent.
    #[error("request header {name:?} {why}")]
    Header {
        /// The header's name; its value is never repeated.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The request head is larger than [`REQUEST_MAX`](crate::limits::REQUEST_MAX).
    #[error("the request head is over the limit of {limit} bytes: give fewer or shorter headers")]
    RequestTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The request could not be put into HTTP.
    #[error("the request cannot be written as HTTP: {why}")]
    Request {
        /// The reason.
        why: String,
    },
    /// A message was to be sent while the socket is not open.
    #[error("the socket is not open")]
    NotOpen,
    /// A message of ours is larger than [`MESSAGE_MAX`](crate::limits::MESSAGE_MAX).
    #[error("a message of {size} bytes is over the server's limit of {limit} bytes")]
    MessageTooLarge {
        /// The message's size, in bytes.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The network has not taken what is queued already.
    #[error("{queued} bytes wait for the network and a further message would pass the limit of {limit}")]
    TransmitFull {
        /// Bytes waiting.
        queued: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// `receive` was called with more than can be held; a mistake of the calling loop.
    #[error("more than {limit} received bytes were handed over without polling")]
    ReceiveOverrun {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The peer's answer is not HTTP/1.1 as it should be.
    #[error("{host} did not answer in HTTP/1.1: {why}")]
    Http {
        /// Who answered.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// The response head is larger than [`HEAD_MAX`](crate::limits::HEAD_MAX).
    #[error("{host} sent a response head over the limit of {limit} bytes")]
    HeadTooLarge {
        /// Who sent it.
        host: String,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The response has more than [`HEADERS_MAX`](crate::limits::HEADERS_MAX) headers.
    #[error("{host} sent more than {limit} response headers")]
    TooManyHeaders {
        /// Who sent them.
        host: String,
        /// The limit.
        limit: usize,
    },
    /// The proxy opens no way to the server.
    #[error("the proxy {proxy} refused a connection to {target} with HTTP {status}{}", proxy_wants(*status, *credentials))]
    Proxy {
        /// The proxy.
        proxy: String,
        /// Host and port of the server.
        target: String,
        /// The HTTP status.
        status: u16,
        /// Whether it was given a user and a password.
        credentials: bool,
    },
    /// A connection through a proxy failed. Who is to blame can't be seen from here.
    #[error("behind the proxy {proxy} ({}): {error}", proxy_part(error))]
    Proxied {
        /// The proxy.
        proxy: String,
        /// What failed.
        error: Box<TransportError>,
    },
    /// The server said 101, but not as RFC 6455 asks.
    #[error("{host} answered the WebSocket upgrade wrongly: {why}")]
    Upgrade {
        /// Who answered.
        host: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The server broke the WebSocket protocol; we closed with `code`.
    #[error("{host} broke the WebSocket protocol: {why} (closed with {code})")]
    WebSocket {
        /// Who broke it.
        host: String,
        /// What it did.
        why: String,
        /// The close code we sent (RFC 6455 §7.4.1): 1002, 1007 or 1009.
        code: u16,
    },
    /// The connection ended too early.
    #[error("{host} ended the connection {during}")]
    Ended {
        /// Who ended it.
        host: String,
        /// What was going on.
        during: Stage,
    },
    /// The body ended before it was whole.
    #[error("the body from {host} broke off: {} received", amount(*.received, *.expected))]
    ShortBody {
        /// Who sent it.
        host: String,
        /// Body bytes received.
        received: u64,
        /// Body bytes announced, where the server said.
        expected: Option<u64>,
    },
    /// A mistake in this library ended the connection.
    #[error("internal error: {what}; please report it")]
    Internal {
        /// What was inconsistent.
        what: String,
    },
}

impl TransportError {
    /// Names the proxy that the connection goes through, where it may have a part in what failed.
    pub(crate) fn through(self, proxy: &str) -> Self {
        let peer = match &self {
            Self::Tls(error) => error.is_retryable(),
            Self::Http { .. }
            | Self::HeadTooLarge { .. }
            | Self::TooManyHeaders { .. }
            | Self::Upgrade { .. }
            | Self::Ended { .. }
            | Self::ShortBody { .. } => true,
            _ => false,
        };
        if peer { Self::Proxied { proxy: proxy.to_owned(), error: Box::new(self) } } else { self }
    }

    /// Returns the error for a state that this library's own logic rules out. Panics where debug assertions are on.
    pub(crate) fn internal(what: &str) -> Self {
        debug_assert!(false, "internal error: {what}");
        Self::Internal { what: what.to_owned() }
    }

    /// Tells whether the same attempt may work later with nothing changed on our side.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Address(_)
            | Self::TlsMissing { .. }
            | Self::Header { .. }
            | Self::RequestTooLarge { .. }
            | Self::Request { .. }
            | Self::MessageTooLarge { .. } => false,
            Self::Tls(error) => error.is_retryable(),
            Self::Proxied { error, .. } => error.is_retryable(),
            Self::NotOpen
            | Self::TransmitFull { .. }
            | Self::ReceiveOverrun { .. }
            | Self::Http { .. }
            | Self::HeadTooLarge { .. }
            | Self::TooManyHeaders { .. }
            | Self::Upgrade { .. }
            | Self::WebSocket { .. }
            | Self::Ended { .. }
            | Self::Proxy { .. }
            | Self::Internal { .. }
            | Self::ShortBody { .. } => true,
        }
    }
}

/// What a connection was doing when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stage {
    /// The TLS handshake was not finished. The device endpoint's connect rate limit looks like this too.
    #[error(
        "during the TLS handshake (a connect rate limit or a server that speaks no TLS here looks like this)"
    )]
    TlsHandshake,
    /// The response head was not complete.
    #[error("before its answer was complete")]
    Answer,
    /// The socket was open; no close frame came.
    #[error("without closing the socket first")]
    Open,
}

/// What a proxy's refusal means, and asks for.
fn proxy_wants(status: u16, credentials: bool) -> &'static str {
    match (status, credentials) {
        (407, true) => ": it rejects the user and the password given",
        (407, false) => ": it wants a user and a password (http://user:password@proxy)",
        (401 | 403, _) => ": its rules forbid it; ask who runs the proxy to allow this host and port",
        (405 | 501, _) => ": it does not know CONNECT, so it is no proxy, or one for pages alone",
        (429, _) => ": it takes no more connections for now",
        (502..=504, _) => ": it can't reach the server, which may be down, or unknown to the proxy's network",
        _ => "",
    }
}

/// What a proxy may have to do with a failure behind it. Short: the failure itself follows, and logs cut long texts.
fn proxy_part(error: &TransportError) -> &'static str {
    match error {
        TransportError::Tls(
            TlsError::UnknownIssuer { .. }
            | TlsError::Expired { .. }
            | TlsError::NotYetValid { .. }
            | TlsError::WrongName { .. }
            | TlsError::BadCertificate { .. },
        ) => "if it inspects TLS, the certificate is its own: exempt this host there, or trust its authority",
        TransportError::Tls(_) => {
            "if it inspects TLS, it answers in place of the server, without client certificates: exempt this host there"
        }
        TransportError::Ended { .. } | TransportError::ShortBody { .. } => {
            "which may have ended the connection"
        }
        _ => "which may have answered in place of the server",
    }
}

fn amount(received: u64, expected: Option<u64>) -> String {
    match expected {
        Some(expected) => format!("{received} of {expected} bytes"),
        None => format!("{received} bytes, the end never came,"),
    }
}
