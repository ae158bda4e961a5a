//! The application's decisions, and the applier's work.

use std::time::Duration;

use nerves_hub_link_protocol::{Command, Decision, FetchId, Input, OfferId};

use super::World;
use crate::sim::applier::Finish;
use crate::sim::device::Device;
use crate::sim::fault::Fault;
use crate::sim::mutation::Mutation;
use crate::sim::queue::DeviceDue;
use crate::sim::scenario::{MINUTE, SECOND};
use crate::sim::settings::manages;
use crate::sim::violation::Broken;

impl World {
    /// The application is asked about an update.
    pub(super) fn offered(&mut self, device: &mut Device, offer: OfferId) {
        self.stats.offers += 1;
        if self.mutated(Mutation::ApplyUndecided) {
            self.order(device, Command::Decide { offer, decision: Decision::Apply });
            return;
        }
        let Some(after) = self.thinks(device) else { return };
        self.later(device, after, DeviceDue::Decide(offer));
    }

    /// How long the application thinks about a decision; `None` for ever.
    pub(super) fn thinks(&self, device: &mut Device) -> Option<u64> {
        device.armed.expire(self.now);
        if device.armed.strikes(Fault::NoAnswer) {
            return None;
        }
        Some(if device.armed.strikes(Fault::SlowAnswer) {
            device.rng.within(20 * SECOND, 100 * SECOND)
        } else {
            device.rng.below(2 * SECOND)
        })
    }

    /// The application decides.
    pub(super) fn decide(&mut self, device: &mut Device, offer: OfferId) -> Result<(), Broken> {
        let decision = if device.armed.strikes(Fault::Refuses) {
            if device.rng.one_in(2) {
                Decision::Ignore { reason: "not in the mood".to_owned() }
            } else {
                let delay = Duration::from_secs(device.rng.below(1800));
                Decision::Reschedule { delay, reason: Some("a customer is here".to_owned()) }
            }
        } else {
            self.unasked(device, offer).unwrap_or(Decision::Apply)
        };
        let apply = decision == Decision::Apply;
        let manages = manages(&self.scenario, device.number);
        if !self.order(device, Command::Decide { offer, decision }) {
            return Ok(());
        }
        let now = self.now;
        if let Some(life) = device.link.as_mut() {
            life.model.decided(offer, apply);
            if apply {
                if manages {
                    life.watch.asked.accepts(offer)?;
                }
                life.watch.accepted(offer);
                device.accepted_at = now;
            }
        }
        self.stats.decided(apply);
        Ok(())
    }

    /// The applier gets bytes, of which the machine counts `counted`.
    pub(super) fn apply_piece(
        &mut self,
        device: &mut Device,
        fetch: FetchId,
        piece: &[u8],
        counted: u64,
    ) -> Result<(), Broken> {
        let now = self.now;
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let Some(applier) = life.applier.as_mut() else { return Ok(()) };
        let offer = applier.offer;
        let lost = self.scenario.mutation == Some(Mutation::LoseBytes) && device.rng.one_in(4);
        let applied = if lost { Ok(()) } else { applier.take(&mut device.disk, &mut device.armed, piece)? };
        let slow = device.armed.slowness();
        let took = slow + 200 + piece.len() as u64 / 20;
        applier.busy = applier.busy.max(now) + took;
        let after = applier.busy - now;
        if let Err(reason) = applied {
            applier.failed = true;
            self.later(device, after, DeviceDue::ApplyFailed { offer, reason });
        } else if !applier.failed {
            applier.outstanding += counted;
            let length = u32::try_from(counted).unwrap_or(u32::MAX);
            self.later(device, after, DeviceDue::Stored { offer, fetch, length });
        }
        self.operation(device)
    }

