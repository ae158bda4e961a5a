//! A client of Phoenix channels over one WebSocket, without the WebSocket. Knows no NervesHub.
//!
//! It numbers messages, joins topics and keeps them joined, holds pushes until their topic is joined, beats
//! the heart and says when the connection is dead. The names it sends (topics, events) need no escaping in
//! JSON; whoever takes one from elsewhere checks it first.

pub(crate) mod backoff;
mod binary;
mod channel;
mod codec;
mod envelope;
mod heartbeat;
mod json;
mod msgpack;
mod outbox;
mod payload;
mod topics;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use serde_json::{Map, Value};

use crate::config::{Config, Serializer};
use crate::fault::Fault;
use crate::limits::SEND_TIMEOUT;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};

use channel::Fate;
use codec::Outgoing;
pub(crate) use codec::{Frame, Malformed, Received};
use envelope::Message;
use heartbeat::Heartbeat;
pub(crate) use outbox::Class;
use outbox::{Outbox, Push};
pub(crate) use payload::Payload;
pub(crate) use topics::TopicId;
use topics::Topics;

/// The topic of heartbeats.
const PHOENIX: &str = "phoenix";

/// What a message from the server means.
pub(crate) enum Incoming<'a> {
    /// Nothing the caller must know.
    Nothing,
    /// Belongs to an earlier join; dropped.
    Stale,
    /// A topic was joined.
    Joined {
        /// Which.
        topic: TopicId,
        /// What the server answered.
        response: Option<Payload<'a>>,
    },
    /// A join was refused and will be tried again.
    JoinRefused {
        /// Of which topic.
        topic: TopicId,
        /// The server's words.
        reason: String,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// A topic was lost and will be joined again.
    Lost {
        /// Which.
        topic: TopicId,
        /// What happened.
        reason: String,
        /// How long until it is joined again.
        retry_in: Duration,
    },
    /// The server answered a push with an error.
    Rejected {
        /// On which topic.
        topic: TopicId,
        /// What [`Phoenix::push_to`] was told with the push, if that is still known.
        tag: Option<Tag>,
        /// The server's words.
        reason: String,
    },
    /// An event on a topic of ours.
    Push {
        /// Which.
        topic: TopicId,
        /// The event's name.
        event: Cow<'a, str>,
        /// Its payload, unparsed.
        payload: Payload<'a>,
    },
    /// An event on a topic that isn't ours.
    Foreign {
        /// The topic.
        topic: Cow<'a, str>,
        /// The event's name.
        event: Cow<'a, str>,
    },
}

/// A number of the caller's own that goes with a push, to tell what an answer is about.
pub(crate) type Tag = u16;

/// The channels of one connection after the other.
pub(crate) struct Phoenix {
    serializer: Serializer,
    open: bool,
    /// Whether the server proved who it is, or counts as if it had.
    trusted: bool,
    last_ref: u64,
    heartbeat: Heartbeat,
    topics: Topics,
    outbox: Outbox,
}

impl Phoenix {
    /// Builds a client for topics with these names, of which the first is wanted on every connection, and the
    /// others once [`Phoenix::want`] says so. Their place in the list is their [`TopicId`].
    pub(crate) fn new(names: &[&'static str], config: &Config, seed: u64) -> Self {
        Self {
            serializer: config.serializer,
            open: false,
            trusted: false,
            last_ref: 0,
            heartbeat: Heartbeat::new(config.heartbeat),
            topics: Topics::new(names, config, seed),
            // Without heartbeats no later reply would ever confirm a push.
            outbox: Outbox::new(!config.heartbeat.is_zero()),
        }
    }

    /// Returns whether a server is connected that proved who it is, or counts as if it had
    /// ([`Config::insecure_plain_hub`]).
    pub(crate) const fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Returns the version to ask for when connecting (`vsn`).
    pub(crate) const fn version(&self) -> &'static str {
        self.serializer.version()
    }

    /// The server refused the version: the oldest one is spoken from now on. Returns whether that is another.
    pub(crate) fn fall_back(&mut self) -> bool {
        let other = self.serializer != Serializer::Json;
        self.serializer = Serializer::Json;
        other
    }

