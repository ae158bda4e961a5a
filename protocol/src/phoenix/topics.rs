//! The topics of a connection, each in its own state.

use alloc::vec::Vec;
use core::time::Duration;

use super::channel::{Channel, Fate};
use crate::config::Config;
use crate::time::Instant;
use crate::timer::Earliest;

/// A topic, by its place in the list that [`Phoenix::new`](super::Phoenix::new) got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicId(pub(crate) u8);

impl TopicId {
    /// The topic that is always wanted.
    pub(crate) const FIRST: Self = Self(0);
}

/// All topics, in the order in which they are joined.
pub(super) struct Topics {
    channels: Vec<Channel>,
}

impl Topics {
    pub(super) fn new(names: &[&'static str], config: &Config, seed: u64) -> Self {
        let channels = names.iter().zip(0_u32..).map(|(name, place)| {
            // Another seed for each, so that they don't come back in step.
            Channel::new(name, config, seed.rotate_left(place), place == 0)
        });
        Self { channels: channels.collect() }
    }

    pub(super) fn find(&self, name: &str) -> Option<TopicId> {
        let place = self.channels.iter().position(|channel| channel.topic == name)?;
        u8::try_from(place).ok().map(TopicId)
    }

    /// Returns the name of a topic.
    pub(super) fn name(&self, topic: TopicId) -> &'static str {
        self.get(topic).map_or("", |channel| channel.topic)
    }

    pub(super) fn opened(&mut self, now: Instant) {
        self.channels.iter_mut().for_each(|channel| channel.opened(now));
    }

    pub(super) fn closed(&mut self) {
        self.channels.iter_mut().for_each(Channel::closed);
    }

    pub(super) fn want(&mut self, now: Instant, topic: TopicId, open: bool) {
        self.with(topic, |channel| channel.want(now, open));
    }

    pub(super) fn unwant(&mut self, topic: TopicId) {
        self.with(topic, Channel::unwant);
    }

    /// Returns whether a topic is joined or about to be.
    pub(super) fn is_live(&self, topic: TopicId) -> bool {
        self.get(topic).is_some_and(Channel::is_live)
    }

    /// Returns the number of the present join, if the topic is joined.
    pub(super) fn joined(&self, topic: TopicId) -> Option<u64> {
        self.get(topic).and_then(Channel::joined)
    }

    pub(super) fn accepts(&self, topic: TopicId, join_ref: Option<u64>) -> bool {
        self.get(topic).is_some_and(|channel| channel.accepts(join_ref))
    }

    /// Returns the first topic to be joined now.
    pub(super) fn due(&self, now: Instant) -> Option<TopicId> {
        let place = self.channels.iter().position(|channel| channel.is_due(now))?;
        u8::try_from(place).ok().map(TopicId)
    }

    pub(super) fn joining(&mut self, now: Instant, topic: TopicId, join_ref: u64) {
        self.with(topic, |channel| channel.joining(now, join_ref));
    }

    pub(super) fn replied(&mut self, now: Instant, topic: TopicId, reference: u64, ok: bool) -> Fate {
        self.get_mut(topic).map_or(Fate::NotAJoin, |channel| channel.replied(now, reference, ok))
    }

    /// The server's side of a topic is gone. Returns how long until it is joined again.
    pub(super) fn lost(&mut self, now: Instant, topic: TopicId) -> Duration {
        self.get_mut(topic).map_or(Duration::ZERO, |channel| channel.lost(now))
    }

    /// Returns a join to leave, once.
    pub(super) fn leave(&mut self) -> Option<(TopicId, u64)> {
        self.channels
            .iter_mut()
            .zip(0_u8..)
            .find_map(|(channel, place)| Some((TopicId(place), channel.leave()?)))
    }

    /// Gives up a join that was not answered in time, if there is one. Returns how long that was, and how long until
    /// the next attempt.
    pub(super) fn unanswered(&mut self, now: Instant) -> Option<(TopicId, Duration, Duration)> {
        self.channels.iter_mut().zip(0_u8..).find_map(|(channel, place)| {
            let (waited, retry_in) = channel.unanswered(now)?;
            Some((TopicId(place), waited, retry_in))
        })
    }

    pub(super) fn deadlines(&self, can_send: bool, deadline: &mut Earliest) {
        self.channels.iter().for_each(|channel| deadline.add(channel.deadline(can_send)));
    }

    fn get(&self, topic: TopicId) -> Option<&Channel> {
        let channel = self.channels.get(usize::from(topic.0));
        debug_assert!(channel.is_some(), "{topic:?} is none of this connection");
        channel
    }

    fn get_mut(&mut self, topic: TopicId) -> Option<&mut Channel> {
        let channel = self.channels.get_mut(usize::from(topic.0));
        debug_assert!(channel.is_some(), "{topic:?} is none of this connection");
        channel
    }

    fn with(&mut self, topic: TopicId, work: impl FnOnce(&mut Channel)) {
        if let Some(channel) = self.get_mut(topic) {
            work(channel);
        }
    }
}
