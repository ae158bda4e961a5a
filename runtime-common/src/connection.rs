//! The two kinds of connection: the WebSocket and a download. Each turns events of the transport into
//! inputs of the machine, one at a time.

use std::net::IpAddr;

use nerves_hub_link_protocol::{
    AddressRules, Dial, Fetch, FetchId, HeaderRef, Input, Instant, Link, Now, Sink, SocketId,
};
use nerves_hub_link_transport::{
    Exchange, ExchangeEvent, ExchangeRequest, Socket, SocketEvent, SocketRequest, Tls, TransportError,
};

use crate::dial::Connector;
use crate::tcp::{Network, Tcp};
use crate::wire::Wire;

/// How a connection goes on after one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There may be another event.
    More,
    /// Nothing to say for now.
    Idle,
    /// It has ended, and the machine was told.
    Gone,
    /// These bytes, which belong at an offset of the file, are to be handed over; then there may be another event.
    Keep(u64, Vec<u8>),
    /// Bytes that the machine counted can't be handed over, for this reason: whoever gets the file must give up.
    Lost(&'static str),
}

/// The WebSocket that carries the device's messages.
pub(crate) struct Websocket<T> {
    pub(crate) id: SocketId,
    pub(crate) wire: Wire<Socket, T>,
    /// Messages not yet handed to the operating system.
    unsent: u32,
    /// The server accepted the upgrade.
    pub(crate) up: bool,
    /// Where the server answered from, if it is the configured one, until the engine takes it.
    pub(crate) hub: Option<IpAddr>,
    /// Whether the server is the configured one.
    known: bool,
}

/// A request for firmware.
pub(crate) struct Download<T> {
    pub(crate) id: FetchId,
    pub(crate) into: Sink,
    pub(crate) wire: Wire<Exchange, T>,
    /// When to read on, at the earliest.
    not_before: Option<Instant>,
}

impl<T: Tcp> Websocket<T> {
    pub(crate) fn dial<N: Network<Tcp = T>>(
        order: &Dial,
        tls: &Tls,
        connector: &mut Connector<N>,
        now: Instant,
        rules: AddressRules,
    ) -> Result<Self, String> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .map_err(|error| format!("the system gives no random numbers: {error}"))?;
        let headers: Vec<(String, String)> =
            order.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
        let request = SocketRequest { url: &order.url, headers: &headers, tls: Some(tls) };
        let socket = Socket::new(&request, random).map_err(|error| error.to_string())?;
        let wire = Wire::dial(socket, connector, order.timeout, now, rules)?;
        Ok(Self { id: order.socket, wire, unsent: 0, up: false, hub: None, known: rules.is_any() })
    }

    /// Queues a text message. One that the transport refuses ends the connection.
    pub(crate) fn send(&mut self, text: &str) {
        let queued = self.wire.machine.send_text(text);
        self.queued(queued);
    }

    /// Queues a binary message. One that the transport refuses ends the connection.
    pub(crate) fn send_binary(&mut self, data: &[u8]) {
        let queued = self.wire.machine.send_binary(data);
        self.queued(queued);
    }

    fn queued(&mut self, queued: Result<(), TransportError>) {
        match queued {
            Ok(()) => self.unsent += 1,
            Err(error) => self.wire.break_off(error.to_string()),
        }
    }

    /// Writes what can be written and returns how many messages left with it.
    pub(crate) fn flush(&mut self) -> u32 {
        if self.wire.flush() { std::mem::take(&mut self.unsent) } else { 0 }
    }

    /// Tells the machine the next event.
    pub(crate) fn step(&mut self, link: &mut Link, now: Now) -> Step {
        let socket = self.id;
        let down = |link: &mut Link, code, reason: &str| {
            link.handle(now, Input::SocketDown { socket, code, reason });
            Step::Gone
        };
        let Some(event) = self.wire.machine.poll() else {
            return match self.wire.broken() {
                Some(reason) => down(link, None, &reason),
                None => Step::Idle,
            };
        };
        // What answers in HTTP has shown its certificate, if it needs one.
        if self.known && matches!(event, SocketEvent::Up | SocketEvent::Refused { .. }) {
            self.hub = self.wire.peer();
        }
        match event {
            SocketEvent::Up => {
                self.up = true;
                self.wire.settle();
                link.handle(now, Input::SocketUp { socket, interface: self.wire.interface() });
            }
            SocketEvent::Text(text) => link.handle(now, Input::SocketText { socket, text: &text }),
            SocketEvent::Binary(data) => link.handle(now, Input::SocketBinary { socket, data: &data }),
            SocketEvent::Alive => {}
            SocketEvent::Refused { status, headers, body } => {
                let headers = borrowed(&headers);
                link.handle(now, Input::SocketRefused { socket, status, headers: &headers, body: &body });
                return Step::Gone;
            }
            SocketEvent::Closed { code, reason } => return down(link, code, &reason),
            SocketEvent::Failed(error) => return down(link, None, &error.to_string()),
        }
        Step::More
    }
}

impl<T: Tcp> Download<T> {
    pub(crate) fn start<N: Network<Tcp = T>>(
        order: &Fetch,
        tls: &Tls,
        connector: &mut Connector<N>,
        now: Instant,
        rules: AddressRules,
    ) -> Result<Self, String> {
        let request = ExchangeRequest { url: order.url.expose(), headers: &order.headers, tls: Some(tls) };
        let exchange = Exchange::new(&request).map_err(|error| error.to_string())?;
        let wire = Wire::dial(exchange, connector, order.timeout, now, rules)?;
        Ok(Self { id: order.fetch, into: order.into, wire, not_before: None })
    }

    /// Until when nothing is to be read, if it isn't now.
    pub(crate) fn pause(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|at| *at > now)
    }

    /// Tells the machine the next event. Call it only while whoever gets the bytes has room for a piece.
    pub(crate) fn step(&mut self, link: &mut Link, now: Now) -> Step {
        let fetch = self.id;
        let failed = |link: &mut Link, reason: &str| {
            link.handle(now, Input::FetchFailed { fetch, reason });
            Step::Gone
        };
        match self.wire.machine.poll() {
            Some(ExchangeEvent::Head { status, headers }) => {
                let headers = borrowed(&headers);
                let interface = self.wire.interface();
                link.handle(now, Input::FetchHead { fetch, status, headers: &headers, interface });
                Step::More
            }
            Some(ExchangeEvent::Body(piece)) => {
                let keep = link.body(now, fetch, piece);
                self.not_before = keep.not_before;
                let kept = piece.get(keep.range.clone());
                debug_assert!(kept.is_some(), "{:?} of {} bytes", keep.range, piece.len());
                match kept {
                    Some(kept) => Step::Keep(keep.offset, kept.to_vec()),
                    None => Step::Lost(NOT_THERE),
                }
            }
            Some(ExchangeEvent::End) => {
                link.handle(now, Input::FetchEnd { fetch });
                Step::Gone
            }
            Some(ExchangeEvent::Failed(error)) => failed(link, &error.to_string()),
            None => match self.wire.broken() {
                Some(reason) => failed(link, &reason),
                None => Step::Idle,
            },
        }
    }
}

/// What the machine wants of a piece is not in it.
pub(crate) const NOT_THERE: &str =
    "an internal error: bytes were wanted that the piece doesn't have; please report it";

fn borrowed(headers: &[(String, String)]) -> Vec<HeaderRef<'_>> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