    /// A connection opened: numbers start anew and the topics wanted are to be joined.
    pub(crate) fn opened(&mut self, now: Instant, trusted: bool) {
        (self.open, self.trusted) = (true, trusted);
        self.last_ref = 0;
        self.heartbeat.opened(now);
        self.topics.opened(now);
    }

    /// The connection is gone: only pushes that must arrive are kept.
    pub(crate) fn closed(&mut self) {
        (self.open, self.trusted) = (false, false);
        self.heartbeat.closed();
        self.topics.closed();
        self.outbox.closed();
    }

    /// Wants a topic joined, now and on every connection to come; or, if it is joined already, joined anew
    /// with other parameters.
    pub(crate) fn want(&mut self, now: Instant, topic: TopicId) {
        self.topics.want(now, topic, self.open);
    }

    /// Wants a topic left and not joined again. What waits to be sent there is dropped.
    pub(crate) fn unwant(&mut self, topic: TopicId) {
        self.topics.unwant(topic);
        self.outbox.discard_topic(topic);
    }

    /// Queues an event for the first topic. Anything the queue has no room for is dropped and counted.
    pub(crate) fn push(&mut self, event: &'static str, payload: Value, class: Class) {
        self.outbox.push(Push::new(TopicId::FIRST, Cow::Borrowed(event), payload, class));
    }

    /// Queues an event for a topic, as [`Phoenix::push`] does for the first. The tag comes back should the
    /// server answer with an error. The event's name must need no escaping in JSON.
    pub(crate) fn push_to(
        &mut self,
        topic: TopicId,
        tag: Tag,
        event: Cow<'static, str>,
        payload: Value,
        class: Class,
    ) {
        self.outbox.push(Push::new(topic, event, payload, class).tagged(tag));
    }

    /// Returns how many pushes wait to be sent on a topic.
    pub(crate) fn held(&self, topic: TopicId) -> usize {
        self.outbox.held(topic)
    }

    /// Returns whether a push with that tag waits to be sent on a topic.
    pub(crate) fn waits(&self, topic: TopicId, tag: Tag) -> bool {
        self.outbox.waits(topic, tag)
    }

    /// Returns whether a push for a topic would be sent at once: the topic is joined, and the adapter has room for
    /// more than what waits already.
    pub(crate) fn is_clear(&self, topic: TopicId) -> bool {
        self.open && self.has_joined(topic) && self.outbox.is_clear()
    }

    /// Drops pushes of a class that still wait: they are out of date.
    pub(crate) fn discard(&mut self, class: Class) {
        self.outbox.discard(class);
    }

    /// Drops all pushes that wait to be sent on a topic.
    pub(crate) fn discard_topic(&mut self, topic: TopicId) {
        self.outbox.discard_topic(topic);
    }

    /// Drops the pushes with a tag that wait to be sent on a topic.
    pub(crate) fn discard_tag(&mut self, topic: TopicId, tag: Tag) {
        self.outbox.discard_tag(topic, tag);
    }

    /// Returns whether everything queued for the first topic was sent.
    pub(crate) fn is_drained(&self) -> bool {
        self.outbox.is_drained(TopicId::FIRST)
    }

    /// Returns whether the server has seen everything that it must see of the first topic. Asks it, if all was sent.
    pub(crate) fn is_seen(&mut self, now: Instant) -> bool {
        let seen = self.outbox.is_seen(TopicId::FIRST);
        if self.open && !seen && self.is_drained() {
            // An answer to what is sent last confirms all before it.
            self.heartbeat.hasten(now);
        }
        seen
    }

    /// Returns whether the first topic is joined.
    pub(crate) fn is_joined(&self) -> bool {
        self.has_joined(TopicId::FIRST)
    }

    /// Returns whether a topic is joined.
    pub(crate) fn has_joined(&self, topic: TopicId) -> bool {
        self.topics.joined(topic).is_some()
    }

