//! Devices that manage their updates: what their applications ask, and what operators do about it.

use std::time::Duration;

use nerves_hub_link_protocol::{Command, CommandError, Decision, Event, OfferId, Request, UpdateMode};
use serde_json::json;

use super::World;
use crate::hub;
use crate::sim::device::{Device, identifier};
use crate::sim::fault::Fault;
use crate::sim::mutation::Mutation;
use crate::sim::queue::DeviceDue;
use crate::sim::scenario::{MINUTE, SECOND, Variant};
use crate::sim::settings::manages;
use crate::sim::violation::{Broken, Violation};

impl World {
    /// The application will look after its updates.
    pub(super) fn manage_later(&mut self, device: &mut Device, after: u64) {
        let at = self.now + after;
        let Some(life) = device.link.as_mut() else { return };
        life.managing.at = at;
        self.later(device, after, DeviceDue::Manage);
    }

    /// The application of a device that manages its updates hears news.
    pub(super) fn managed_news(&mut self, device: &mut Device, event: &Event) {
        if !manages(&self.scenario, device.number) {
            return;
        }
        let soon = SECOND + device.rng.below(20 * SECOND);
        let Some(life) = device.link.as_mut() else { return };
        let after = match event {
            Event::UpdateModeChanged { mode, managed_updates_allowed } => {
                life.managing.allowed = *managed_updates_allowed;
                if *mode != Some(UpdateMode::Automatic) {
                    return;
                }
                soon
            }
            Event::UpdateAvailability { available: true, .. } => {
                life.managing.wanted = true;
                soon
            }
            Event::UpdateRejected { retry_in, .. } => {
                self.stats.rejected += 1;
                u64::try_from(retry_in.as_micros()).unwrap_or(u64::MAX)
            }
            Event::RequestFailed { .. } => MINUTE + soon,
            _ => return,
        };
        self.manage_later(device, after);
    }

    /// The application looks after its updates.
    pub(super) fn manage(&mut self, device: &mut Device) -> Result<(), Broken> {
        let (now, fleet) = (self.now, self.scenario.fleet);
        let Some(life) = device.link.as_mut().filter(|life| life.managing.at == now) else { return Ok(()) };
        let (mode, allowed) = (life.watch.asked.mode(), life.managing.allowed);
        let wanted = std::mem::take(&mut life.managing.wanted);
        // Some change their mind; in the end they manage.
        let whim = device.rng.below(16);
        let change = now < self.scenario.span && whim == 0 && !fleet;
        let command = match mode {
            Some(UpdateMode::DeviceManaged) if change => {
                Command::SetUpdateMode { mode: UpdateMode::Automatic }
            }
            Some(UpdateMode::Automatic) if allowed || whim < 4 => {
                Command::SetUpdateMode { mode: UpdateMode::DeviceManaged }
            }
            _ if wanted || whim.is_multiple_of(3) => Command::RequestUpdate,
            _ => Command::CheckUpdate,
        };
        self.asks(device, command)?;
        let after = if fleet {
            device.rng.within(100 * MINUTE, 140 * MINUTE)
        } else {
            device.rng.within(2 * MINUTE, 20 * MINUTE)
        };
        self.manage_later(device, after);
        Ok(())
    }

    /// The application asks the server.
    fn asks(&mut self, device: &mut Device, command: Command) -> Result<(), Broken> {
        let (request, wanted) = match &command {
            Command::CheckUpdate => (Request::CheckUpdate, None),
            Command::SetUpdateMode { mode } => (Request::SetUpdateMode, Some(*mode)),
            _ => (Request::RequestUpdate, None),
        };
        let (now, wall) = (self.now, device.wall);
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let joined = life.model.is_joined();
        let waits = life.watch.asked.waits_for(request);
        let clock = life.clock(now, wall);
        let because = match life.link.command(clock, command) {
            Ok(()) => {
                self.stats.requests += u64::from(request == Request::RequestUpdate);
                life.watch.asked.asks(now - life.origin, request, wanted);
                joined && !waits
            }
            Err(CommandError::NotJoined) => !joined,
            Err(CommandError::AlreadyInProgress) => waits,
            Err(_) => true,
        };
        let what = "was taken or refused without a reason";
        if because { Ok(()) } else { Err(Broken::Question { request, what }) }
    }

