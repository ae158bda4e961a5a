//! A client of Phoenix channels over one WebSocket, without the WebSocket. Knows no NervesHub.
//!
//! It numbers messages, joins topics, holds pushes until their topic is joined, beats the heart and
//! says when the connection is dead. All strings it sends come from the program, so that only
//! payloads need JSON escaping.

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

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

use serde_json::{Map, Value};

use crate::config::{Config, Serializer};
use crate::limits::SEND_TIMEOUT;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};

use channel::{Channel, Fate};
use codec::Outgoing;
pub(crate) use codec::{Frame, Malformed, Received};
use envelope::Message;
use heartbeat::Heartbeat;
pub(crate) use outbox::Class;
use outbox::{Outbox, Push};
pub(crate) use payload::Payload;

/// The topic of heartbeats.
const PHOENIX: &str = "phoenix";

/// What a message from the server means.
pub(crate) enum Incoming<'a> {
    /// Nothing the caller must know.
    Nothing,
    /// Belongs to an earlier join; dropped.
    Stale,
    /// The topic was joined.
    Joined,
    /// A join was refused and will be tried again.
    JoinRefused {
        /// The server's words.
        reason: String,
    },
    /// A topic was lost and will be joined again.
    Lost {
        /// What happened.
        reason: String,
    },
    /// An event on a topic of ours.
    Push {
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

/// The channels of one connection after the other.
pub(crate) struct Phoenix {
    serializer: Serializer,
    open: bool,
    last_ref: u64,
    heartbeat: Heartbeat,
    channel: Channel,
    outbox: Outbox,
}

impl Phoenix {
    /// Builds a client for one topic.
    pub(crate) fn new(topic: &'static str, config: &Config, seed: u64) -> Self {
        Self {
            serializer: config.serializer,
            open: false,
            last_ref: 0,
            heartbeat: Heartbeat::new(config.heartbeat),
            channel: Channel::new(topic, config, seed),
            // Without heartbeats no later reply would ever confirm a push.
            outbox: Outbox::new(!config.heartbeat.is_zero()),
        }
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

    /// A connection opened: numbers start anew and the topic is to be joined.
    pub(crate) fn opened(&mut self, now: Instant) {
        self.open = true;
        self.last_ref = 0;
        self.heartbeat.opened(now);
        self.channel.opened(now);
    }

    /// The connection is gone: only pushes that must arrive are kept.
    pub(crate) fn closed(&mut self) {
        self.open = false;
        self.heartbeat.closed();
        self.channel.closed();
        self.outbox.closed();
    }

    /// Queues an event for the topic. Anything the queue has no room for is dropped and counted.
    pub(crate) fn push(&mut self, event: &'static str, payload: Value, class: Class) {
        self.outbox.push(Push::new(event, payload, class));
    }

    /// Drops pushes of a class that still wait: they are out of date.
    pub(crate) fn discard(&mut self, class: Class) {
        self.outbox.discard(class);
    }

    /// Returns whether everything queued was sent.
    pub(crate) fn is_drained(&self) -> bool {
        self.outbox.is_drained()
    }

    /// Returns whether the topic is joined.
    pub(crate) const fn is_joined(&self) -> bool {
        self.channel.joined().is_some()
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
        if message.topic != self.channel.topic {
            return Ok(Incoming::Foreign { topic: message.topic, event: message.event });
        }
        if !self.channel.accepts(message.join_ref()) {
            return Ok(Incoming::Stale);
        }
        match &*message.event {
            "phx_error" => {
                let reason = message.payload.explain();
                self.channel.lost(now);
                Ok(Incoming::Lost { reason: format!("the server's side of the channel crashed ({reason})") })
            }
            "phx_close" => {
                self.channel.lost(now);
                Ok(Incoming::Lost { reason: String::from("the server closed the channel") })
            }
            _ => Ok(Incoming::Push { event: message.event, payload: message.payload }),
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
        self.channel.tick(now);
        None
    }

    /// Returns whether the parameters for a join are wanted now.
    pub(crate) fn wants_join(&self, now: Instant) -> bool {
        self.open && self.outbox.has_credit() && self.channel.is_due(now)
    }

    /// Joins with these parameters. Call only when [`Phoenix::wants_join`].
    pub(crate) fn join(&mut self, now: Instant, params: &Value) -> Frame {
        let reference = self.next_ref();
        self.channel.joining(now, reference);
        self.outbox.flew(now);
        self.encode(Some(reference), reference, self.channel.topic, "phx_join", params)
    }

    /// Returns the next message to send, if there is one and the adapter has room for it.
    pub(crate) fn transmit(&mut self, now: Instant) -> Option<Frame> {
        if !self.open || !self.outbox.has_credit() {
            return None;
        }
        let frame = if let Some(join_ref) = self.channel.leave() {
            let reference = self.next_ref();
            self.encode(Some(join_ref), reference, self.channel.topic, "phx_leave", &empty())
        } else if self.heartbeat.is_due() {
            let reference = self.next_ref();
            self.heartbeat.sent(reference);
            self.encode(None, reference, PHOENIX, "heartbeat", &empty())
        } else {
            let join_ref = self.channel.joined()?;
            let push = self.outbox.next()?;
            let reference = self.next_ref();
            let frame = self.encode(Some(join_ref), reference, self.channel.topic, push.event, &push.payload);
            self.outbox.sent_push(reference, push);
            frame
        };
        self.outbox.flew(now);
        Some(frame)
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
        deadline.add(self.channel.deadline(self.outbox.has_credit()));
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
        if message.topic != self.channel.topic || !ours {
            return Ok(Incoming::Stale);
        }
        let failure = || reply.response.map_or_else(|| String::from("null"), Payload::explain);
        Ok(match self.channel.replied(now, reference, reply.status == "ok") {
            Fate::Joined => Incoming::Joined,
            Fate::Refused => Incoming::JoinRefused { reason: failure() },
            Fate::NotAJoin if reply.status == "error" && failure() == "unmatched topic" => {
                self.channel.lost(now);
                Incoming::Lost { reason: String::from("the server does not know the channel any more") }
            }
            Fate::NotAJoin => Incoming::Nothing,
        })
    }

    fn encode(
        &self,
        join_ref: Option<u64>,
        reference: u64,
        topic: &str,
        event: &str,
        payload: &Value,
    ) -> Frame {
        codec::encode(self.serializer, &Outgoing { join_ref, reference, topic, event, payload })
    }

    const fn next_ref(&mut self) -> u64 {
        self.last_ref = self.last_ref.saturating_add(1);
        self.last_ref
    }
}

/// Returns the payload of an event that says everything by its name.
fn empty() -> Value {
    Value::Object(Map::new())
}
