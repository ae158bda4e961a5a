//! One topic: closed, due, joining or joined (device-protocol §1.8, §1.9).

use alloc::vec::Vec;
use core::time::Duration;

use super::backoff;
use crate::config::Config;
use crate::rng::Rng;
use crate::time::Instant;
use crate::timer::{Deadline, Timer};

/// The delay when the list of delays is empty.
const REJOIN_DEFAULT: Duration = Duration::from_secs(5);

/// A topic that, while wanted, is to be joined and kept joined.
pub(super) struct Channel {
    pub(super) topic: &'static str,
    wanted: bool,
    timeout: Duration,
    delays: Vec<Duration>,
    /// The largest share added to a delay, so that a fleet whose channels ended together doesn't return in step.
    jitter: f64,
    rng: Rng,
    state: State,
    /// Joins that failed in a row.
    failures: usize,
    /// A join that was given up and must be left.
    leave: Option<u64>,
}

enum State {
    /// No connection, or not wanted. Left by `opened` or `want`.
    Closed,
    /// To be joined at a time. Left by `joining`.
    Due(Instant),
    /// Asked, not answered. Left by the reply or the timer.
    Joining { join_ref: u64, give_up: Instant },
    /// Left by `lost`.
    Joined { join_ref: u64 },
}

/// What a reply meant for the join.
pub(super) enum Fate {
    Joined,
    Refused { retry_in: Duration },
    NotAJoin,
}

impl Channel {
    pub(super) fn new(topic: &'static str, config: &Config, seed: u64, wanted: bool) -> Self {
        Self {
            topic,
            wanted,
            timeout: config.join_timeout,
            delays: config.rejoin.clone(),
            jitter: config.backoff.jitter,
            rng: Rng::new(seed),
            state: State::Closed,
            failures: 0,
            leave: None,
        }
    }

    pub(super) fn opened(&mut self, now: Instant) {
        self.state = if self.wanted { State::Due(now) } else { State::Closed };
        self.failures = 0;
        self.leave = None;
    }

    /// The topic is to be joined, or joined anew; at once on an open connection.
    pub(super) fn want(&mut self, now: Instant, open: bool) {
        self.wanted = true;
        if open {
            self.leave = self.leave.or_else(|| self.live());
            self.state = State::Due(now);
            self.failures = 0;
        }
    }

    /// The topic is to be left, and not joined again.
    pub(super) fn unwant(&mut self) {
        self.wanted = false;
        self.leave = self.leave.or_else(|| self.live());
        self.state = State::Closed;
    }

    pub(super) fn closed(&mut self) {
        self.state = State::Closed;
        self.leave = None;
    }

    /// Returns whether the topic is joined or about to be.
    pub(super) const fn is_live(&self) -> bool {
        !matches!(self.state, State::Closed)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        // A join given up must be left first, or its late reply would confuse the server's order.
        self.leave.is_none() && matches!(self.state, State::Due(at) if at <= now)
    }

    pub(super) fn joining(&mut self, now: Instant, join_ref: u64) {
        self.state = State::Joining { join_ref, give_up: now + self.timeout };
    }

    pub(super) const fn joined(&self) -> Option<u64> {
        match self.state {
            State::Joined { join_ref } => Some(join_ref),
            _ => None,
        }
    }

    /// Returns the number of a join the server knows or is about to know.
    const fn live(&self) -> Option<u64> {
        match self.state {
            State::Joining { join_ref, .. } | State::Joined { join_ref } => Some(join_ref),
            State::Closed | State::Due(_) => None,
        }
    }

    /// Returns the join to leave, once.
    pub(super) const fn leave(&mut self) -> Option<u64> {
        self.leave.take()
    }

    /// Returns whether a message with that `join_ref` belongs to the present join.
    pub(super) fn accepts(&self, join_ref: Option<u64>) -> bool {
        match self.state {
            State::Joining { join_ref: ours, .. } | State::Joined { join_ref: ours } => {
                join_ref.is_none_or(|theirs| theirs == ours)
            }
            State::Closed | State::Due(_) => false,
        }
    }

    pub(super) fn replied(&mut self, now: Instant, reference: u64, ok: bool) -> Fate {
        match self.state {
            State::Joining { join_ref, .. } if join_ref == reference => {
                if ok {
                    self.state = State::Joined { join_ref };
                    self.failures = 0;
                    Fate::Joined
                } else {
                    Fate::Refused { retry_in: self.lost(now) }
                }
            }
            _ => Fate::NotAJoin,
        }
    }

    /// The join is gone; it is tried again after the next delay, which is returned.
    pub(super) fn lost(&mut self, now: Instant) -> Duration {
        match self.state {
            State::Joining { .. } | State::Joined { .. } => {
                let delay = self.delays.get(self.failures).or_else(|| self.delays.last());
                let delay = delay.copied().unwrap_or(REJOIN_DEFAULT);
                let delay = backoff::lengthen(delay, self.jitter, &mut self.rng);
                self.state = State::Due(now + delay);
                self.failures = self.failures.saturating_add(1);
                delay
            }
            State::Due(at) => at.saturating_since(now),
            State::Closed => Duration::ZERO,
        }
    }

    /// Gives up a join that was not answered in time. Returns how long that was, and how long until the next attempt.
    pub(super) fn unanswered(&mut self, now: Instant) -> Option<(Duration, Duration)> {
        match self.state {
            State::Joining { join_ref, give_up } if now >= give_up => {
                self.leave = Some(join_ref);
                Some((self.timeout, self.lost(now)))
            }
            _ => None,
        }
    }

    pub(super) const fn deadline(&self, can_send: bool) -> Option<Deadline> {
        match self.state {
            State::Due(at) if can_send => Some(Deadline { at, why: Timer::Rejoin }),
            State::Joining { give_up, .. } => Some(Deadline { at: give_up, why: Timer::Join }),
            State::Closed | State::Due(_) | State::Joined { .. } => None,
        }
    }
}
