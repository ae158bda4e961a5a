//! When a batch goes out: at each interval until nothing is left, within what the server's bucket and the network take.

use core::time::Duration;

use super::super::{Context, EXTENSIONS};
use super::bucket::Bucket;
use super::port::Port;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};

/// The rhythm of an extension that sends batches.
pub(super) struct Pace {
    bucket: Bucket,
    /// When to begin sending.
    next: Option<Instant>,
    /// Whether to send until nothing is left.
    flushing: bool,
    /// When the bucket has a token again, if that is all that is waited for.
    ready: Option<Instant>,
}

impl Pace {
    pub(super) const fn new(bucket: Bucket) -> Self {
        Self { bucket, next: None, flushing: false, ready: None }
    }

    /// Begins sending after an interval.
    pub(super) fn begin_after(&mut self, now: Instant, interval: Duration) {
        (self.next, self.flushing, self.ready) = (Some(now + interval), false, None);
    }

    /// Begins sending now.
    pub(super) const fn flush(&mut self) {
        self.flushing = true;
    }

    /// Sends nothing any more.
    pub(super) const fn stop(&mut self) {
        (self.next, self.flushing, self.ready) = (None, false, None);
    }

    /// Lets time pass. Returns whether to send at all now.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        if self.next.take_if(|next| *next <= now).is_some() {
            self.flushing = true;
        }
        self.ready = None;
        self.flushing
    }

    /// Returns whether one more message may go out now; it must follow then.
    pub(super) fn may_send(&mut self, cx: &Context<'_>, port: Port) -> bool {
        // Nothing is taken from a backlog that couldn't leave at once.
        if !port.is_open() || !cx.wire.is_clear(EXTENSIONS) {
            return false;
        }
        let may = self.bucket.take(cx.now);
        self.ready = (!may).then(|| self.bucket.ready());
        may
    }

    /// Everything is sent: rests until the next interval, if there is one.
    pub(super) fn done(&mut self, now: Instant, interval: Option<Duration>) {
        self.flushing = false;
        self.next = interval.map(|interval| now + interval);
    }

    pub(super) fn deadlines(&self, why: Timer, deadline: &mut Earliest) {
        for at in [self.next, self.ready].into_iter().flatten() {
            deadline.at(why, at);
        }
    }
}
