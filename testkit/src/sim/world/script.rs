//! Scripts that operators have run on devices.

use nerves_hub_link_protocol::limits::{MAX_SCRIPT_BYTES, MAX_SCRIPT_OUTPUT_BYTES};
use nerves_hub_link_protocol::{Command, Event, ScriptId};

use super::World;
use crate::sim::device::{Device, identifier};
use crate::sim::queue::DeviceDue;
use crate::sim::scenario::SECOND;
use crate::sim::violation::Broken;

/// What scripts write, each many times.
const LINE: &str = "Größe: 17 µs\n";

impl World {
    /// An operator has a script run, or wants one run at every join from now on.
    pub(super) fn script(&mut self, device: u32, how: u32) {
        let name = identifier(device);
        match how % 16 {
            0 => self.server.hub.set_connecting_code(&name, Some("uptime")),
            1 => self.server.hub.set_connecting_code(&name, None),
            kind => {
                // Some are sent in haste: more than may run at a time.
                let count = if kind == 2 { 10 } else { 1 };
                let text = if kind == 3 { "x".repeat(MAX_SCRIPT_BYTES + 1) } else { "uptime".to_owned() };
                for _ in 0..count {
                    self.stats.scripts += 1;
                    let reference = format!("script-{}", self.stats.scripts);
                    self.server.hub.run_script(&name, &reference, &text);
                }
            }
        }
        self.serve();
    }

    /// The application hears of scripts.
    pub(super) fn script_news(&mut self, device: &mut Device, event: &Event) {
        let Event::ScriptRequested { id, .. } = event else { return };
        let after = match device.rng.below(8) {
            // It hangs, until nobody waits for it any more.
            0 => return,
            1 => device.rng.within(8 * SECOND, 20 * SECOND),
            _ => device.rng.within(SECOND / 20, 3 * SECOND),
        };
        self.later(device, after, DeviceDue::Script(*id));
    }

    /// A script comes to its end.
    pub(super) fn script_ends(&mut self, device: &mut Device, id: ScriptId) -> Result<(), Broken> {
        let times = if device.rng.one_in(8) { MAX_SCRIPT_OUTPUT_BYTES / LINE.len() + 9 } else { 1 };
        let output = LINE.repeat(times);
        let result = match device.rng.below(4) {
            0 => Err("the program ended with 1".to_owned()),
            1 => Ok(output.clone()),
            _ => Ok("0".to_owned()),
        };
        let (now, wall) = (self.now, device.wall);
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let runs = life.watch.scripts.ends(id);
        let clock = life.clock(now, wall);
        let taken = life.link.command(clock, Command::ScriptFinished { id, output, result }).is_ok();
        let what = "ended, and the machine knows otherwise";
        if taken == runs { Ok(()) } else { Err(Broken::Script { what }) }
    }
}
