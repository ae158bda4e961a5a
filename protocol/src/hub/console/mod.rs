//! The console channel (device-protocol §4): a shell for operators, and files both ways. The shell and the files are the
//! application's.

mod notices;
mod receive;
mod upload;

use alloc::string::String;
use core::time::Duration;

use serde_json::{Value, json};

use super::shell::{Message, Outlet, Terminal};
use super::{CONSOLE, Context, names};
use crate::command::CommandError;
use crate::event::Event;
use crate::fault::Fault;
use crate::ids::{FileId, ShellId};
use crate::limits::{MAX_TEXT_CHARS, SHELL_RESTART_MIN};
use crate::phoenix::{Payload, Phoenix, Tag};
use crate::shell::{ShellCommand, ShellEnd, ShellKind, ShellStop};
use crate::text::cut;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};
use receive::{LATE, Receiving};
pub(crate) use upload::Uploading;

/// Goes with what the shell wrote.
const OUTPUT: Tag = 0;
/// Goes with the parts of a file.
const FILE: Tag = 1;

/// What a message led to.
pub(crate) enum Heard {
    /// Something.
    Known,
    /// Nothing: it belongs to a file that was refused or discarded.
    Stale,
    /// Nothing: this version doesn't know it.
    Unknown,
}

/// The console of the device.
pub(crate) struct Console {
    /// Whether the topic is wanted on the present connection.
    wanted: bool,
    terminal: Terminal,
    /// When the shell is stopped unless it is used.
    idle: Option<Instant>,
    files: Receiving,
    pub(crate) upload: Uploading,
}

impl Console {
    pub(crate) fn new() -> Self {
        let outlet = Outlet { topic: CONSOLE, event: names::UP };
        Self {
            wanted: false,
            terminal: Terminal::new(ShellKind::Console, outlet),
            idle: None,
            files: Receiving::default(),
            upload: Uploading::default(),
        }
    }

    /// Writes the join parameters: nothing but these two.
    pub(crate) fn join_params() -> Value {
        json!({
            "console_version": names::CONSOLE_VERSION,
            "device_api_version": names::DEVICE_API_VERSION,
        })
    }

    /// Returns whether a shell runs.
    pub(crate) const fn is_active(&self) -> bool {
        self.terminal.is_running()
    }

    /// Returns whether that is the console's shell.
    pub(crate) fn runs(&self, shell: ShellId) -> bool {
        self.terminal.runs(shell)
    }

    /// The device channel is joined, again or on a new connection.
    pub(crate) fn device_joined(&mut self, cx: &mut Context<'_>) {
        let wanted = cx.config.console.is_some() && cx.wire.is_trusted();
        match (wanted, self.wanted) {
            (true, false) => cx.wire.want(cx.now, CONSOLE),
            // The configuration names another server now.
            (false, true) => cx.wire.unwant(CONSOLE),
            _ => {}
        }
        self.wanted = wanted;
    }

    /// The channel ended, or could not be joined. The shell stays for when it is joined again.
    pub(crate) fn lost(&mut self, cx: &mut Context<'_>, reason: String, retry_in: Duration) {
        self.drop_files(cx, &reason);
        cx.out.event(Event::ConsoleLost { reason, retry_in });
    }

    /// A message arrived. Returns what is wrong with it, if it can't be used.
    pub(crate) fn heard(
        &mut self,
        cx: &mut Context<'_>,
        event: &str,
        payload: Payload<'_>,
    ) -> Result<Heard, String> {
        let message = Message::read(payload);
        if event == names::RESTART {
            self.terminal.stop(cx, ShellStop::Restart);
            self.terminal.say(notices::RESTART);
        }
        // Whatever comes, somebody is there who wants a shell.
        self.open(cx);
        let message = message?;
        let heard = match event {
            names::RESTART => Ok(Heard::Known),
            names::DN => {
                self.terminal.input(cx, &message.data(event)?);
                Ok(Heard::Known)
            }
            names::WINDOW_SIZE => {
                self.terminal.resize(cx, message.console_size()?);
                Ok(Heard::Known)
            }
            names::FILE_START => self.files.started(cx, &message.file(event)?.0),
            names::FILE_DATA => {
                let (name, data) = message.file(event)?;
                self.files.chunk(cx, &name, data.as_deref())
            }
            names::FILE_STOP => Ok(self.files.stopped(cx, &message.file(event)?.0)),
            _ => return Ok(Heard::Unknown),
        };
        self.used(cx);
        heard.or_else(|refused| {
            let words = notices::not_received(&refused.name, &refused.reason);
            self.terminal.say(&notices::line(&words));
            if refused.told { Ok(Heard::Known) } else { Err(words) }
        })
    }

