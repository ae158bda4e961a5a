//! The console, and shells, whoever works with them.

use super::{Link, count};
use crate::command::CommandError;
use crate::hub::console::{Console, Heard};
use crate::hub::{Context, names};
use crate::phoenix::Payload;
use crate::shell::ShellCommand;

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

    /// Something became of a shell.
    pub(super) fn shell(&mut self, command: &ShellCommand) -> Result<(), CommandError> {
        if self.console.runs(command.shell()) {
            self.console_with(|console, cx| console.shell(cx, command))
        } else {
            self.extensions_with(|extensions, cx| extensions.shell(cx, command))
        }
    }
}
