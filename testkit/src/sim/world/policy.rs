//! Policies of devices, changed while they run.

use nerves_hub_link_protocol::{Command, Event};

use super::World;
use crate::sim::device::Device;
use crate::sim::policy::{has_policy, judge};
use crate::sim::settings::config;
use crate::sim::violation::{Broken, Violation};

impl World {
    /// A device gets another policy.
    pub(super) fn policy(&mut self, number: u32, how: u32) -> Result<(), Violation> {
        if !has_policy(&self.scenario, number) {
            return Ok(());
        }
        self.with(number, |world, device| {
            device.policy = how;
            let Some(firmware) = world.files.firmware.get(device.booted.firmware as usize) else {
                return Ok(());
            };
            let config = config(&world.scenario, number, firmware, device.booted, how);
            let (now, wall) = (world.now, device.wall);
            world.rouse(device);
            let Some(life) = device.link.as_mut() else { return Ok(()) };
            let clock = life.clock(now, wall);
            let taken = life.link.command(clock, Command::Reconfigure(Box::new(config)));
            taken.map_err(|error| Broken::Config(error.to_string()))?;
            world.settle(device, false)
        })
    }

    /// The application is told of an offer, or that the machine put one off.
    pub(super) fn timely(&self, device: &Device, event: &Event) -> Result<(), Broken> {
        if !has_policy(&self.scenario, device.number) {
            return Ok(());
        }
        let wall = device.wall.at(self.now);
        match event {
            Event::UpdateOffered { offer, info } => judge(device.policy, wall, info, Some(*offer)),
            Event::UpdateRefused { info, reason, .. }
                if reason.starts_with("outside the maintenance window") =>
            {
                judge(device.policy, wall, info, None)
            }
            _ => Ok(()),
        }
    }
}