    /// Something became of the shell.
    pub(crate) fn shell(&mut self, cx: &mut Context<'_>, command: &ShellCommand) -> Result<(), CommandError> {
        match command {
            // Operators see it by what it writes.
            ShellCommand::Started { .. } => Ok(()),
            ShellCommand::Output { shell, data } => {
                self.terminal.output(*shell, &data.0)?;
                self.used(cx);
                Ok(())
            }
            ShellCommand::Ended { shell, end } => self.ended(cx, *shell, end),
        }
    }

    /// The shell ended by itself. Another one follows, at once if this one was good for something.
    fn ended(&mut self, cx: &mut Context<'_>, shell: ShellId, end: &ShellEnd) -> Result<(), CommandError> {
        let was = self.terminal.ended(shell)?;
        self.idle = None;
        self.terminal.say(&notices::stopped(end));
        let lived = cx.now.saturating_since(was.since) >= SHELL_RESTART_MIN;
        if lived && !matches!(end, ShellEnd::Failed(_)) && cx.wire.has_joined(CONSOLE) {
            self.open(cx);
        } else {
            self.terminal.say(notices::ANY_KEY);
        }
        Ok(())
    }

    /// Bytes of a file were stored.
    pub(crate) fn stored(&mut self, file: FileId, bytes: usize) -> Result<(), CommandError> {
        self.files.stored(file, bytes)
    }

    /// A file can't be stored.
    pub(crate) fn file_failed(&mut self, file: FileId, reason: &str) -> Result<(), CommandError> {
        let Some(name) = self.files.failed(file)? else { return Ok(()) };
        let words = notices::not_received(&name, &cut(reason, MAX_TEXT_CHARS));
        self.terminal.say(&notices::line(&words));
        Ok(())
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        if self.idle.is_some_and(|idle| idle <= cx.now) {
            self.idle = None;
            self.terminal.stop(cx, ShellStop::Inactive);
            self.terminal.say(notices::INACTIVE);
            self.files.discard(cx, "the console was not used any more");
        }
        for late in self.files.late(cx) {
            let words = notices::not_received(&late, LATE);
            self.terminal.say(&notices::line(&words));
        }
        self.upload.tick(cx);
    }

    /// Hands what may be sent now to the wire.
    pub(crate) fn fill(&mut self, cx: &mut Context<'_>) {
        self.terminal.fill(cx, OUTPUT);
        self.upload.fill(cx);
    }

    /// There is no connection: what needs one is given up. The shell stays for the next.
    pub(crate) fn offline(&mut self, cx: &mut Context<'_>) {
        if core::mem::take(&mut self.wanted) {
            cx.wire.unwant(CONSOLE);
            self.drop_files(cx, "the connection was lost");
        }
    }

    /// Adds the timers to a deadline.
    pub(crate) fn deadlines(&self, wire: &Phoenix, deadline: &mut Earliest) {
        self.terminal.deadlines(wire, OUTPUT, deadline);
        if let Some(idle) = self.idle {
            deadline.at(Timer::ConsoleIdle, idle);
        }
        self.files.deadlines(deadline);
        self.upload.deadlines(deadline);
    }

    /// Asks for a shell, unless one runs.
    fn open(&mut self, cx: &mut Context<'_>) {
        if !self.terminal.is_running() {
            self.terminal.open(cx);
            self.used(cx);
        }
    }

    /// Somebody uses the shell, or it does something.
    fn used(&mut self, cx: &mut Context<'_>) {
        let Some(timeout) = cx.config.console.as_ref().map(|console| console.timeout) else {
            return Fault::new("a console that is off was used").report(cx.out);
        };
        let running = self.terminal.is_running() && !timeout.is_zero();
        self.idle = running.then(|| cx.now + timeout);
    }

    fn drop_files(&mut self, cx: &mut Context<'_>, reason: &str) {
        self.files.discard(cx, reason);
        self.upload.abort(cx, reason);
        cx.wire.discard_topic(CONSOLE);
    }
}