    /// The applier wrote bytes.
    pub(super) fn stored(&mut self, device: &mut Device, offer: OfferId, fetch: FetchId, length: u32) {
        let (now, wall) = (self.now, device.wall);
        let Some(life) = device.link.as_mut() else { return };
        let Some(applier) = life.applier.as_mut() else { return };
        if applier.failed || applier.offer != offer {
            return;
        }
        applier.outstanding = applier.outstanding.saturating_sub(length.into());
        let step = u8::try_from(applier.taken / 20_000 % 100).unwrap_or(0);
        let percent = (step > applier.percent).then_some(step);
        applier.percent = applier.percent.max(step);
        life.watch.stored += u64::from(length);
        let clock = life.clock(now, wall);
        life.link.stored(clock, fetch, usize::try_from(length).unwrap_or(usize::MAX));
        if let Some(percent) = percent {
            life.input(now, wall, Input::ApplyProgress { offer, percent });
        }
        if let Some(fetching) = life.fetches.iter_mut().find(|fetching| fetching.waiting) {
            fetching.waiting = false;
            let fetch = fetching.fetch;
            self.read_on(device, fetch);
        }
    }

    /// The machine says that the file is complete.
    pub(super) fn finish_apply(&mut self, device: &mut Device, offer: OfferId) -> Result<(), Broken> {
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let Some(applier) = life.applier.as_ref().filter(|applier| applier.offer == offer) else {
            return Ok(());
        };
        if !applier.failed && applier.taken != life.watch.kept {
            let (stored, kept) = (applier.taken, life.watch.kept);
            return Err(Broken::FinishedEarly { offer, stored, kept });
        }
        self.later(device, 20_000, DeviceDue::Finish { offer, step: Finish::Check });
        Ok(())
    }

    /// The applier does the next step behind the last byte.
    pub(super) fn finish(&mut self, device: &mut Device, offer: OfferId, step: Finish) -> Result<(), Broken> {
        let (now, wall) = (self.now, device.wall);
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let Some(applier) = life.applier.as_mut() else { return Ok(()) };
        if applier.offer != offer || applier.failed {
            return Ok(());
        }
        let next = match applier.finish(&mut device.disk, &mut device.armed, step) {
            Ok(next) => next,
            Err(reason) => {
                applier.failed = true;
                self.later(device, 1000, DeviceDue::ApplyFailed { offer, reason });
                return Ok(());
            }
        };
        if step == Finish::Done {
            life.applier = None;
            life.watch.applier_ended(offer, true);
            life.model.applier_ended(offer, true);
            let [fetched, _] = &mut device.fetched;
            self.stats.applied(life.watch.kept, fetched);
            life.input(now, wall, Input::ApplyDone { offer });
            // The device restarts by itself soon; power may go before.
            return match device.cut {
                Some(cut) => self.lose_power(device, MINUTE, cut.tear),
                None => Ok(()),
            };
        }
        let after = device.rng.within(1_000, SECOND);
        self.later(device, after, DeviceDue::Finish { offer, step: next });
        self.operation(device)
    }

    /// The applier gave up.
    pub(super) fn apply_failed(&mut self, device: &mut Device, offer: OfferId, reason: &str) {
        let Some(life) = device.link.as_mut() else { return };
        if life.applier.take_if(|applier| applier.offer == offer).is_none() {
            return;
        }
        life.watch.applier_ended(offer, false);
        life.model.applier_ended(offer, false);
        let input = if reason.ends_with("the disk") {
            Input::ApplyFailed { offer, reason }
        } else {
            Input::FileRefused { offer, reason }
        };
        life.input(self.now, device.wall, input);
    }

    /// One more operation of the disk; the power may go at it.
    pub(super) fn operation(&mut self, device: &mut Device) -> Result<(), Broken> {
        match &mut device.cut {
            Some(cut) if cut.after == 0 => {
                let tear = cut.tear;
                let after = device.rng.within(5 * SECOND, 10 * MINUTE);
                self.lose_power(device, after, tear)
            }
            Some(cut) => {
                cut.after -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The firmware proved good, if the device is online: that is what it must be able to do.
    pub(super) fn validate(&mut self, device: &mut Device) -> Result<(), Broken> {
        let joined = device.link.as_ref().is_some_and(|life| life.model.is_joined());
        if !joined {
            self.later(device, 30 * SECOND, DeviceDue::Validate);
            return Ok(());
        }
        device.disk.validate();
        let life = device.life;
        self.operation(device)?;
        if device.life != life {
            // Power went before that was safe.
            return Ok(());
        }
        device.disk.sync();
        device.proved();
        self.trace.note(self.now, device.number, "validates", "");
        self.order(device, Command::FirmwareValidated);
        self.operation(device)
    }
}
