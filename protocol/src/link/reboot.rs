//! Reboots: those the server orders, within a bound, and those after an update.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::Link;
use crate::event::Event;
use crate::hub::{names, payload};
use crate::limits::{REBOOT_GRACE, REBOOT_WINDOW};
use crate::output::Output;
use crate::phoenix::Class;
use crate::text::count;
use crate::time::Instant;

/// A reboot that waits until everything is sent.
pub(super) struct Planned {
    reason: String,
    /// Not before then.
    from: Instant,
    /// Whether everything is sent or not.
    until: Instant,
}

impl Planned {
    /// Returns when to look at it next.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        if now < self.from { self.from } else { self.until }
    }
}

impl Link {
    /// The server orders a reboot.
    pub(super) fn reboot_ordered(&mut self) {
        let limit = self.core.config.bounds.reboots_per_hour;
        // An order that comes twice is one.
        let soon = self.reboot.as_ref().is_some_and(|planned| planned.from <= self.core.now);
        let wait =
            if soon { None } else { self.updates.ledger.reboot_wait(limit, self.core.now, self.core.wall) };
        if let Some(retry_in) = wait {
            let reason = self.reboot_excess(limit);
            self.reboot_refused = Some(reason.clone());
            return self.core.out.event(Event::RebootRefused { reason, retry_in });
        }
        self.core.wire.push(names::REBOOTING, payload::empty(), Class::Session);
        self.core.out.event(Event::RebootRequested);
        self.plan(String::from("an operator asked for it"), Duration::ZERO);
    }

    /// An update is installed, and a reboot brings it up.
    pub(super) fn plan_reboot(&mut self, reason: &str) {
        if self.reboot.is_some() {
            return;
        }
        let limit = self.core.config.bounds.reboots_per_hour;
        let wait = self.updates.ledger.planned_wait(limit, self.core.now, self.core.wall);
        if let Some(retry_in) = wait {
            let reason = self.reboot_excess(limit);
            self.core.out.event(Event::RebootDelayed { reason, retry_in });
        }
        self.plan(String::from(reason), wait.unwrap_or_default()); // Without a wait, at once.
    }

    fn plan(&mut self, reason: String, wait: Duration) {
        let from = self.core.now + wait;
        self.reboot.get_or_insert(Planned { reason, from, until: from + REBOOT_GRACE });
    }

    fn reboot_excess(&self, limit: u32) -> String {
        if self.updates.ledger.has_reboots(limit) {
            let minutes = REBOOT_WINDOW.as_secs() / 60;
            format!("the device was rebooted {} within {minutes} minutes", count(limit.into(), "time"))
        } else {
            String::from(
                "the device can't remember how often it was rebooted before, and started only lately",
            )
        }
    }

    /// The alarm about refused reboots ends when another would be obeyed.
    pub(super) fn forget_refused_reboots(&mut self) {
        let limit = self.core.config.bounds.reboots_per_hour;
        if self.reboot_refused.is_some()
            && self.updates.ledger.reboot_wait(limit, self.core.now, self.core.wall).is_none()
        {
            self.reboot_refused = None;
        }
    }

    /// Reboots when nothing is left to send.
    pub(super) fn reboot_if_ready(&mut self) {
        let (now, drained) = (self.core.now, self.core.wire.is_drained());
        let ready = |planned: &mut Planned| now >= planned.from && (drained || now >= planned.until);
        if let Some(Planned { reason, .. }) = self.reboot.take_if(ready) {
            self.updates.ledger.rebooting(now, self.core.wall, &mut self.core.out);
            self.core.out.push(Output::Reboot { reason });
        }
    }
}
