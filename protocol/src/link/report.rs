//! What the device tells about itself beside updates: validation, interface, kinds of connection.

use alloc::string::String;

use super::Link;
use crate::event::Event;
use crate::hub::{device, names, payload};
use crate::limits::{MAX_CONNECTION_TYPES, MAX_NAME_CHARS, REBOOT_GRACE, VALIDATION_INTERVAL};
use crate::mismatch;
use crate::output::Output;
use crate::phoenix::Class;
use crate::text::cut;

impl Link {
    /// The running firmware proved good.
    pub(super) fn firmware_validated(&mut self) {
        if self.core.config.firmware_validated.replace(true) != Some(true) {
            self.updates.validated(&mut self.core.cx());
            self.keep_newest();
            if self.connection.is_up() {
                self.core.wire.push(names::FIRMWARE_VALIDATED, payload::empty(), Class::Session);
            }
        }
    }

    /// Has the newest version kept that ran well here, if that changed and matters.
    pub(super) fn keep_newest(&mut self) {
        // Running is not enough where it is known not to have proved good.
        if self.core.config.firmware_validated == Some(false) {
            return;
        }
        if let Some(version) = mismatch::newest_to_keep(&self.core.config) {
            self.core.config.newest_version = Some(version.clone());
            self.core.out.push(Output::SaveNewest { version });
        }
    }

    /// Asks the application from time to time whether the running firmware proved good, while it hasn't.
    pub(super) fn follow_validation(&mut self) {
        let wanted = self.core.config.firmware_validated == Some(false) && !self.connection.is_offline();
        let next = self.ask_validated.unwrap_or(self.core.now + VALIDATION_INTERVAL);
        self.ask_validated = wanted.then_some(next);
    }

    pub(super) fn tick_validation(&mut self) {
        if self.ask_validated.take_if(|at| *at <= self.core.now).is_some() {
            self.ask_validated = Some(self.core.now + VALIDATION_INTERVAL);
            self.core.out.event_if_room(Event::ValidationWanted);
        }
    }

    /// Returns the version of fwup that a join would announce now.
    pub(super) fn announcement(&self) -> Option<String> {
        device::fwup_version(&self.core.config, self.updates.takes_deltas()).map(String::from)
    }

    /// A delta failed. The server learns only from a join that it should send full images, and a connection may last
    /// for weeks.
    pub(super) fn plan_announcement(&mut self) {
        if self.connection.is_up() && self.announced != self.announcement() {
            self.announce_at = Some(self.core.now + REBOOT_GRACE);
        }
    }

    /// Connects again once the server has seen the report of the delta's failure. Sent again on the next connection, the
    /// report would be taken for one of the full image that the server offers there.
    pub(super) fn announce_again(&mut self) {
        if !self.connection.is_up() {
            // The next connection announces it anyway.
            self.announce_at = None;
        }
        let now = self.core.now;
        let wire = &mut self.core.wire;
        if self.announce_at.take_if(|at| now >= *at || wire.is_seen(now)).is_some() {
            self.connection.give_up(
                &mut self.core.cx(),
                "a delta could not be applied, so the device connects again to ask for full images",
            );
        }
    }

    /// The application knows which interface the connection runs over.
    pub(super) fn network_interface(&mut self, name: &str) {
        let name = payload::interface_name(&self.core.config, Some(name));
        if self.connection.set_interface(name.clone()) && self.core.wire.is_joined() {
            self.report_network_interface(name);
        }
    }

    pub(super) fn report_network_interface(&mut self, name: Option<String>) {
        if let Some(name) = name {
            let report = payload::network_interface(&name);
            let class = Class::Latest(names::REPORT_NETWORK_INTERFACE);
            self.core.wire.push(names::REPORT_NETWORK_INTERFACE, report, class);
        }
    }

    /// The application knows how the device is connected.
    pub(super) fn connection_types(&mut self, types: &[String]) {
        let types = types.iter().take(MAX_CONNECTION_TYPES);
        self.connection_types = types.map(|word| cut(word, MAX_NAME_CHARS)).collect();
        self.report_connection_types();
    }

    /// Reports how the device is connected, if that was said and somebody listens.
    pub(super) fn report_connection_types(&mut self) {
        if self.core.wire.is_joined() && !self.connection_types.is_empty() {
            let report = payload::connection_types(&self.connection_types);
            self.core.wire.push(names::CONNECTION_TYPES, report, Class::Latest(names::CONNECTION_TYPES));
        }
    }
}
