//! Counting what happened within a stretch of time that a restart, a wrong clock or a clock that jumps can't shorten.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::bounds::{Bounds, History, most};
use crate::limits::{
    CONTACT_SAVE_INTERVAL, EARLIEST_CLOCK, HISTORY_INTERVAL, MAX_FAILURE_PAUSE, OVERWRITE_WINDOW,
    REBOOT_WINDOW,
};
use crate::output::Output;
use crate::outputs::Outputs;
use crate::text::count;
use crate::time::{Instant, UnixTime};

/// What happened, and how long ago.
#[derive(Clone, Copy)]
struct Entry {
    /// How old it was at `since`.
    age: Duration,
    since: Instant,
    /// Whether it happened before this start.
    old: bool,
}

impl Entry {
    fn age(&self, now: Instant) -> Duration {
        self.age.saturating_add(now.saturating_since(self.since))
    }
}

/// What counts towards the bounds.
pub(crate) struct Ledger {
    reboots: Vec<Entry>,
    writes: Vec<Entry>,
    /// How many updates failed in a row, and when the last did.
    failures: Option<(u32, Entry)>,
    /// When an update service last showed itself, or the device started without knowing when one did.
    contact: Entry,
    contact_saved: Instant,
    /// What happened before can't be known.
    unknown: bool,
    start: Instant,
    /// When the history was written that this start began with, if how long the device was off is not known yet.
    off_since: Option<UnixTime>,
    saved: Instant,
    saved_at: Option<UnixTime>,
}

impl Ledger {
    /// Takes up what was remembered before this start of the device.
    pub(crate) fn new(history: &History, now: Instant, wall: Option<UnixTime>, out: &mut Outputs) -> Self {
        let entry = |age: &Duration| Entry { age: *age, since: now, old: true };
        let list = |ages: &[Duration]| {
            let newest = ages.len().saturating_sub(most());
            ages.iter().skip(newest).map(entry).collect::<Vec<_>>()
        };
        let mut ledger = Self {
            reboots: list(&history.reboots),
            writes: list(&history.writes),
            failures: (history.failures > 0).then(|| (history.failures, entry(&history.failed))),
            // A device that can't know when it last heard from one counts from its start.
            contact: Entry {
                age: history.contact.unwrap_or_default(),
                since: now,
                old: history.contact.is_some(),
            },
            contact_saved: now,
            unknown: history.unknown,
            start: now,
            // The server chose when the device went off, and may rule its clock, too.
            off_since: history.at.filter(|_| !history.rebooting),
            saved: now,
            saved_at: history.at,
        };
        ledger.elapse(now, wall);
        if history.rebooting && !ledger.is_empty() {
            // From here on the device is off because somebody cut the power.
            ledger.save(now, wall, false, out);
        }
        ledger
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Instant, wall: Option<UnixTime>, out: &mut Outputs) {
        self.elapse(now, wall);
        if self.deadline(wall).is_some_and(|at| at <= now) {
            self.save(now, wall, false, out);
        }
    }

    /// Returns when to keep how old everything is. With a clock, the time until the power goes is known at the next start.
    pub(crate) fn deadline(&self, wall: Option<UnixTime>) -> Option<Instant> {
        let timed = self.saved_at.zip(plausible(wall)).is_some_and(|(saved, now)| saved <= now);
        (!timed && !self.is_empty()).then(|| self.saved + HISTORY_INTERVAL)
    }

    /// An update service showed itself.
    pub(crate) const fn contact(&mut self, now: Instant) {
        self.contact = Entry { age: Duration::ZERO, since: now, old: false };
    }

