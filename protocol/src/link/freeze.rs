//! The alarm of a device that no update service has answered for days.

use alloc::string::String;

use super::Link;
use crate::event::Event;
use crate::limits::{FREEZE_GRACE, FREEZE_REMINDER};
use crate::text::count;
use crate::time::Instant;

const DAY: u64 = 24 * 60 * 60;

/// Whether the alarm is raised.
#[derive(Default)]
pub(super) struct Freeze {
    /// When the device was told to connect, unless it is offline on purpose.
    online: Option<Instant>,
    raised: Option<Raised>,
}

struct Raised {
    days: u64,
    description: String,
    remind_at: Instant,
}

impl Freeze {
    pub(super) fn description(&self) -> Option<&str> {
        self.raised.as_ref().map(|raised| raised.description.as_str())
    }
}

impl Link {
    /// A message arrived. It shows a live update service if the server is known and has accepted the device.
    pub(super) fn heard_from_server(&mut self) {
        if self.core.wire.is_trusted() && self.core.wire.is_joined() {
            self.updates.ledger.contact(self.core.now);
        }
    }

    pub(super) fn follow_freeze(&mut self) {
        let now = self.core.now;
        let online = self.freeze.online.unwrap_or(now);
        self.freeze.online = (!self.connection.is_offline()).then_some(online);
        if self.freeze_due().is_none_or(|due| now < due) {
            self.freeze.raised = None;
            return;
        }
        let days = self.updates.ledger.silence(now).as_secs() / DAY;
        let raised = self.freeze.raised.get_or_insert_with(|| Raised {
            days: u64::MAX,
            description: String::new(),
            remind_at: now + FREEZE_REMINDER,
        });
        if raised.days != days {
            raised.days = days;
            raised.description = alloc::format!(
                "no update service has answered this device for {}",
                if days == 0 { String::from("less than a day") } else { count(days, "day") }
            );
        }
        if now >= raised.remind_at {
            raised.remind_at = now + FREEZE_REMINDER;
            let description = raised.description.clone();
            self.core.out.event_if_room(Event::UpdatesFrozen { description });
        }
    }

    /// Returns when to look at the alarm next, if ever.
    pub(super) fn freeze_deadline(&self) -> Option<Instant> {
        let due = self.freeze_due()?;
        let look = self.freeze.raised.as_ref().map_or(due, |raised| raised.remind_at);
        Some(look.min(self.updates.ledger.contact_due()))
    }

    /// Stores how long the silence has lasted, if it is time.
    pub(super) fn tick_freeze(&mut self) {
        if self.freeze_due().is_some() && self.updates.ledger.contact_due() <= self.core.now {
            self.updates.ledger.keep(self.core.now, self.core.wall, &mut self.core.out);
        }
    }

    /// Returns when the alarm is, or was, due, while it is wanted.
    fn freeze_due(&self) -> Option<Instant> {
        let limit = self.core.config.freeze_alarm;
        let online = self.freeze.online.filter(|_| !limit.is_zero())?;
        let left = limit.saturating_sub(self.updates.ledger.silence(self.core.now));
        Some((self.core.now + left).max(online + FREEZE_GRACE))
    }
}
