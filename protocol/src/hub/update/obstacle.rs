//! What keeps the device from installing anything: offers are put off, and failures are no fault of the firmware.

use alloc::string::String;
use core::time::Duration;

use super::Updates;
use crate::event::Event;
use crate::hub::report::{Told, failed, reschedule};
use crate::hub::{Context, names};
use crate::ids::OfferId;
use crate::limits::{MAX_OBSTACLE_WAIT, MAX_REASON_CHARS, OBSTACLE_WAIT};
use crate::phoenix::Class;
use crate::text::cut;

/// Why nothing can be installed.
pub(super) struct Obstacle {
    reason: String,
    /// How long the next offer is put off.
    wait: Duration,
}

impl Updates {
    /// Returns why nothing can be installed, if so.
    pub(crate) fn obstacle(&self) -> Option<&str> {
        self.obstacle.as_ref().map(|obstacle| obstacle.reason.as_str())
    }

    /// The device can't install anything, or can again.
    pub(crate) fn obstruct(&mut self, cx: &mut Context<'_>, reason: Option<&str>) {
        let reason = reason.map(|reason| cut(reason, MAX_REASON_CHARS));
        if self.obstacle() == reason.as_deref() {
            return;
        }
        // Another reason for the same state is no reason to be asked more often.
        let wait = self.obstacle.as_ref().map_or(OBSTACLE_WAIT, |obstacle| obstacle.wait);
        self.obstacle = reason.clone().map(|reason| Obstacle { reason, wait });
        cx.out.event(Event::InstallObstacle { reason });
    }

    /// Returns how long to put an offer off, and why, if nothing can be installed. The firmware isn't held back: the
    /// next offer may come when the obstacle is gone.
    pub(super) fn obstructed(&mut self) -> Option<(Duration, String)> {
        let obstacle = self.obstacle.as_mut()?;
        let wait = obstacle.wait;
        obstacle.wait = (wait * 2).min(MAX_OBSTACLE_WAIT);
        Some((wait, obstacle.reason.clone()))
    }

    /// Reports an update that failed. While nothing can be installed, that is the reason, and no firmware is blamed.
    /// `counts` says whether the other updates have to wait for a while then.
    pub(super) fn fail(
        &mut self,
        cx: &mut Context<'_>,
        offer: OfferId,
        uuid: &str,
        reason: &str,
        counts: bool,
        told: Told,
    ) {
        let Some((wait, obstacle)) = self.obstructed() else {
            if counts {
                self.ledger.failed(cx.now, cx.wall, cx.out);
            }
            return failed(cx, offer, reason, told);
        };
        self.attempts.excuse(cx, uuid);
        cx.wire.discard(Class::Latest(names::FWUP_PROGRESS));
        reschedule(cx, wait, Some(&obstacle));
        let reason = cut(reason, MAX_REASON_CHARS);
        cx.out.event(Event::UpdateFailed { offer, reason, retry_in: Some(wait) });
    }
}
