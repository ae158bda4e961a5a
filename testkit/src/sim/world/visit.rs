//! Operators who work with a device's shell, the shells, and what the server asks devices.

use nerves_hub_link_protocol::{
    Chunk, Command, CommandError, ExtensionCommand, ExtensionEvent, HealthReport, LocationError,
    NetworkIdentity, ShellCommand, ShellEnd, ShellEvent, ShellId,
};
use serde_json::json;

use super::World;
use crate::sim::device::{Device, Shell, identifier};
use crate::sim::fault::Fault;
use crate::sim::mutation::Mutation;
use crate::sim::queue::{DeviceDue, Due, Question, ShellAct};
use crate::sim::scenario::{SECOND, Variant};
use crate::sim::settings::has_local_shell;
use crate::sim::violation::Broken;

/// What an operator types, in turn; what a shell makes of each is in [`World::typed`].
const TYPED: [&str; 6] = ["ls\r", "cat log\r", "5hared-w0rds\r", "top\r", "\u{3}", "exit\r"];
/// Bytes that the longest output of a command has.
const FLOOD: usize = 40_000;
/// Bytes a shell writes at once.
const PIECE: usize = 4096;

impl World {
    /// An operator goes on with his visit, if this world has consoles: some leave without a word.
    pub(super) fn operator(&mut self, device: u32, how: u32, step: u8) {
        if !self.scenario.has(Variant::Console) {
            return;
        }
        let name = identifier(device);
        let pick = how.rotate_left(u32::from(step) * 5);
        let heard = match (step, pick % 8) {
            (0, 0) => self.server.hub.console(&name, "restart", &json!({})),
            (_, 1) => {
                let size = json!({"height": 1 + pick / 8 % 200, "width": 1 + pick / 512 % 300});
                self.server.hub.console(&name, "window_size", &size)
            }
            (_, kind) => {
                let typed = json!({"data": TYPED.get((pick / 8 % 6) as usize).copied().unwrap_or_default()});
                if kind == 2 && has_local_shell(device) {
                    self.server.hub.extension(&name, "local_shell:shell_input", &typed)
                } else {
                    self.server.hub.console(&name, "dn", &typed)
                }
            }
        };
        self.stats.visits += u64::from(step == 0 && heard);
        self.serve();
        if heard && step < 2 + (how % 5).to_le_bytes()[0] {
            let at = self.now + SECOND / 2 + u64::from(pick % 20) * SECOND;
            self.queue.push(at, Due::Operator { device, how, step: step + 1 });
        }
    }

    /// The hub asks a device something.
    pub(super) fn ask(&mut self, device: u32, how: u32) {
        let event = match how % 3 {
            0 => "health:check",
            1 => "geo:location:request",
            _ => "network_identity:request",
        };
        self.server.hub.extension(&identifier(device), event, &json!({}));
        self.serve();
    }

    /// The application hears of extensions.
    pub(super) fn extension_news(&mut self, device: &mut Device, event: &ExtensionEvent) {
        let question = match event {
            ExtensionEvent::HealthRequested => Question::Health,
            ExtensionEvent::LocationRequested => Question::Location,
            ExtensionEvent::NetworkIdentitiesRequested => Question::Identities,
            _ => return,
        };
        // The device looks after its own names from time to time, and tells those that changed.
        self.stats.questions += u64::from(question != Question::Identities);
        if device.armed.waits(Fault::NoAnswer) {
            return;
        }
        if device.armed.waits(Fault::SlowAnswer) {
            let after = device.rng.below(20 * SECOND);
            return self.later(device, after, DeviceDue::Answer(question));
        }
        self.answer(device, question);
    }

    /// The application answers.
    pub(super) fn answer(&mut self, device: &mut Device, question: Question) {
        let unknown = device.rng.one_in(4);
        let command = match question {
            Question::Health if unknown => {
                ExtensionCommand::HealthFailed { reason: "the sensor does not answer".to_owned() }
            }
            Question::Health => {
                let mut report = HealthReport::default();
                report.metrics.insert("load_1min".to_owned(), 0.25);
                ExtensionCommand::HealthReport(Box::new(report))
            }
            Question::Location => ExtensionCommand::Location(Err(LocationError {
                code: "NO_FIX".to_owned(),
                description: "no satellite in sight".to_owned(),
            })),
            // Most are in no such network.
            Question::Identities if device.number % 4 != 2 => ExtensionCommand::NetworkIdentities(Vec::new()),
            Question::Identities => {
                let name = format!("sim-{}", device.number);
                ExtensionCommand::NetworkIdentities(vec![NetworkIdentity::new("wireguard", name)])
            }
        };
        self.order(device, Command::Extension(command));
    }

