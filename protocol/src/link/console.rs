//! The console, and shells, whoever works with them.

use super::{Link, count};
use crate::command::CommandError;
use crate::hub::console::Heard;
use crate::hub::names;
use crate::phoenix::Payload;
use crate::shell::ShellCommand;

impl Link {
    /// A message arrived on the console.
    pub(super) fn console_heard(&mut self, event: &str, payload: Payload<'_>) {
        match self.console.heard(&mut self.core.cx(), event, payload) {
            Ok(Heard::Known) => {}
            Ok(Heard::Stale) => count(&mut self.counters.stale_messages),
            Ok(Heard::Unknown) => self.unknown(names::CONSOLE, event),
            Err(reason) => self.malformed(&reason),
        }
    }

    /// Something became of a shell.
    pub(super) fn shell(&mut self, command: &ShellCommand) -> Result<(), CommandError> {
        if self.console.runs(command.shell()) {
            self.console.shell(&mut self.core.cx(), command)
        } else {
            self.extensions.shell(&self.core.cx(), command)
        }
    }
}
