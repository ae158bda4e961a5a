//! What the console and the local shell share: one shell at a time, and its output on the way to the server.

mod message;
mod utf8;

use alloc::collections::VecDeque;
use alloc::string::String;

use serde_json::{Value, json};

use super::Context;
use crate::command::CommandError;
use crate::event::Event;
use crate::ids::ShellId;
use crate::limits::{MAX_SHELL_BUFFER, MAX_SHELL_MESSAGE_BYTES, MAX_SHELL_NOTES, SHELL_OUTPUT_PAUSE};
use crate::phoenix::{Class, Phoenix, Tag, TopicId};
use crate::secret::Secret;
use crate::shell::{ShellEvent, ShellKind, ShellStop, WindowSize};
use crate::text::head;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};
pub(crate) use message::Message;
use utf8::Utf8;

/// Where what a shell writes goes.
pub(crate) struct Outlet {
    pub(crate) topic: TopicId,
    pub(crate) event: &'static str,
}

/// One shell at a time, and what it wrote.
pub(crate) struct Terminal {
    kind: ShellKind,
    outlet: Outlet,
    running: Option<Running>,
    size: WindowSize,
    /// What waits to be sent.
    queue: VecDeque<Item>,
    utf8: Utf8,
    /// When the next message may be sent that isn't full.
    next: Instant,
}

/// Something to send.
enum Item {
    /// What a shell wrote.
    Text(String),
    /// Another event, between what was written before and after it.
    Note(&'static str, Value),
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
            queue: VecDeque::new(),
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
            self.finish();
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
        if !bytes.is_empty() {
            // Its beginning may be that of a character that isn't there yet.
            let mut text = self.take_last();
            self.utf8.push(bytes, &mut text);
            self.put_last(text);
        }
        Ok(())
    }

    /// The shell ended by itself. Returns what is known about it.
    pub(crate) fn ended(&mut self, shell: ShellId) -> Result<Running, CommandError> {
        let running = self.running.take_if(|running| running.id == shell);
        let running = running.ok_or(CommandError::UnknownShell(shell))?;
        self.finish();
        Ok(running)
    }

    /// Says something of the machine's own after what the shell wrote. Dropped if more waits than any shell may write.
    pub(crate) fn say(&mut self, words: &str) {
        self.finish();
        if self.waiting() <= 3 * MAX_SHELL_BUFFER {
            let mut text = self.take_last();
            text.push_str(words);
            self.put_last(text);
        }
    }

    /// Sends another event after what the shell wrote. Dropped if too many wait.
    pub(crate) fn note(&mut self, event: &'static str, payload: Value) {
        self.finish();
        let notes = self.queue.iter().filter(|item| matches!(item, Item::Note(..))).count();
        if notes < MAX_SHELL_NOTES {
            self.queue.push_back(Item::Note(event, payload));
        }
    }

    /// Forgets what waits to be sent.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.utf8 = Utf8::default();
    }

    /// Hands the next message to the wire, if there is one and it is its turn; and lets the shell write more then.
    pub(crate) fn fill(&mut self, cx: &mut Context<'_>, tag: Tag) {
        if !self.may_send(cx.wire, tag) || self.must_wait(cx.now) {
            return;
        }
        let (event, payload) = match self.queue.pop_front() {
            Some(Item::Text(mut text)) => {
                let rest = text.split_off(head(&text, MAX_SHELL_MESSAGE_BYTES).len());
                if !rest.is_empty() {
                    self.queue.push_front(Item::Text(rest));
                }
                self.next = cx.now + SHELL_OUTPUT_PAUSE;
                (self.outlet.event, json!({"data": text}))
            }
            Some(Item::Note(event, payload)) => (event, payload),
            None => return,
        };
        cx.wire.push_to(self.outlet.topic, tag, event.into(), payload, Class::Bulk);
        let room = self.room();
        if let Some(running) = &mut self.running {
            // Words of the console's own may have taken room that was granted.
            let more = room.saturating_sub(running.granted);
            // In larger pieces, as each is an event.
            if more >= MAX_SHELL_BUFFER / 4 {
                running.granted = room;
                cx.out.event(Event::Shell(ShellEvent::Ready { shell: running.id, bytes: more }));
            }
        }
    }

    /// Adds the timer to a deadline.
    pub(crate) fn deadlines(&self, wire: &Phoenix, tag: Tag, deadline: &mut Earliest) {
        if self.may_send(wire, tag) {
            deadline.at(Timer::ShellOutput, self.next);
        }
    }

    /// Returns whether there is something to send, and nothing before it.
    fn may_send(&self, wire: &Phoenix, tag: Tag) -> bool {
        let topic = self.outlet.topic;
        !self.queue.is_empty() && wire.has_joined(topic) && !wire.waits(topic, tag)
    }

    /// Returns whether a message would be small and soon after another.
    fn must_wait(&self, now: Instant) -> bool {
        let small = |text: &String| text.len() < MAX_SHELL_MESSAGE_BYTES;
        now < self.next && matches!(self.queue.front(), Some(Item::Text(text)) if small(text))
    }

    /// Ends a character that will never be complete.
    fn finish(&mut self) {
        if self.utf8.is_unfinished() {
            let mut text = self.take_last();
            self.utf8.finish(&mut text);
            self.put_last(text);
        }
    }

    /// Takes the text that comes last, to be put back when it is longer.
    fn take_last(&mut self) -> String {
        match self.queue.pop_back() {
            Some(Item::Text(text)) => text,
            Some(note) => {
                self.queue.push_back(note);
                String::new()
            }
            None => String::new(),
        }
    }

    fn put_last(&mut self, text: String) {
        if !text.is_empty() {
            self.queue.push_back(Item::Text(text));
        }
    }

    /// Returns how many bytes of text wait.
    fn waiting(&self) -> usize {
        let lengths = self.queue.iter().map(|item| match item {
            Item::Text(text) => text.len(),
            Item::Note(..) => 0,
        });
        lengths.sum()
    }

    fn room(&self) -> usize {
        MAX_SHELL_BUFFER.saturating_sub(self.waiting())
    }
}