    /// The application hears of shells.
    pub(super) fn shell_news(&mut self, device: &mut Device, event: ShellEvent) -> Result<(), Broken> {
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let broken = |shell: ShellId, what| Err(Broken::Shell { shell: shell.0, what });
        match event {
            ShellEvent::Wanted { shell, kind, room, .. } => {
                if life.shells.iter().any(|other| other.kind == kind) {
                    return broken(shell, "wanted while another of its kind runs");
                }
                life.shells.push(Shell { id: shell, kind, room, backlog: 0 });
                self.stats.shells += 1;
                let act = if device.rng.one_in(8) { ShellAct::Fails } else { ShellAct::Starts };
                let after = device.rng.within(1_000, SECOND);
                self.later(device, after, DeviceDue::Shell { shell, act });
            }
            ShellEvent::Input { shell, data } => {
                if !life.shells.iter().any(|running| running.id == shell) {
                    return broken(shell, "typed into, and does not run");
                }
                let act = Self::typed(data.expose());
                self.later(device, 20_000, DeviceDue::Shell { shell, act });
            }
            ShellEvent::Ready { shell, bytes } => {
                let Some(running) = life.shells.iter_mut().find(|running| running.id == shell) else {
                    return broken(shell, "given room, and does not run");
                };
                running.room += bytes;
                self.later(device, 1_000, DeviceDue::Shell { shell, act: ShellAct::Writes(0) });
            }
            ShellEvent::Stopped { shell, .. } => {
                let before = life.shells.len();
                life.shells.retain(|running| running.id != shell);
                if life.shells.len() == before {
                    return broken(shell, "stopped, and does not run");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What a shell does about what is typed.
    fn typed(text: &str) -> ShellAct {
        match text {
            "exit\r" => ShellAct::Exits,
            "cat log\r" => ShellAct::Writes(FLOOD),
            _ => ShellAct::Writes(40),
        }
    }

    /// A shell does something.
    pub(super) fn shell_acts(
        &mut self,
        device: &mut Device,
        shell: ShellId,
        act: ShellAct,
    ) -> Result<(), Broken> {
        let careless = self.mutated(Mutation::ForgetRoom);
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let Some(running) = life.shells.iter_mut().find(|running| running.id == shell) else {
            return Ok(());
        };
        let command = match act {
            ShellAct::Starts => ShellCommand::Started { shell },
            ShellAct::Fails | ShellAct::Exits => {
                life.shells.retain(|running| running.id != shell);
                let failed = ShellEnd::Failed("no such file".to_owned());
                let end = if act == ShellAct::Exits { ShellEnd::Exited(0) } else { failed };
                ShellCommand::Ended { shell, end }
            }
            ShellAct::Writes(more) => {
                running.backlog += more;
                let most = if careless { usize::MAX } else { running.room };
                let length = running.backlog.min(PIECE).min(most);
                if length == 0 {
                    return Ok(());
                }
                (running.backlog, running.room) =
                    (running.backlog - length, running.room.saturating_sub(length));
                self.stats.shell_bytes += length as u64;
                if running.backlog > 0 {
                    self.later(device, 2_000, DeviceDue::Shell { shell, act: ShellAct::Writes(0) });
                }
                ShellCommand::Output { shell, data: Chunk(vec![b'x'; length]) }
            }
        };
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let clock = life.clock(self.now, device.wall);
        match life.link.command(clock, Command::Shell(command)) {
            Ok(()) => Ok(()),
            Err(CommandError::NoRoom { .. }) => {
                Err(Broken::Shell { shell: shell.0, what: "wrote more than it had room for" })
            }
            Err(_) => Err(Broken::Shell { shell: shell.0, what: "runs, and the machine does not know it" }),
        }
    }
}
