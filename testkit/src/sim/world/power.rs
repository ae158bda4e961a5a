//! How a device's program ends, and how the device comes back.

use super::World;
use crate::sim::device::Device;
use crate::sim::fault::Fault;
use crate::sim::queue::DeviceDue;
use crate::sim::scenario::Variant;
use crate::sim::violation::Broken;

impl World {
    /// The device goes down in order and comes back.
    pub(super) fn reboot(&mut self, device: &mut Device, after: u64) -> Result<(), Broken> {
        self.end(device, true);
        self.boot(device, after)
    }

    /// The power goes, and comes back.
    pub(super) fn lose_power(&mut self, device: &mut Device, after: u64, tear: bool) -> Result<(), Broken> {
        self.end(device, false);
        let mut tore = device.disk.lose_power(&mut device.rng, tear);
        for folder in &mut device.folders {
            tore |= folder.lose_power(&mut self.files, &mut device.rng, tear);
        }
        if tore {
            device.armed.felt.insert(Fault::Torn);
        }
        if !tear {
            device.armed.felt.insert(Fault::PowerCut);
        }
        self.stats.power_cuts += 1;
        self.boot(device, after)
    }

    fn boot(&mut self, device: &mut Device, after: u64) -> Result<(), Broken> {
        device.cut = None;
        let before = device.booted.firmware;
        device.booted = device.disk.boot(&self.files.firmware)?;
        let runs = device.booted.firmware;
        let firmware = self.files.firmware.get(runs as usize).ok_or(Broken::NothingToBoot { slot: "?" })?;
        if !firmware.trusted {
            return Err(Broken::UntrustedFirmwareRuns(runs));
        }
        if !firmware.good {
            device.armed.felt.insert(Fault::BadRelease);
        }
        if runs != before {
            let took = self.now.saturating_sub(device.accepted_at);
            device.tried(self.now, runs)?;
            self.stats.runs(self.now, before, runs, device.booted.reverted, took);
        }
        self.later(device, after, DeviceDue::Start);
        Ok(())
    }

    /// The program ends; the hub is told by the system, unless power went.
    pub(super) fn end(&mut self, device: &mut Device, told: bool) {
        if let Some(life) = device.link.as_mut().map(|life| &**life)
            && let Some(socket) = life.socket
        {
            self.let_go(device.number, socket, told);
        }
        if self.scenario.has(Variant::Bytes) {
            self.end_lines(device, told);
        }
        if let Some(since) = device.joined_since.take() {
            self.stats.online(since, self.now);
        }
        self.trace.note(self.now, device.number, "ends", "");
        device.end();
    }
}
