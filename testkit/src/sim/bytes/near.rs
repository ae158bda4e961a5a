//! The device's end: the machines of the transport, as adapters use them.

use nerves_hub_link_transport::{Exchange, Socket, TransportError};

/// A machine.
#[derive(Debug)]
pub(in crate::sim) enum Near {
    Socket(Box<Socket>),
    File(Box<Exchange>),
}

impl Near {
    /// Bytes for the server.
    pub fn transmit(&mut self) -> &[u8] {
        match self {
            Self::Socket(socket) => socket.transmit(),
            Self::File(exchange) => exchange.transmit(),
        }
    }

    /// So many of them were taken.
    pub fn transmitted(&mut self, count: usize) {
        match self {
            Self::Socket(socket) => socket.transmitted(count),
            Self::File(exchange) => exchange.transmitted(count),
        }
    }

    /// Whether bytes of the server are wanted.
    pub fn wants_input(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::File(exchange) => exchange.wants_input(),
        }
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        match self {
            Self::Socket(socket) => socket.receive(bytes),
            Self::File(exchange) => exchange.receive(bytes),
        }
    }

    /// The time for an answer is over.
    pub fn out_of_time(&mut self) {
        if let Self::Socket(socket) = self {
            socket.out_of_time();
        }
    }

    pub fn receive_eof(&mut self) {
        match self {
            Self::Socket(socket) => socket.receive_eof(),
            Self::File(exchange) => exchange.receive_eof(),
        }
    }
}

/// An address without TLS, which draws randomness of its own.
pub(in crate::sim) fn plain(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match scheme {
        "wss" => format!("ws://{rest}"),
        "https" => format!("http://{rest}"),
        _ => url.to_owned(),
    }
}

/// Whether an error blames the server for what it sent.
pub(in crate::sim) fn broke(error: &TransportError) -> bool {
    !matches!(error, TransportError::Ended { .. } | TransportError::ShortBody { .. })
}
