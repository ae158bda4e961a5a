//! What messages of the server lead to.

use alloc::format;
use alloc::string::String;

use super::{Link, count};
use crate::event::Event;
use crate::hub::keys::Keys;
use crate::hub::{CONSOLE, DEVICE, EXTENSIONS, names, payload};
use crate::ids::SocketId;
use crate::limits::{MAX_NAME_CHARS, MAX_TEXT_CHARS};
use crate::phoenix::{Incoming, Malformed, Payload, Received};
use crate::text::cut;

impl Link {
    /// A message arrived. Returns whether on the present connection.
    pub(super) fn received(&mut self, socket: SocketId, message: Received<'_>) -> bool {
        if !self.may_receive(socket) {
            return false;
        }
        match self.core.wire.receive(self.core.now, message) {
            Ok(incoming) => {
                self.incoming(incoming);
                self.heard_from_server();
            }
            Err(Malformed(reason)) => self.malformed(&reason),
        }
        true
    }

    /// Returns whether a message of that socket counts. A caller that doesn't poll loses the
    /// connection, instead of the machine growing.
    fn may_receive(&mut self, socket: SocketId) -> bool {
        if self.connection.open_socket() != Some(socket) {
            return false;
        }
        let room = self.core.out.has_room();
        if !room {
            self.connection.give_up(&mut self.core.cx(), "more arrived than was fetched from the machine");
        }
        room
    }

    pub(super) fn incoming(&mut self, incoming: Incoming<'_>) {
        match incoming {
            Incoming::Nothing => {}
            Incoming::Joined { topic: DEVICE, .. } => {
                let interface = self.connection.joined(self.core.now);
                self.updates.rejoined();
                self.managed.joined(self.core.now);
                self.extensions.device_joined(&self.core.cx());
                self.core.out.event(Event::Joined);
                self.report_network_interface(interface);
                self.report_connection_types();
                self.console.device_joined(&mut self.core.cx());
            }
            Incoming::Joined { topic: CONSOLE, .. } => self.core.out.event(Event::ConsoleJoined),
            Incoming::JoinRefused { topic: CONSOLE, reason, retry_in }
            | Incoming::Lost { topic: CONSOLE, reason, retry_in } => {
                self.console.lost(&mut self.core.cx(), reason, retry_in);
            }
            Incoming::Push { topic: CONSOLE, event, payload } => self.console_heard(&event, payload),
            Incoming::JoinRefused { topic: DEVICE, reason, retry_in } => {
                self.core.out.event(Event::JoinRefused { reason, retry_in });
            }
            Incoming::Lost { topic: DEVICE, reason, retry_in } => {
                self.core.out.event(Event::ChannelLost { reason, retry_in });
            }
            Incoming::Foreign { topic, event } => self.unknown(&topic, &event),
            Incoming::Push { topic: DEVICE, event, payload } => {
                if let Err(reason) = self.push(&event, payload) {
                    self.malformed(&reason);
                }
            }
            Incoming::Joined { topic: EXTENSIONS, response } => self.extensions_joined(response),
            Incoming::JoinRefused { topic: EXTENSIONS, reason, retry_in } => {
                let reason = format!("the server refused the channel: {reason}");
                self.extensions.lost(&mut self.core.cx(), reason, retry_in);
            }
            Incoming::Lost { topic: EXTENSIONS, reason, retry_in } => {
                self.extensions.lost(&mut self.core.cx(), reason, retry_in);
            }
            Incoming::Push { topic: EXTENSIONS, event, payload } => self.extension_event(&event, payload),
            Incoming::Rejected { topic: EXTENSIONS, tag, reason } => {
                let known = self.extensions.rejected(&mut self.core.cx(), tag, &reason);
                self.answer(known);
            }
            // Device pushes are never answered (device-protocol §1.9), and other topics are not joined.
            Incoming::Stale
            | Incoming::Rejected { .. }
            | Incoming::Joined { .. }
            | Incoming::JoinRefused { .. }
            | Incoming::Lost { .. }
            | Incoming::Push { .. } => count(&mut self.counters.stale_messages),
        }
    }

