//! What the machine wants done: orders for the adapter, events for the application.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::event::Event;
use crate::ids::{FetchId, OfferId, ProbeId, SocketId};
use crate::secret::Secret;

/// An order or an event. Exhaustive on purpose: a loop that ignores a new order must not compile.
#[expect(
    clippy::large_enum_variant,
    reason = "outputs are few and live shortly; a box would burden every match"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// See whether the network is there; answer with [`Input::Reachable`](crate::Input::Reachable) or
    /// [`Input::Unreachable`](crate::Input::Unreachable). No input is owed once something was dialled.
    Probe(Probe),
    /// Open a WebSocket.
    Dial(Dial),
    /// Send a text message; answer with [`Input::SocketSent`](crate::Input::SocketSent).
    Send {
        /// The connection to send on.
        socket: SocketId,
        /// The message.
        text: String,
    },
    /// Send a binary message, as [`Serializer::MsgPack`](crate::Serializer::MsgPack) does; answer with
    /// [`Input::SocketSent`](crate::Input::SocketSent).
    SendBinary {
        /// The connection to send on.
        socket: SocketId,
        /// The message.
        data: Vec<u8>,
    },
    /// Close a connection, politely if that can be done at once. No input is owed afterwards.
    HangUp {
        /// The connection to close.
        socket: SocketId,
        /// The WebSocket close code to send.
        code: u16,
        /// Why, for the log.
        reason: String,
    },
    /// Request firmware over HTTP.
    Fetch(Fetch),
    /// Drop a fetch. No input is owed afterwards.
    Abort {
        /// The fetch to drop.
        fetch: FetchId,
    },
    /// Open the applier for an offer. Bytes kept by [`Link::body`](crate::Link::body) go to it.
    StartApply(StartApply),
    /// All bytes of the offer were stored: let the applier finish, then report
    /// [`Input::ApplyDone`](crate::Input::ApplyDone) or [`Input::ApplyFailed`](crate::Input::ApplyFailed).
    FinishApply {
        /// The offer whose bytes are complete.
        offer: OfferId,
    },
    /// Stop the applier and forget what it was doing. No input is owed afterwards.
    CancelApply {
        /// The offer to drop.
        offer: OfferId,
    },
    /// Restart the device, after the application agreed and what was sent is on the wire.
    Reboot {
        /// Why, for the log.
        reason: String,
    },
    /// News for the application.
    Event(Event),
}

/// A look whether the network is there, before the first connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The number of this probe.
    pub probe: ProbeId,
    /// The address of the socket: open a TCP connection to its host and port, or to the proxy that would be used for
    /// it, and close it again. Holds no secret.
    pub url: String,
    /// How long looking up the name and connecting may take together.
    pub timeout: Duration,
}

/// A WebSocket to open.
#[derive(Clone, Debug, PartialEq)]
pub struct Dial {
    /// The number of this connection.
    pub socket: SocketId,
    /// `ws://` or `wss://`, with path and query. Holds no secret.
    pub url: String,
    /// Headers to add to the upgrade request. Values are secret.
    pub headers: Vec<(String, Secret)>,
    /// How long connecting, TLS and upgrade may take together.
    pub timeout: Duration,
}

/// An HTTP GET for firmware.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetch {
    /// The number of this request.
    pub fetch: FetchId,
    /// The offer it belongs to.
    pub offer: OfferId,
    /// `http://` or `https://`. Secret: its query may hold a signature.
    pub url: Secret,
    /// Headers to send, `Range` among them where needed.
    pub headers: Vec<(String, String)>,
    /// How long connecting and TLS may take together.
    pub timeout: Duration,
}

/// An applier to open.
#[derive(Clone, Debug, PartialEq)]
pub struct StartApply {
    /// The offer to apply.
    pub offer: OfferId,
    /// The Ed25519 public keys to trust, base64, current when the offer arrived. Never empty.
    pub public_keys: Vec<String>,
}
