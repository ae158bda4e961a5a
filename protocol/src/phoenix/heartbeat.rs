//! The heartbeat, and giving up when it isn't answered (device-protocol §1.10).

use core::time::Duration;

use crate::time::Instant;

/// Beats once per interval. A beat not answered when the next is due means a dead connection.
pub(super) struct Heartbeat {
    interval: Duration,
    next: Option<Instant>,
    state: State,
}

enum State {
    /// The last beat was answered.
    Quiet,
    /// A beat must go out.
    Due,
    /// A beat with this number went out.
    Sent(u64),
}

impl Heartbeat {
    /// Builds a heartbeat; zero means none.
    pub(super) const fn new(interval: Duration) -> Self {
        Self { interval, next: None, state: State::Quiet }
    }

    pub(super) fn opened(&mut self, now: Instant) {
        self.state = State::Quiet;
        self.next = (!self.interval.is_zero()).then(|| now + self.interval);
    }

    /// Beats at once, unless an answer is awaited already.
    pub(super) fn hasten(&mut self, now: Instant) {
        if matches!(self.state, State::Quiet) {
            self.state = State::Due;
            self.next = (!self.interval.is_zero()).then(|| now + self.interval);
        }
    }

    pub(super) fn closed(&mut self) {
        self.next = None;
        self.state = State::Quiet;
    }

    /// Returns whether the connection is dead.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let Some(next) = self.next else { return false };
        if now < next {
            return false;
        }
        if !matches!(self.state, State::Quiet) {
            return true;
        }
        self.state = State::Due;
        self.next = Some(now + self.interval);
        false
    }

    pub(super) const fn is_due(&self) -> bool {
        matches!(self.state, State::Due)
    }

    pub(super) const fn sent(&mut self, reference: u64) {
        self.state = State::Sent(reference);
    }

    /// A reply on the heartbeat's topic arrived. Only the beat's own number counts.
    pub(super) const fn acknowledged(&mut self, reference: u64) {
        if matches!(self.state, State::Sent(ours) if ours == reference) {
            self.state = State::Quiet;
        }
    }

    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }
}
