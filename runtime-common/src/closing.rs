//! Closing a connection without losing what was sent last.
//!
//! A socket that is dropped while the peer still sends answers with a reset. A peer that meets the reset when it writes
//! may never read what arrived before. So the sending direction ends first, and the connection is kept until the peer
//! has closed it too, for [`CLOSE_TIME_MAX`] at most.

use nerves_hub_link_protocol::Instant;
use nerves_hub_link_transport::Socket;

use crate::limits::{CLOSE_TIME_MAX, CLOSING_MAX};
use crate::tcp::{Interest, Tcp};
use crate::wire::Wire;

/// Connections that are being closed.
pub(crate) struct Closing<T>(Vec<(Wire<Socket, T>, Instant)>);

impl<T> Default for Closing<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Tcp> Closing<T> {
    /// Takes a connection over.
    pub(crate) fn add(&mut self, wire: Wire<Socket, T>, now: Instant, buffer: &mut [u8]) {
        if self.0.len() >= CLOSING_MAX {
            // The oldest had the longest time.
            self.0.remove(0);
        }
        self.0.push((wire, now + CLOSE_TIME_MAX));
        self.turn(now, buffer);
    }

    /// Does what can be done now.
    pub(crate) fn turn(&mut self, now: Instant, buffer: &mut [u8]) {
        self.0.retain_mut(|(wire, until)| {
            wire.finish_writing();
            wire.discard(buffer);
            !wire.has_ended() && now < *until
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next connection has had its time.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|(_, until)| *until).min()
    }

    pub(crate) fn interests(&self) -> impl Iterator<Item = (&T, Interest)> {
        self.0.iter().filter_map(|(wire, _)| wire.closing_interest())
    }
}