    /// Returns how long no update service has shown itself.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        self.contact.age(now)
    }

    /// Returns when to store [`Self::silence`].
    pub(crate) fn contact_due(&self) -> Instant {
        self.contact_saved + CONTACT_SAVE_INTERVAL
    }

    /// Returns how long the server's order to reboot would have to wait, if it can't be obeyed now.
    pub(crate) fn reboot_wait(
        &mut self,
        limit: u32,
        now: Instant,
        wall: Option<UnixTime>,
    ) -> Option<Duration> {
        if let Some(spacing) = REBOOT_WINDOW.checked_div(limit).filter(|_| self.unknown) {
            // Each start may follow a reboot that the server ordered.
            let left = spacing.saturating_sub(now.saturating_since(self.start));
            if !left.is_zero() {
                return Some(left);
            }
        }
        self.planned_wait(limit, now, wall)
    }

    /// Returns whether that many reboots are counted.
    pub(crate) fn has_reboots(&self, limit: u32) -> bool {
        usize::try_from(limit).is_ok_and(|limit| self.reboots.len() >= limit)
    }

    /// Returns how long a reboot after an update has to wait, if it does.
    pub(crate) fn planned_wait(
        &mut self,
        limit: u32,
        now: Instant,
        wall: Option<UnixTime>,
    ) -> Option<Duration> {
        self.elapse(now, wall);
        wait(&self.reboots, limit, REBOOT_WINDOW, now)
    }

    /// The device is about to reboot.
    pub(crate) fn rebooting(&mut self, now: Instant, wall: Option<UnixTime>, out: &mut Outputs) {
        self.elapse(now, wall);
        add(&mut self.reboots, now);
        self.save(now, wall, true, out);
    }

    /// Returns how long an update has to wait that would begin now, and why, if it does.
    pub(crate) fn update_wait(
        &mut self,
        bounds: &Bounds,
        now: Instant,
        wall: Option<UnixTime>,
    ) -> Option<(Duration, String)> {
        self.elapse(now, wall);
        let pause = self.failures.and_then(|(failures, last)| {
            let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
            let pause = bounds.failure_pause.saturating_mul(doubled).min(MAX_FAILURE_PAUSE);
            let left = Some(pause.saturating_sub(last.age(now))).filter(|left| !left.is_zero())?;
            let failed = count(failures.into(), "update");
            Some((left, format!("{failed} in a row failed on this device, which waits longer after each")))
        });
        let limit = bounds.overwrites_per_day;
        let full = wait(&self.writes, limit, OVERWRITE_WINDOW, now).map(|left| {
            let times = count(limit.into(), "time");
            (left, format!("the other slot of this device was overwritten {times} within 24 hours"))
        });
        // The longer one.
        pause.into_iter().chain(full).max()
    }

    /// The other slot is about to be overwritten.
    pub(crate) fn writing(&mut self, now: Instant, wall: Option<UnixTime>, out: &mut Outputs) {
        self.elapse(now, wall);
        add(&mut self.writes, now);
        self.save(now, wall, false, out);
    }

    /// An update failed.
    pub(crate) fn failed(&mut self, now: Instant, wall: Option<UnixTime>, out: &mut Outputs) {
        self.elapse(now, wall);
        let before = self.failures.map_or(0, |(failures, _)| failures);
        let last = Entry { age: Duration::ZERO, since: now, old: false };
        self.failures = Some((before.saturating_add(1), last));
        self.save(now, wall, false, out);
    }

    /// A firmware proved good, or the last failure was no failure.
    pub(crate) fn forgive(&mut self, all: bool, now: Instant, wall: Option<UnixTime>, out: &mut Outputs) {
        let Some((failures, last)) = self.failures else { return };
        let left = if all { 0 } else { failures.saturating_sub(1) };
        self.failures = (left > 0).then_some((left, last));
        self.save(now, wall, false, out);
    }

    /// A person at the device wants everything to count from here.
    pub(crate) fn forget(&mut self, now: Instant, wall: Option<UnixTime>, out: &mut Outputs) {
        (self.reboots, self.writes, self.failures) = (Vec::new(), Vec::new(), None);
        self.unknown = false;
        self.save(now, wall, false, out);
    }

    /// Stores everything as it is now.
    pub(crate) fn keep(&mut self, now: Instant, wall: Option<UnixTime>, out: &mut Outputs) {
        self.save(now, wall, false, out);
    }

    fn is_empty(&self) -> bool {
        self.reboots.is_empty() && self.writes.is_empty() && self.failures.is_none()
    }

    /// Forgets what is too old, and learns how long the device was off once its clock says so.
    fn elapse(&mut self, now: Instant, wall: Option<UnixTime>) {
        if let Some((off, wall)) = self.off_since.zip(plausible(wall)) {
            self.off_since = None;
            let since = u64::try_from(wall.0.saturating_sub(off.0)).unwrap_or(0);
            let gap = Duration::from_secs(since).saturating_sub(now.saturating_since(self.start));
            let failed = self.failures.iter_mut().map(|(_, last)| last);
            let entries = self.reboots.iter_mut().chain(&mut self.writes).chain(failed);
            for entry in entries.chain([&mut self.contact]).filter(|entry| entry.old) {
                entry.age = entry.age.saturating_add(gap);
            }
        }
        self.reboots.retain(|entry| entry.age(now) < REBOOT_WINDOW);
        self.writes.retain(|entry| entry.age(now) < OVERWRITE_WINDOW);
        self.failures = self.failures.filter(|(_, last)| last.age(now) < OVERWRITE_WINDOW);
    }

    fn save(&mut self, now: Instant, wall: Option<UnixTime>, rebooting: bool, out: &mut Outputs) {
        let at = plausible(wall);
        (self.saved, self.saved_at, self.contact_saved) = (now, at, now);
        let age = |entry: &Entry| Duration::from_secs(entry.age(now).as_secs());
        let ages = |list: &[Entry]| list.iter().map(age).collect::<Vec<_>>();
        let (reboots, writes) = (ages(&self.reboots), ages(&self.writes));
        let (failures, failed) =
            self.failures.map_or((0, Duration::ZERO), |(failures, last)| (failures, age(&last)));
        let contact = Some(age(&self.contact));
        let history = History { at, rebooting, unknown: false, reboots, writes, failures, failed, contact };
        out.push(Output::SaveHistory { history });
    }
}

/// Adds what happens now.
fn add(list: &mut Vec<Entry>, now: Instant) {
    if list.len() >= most() {
        list.remove(0);
    }
    list.push(Entry { age: Duration::ZERO, since: now, old: false });
}

/// Returns how long until one more may happen, if not now.
fn wait(list: &[Entry], limit: u32, window: Duration, now: Instant) -> Option<Duration> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let first = list.len().checked_sub(limit).filter(|_| limit > 0)?;
    list.get(first).map(|entry| window.saturating_sub(entry.age(now))).filter(|left| !left.is_zero())
}

/// Returns the time of a clock that can be right.
fn plausible(wall: Option<UnixTime>) -> Option<UnixTime> {
    wall.filter(|wall| wall.0 >= EARLIEST_CLOCK)
}
