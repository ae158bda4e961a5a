//! The console, and shells, whoever works with them.

use super::{Link, count};
use crate::chunk::Chunk;
use crate::command::CommandError;
use crate::hub::console::{Console, Heard};
use crate::hub::{Context, names};
use crate::ids::ShellId;
use crate::phoenix::Payload;
use crate::shell::ShellEnd;

impl Link {
    pub(super) fn console_with<T>(&mut self, work: impl FnOnce(&mut Console, &mut Context<'_>) -> T) -> T {
        let Self { now, wall, config, out, wire, ids, console, .. } = self;
        work(console, &mut Context { now: *now, wall: *wall, config, out, wire, ids })
    }

    /// A message arrived on the console.
    pub(super) fn console_heard(&mut self, event: &str, payload: Payload<'_>) {
        match self.console_with(|console, cx| console.heard(cx, event, payload)) {
            Ok(Heard::Known) => {}
            Ok(Heard::Stale) => count(&mut self.counters.stale_messages),
            Ok(Heard::Unknown) => self.unknown(names::CONSOLE, event),
            Err(reason) => self.malformed(&reason),
        }
    }

    pub(super) fn shell_started(&self, shell: ShellId) -> Result<(), CommandError> {
        // Operators see it by what it writes.
        if self.console.runs(shell) { Ok(()) } else { Err(CommandError::UnknownShell(shell)) }
    }

    pub(super) fn shell_output(&mut self, shell: ShellId, data: &Chunk) -> Result<(), CommandError> {
        self.console_with(|console, cx| console.output(cx, shell, data))
    }

    pub(super) fn shell_ended(&mut self, shell: ShellId, end: &ShellEnd) -> Result<(), CommandError> {
        self.console_with(|console, cx| console.ended(cx, shell, end))
    }
}
