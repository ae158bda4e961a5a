//! What the application wants of its extensions.

use super::super::{Context, EXTENSIONS, names};
use super::part::{Entry, Part};
use super::port::Port;
use super::{Extensions, third_party};
use crate::alarm::RaisedAlarm;
use crate::command::CommandError;
use crate::extension::ExtensionCommand;
use crate::phoenix::Phoenix;
use crate::shell::ShellCommand;

impl Extensions {
    /// Takes an order. `link` are the link's own alarms.
    pub(crate) fn command(
        &mut self,
        cx: &mut Context<'_>,
        command: ExtensionCommand,
        link: &[RaisedAlarm],
    ) -> Result<(), CommandError> {
        self.times.look(cx.now, cx.wall);
        let times = self.times;
        match command {
            ExtensionCommand::Attach { name } => {
                let at = self.find(cx.config, &name).ok_or(CommandError::UnknownExtension)?;
                if !cx.wire.has_joined(EXTENSIONS) {
                    return Err(CommandError::NotJoined);
                }
                if !self.port(cx.wire, at).is_open() {
                    self.attach(cx, at);
                }
                Ok(())
            }
            ExtensionCommand::Detach { name } => {
                let at = self.find(cx.config, &name).ok_or(CommandError::UnknownExtension)?;
                if self.stop(cx, at, "the application wants it so") {
                    self.announce(cx, at, names::DETACHED);
                }
                Ok(())
            }
            ExtensionCommand::Push { name, event, payload } => {
                let is_own = |part: &Part| matches!(part, Part::ThirdParty(_));
                let at = self.find(cx.config, &name);
                let own = at.and_then(|at| self.entries.get(at)).is_some_and(|entry| is_own(&entry.part));
                let at = at.filter(|_| own).ok_or(CommandError::UnknownExtension)?;
                third_party::push(cx, self.port(cx.wire, at), &name, &event, &payload)
            }
            ExtensionCommand::HealthReport(report) => {
                let alarms = (!self.tells_alarms()).then(|| self.own_alarms.all(link));
                let (health, port) = find(&mut self.entries, cx.wire, Part::as_health)?;
                health.report(cx, port, times, &report, alarms.as_deref())
            }
            ExtensionCommand::HealthFailed { reason } => {
                let has_alarms = !self.tells_alarms();
                let (health, port) = find(&mut self.entries, cx.wire, Part::as_health)?;
                health.failed(cx, port, times, &reason, has_alarms)
            }
            ExtensionCommand::Location(result) => {
                let (geo, port) = find(&mut self.entries, cx.wire, Part::as_geo)?;
                geo.located(cx, port, &result)
            }
            ExtensionCommand::NetworkIdentities(identities) => {
                let (known, port) = find(&mut self.entries, cx.wire, Part::as_identities)?;
                known.list(cx, port, &identities)
            }
            ExtensionCommand::NetworkIdentity(identity) => {
                let (known, port) = find(&mut self.entries, cx.wire, Part::as_identities)?;
                known.one(cx, port, &identity)
            }
            ExtensionCommand::Log(line) => {
                // Whoever logs can't be told that nobody listens.
                if let Ok((logging, _)) = find(&mut self.entries, cx.wire, Part::as_logging) {
                    add(&mut self.dropped.log_lines, logging.log(cx.now, &line));
                }
                Ok(())
            }
            ExtensionCommand::FlushLogs => {
                let (logging, port) = find(&mut self.entries, cx.wire, Part::as_logging)?;
                port.require()?;
                logging.flush();
                Ok(())
            }
            ExtensionCommand::ReportError(report) => {
                if let Ok((reports, _)) = find(&mut self.entries, cx.wire, Part::as_error_reports) {
                    add(&mut self.dropped.error_reports, reports.report(cx, &report));
                }
                Ok(())
            }
            ExtensionCommand::FlushErrorReports => {
                let (reports, port) = find(&mut self.entries, cx.wire, Part::as_error_reports)?;
                port.require()?;
                reports.flush();
                Ok(())
            }
            ExtensionCommand::ErrorContext(context) => {
                let (reports, _) = find(&mut self.entries, cx.wire, Part::as_error_reports)?;
                reports.set_context(context);
                Ok(())
            }
            ExtensionCommand::Metrics(sample) => {
                let (metrics, _) = find(&mut self.entries, cx.wire, Part::as_metrics)?;
                add(&mut self.dropped.samples, metrics.sample(cx, &sample));
                Ok(())
            }
            ExtensionCommand::RaiseAlarm { name, description } => {
                self.own_alarms.raise(cx.now, &name, &description)
            }
            ExtensionCommand::ClearAlarm { name } => {
                self.own_alarms.clear(&name);
                Ok(())
            }
        }
    }

    /// Something became of a shell that isn't the console's.
    pub(crate) fn shell(&mut self, cx: &Context<'_>, command: &ShellCommand) -> Result<(), CommandError> {
        match find(&mut self.entries, cx.wire, Part::as_local_shell) {
            Ok((shell, _)) => shell.command(command),
            Err(_) => Err(CommandError::UnknownShell(command.shell())),
        }
    }
}

fn add(counter: &mut u64, more: u64) {
    *counter = counter.saturating_add(more);
}

/// Returns the extension of a kind, and its way out.
fn find<'a, T>(
    entries: &'a mut [Entry],
    wire: &Phoenix,
    pick: fn(&mut Part) -> Option<&mut T>,
) -> Result<(&'a mut T, Port), CommandError> {
    let mut all = entries.iter_mut().enumerate();
    let found = all.find_map(|(at, entry)| {
        let port = entry.port(wire, at);
        Some((pick(&mut entry.part)?, port))
    });
    found.ok_or(CommandError::UnknownExtension)
}
