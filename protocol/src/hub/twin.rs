//! Two devices with one identity, each of which takes the other's place.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::limits::{DUPLICATE_CLOSES, DUPLICATE_PEACE, DUPLICATE_WINDOW, MAX_DUPLICATE_WAIT};
use crate::time::Instant;

/// Watches for another device with the same identity (device-protocol §1.12): the newest connection wins, so each kicks the
/// other. Both must wait longer and longer, or the server sees nothing but them.
#[derive(Default)]
pub(super) struct Twin {
    kicks: VecDeque<Instant>,
    /// How often this device was kicked since a twin is suspected; `None` while none is.
    level: Option<u32>,
}

/// What a closed connection says about a twin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// Nothing.
    None,
    /// There is one; tell.
    New,
    /// There still is one.
    Old,
}

impl Twin {
    /// A joined connection was closed, by the server's "disconnect" broadcast or otherwise.
    pub(super) fn closed(&mut self, now: Instant, joined: Instant, kicked: bool) -> Suspicion {
        let lived = now.saturating_since(joined);
        if let Some(level) = &mut self.level {
            // Whoever waits for long lets the other live for long, so a short peace proves nothing.
            if !kicked {
                return Suspicion::None;
            }
            *level = level.saturating_add(1);
            return Suspicion::Old;
        }
        if lived >= DUPLICATE_WINDOW {
            self.kicks.clear();
        }
        if !kicked || lived >= DUPLICATE_WINDOW {
            return Suspicion::None;
        }
        self.kicks.retain(|kick| now.saturating_since(*kick) < DUPLICATE_WINDOW);
        self.kicks.push_back(now);
        if self.kicks.len() < DUPLICATE_CLOSES {
            return Suspicion::None;
        }
        self.kicks.clear();
        self.level = Some(0);
        Suspicion::New
    }

    /// Returns whether a twin is suspected.
    pub(super) const fn suspected(&self) -> bool {
        self.level.is_some()
    }

    /// Returns how long to stay away, at least `longest`, the longest back-off: doubled with every kick.
    pub(super) fn wait(&self, longest: Duration) -> Duration {
        // Without a suspicion nothing is doubled.
        let doubled = 1_u32.checked_shl(self.level.unwrap_or_default());
        let wait = doubled.map_or(MAX_DUPLICATE_WAIT, |factor| longest.saturating_mul(factor));
        wait.min(MAX_DUPLICATE_WAIT).max(longest)
    }

    /// Returns when a connection joined at that time was left in peace long enough, if a twin is suspected.
    pub(super) fn peace(&self, joined: Instant) -> Option<Instant> {
        self.level.map(|_| joined + DUPLICATE_PEACE)
    }

    /// Lets time pass on a connection joined at that time. Returns whether the suspicion just ended.
    pub(super) fn tick(&mut self, now: Instant, joined: Instant) -> bool {
        let over = self.peace(joined).is_some_and(|at| now >= at);
        if over {
            *self = Self::default();
        }
        over
    }
}
