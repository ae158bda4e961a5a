//! Pushes that wait to be sent, and what became of those that were.

use alloc::borrow::Cow;
use alloc::collections::VecDeque;

use serde_json::Value;

use super::{Tag, TopicId};
use crate::limits::{BULK_CREDIT, MAX_HELD_PUSHES, MAX_PUSH_SENDS, MAX_TAGS, SEND_CREDIT};
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
    /// Dropped when the connection ends, and sent only while the adapter has less than [`BULK_CREDIT`] messages, so
    /// that nothing else waits long behind it.
    Bulk,
}

/// An event for a topic.
pub(super) struct Push {
    pub(super) topic: TopicId,
    pub(super) event: Cow<'static, str>,
    pub(super) payload: Value,
    tag: Option<Tag>,
    class: Class,
    sends: u8,
}

/// The queue, the credit, and the pushes the server has yet to confirm.
pub(super) struct Outbox {
    queue: VecDeque<Push>,
    /// Kept pushes that were sent, with their numbers.
    unconfirmed: VecDeque<(u64, Push)>,
    /// The numbers of the last pushes that had a tag.
    tags: VecDeque<(u64, Tag)>,
    confirms: bool,
    /// Messages the adapter has and didn't report sent.
    flying: u32,
    /// Since when the adapter has sent nothing though it has something.
    pub(super) blocked_since: Option<Instant>,
    pub(super) dropped: u64,
}

impl Push {
    pub(super) const fn new(topic: TopicId, event: Cow<'static, str>, payload: Value, class: Class) -> Self {
        Self { topic, event, payload, tag: None, class, sends: 0 }
    }

    pub(super) fn tagged(self, tag: Tag) -> Self {
        Self { tag: Some(tag), ..self }
    }
}

impl Outbox {
    /// Builds an outbox; without `confirms`, sent means seen.
    pub(super) const fn new(confirms: bool) -> Self {
        Self {
            queue: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            tags: VecDeque::new(),
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
        if self.held(push.topic) >= MAX_HELD_PUSHES {
            // What need not arrive makes room for what must; among equals the oldest goes.
            let of_topic = |held: &Push| held.topic == push.topic;
            let idle = self.queue.iter().position(|held| of_topic(held) && held.class != Class::Keep);
            if let Some(victim) = idle.or_else(|| self.queue.iter().position(of_topic)) {
                self.queue.remove(victim);
                self.dropped = self.dropped.saturating_add(1);
            }
        }
        self.queue.push_back(push);
    }

    pub(super) fn discard(&mut self, class: Class) {
        self.queue.retain(|push| push.class != class);
    }

    pub(super) fn discard_topic(&mut self, topic: TopicId) {
        self.queue.retain(|push| push.topic != topic);
    }

    pub(super) fn discard_tag(&mut self, topic: TopicId, tag: Tag) {
        self.queue.retain(|push| push.topic != topic || push.tag != Some(tag));
    }

    /// Returns how many pushes wait for a topic.
    pub(super) fn held(&self, topic: TopicId) -> usize {
        self.queue.iter().filter(|push| push.topic == topic).count()
    }

    /// Returns whether a push with that tag waits for a topic.
    pub(super) fn waits(&self, topic: TopicId, tag: Tag) -> bool {
        self.queue.iter().any(|push| push.topic == topic && push.tag == Some(tag))
    }

    pub(super) const fn has_credit(&self) -> bool {
        self.flying < SEND_CREDIT
    }

    /// Returns whether there is credit for one more push behind all that wait.
    pub(super) fn is_clear(&self) -> bool {
        let waiting = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        self.flying.saturating_add(waiting) < SEND_CREDIT
    }

    /// Returns whether all pushes of a topic were sent.
    pub(super) fn is_drained(&self, topic: TopicId) -> bool {
        self.held(topic) == 0 && self.flying == 0
    }

    /// Returns whether the server has seen all pushes of a topic that it must see.
    pub(super) fn is_seen(&self, topic: TopicId) -> bool {
        self.is_drained(topic) && self.unconfirmed.iter().all(|(_, push)| push.topic != topic)
    }

    /// Takes the next push for a topic that is joined: those of the first topic before all others, and
    /// otherwise the oldest.
    pub(super) fn next(&mut self, joined: impl Fn(TopicId) -> bool) -> Option<Push> {
        let bulk = self.flying < BULK_CREDIT;
        let may = |push: &Push| joined(push.topic) && (bulk || push.class != Class::Bulk);
        let first = self.queue.iter().position(|push| push.topic == TopicId::FIRST && may(push));
        let next = first.or_else(|| self.queue.iter().position(may));
        self.queue.remove(next?)
    }

    /// Returns the tag of the push with this number, once.
    pub(super) fn answered(&mut self, reference: u64) -> Option<Tag> {
        let place = self.tags.iter().position(|(sent, _)| *sent == reference)?;
        self.tags.remove(place).map(|(_, tag)| tag)
    }

    /// A push went out under this number.
    pub(super) fn sent_push(&mut self, reference: u64, mut push: Push) {
        if let Some(tag) = push.tag {
            if self.tags.len() >= MAX_TAGS {
                self.tags.pop_front();
            }
            self.tags.push_back((reference, tag));
        }
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
        // An adapter that counts too much gets no more than the usual credit.
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
        self.tags.clear();
        self.queue.retain(|push| push.class == Class::Keep);
        self.repeat(|_| true);
    }

    /// A topic is gone, on a connection that stays. What the server's side of it may not have seen is sent again:
    /// later replies would confirm it, though nobody read it.
    pub(super) fn lost(&mut self, topic: TopicId) {
        self.repeat(|push| push.topic == topic);
    }

    /// Puts pushes that were not confirmed in front of all others, in their order.
    fn repeat(&mut self, which: impl Fn(&Push) -> bool) {
        let mut others = VecDeque::new();
        while let Some((reference, push)) = self.unconfirmed.pop_back() {
            if !which(&push) {
                others.push_front((reference, push));
            } else if push.sends < MAX_PUSH_SENDS && self.held(push.topic) < MAX_HELD_PUSHES {
                self.queue.push_front(push);
            } else {
                self.dropped = self.dropped.saturating_add(1);
            }
        }
        self.unconfirmed = others;
    }
}
