//! The machine's extensions, between the doors and what they lead to.

use alloc::vec::Vec;

use super::Link;
use crate::command::CommandError;
use crate::extension::{ExtensionCommand, ExtensionStatus};
use crate::hub::extensions::Extensions;
use crate::hub::{Context, names};
use crate::phoenix::Payload;
use crate::status::Counters;

impl Link {
    /// Returns what became of each extension the configuration allows.
    pub fn extensions(&self) -> Vec<ExtensionStatus> {
        self.extensions.status(&self.config)
    }

    pub(super) fn extensions_with<T>(
        &mut self,
        work: impl FnOnce(&mut Extensions, &mut Context<'_>) -> T,
    ) -> T {
        let Self { now, wall, config, out, wire, ids, extensions, .. } = self;
        work(extensions, &mut Context { now: *now, wall: *wall, config, out, wire, ids })
    }

    pub(super) fn extension_command(&mut self, command: ExtensionCommand) -> Result<(), CommandError> {
        let Self { now, wall, config, out, wire, ids, extensions, alarms, .. } = self;
        let mut cx = Context { now: *now, wall: *wall, config, out, wire, ids };
        extensions.command(&mut cx, command, alarms.raised())
    }

    pub(super) fn settle_extensions(&mut self) {
        let socket = self.connection.open_socket();
        let Self { now, wall, config, out, wire, ids, extensions, alarms, .. } = self;
        let mut cx = Context { now: *now, wall: *wall, config, out, wire, ids };
        extensions.settle(&mut cx, socket, alarms.raised());
    }

    /// Returns what was dropped or refused, by all parts.
    pub(super) fn counted(&self) -> Counters {
        let dropped = self.extensions.dropped();
        Counters {
            dropped_pushes: self.wire.dropped(),
            dropped_log_lines: dropped.log_lines,
            dropped_error_reports: dropped.error_reports,
            dropped_metric_samples: dropped.samples,
            ..self.counters
        }
    }

    /// The extensions channel was joined.
    pub(super) fn extensions_joined(&mut self, response: Option<Payload<'_>>) {
        if let Err(reason) = self.extensions_with(|extensions, cx| extensions.joined(cx, response)) {
            self.malformed(&reason);
        }
    }

    /// An event of the extensions channel arrived.
    pub(super) fn extension_event(&mut self, event: &str, payload: Payload<'_>) {
        match self.extensions_with(|extensions, cx| extensions.received(cx, event, payload)) {
            Ok(true) => {}
            Ok(false) => self.unknown(names::EXTENSIONS, event),
            Err(reason) => self.malformed(&reason),
        }
    }
}
