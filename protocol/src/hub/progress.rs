//! Progress: at most two reports a second per stage, and only when it grew (device-protocol §6.2); but never so seldom that the
//! server takes the update for dead (device-protocol §9.3).

use crate::event::Stage;
use crate::limits::{PROGRESS_INTERVAL, PROGRESS_KEEPALIVE};
use crate::time::Instant;

/// Remembers what was reported.
pub(super) struct Progress {
    downloading: Throttle,
    updating: Throttle,
    /// When the server heard of the update last.
    heard: Instant,
}

#[derive(Default)]
struct Throttle {
    percent: Option<u8>,
    at: Option<Instant>,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Self { downloading: Throttle::default(), updating: Throttle::default(), heard: now }
    }

    /// Returns whether to report this percentage. With `last`, time doesn't matter.
    pub(super) fn passes(&mut self, now: Instant, stage: Stage, percent: u8, last: bool) -> bool {
        let throttle = match stage {
            Stage::Downloading => &mut self.downloading,
            Stage::Updating => &mut self.updating,
        };
        let greater = throttle.percent.is_none_or(|reported| percent > reported);
        let rested = last || throttle.at.is_none_or(|at| now >= at + PROGRESS_INTERVAL);
        if greater && rested {
            throttle.percent = Some(percent);
            throttle.at = Some(now);
            self.heard = now;
        }
        greater && rested
    }

    /// Returns whether the applier reported anything yet.
    pub(super) const fn is_updating(&self) -> bool {
        self.updating.percent.is_some()
    }

    /// The server may have missed reports: the next one counts again.
    pub(super) const fn rejoined(&mut self) {
        self.downloading.percent = None;
        // Zero keeps the phase: a server must not see an update fall back to downloading.
        if self.updating.percent.is_some() {
            self.updating.percent = Some(0);
        }
    }

    /// Returns when the server must hear of the update again, if nothing happens before.
    pub(super) fn due(&self) -> Instant {
        self.heard + PROGRESS_KEEPALIVE
    }

    /// The server is told that the update lives. Returns how far it is.
    pub(super) fn alive(&mut self, now: Instant) -> (Stage, u8) {
        self.heard = now;
        match self.updating.percent {
            Some(percent) => (Stage::Updating, percent),
            // No percentage before the first one is known.
            None => (Stage::Downloading, self.downloading.percent.unwrap_or_default()),
        }
    }
}
