//! What the console and the local shell share: one shell at a time, and its output on the way to the server.

mod message;
mod utf8;

use alloc::string::String;

use serde_json::json;

use super::Context;
use crate::command::CommandError;
use crate::event::Event;
use crate::ids::ShellId;
use crate::limits::{MAX_SHELL_BUFFER, MAX_SHELL_MESSAGE_BYTES, SHELL_OUTPUT_PAUSE};
use crate::phoenix::{Class, Phoenix, Tag, TopicId};
use crate::secret::Secret;
use crate::shell::{ShellEvent, ShellKind, ShellStop, WindowSize};
use crate::text::boundary;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};
pub(crate) use message::Message;
use utf8::Utf8;

/// Where the output of a shell goes.
pub(crate) struct Outlet {
    pub(crate) topic: TopicId,
    pub(crate) event: &'static str,
    pub(crate) tag: Tag,
}

/// One shell at a time, and what it wrote.
pub(crate) struct Terminal {
    kind: ShellKind,
    outlet: Outlet,
    running: Option<Running>,
    size: WindowSize,
    /// What waits to be sent.
    text: String,
    utf8: Utf8,
    /// When the next message may be sent that isn't full.
    next: Instant,
}

/// A shell that runs, or is about to.
pub(crate) struct Running {
    id: ShellId,
    /// Since when.
    pub(crate) since: Instant,
    /// Bytes of output the application may still hand in.
    granted: usize,
}

impl Terminal {
    pub(crate) fn new(kind: ShellKind, outlet: Outlet) -> Self {
        Self {
            kind,
            outlet,
            running: None,
            size: WindowSize::default(),
            text: String::new(),
            utf8: Utf8::default(),
            next: Instant::ZERO,
        }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Returns whether it is this shell that runs.
    pub(crate) fn runs(&self, shell: ShellId) -> bool {
        self.running.as_ref().is_some_and(|running| running.id == shell)
    }

    /// Asks for a shell, unless one runs.
    pub(crate) fn open(&mut self, cx: &mut Context<'_>) {
        if self.running.is_none() {
            let id = cx.ids.shell();
            let room = self.room();
            self.running = Some(Running { id, since: cx.now, granted: room });
            cx.out.event(Event::Shell(ShellEvent::Wanted {
                shell: id,
                kind: self.kind,
                size: self.size,
                room,
            }));
        }
    }

    /// Stops the shell, if one runs.
    pub(crate) fn stop(&mut self, cx: &mut Context<'_>, why: ShellStop) {
        if let Some(running) = self.running.take() {
            self.utf8.finish(&mut self.text);
            cx.out.event(Event::Shell(ShellEvent::Stopped { shell: running.id, why }));
        }
    }

    /// Hands what was typed to the shell, if one runs.
    pub(crate) fn input(&self, cx: &mut Context<'_>, data: &str) {
        if let Some(running) = &self.running {
            cx.out.event(Event::Shell(ShellEvent::Input { shell: running.id, data: Secret::new(data) }));
        }
    }

    /// Notes the size of the window for this shell and those to come.
    pub(crate) fn resize(&mut self, cx: &mut Context<'_>, size: WindowSize) {
        self.size = size;
        if let Some(running) = &self.running {
            cx.out.event(Event::Shell(ShellEvent::Resized { shell: running.id, size }));
        }
    }

    /// The shell wrote something.
    pub(crate) fn output(&mut self, shell: ShellId, bytes: &[u8]) -> Result<(), CommandError> {
        let running = self.running.as_mut().filter(|running| running.id == shell);
        let running = running.ok_or(CommandError::UnknownShell(shell))?;
        let left = running.granted.checked_sub(bytes.len());
        running.granted = left.ok_or(CommandError::NoRoom { room: running.granted })?;
        self.utf8.push(bytes, &mut self.text);
        Ok(())
    }

    /// The shell ended by itself. Returns what is known about it.
    pub(crate) fn ended(&mut self, shell: ShellId) -> Result<Running, CommandError> {
        let running = self.running.take_if(|running| running.id == shell);
        let running = running.ok_or(CommandError::UnknownShell(shell))?;
        self.utf8.finish(&mut self.text);
        Ok(running)
    }

    /// Says something of the machine's own after what the shell wrote. Dropped if more waits than any shell may write.
    pub(crate) fn say(&mut self, words: &str) {
        self.utf8.finish(&mut self.text);
        if self.text.len() <= 3 * MAX_SHELL_BUFFER {
            self.text.push_str(words);
        }
    }

    /// Hands the next message to the wire, if there is one and it is its turn; and lets the shell write more then.
    pub(crate) fn fill(&mut self, cx: &mut Context<'_>) {
        if !self.may_send(cx.wire) || (cx.now < self.next && self.text.len() < MAX_SHELL_MESSAGE_BYTES) {
            return;
        }
        let rest = self.text.split_off(boundary(&self.text, MAX_SHELL_MESSAGE_BYTES));
        let message = json!({"data": core::mem::replace(&mut self.text, rest)});
        let Outlet { topic, event, tag } = self.outlet;
        cx.wire.push_to(topic, tag, event.into(), message, Class::Bulk);
        self.next = cx.now + SHELL_OUTPUT_PAUSE;
        let room = self.room();
        if let Some(running) = &mut self.running {
            let more = room.saturating_sub(running.granted);
            // In larger pieces, as each is an event.
            if more >= MAX_SHELL_BUFFER / 4 {
                running.granted = room;
                cx.out.event(Event::Shell(ShellEvent::Ready { shell: running.id, bytes: more }));
            }
        }
    }

    /// Adds the timer to a deadline.
    pub(crate) fn deadlines(&self, wire: &Phoenix, deadline: &mut Earliest) {
        if self.may_send(wire) {
            deadline.at(Timer::ShellOutput, self.next);
        }
    }

    /// Returns whether there is something to send, and nothing before it.
    fn may_send(&self, wire: &Phoenix) -> bool {
        let Outlet { topic, tag, .. } = self.outlet;
        !self.text.is_empty() && wire.has_joined(topic) && !wire.waits(topic, tag)
    }

    fn room(&self) -> usize {
        MAX_SHELL_BUFFER.saturating_sub(self.text.len())
    }
}