    /// Returns how many pushes were dropped for lack of room.
    pub(crate) const fn dropped(&self) -> u64 {
        self.outbox.dropped
    }

    /// Reads a message.
    pub(crate) fn receive<'a>(
        &mut self,
        now: Instant,
        received: Received<'a>,
    ) -> Result<Incoming<'a>, Malformed> {
        let message = codec::decode(self.serializer, received)?;
        if message.event == "phx_reply" {
            return self.reply(now, &message);
        }
        let known = self.topics.find(&message.topic);
        let Some(topic) = known.filter(|topic| self.topics.is_live(*topic)) else {
            if known.is_some() && message.event == "phx_close" {
                // The end of a channel that was left.
                return Ok(Incoming::Stale);
            }
            message.payload.ignore().map_err(Malformed)?;
            return Ok(Incoming::Foreign { topic: message.topic, event: message.event });
        };
        if !self.topics.accepts(topic, message.join_ref()) {
            return Ok(Incoming::Stale);
        }
        match &*message.event {
            "phx_error" => {
                let reason = message.payload.explain();
                let retry_in = self.lose(now, topic);
                let reason = format!("the server's side of the channel crashed ({reason})");
                Ok(Incoming::Lost { topic, reason, retry_in })
            }
            "phx_close" => {
                let retry_in = self.lose(now, topic);
                Ok(Incoming::Lost { topic, reason: String::from("the server closed the channel"), retry_in })
            }
            _ => Ok(Incoming::Push { topic, event: message.event, payload: message.payload }),
        }
    }

    /// Lets time pass. Returns why the connection is dead, if it is.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<&'static str> {
        if !self.open {
            return None;
        }
        if self.heartbeat.tick(now) {
            return Some("the server did not answer the heartbeat");
        }
        if self.outbox.blocked_since.is_some_and(|since| now >= since + SEND_TIMEOUT) {
            return Some("the connection took no message for a minute");
        }
        None
    }

    /// Gives up a join that the server did not answer in time, if there is one. Ask until there is none.
    pub(crate) fn unanswered(&mut self, now: Instant) -> Option<Incoming<'static>> {
        let (topic, waited, retry_in) = self.topics.unanswered(now).filter(|_| self.open)?;
        let waited = waited.as_secs();
        let reason =
            format!("the server did not answer the join of {} within {waited} s", self.topics.name(topic));
        Some(Incoming::Lost { topic, reason, retry_in })
    }

    /// Returns the topic whose parameters for a join are wanted now.
    pub(crate) fn wants_join(&self, now: Instant) -> Option<TopicId> {
        if self.open && self.outbox.has_credit() { self.topics.due(now) } else { None }
    }

    /// Joins a topic with these parameters. Call only as [`Phoenix::wants_join`] says.
    pub(crate) fn join(&mut self, now: Instant, topic: TopicId, params: &Value) -> Result<Frame, Fault> {
        let reference = self.next_ref();
        self.topics.joining(now, topic, reference);
        let frame = self.encode(Some(reference), reference, self.topics.name(topic), "phx_join", params)?;
        self.outbox.flew(now);
        Ok(frame)
    }

    /// Returns the next message to send, if there is one and the adapter has room for it. A message that can't be
    /// written is dropped.
    pub(crate) fn transmit(&mut self, now: Instant) -> Result<Option<Frame>, Fault> {
        if !self.open || !self.outbox.has_credit() {
            return Ok(None);
        }
        let frame = if let Some((topic, join_ref)) = self.topics.leave() {
            let reference = self.next_ref();
            self.encode(Some(join_ref), reference, self.topics.name(topic), "phx_leave", &empty())?
        } else if self.heartbeat.is_due() {
            let reference = self.next_ref();
            self.heartbeat.sent(reference);
            self.encode(None, reference, PHOENIX, "heartbeat", &empty())?
        } else {
            let topics = &self.topics;
            let Some(push) = self.outbox.next(|topic| topics.joined(topic).is_some()) else {
                return Ok(None);
            };
            let join_ref = self.topics.joined(push.topic);
            let reference = self.next_ref();
            let topic = self.topics.name(push.topic);
            let frame = self.encode(join_ref, reference, topic, &push.event, &push.payload)?;
            self.outbox.sent_push(reference, push);
            frame
        };
        self.outbox.flew(now);
        Ok(Some(frame))
    }

    /// The adapter sent this many messages.
    pub(crate) fn sent(&mut self, now: Instant, frames: u32) {
        self.outbox.landed(now, frames);
    }

    /// Adds the timers to a deadline.
    pub(crate) fn deadlines(&self, deadline: &mut Earliest) {
        if !self.open {
            return;
        }
        if let Some(at) = self.heartbeat.next() {
            deadline.at(Timer::Heartbeat, at);
        }
        if let Some(since) = self.outbox.blocked_since {
            deadline.after(Timer::Send, since, SEND_TIMEOUT);
        }
        // Without credit a due join waits for the adapter, not for a time.
        self.topics.deadlines(self.outbox.has_credit(), deadline);
    }

    fn reply<'a>(&mut self, now: Instant, message: &Message<'a>) -> Result<Incoming<'a>, Malformed> {
        let Some(reference) = message.reference() else { return Ok(Incoming::Stale) };
        let reply = message.payload.reply()?;
        let ours = reference <= self.last_ref;
        if ours {
            // The server works through messages in order: it has seen all before this one.
            self.outbox.confirmed(reference);
        }
        if message.topic == PHOENIX {
            self.heartbeat.acknowledged(reference);
            return Ok(Incoming::Nothing);
        }
        let topic = self.topics.find(&message.topic).filter(|topic| ours && self.topics.is_live(*topic));
        let Some(topic) = topic else { return Ok(Incoming::Stale) };
        let failure = || reply.response.map_or_else(|| String::from("null"), Payload::explain);
        let tag = self.outbox.answered(reference);
        Ok(match self.topics.replied(now, topic, reference, reply.status == "ok") {
            Fate::Joined => Incoming::Joined { topic, response: reply.response },
            Fate::Refused { retry_in } => Incoming::JoinRefused { topic, reason: failure(), retry_in },
            Fate::NotAJoin if reply.status == "error" => match failure() {
                reason if reason == "unmatched topic" => {
                    let retry_in = self.lose(now, topic);
                    let reason = String::from("the server does not know the channel any more");
                    Incoming::Lost { topic, reason, retry_in }
                }
                reason => Incoming::Rejected { topic, tag, reason },
            },
            Fate::NotAJoin if self.topics.joined(topic) == Some(reference) => Incoming::Stale,
            Fate::NotAJoin => Incoming::Nothing,
        })
    }

    /// The server's side of a topic is gone. Returns how long until it is joined again.
    fn lose(&mut self, now: Instant, topic: TopicId) -> Duration {
        self.outbox.lost(topic);
        self.topics.lost(now, topic)
    }

    fn encode(
        &self,
        join_ref: Option<u64>,
        reference: u64,
        topic: &str,
        event: &str,
        payload: &Value,
    ) -> Result<Frame, Fault> {
        codec::encode(self.serializer, &Outgoing { join_ref, reference, topic, event, payload })
    }

    const fn next_ref(&mut self) -> u64 {
        self.last_ref = self.last_ref.saturating_add(1);
        self.last_ref
    }
}

/// The codec by itself.
#[cfg(feature = "bench")]
pub(crate) struct Bench;

#[cfg(feature = "bench")]
impl Bench {
    pub(crate) fn read(serializer: Serializer, received: Received<'_>) -> Result<Payload<'_>, String> {
        codec::decode(serializer, received).map(|message| message.payload).map_err(|error| error.0)
    }

    pub(crate) fn write(
        serializer: Serializer,
        topic: &str,
        event: &str,
        payload: &Value,
    ) -> Result<Frame, Fault> {
        let (join_ref, reference) = (Some(1), 12);
        codec::encode(serializer, &Outgoing { join_ref, reference, topic, event, payload })
    }
}

/// Returns the payload of an event that says everything by its name.
fn empty() -> Value {
    Value::Object(Map::new())
}
