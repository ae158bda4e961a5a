//! Pushes that wait to be sent, and what became of those that were.

use alloc::collections::VecDeque;

use serde_json::Value;

use crate::limits::{MAX_HELD_PUSHES, MAX_PUSH_SENDS, SEND_CREDIT};
use crate::time::Instant;

/// What becomes of a push that can't be sent at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Dropped when the connection ends.
    Session,
    /// Kept over connections until the server has seen it.
    Keep,
    /// Replaced by the next one with the same name; dropped when the connection ends.
    Latest(&'static str),
}

/// An event for the topic.
pub(super) struct Push {
    pub(super) event: &'static str,
    pub(super) payload: Value,
    class: Class,
    sends: u8,
}

/// The queue, the credit, and the pushes the server has yet to confirm.
pub(super) struct Outbox {
    queue: VecDeque<Push>,
    /// Kept pushes that were sent, with their numbers.
    unconfirmed: VecDeque<(u64, Push)>,
    confirms: bool,
    /// Messages the adapter has and didn't report sent.
    flying: u32,
    /// Since when the adapter has sent nothing though it has something.
    pub(super) blocked_since: Option<Instant>,
    pub(super) dropped: u64,
}

impl Push {
    pub(super) const fn new(event: &'static str, payload: Value, class: Class) -> Self {
        Self { event, payload, class, sends: 0 }
    }
}

impl Outbox {
    /// Builds an outbox; without `confirms`, sent means seen.
    pub(super) const fn new(confirms: bool) -> Self {
        Self {
            queue: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            confirms,
            flying: 0,
            blocked_since: None,
            dropped: 0,
        }
    }

    pub(super) fn push(&mut self, push: Push) {
        if let Class::Latest(_) = push.class
            && let Some(waiting) = self.queue.iter_mut().find(|waiting| waiting.class == push.class)
        {
            *waiting = push;
            return;
        }
        if self.queue.len() >= MAX_HELD_PUSHES {
            // What need not arrive makes room for what must; among equals the oldest goes.
            let victim = self.queue.iter().position(|held| held.class != Class::Keep).unwrap_or(0);
            self.queue.remove(victim);
            self.dropped = self.dropped.saturating_add(1);
        }
        self.queue.push_back(push);
    }

    pub(super) fn discard(&mut self, class: Class) {
        self.queue.retain(|push| push.class != class);
    }

    pub(super) const fn has_credit(&self) -> bool {
        self.flying < SEND_CREDIT
    }

    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.flying == 0
    }

    pub(super) fn next(&mut self) -> Option<Push> {
        self.queue.pop_front()
    }

    /// A push went out under this number.
    pub(super) fn sent_push(&mut self, reference: u64, mut push: Push) {
        if push.class == Class::Keep && self.confirms {
            push.sends = push.sends.saturating_add(1);
            if self.unconfirmed.len() >= MAX_HELD_PUSHES {
                self.unconfirmed.pop_front();
            }
            self.unconfirmed.push_back((reference, push));
        }
    }

    /// A message went to the adapter.
    pub(super) fn flew(&mut self, now: Instant) {
        self.flying = self.flying.saturating_add(1);
        self.blocked_since.get_or_insert(now);
    }

    /// The adapter sent so many messages.
    pub(super) fn landed(&mut self, now: Instant, frames: u32) {
        self.flying = self.flying.saturating_sub(frames);
        self.blocked_since = (self.flying > 0).then_some(now);
    }

    /// The server has seen everything before this number.
    pub(super) fn confirmed(&mut self, reference: u64) {
        self.unconfirmed.retain(|(sent, _)| *sent >= reference);
    }

    /// The connection is gone.
    pub(super) fn closed(&mut self) {
        self.flying = 0;
        self.blocked_since = None;
        self.queue.retain(|push| push.class == Class::Keep);
        while let Some((_, push)) = self.unconfirmed.pop_back() {
            if push.sends < MAX_PUSH_SENDS && self.queue.len() < MAX_HELD_PUSHES {
                self.queue.push_front(push);
            } else {
                self.dropped = self.dropped.saturating_add(1);
            }
        }
    }
}