    /// What the application makes of an offer that it did not ask for, if that is not to apply it.
    pub(super) fn unasked(&self, device: &Device, offer: OfferId) -> Option<Decision> {
        let life = device.link.as_ref().filter(|_| manages(&self.scenario, device.number))?;
        let unwanted = life.watch.asked.is_unwanted(offer) && !self.mutated(Mutation::ApplyUnasked);
        let reason = Some("the device decides when".to_owned());
        unwanted.then_some(Decision::Reschedule { delay: Duration::from_secs(300), reason })
    }

    /// An operator, the server or the application does something about who decides.
    pub(super) fn mode_step(&mut self, number: u32, how: u32) -> Result<(), Violation> {
        if !manages(&self.scenario, number) {
            return Ok(());
        }
        // Old hubs know of no modes.
        let how = if self.scenario.has(Variant::OldHub) { how | 6 } else { how };
        let name = identifier(number);
        let now = self.now / 1000;
        match how % 8 {
            0 => self.server.hub.set_update_mode(now, &name, hub::UpdateMode::Off),
            1 => self.server.hub.set_update_mode(now, &name, hub::UpdateMode::Automatic),
            2 => self.server.hub.set_update_mode(now, &name, hub::UpdateMode::DeviceManaged),
            3 => {
                let newest =
                    self.files.firmware.last().map(|firmware| (firmware.id, firmware.release.clone()));
                if let Some((id, release)) = newest
                    && self.server.hub.push_update(now, &name, &release)
                    && let Some(Some(device)) = self.devices.get_mut(number as usize)
                {
                    device.pushed.push(id);
                    // It reaches whichever device has the name now.
                    if let Some(Some(twin)) =
                        self.devices.get_mut(1).filter(|_| self.scenario.has(Variant::Twins))
                    {
                        twin.pushed.push(id);
                    }
                }
            }
            4 | 5 => self.server.hub.allow_managed_updates(&name, how % 8 == 5),
            6 => {
                return self.with(number, |world, device| {
                    world.push_unasked(device);
                    Ok(())
                });
            }
            _ => {
                // Impatient: twice at once, and before what was asked before is answered.
                return self.with(number, |world, device| {
                    world.rouse(device);
                    world.asks(device, Command::RequestUpdate)?;
                    world.asks(device, Command::RequestUpdate)?;
                    world.asks(device, Command::CheckUpdate)?;
                    world.settle(device, false)
                });
            }
        }
        self.serve();
        Ok(())
    }

    /// A server that offers what it should not: the device did not ask.
    fn push_unasked(&mut self, device: &mut Device) {
        let Some(conn) = self.nets.get(device.number as usize).and_then(|net| net.conn) else {
            return;
        };
        let Some(release) = self.files.firmware.last().map(|firmware| firmware.release.clone()) else {
            return;
        };
        let offer = json!([null, null, "device", "update", {
            "update_available": true, "firmware_url": release.url, "firmware_meta": release.meta,
            "size": release.size, "deployment_id": 1,
        }]);
        let frame = self.encoded(device.number, &offer.to_string());
        device.armed.felt.insert(Fault::Hostile);
        self.server_says(device, conn, 20_000, frame);
    }

    /// A device connected: the operator of one that wants to manage its updates lets it, once.
    pub(super) fn grant(&mut self, number: u32) {
        if manages(&self.scenario, number) && self.server.granted.insert(number) {
            self.server.hub.allow_managed_updates(&identifier(number), true);
        }
    }

    /// Operators let go of devices that they decided about.
    pub(super) fn release_modes(&mut self) {
        let now = self.now / 1000;
        for number in 0..u32::try_from(self.devices.len()).unwrap_or(0) {
            if !manages(&self.scenario, number) {
                continue;
            }
            let name = identifier(number);
            self.server.hub.allow_managed_updates(&name, true);
            if self.server.hub.update_mode(&name) == Some(hub::UpdateMode::Off) {
                self.server.hub.set_update_mode(now, &name, hub::UpdateMode::Automatic);
            }
        }
        self.serve();
    }
}