    /// Takes an event of the device channel. Returns what is wrong with its payload, if it can't be read.
    fn push(&mut self, event: &str, payload: Payload<'_>) -> Result<(), String> {
        match event {
            names::UPDATE => {
                if self.updates.is_busy() {
                    count(&mut self.counters.ignored_offers);
                }
                let requested = self.managed.is_requested();
                let offered = self.updates.offered(&mut self.core.cx(), &self.keys, payload, requested)?;
                self.managed.update(&mut self.core.cx(), offered);
            }
            names::FWUP_PUBLIC_KEYS => {
                let (keys, others) = payload::public_keys(payload)?;
                if let Some(count) = self.new_keys(keys, others, |link| &mut link.keys) {
                    self.core.out.event(Event::PublicKeysReceived { count });
                }
            }
            names::ARCHIVE_PUBLIC_KEYS => {
                let (keys, others) = payload::public_keys(payload)?;
                // Nobody but the machine needs to know.
                self.new_keys(keys, others, |link| &mut link.archive_keys);
            }
            names::ARCHIVE => {
                self.archives.offered(&mut self.core.cx(), &self.archive_keys, payload)?;
            }
            names::REBOOT => {
                payload.ignore()?;
                self.reboot_ordered();
            }
            names::EXTENSIONS_GET => {
                self.extensions.invited(&mut self.core.cx(), payload)?;
            }
            names::IDENTIFY => {
                payload.ignore()?;
                self.core.out.event(Event::Identify);
            }
            names::SCRIPTS_RUN => self.scripts.requested(&mut self.core.cx(), payload)?,
            names::UPDATE_MODE => self.managed.mode_told(&mut self.core.cx(), payload)?,
            names::UPDATE_AVAILABLE => {
                let asked = self.managed.available(&mut self.core.cx(), payload)?;
                self.answer(asked);
            }
            names::UPDATE_REJECTED => {
                let asked = self.managed.rejected(&mut self.core.cx(), payload)?;
                self.answer(asked);
            }
            other => {
                payload.ignore()?;
                self.unknown(names::DEVICE, other);
            }
        }
        Ok(())
    }

    /// An answer to a question that nobody waits for comes too late.
    pub(super) fn answer(&mut self, asked: bool) {
        if !asked {
            count(&mut self.counters.stale_messages);
        }
    }

    /// Takes keys of the server's. Returns how many are trusted now, if any of them was usable.
    fn new_keys(
        &mut self,
        keys: alloc::vec::Vec<String>,
        others: u64,
        list: impl FnOnce(&mut Self) -> &mut Keys,
    ) -> Option<usize> {
        if !(self.core.config.accept_server_keys && self.core.wire.is_trusted()) {
            return None;
        }
        let list = list(self);
        let (usable, unusable) = list.replace(keys);
        let count = list.list().len();
        let unusable = unusable.saturating_add(others);
        self.counters.unusable_keys = self.counters.unusable_keys.saturating_add(unusable);
        if usable {
            return Some(count);
        }
        let held = crate::text::count(crate::number::as_u64(count), "key");
        self.malformed(&format!("no usable public key among those the server sent; {held} kept"));
        None
    }

    pub(super) fn malformed(&mut self, reason: &str) {
        count(&mut self.counters.malformed_messages);
        self.core.out.event(Event::Malformed { reason: cut(reason, MAX_TEXT_CHARS) });
    }

    pub(super) fn unknown(&mut self, topic: &str, event: &str) {
        count(&mut self.counters.unknown_events);
        let (topic, event) = (cut(topic, MAX_NAME_CHARS), cut(event, MAX_NAME_CHARS));
        self.core.out.event(Event::Unknown { topic, event });
    }
}
