//! Two devices with one identity, each of which takes the other's place.

use alloc::collections::VecDeque;

use crate::limits::{DUPLICATE_CLOSES, DUPLICATE_WINDOW};
use crate::time::Instant;

/// Watches for another device with the same identity (spec §1.12): each kicks the other.
#[derive(Default)]
pub(super) struct Twin {
    kicks: VecDeque<Instant>,
    suspected: bool,
}

/// What a closed connection says about a twin.
pub(super) enum Suspicion {
    /// Nothing.
    None,
    /// There is one; tell.
    New,
    /// There still is one.
    Old,
}

impl Twin {
    /// A joined connection was closed, with the code of the "disconnect" broadcast or another.
    pub(super) fn closed(&mut self, now: Instant, joined: Instant, going_away: bool) -> Suspicion {
        let shortly = now.saturating_since(joined) < DUPLICATE_WINDOW;
        if !shortly {
            // This connection was left in peace, so there is no twin (any more).
            *self = Self::default();
        }
        if !shortly || !going_away {
            return Suspicion::None;
        }
        self.kicks.retain(|kick| now.saturating_since(*kick) < DUPLICATE_WINDOW);
        if self.kicks.len() >= DUPLICATE_CLOSES {
            self.kicks.pop_front();
        }
        self.kicks.push_back(now);
        if self.suspected {
            return Suspicion::Old;
        }
        self.suspected = self.kicks.len() >= DUPLICATE_CLOSES;
        if self.suspected { Suspicion::New } else { Suspicion::None }
    }
}
