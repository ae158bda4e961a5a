//! Two devices with one identity: each notices it, says so, and leaves the other and the server alone.

use nerves_hub_link_protocol::limits::{DUPLICATE_CLOSES, DUPLICATE_WINDOW};
use nerves_hub_link_protocol::{Alarm, Event};

use super::scenario::{SECOND, Scenario, Variant};
use super::violation::Broken;

/// Close codes of a server that has another connection of the same device.
const KICKS: [u16; 2] = [1000, 1001];
/// The shortest wait while a twin is suspected: the longest back-off, by default.
const WAIT: u64 = 60 * SECOND;

/// The name of a device at the hub belongs to the device of this number: the second has that of the first, in some
/// scenarios.
pub(super) const fn namesake(scenario: &Scenario, number: u32) -> u32 {
    if is_twin(scenario, number) { 0 } else { number }
}

/// Whether a device has the identity of another.
pub(super) const fn is_twin(scenario: &Scenario, number: u32) -> bool {
    let twins = scenario.has(Variant::Twins) && !scenario.has(Variant::Slots);
    twins && !scenario.fleet && number == 1
}

/// What a device can know of a twin.
#[derive(Debug, Default)]
pub(super) struct Twins {
    /// When the present connection was joined first.
    joined: Option<u64>,
    kicks: Vec<u64>,
    /// It must be suspected by now.
    due: bool,
    told: bool,
    raised: bool,
    /// When the twin took its place last, as far as it is suspected.
    kicked: Option<u64>,
}

impl Twins {
    /// The connection ended, with that code of the server.
    pub fn closed(&mut self, now: u64, code: Option<u16>) {
        let window = u64::try_from(DUPLICATE_WINDOW.as_micros()).unwrap_or(u64::MAX);
        let Some(joined) = self.joined.take() else { return };
        let kicked = code.is_some_and(|code| KICKS.contains(&code));
        if now - joined >= window {
            self.kicks.clear();
        } else if kicked {
            self.kicks.retain(|kick| now - kick < window);
            self.kicks.push(now);
        }
        self.due |= self.kicks.len() >= DUPLICATE_CLOSES;
        self.kicked = kicked.then_some(now);
    }

    /// The device is told something.
    pub fn hears(&mut self, now: u64, event: &Event) {
        match event {
            Event::Joined => self.joined = self.joined.or(Some(now)),
            Event::DuplicateIdentitySuspected => self.told = true,
            Event::AlarmRaised { alarm: Alarm::DuplicateIdentity, .. } => self.raised = true,
            Event::AlarmCleared { alarm: Alarm::DuplicateIdentity } => *self = Self::default(),
            _ => {}
        }
    }

    /// The device dials.
    pub fn dials(&mut self, now: u64) -> Result<(), Broken> {
        self.joined = None;
        match self.kicked.take().filter(|_| self.told) {
            Some(kicked) if now < kicked + WAIT => {
                let (gap_ms, least_ms) = ((now - kicked) / 1000, WAIT / 1000);
                Err(Broken::TooSoon { what: "dialled beside a twin", gap_ms, least_ms })
            }
            _ => Ok(()),
        }
    }

    /// Looks whether it is known and told, once everything the machine wants was done.
    pub fn check(&self) -> Result<(), Broken> {
        if (self.due && !self.told) || self.told != self.raised { Err(Broken::TwinUnnoticed) } else { Ok(()) }
    }
}
