//! A shell of the device's operating system (device-protocol §5.4). Like the console, but without its time-out, and
//! attaching it starts one at once.

use alloc::string::String;

use serde_json::json;

use super::super::shell::{Message, Outlet, Terminal};
use super::super::{Context, EXTENSIONS, names};
use super::port::Port;
use crate::command::CommandError;
use crate::ids::ShellId;
use crate::limits::MAX_REASON_CHARS;
use crate::phoenix::{Payload, Phoenix};
use crate::shell::{ShellCommand, ShellEnd, ShellKind, ShellStop};
use crate::text::cut;
use crate::timer::Earliest;

/// Versions, the newest first.
pub(super) const VERSIONS: &[&str] = &["0.0.1"];

/// The shell and what it wrote.
pub(super) struct LocalShell {
    terminal: Terminal,
    /// Whether the server was told that it runs.
    started: bool,
    /// Detached; the shell is to be stopped.
    detached: bool,
}

impl LocalShell {
    pub(super) fn new() -> Self {
        let outlet = Outlet { topic: EXTENSIONS, event: names::SHELL_OUTPUT };
        let terminal = Terminal::new(ShellKind::Local, outlet);
        Self { terminal, started: false, detached: false }
    }

    /// The extension was detached.
    pub(super) const fn stopped(&mut self) {
        self.detached = true;
    }

    pub(super) fn received(
        &mut self,
        cx: &mut Context<'_>,
        event: &str,
        payload: Payload<'_>,
    ) -> Result<bool, String> {
        match event {
            names::REQUEST_SHELL => {
                payload.ignore()?;
                self.open(cx);
            }
            names::SHELL_INPUT => {
                let typed = Message::read(payload)?.data(event)?;
                // The one before may have ended.
                self.open(cx);
                self.terminal.input(cx, &typed);
            }
            names::WINDOW_SIZE => self.terminal.resize(cx, Message::read(payload)?.local_size()?),
            names::KILL_SHELL => {
                let signal = Message::read(payload)?.signal()?;
                self.terminal.stop(cx, ShellStop::Killed { signal });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Stops the shell of an extension that was detached.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) {
        if core::mem::take(&mut self.detached) {
            self.terminal.stop(cx, ShellStop::Detached);
            self.terminal.clear();
        }
    }

    /// Hands what may be sent now to the wire.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>, port: Port) {
        if port.is_open() {
            self.terminal.fill(cx, port.tag());
        }
    }

    /// Adds the timer to a deadline.
    pub(super) fn deadlines(&self, wire: &Phoenix, port: Port, deadline: &mut Earliest) {
        if port.is_open() {
            self.terminal.deadlines(wire, port.tag(), deadline);
        }
    }

    /// Something became of the shell.
    pub(super) fn command(&mut self, command: &ShellCommand) -> Result<(), CommandError> {
        match command {
            ShellCommand::Started { shell } => self.runs(*shell)?,
            ShellCommand::Output { shell, data } => {
                self.runs(*shell)?;
                self.terminal.output(*shell, &data.0)?;
            }
            ShellCommand::Ended { shell, end: ShellEnd::Failed(reason) } if !self.started => {
                self.terminal.ended(*shell)?;
                let reason = cut(reason, MAX_REASON_CHARS);
                self.terminal.note(names::REQUEST_STATUS, json!({"status": "failed", "reason": reason}));
            }
            ShellCommand::Ended { shell, end } => {
                self.terminal.ended(*shell)?;
                self.terminal.note(names::SHELL_EXITED, json!({"exit_code": end.code()}));
            }
        }
        Ok(())
    }

    /// Asks for a shell, unless one runs.
    fn open(&mut self, cx: &mut Context<'_>) {
        if !self.terminal.is_running() {
            self.started = false;
            self.terminal.open(cx);
        }
    }

    /// The shell runs; the server is told once.
    fn runs(&mut self, shell: ShellId) -> Result<(), CommandError> {
        if !self.terminal.runs(shell) {
            return Err(CommandError::UnknownShell(shell));
        }
        if !core::mem::replace(&mut self.started, true) {
            self.terminal.note(names::REQUEST_STATUS, json!({"status": "started"}));
        }
        Ok(())
    }
}
