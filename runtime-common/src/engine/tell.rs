//! Telling the application, and taking its answers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nerves_hub_link_protocol::{Command, Event, ExtensionCommand, client};

use super::Engine;
use crate::health::Question;
use crate::tasks::Done;
use crate::tcp::Network;
use crate::worker::panic_text;

impl<N: Network> Engine<N> {
    /// Tells the application an event. Its answer, if any, goes back to the machine; for a callback that panics, the
    /// default one answers.
    pub(super) fn tell(&mut self, event: &Event) {
        // First, so that a callback that asks the handle gets the news it was called for.
        self.shared.observe(event);
        self.shared.publish(self.link.status());
        if self.operate(event) {
            return self.show(event);
        }
        let (client, running) = (&mut *self.client, &self.running);
        let called = catch_unwind(AssertUnwindSafe(|| client::deliver(client, running, event)));
        let failed = called.as_ref().err().map(|panic| panic_text(&**panic).to_owned());
        let answer = match self.tell_panic("event", called) {
            Some(answer) => answer,
            // What the default callback would have said, so that a bad application can still be replaced.
            None => client::fallback(&self.running, event),
        };
        if let Some(command) = answer.or_else(|| self.answer_health(event, failed)) {
            self.order(command);
        }
    }

    /// Answers a question about the device's health that the application left open.
    pub(super) fn answer_health(&mut self, event: &Event, failed: Option<String>) -> Option<Command> {
        let question = Question::of(event)?;
        if let (Question::Health, Some(reason)) = (question, failed) {
            return Some(ExtensionCommand::HealthFailed { reason }.into());
        }
        let mut sampler = Box::new(self.health.take()?);
        let work = move || {
            let answer = question.answer(&mut sampler);
            Done::Sampled(sampler, answer)
        };
        let given = self.tasks.start(work);
        given.err().map(|reason| ExtensionCommand::HealthFailed { reason }.into())
    }

    pub(super) fn tell_panic<T>(&mut self, what: &str, called: std::thread::Result<T>) -> Option<T> {
        called
            .map_err(|panic| {
                let text = panic_text(&*panic);
                (self.notice)(&format!("a callback of the application panicked on {what}: {text}"));
            })
            .ok()
    }

    pub(super) fn order(&mut self, command: Command) {
        if let Command::Reconfigure(config) = &command {
            // Settings that the machine refuses change what is looked at, too; that looks at a folder more or less.
            self.ready.reconfigured(config);
        }
        if let Err(error) = self.link.command(self.now(), command) {
            (self.notice)(&format!("a command was refused: {error}"));
        }
    }
}
