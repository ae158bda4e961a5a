//! A question to the application that may stay unanswered.

use alloc::string::String;

use super::super::Context;
use super::tell;
use crate::extension::ExtensionEvent;
use crate::limits::EXTENSION_ANSWER_TIMEOUT;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};

/// Tells that a question stayed unanswered.
pub(super) fn unanswered(cx: &mut Context<'_>, name: &str) {
    tell(cx, ExtensionEvent::Unanswered { name: String::from(name) });
}

/// A question; one of a kind waits at a time.
#[derive(Default)]
pub(super) struct Question {
    until: Option<Instant>,
}

impl Question {
    /// Asks, unless that was done already.
    pub(super) fn ask(&mut self, cx: &mut Context<'_>, event: ExtensionEvent) {
        if self.until.is_none() {
            self.until = Some(cx.now + EXTENSION_ANSWER_TIMEOUT);
            tell(cx, event);
        }
    }

    /// Returns whether an answer is waited for.
    pub(super) const fn is_open(&self) -> bool {
        self.until.is_some()
    }

    /// It was answered, or nobody wants to know any more.
    pub(super) const fn close(&mut self) {
        self.until = None;
    }

    /// Lets time pass, and tells when the answer is given up.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>, name: &str) {
        if self.expire(cx.now) {
            unanswered(cx, name);
        }
    }

    /// Lets time pass. Returns whether the answer is given up.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        self.until.take_if(|until| *until <= now).is_some()
    }

    pub(super) fn deadlines(&self, deadline: &mut Earliest) {
        if let Some(until) = self.until {
            deadline.at(Timer::ExtensionAnswer, until);
        }
    }
}
