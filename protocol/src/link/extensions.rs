//! The machine's extensions, between the doors and what they lead to.

use alloc::vec::Vec;

use super::Link;
use crate::command::CommandError;
use crate::extension::{ExtensionCommand, ExtensionStatus};
use crate::hub::names;
use crate::phoenix::Payload;
use crate::status::Counters;

impl Link {
    /// Returns what became of each extension the configuration allows.
    pub fn extensions(&self) -> Vec<ExtensionStatus> {
        self.extensions.status(&self.core.config)
    }

    pub(super) fn extension_command(&mut self, command: ExtensionCommand) -> Result<(), CommandError> {
        self.extensions.command(&mut self.core.cx(), command, self.alarms.raised())
    }

    pub(super) fn settle_extensions(&mut self) {
        let socket = self.connection.open_socket();
        self.extensions.settle(&mut self.core.cx(), socket, self.alarms.raised());
    }

    /// Returns what was dropped or refused, by all parts.
    pub(super) fn counted(&self) -> Counters {
        let dropped = self.extensions.dropped();
        Counters {
            dropped_pushes: self.core.wire.dropped(),
            dropped_log_lines: dropped.log_lines,
            dropped_error_reports: dropped.error_reports,
            dropped_metric_samples: dropped.samples,
            ..self.counters
        }
    }

    /// The extensions channel was joined.
    pub(super) fn extensions_joined(&mut self, response: Option<Payload<'_>>) {
        if let Err(reason) = self.extensions.joined(&mut self.core.cx(), response) {
            self.malformed(&reason);
        }
    }

    /// An event of the extensions channel arrived.
    pub(super) fn extension_event(&mut self, event: &str, payload: Payload<'_>) {
        match self.extensions.received(&mut self.core.cx(), event, payload) {
            Ok(true) => {}
            Ok(false) => self.unknown(names::EXTENSIONS, event),
            Err(reason) => self.malformed(&reason),
        }
    }
}
