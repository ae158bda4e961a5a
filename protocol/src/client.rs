//! The callbacks of an application, and the one place that maps events to them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::alarm::Alarm;
use crate::archive::{ArchiveCommand, ArchiveDecision, ArchiveEvent, ArchiveInfo};
use crate::chunk::Chunk;
use crate::command::{Command, Decision};
use crate::event::{Event, FirmwareMeta, Stage, UpdateInfo};
use crate::extension::{
    ExtensionCommand, ExtensionEvent, HealthReport, Location, LocationError, MetricSample, NetworkIdentity,
};
use crate::file::{FileCommand, FileEvent, UploadCommand, UploadEvent};
use crate::ids::{FileId, OfferId, ShellId, UploadId};
use crate::secret::Secret;
use crate::shell::{ShellCommand, ShellEnd, ShellEvent, ShellKind, ShellStop, WindowSize};
use crate::update_mode::UpdateMode;

/// An application's wishes. Every method has a default; both adapters call them the same way.
pub trait Client {
    /// The device channel is joined.
    fn connected(&mut self) {}

    /// The connection is gone; `reason` is for a person.
    fn disconnected(&mut self, reason: &str) {
        let _ = reason;
    }

    /// Says how long to wait between attempts to connect from now on, asked at every disconnection: the first delay
    /// after one failure, and so on; the last repeats. `None` (the default) leaves it as it is; an empty list goes
    /// back to the configuration's.
    fn reconnect_backoff(&mut self) -> Option<Vec<Duration>> {
        None
    }

    /// Decides about an update, or returns `None` to decide later with
    /// [`Command::Decide`]; [`Config::decision_timeout`](crate::Config::decision_timeout) says how much later.
    ///
    /// The default ignores the firmware that already runs, unless the device asked for it, and applies all else.
    fn update_available(&mut self, running: &FirmwareMeta, update: &UpdateInfo) -> Option<Decision> {
        let same = update.firmware.uuid == running.uuid && !running.uuid.is_empty();
        if same && !update.requested {
            Some(Decision::Ignore { reason: String::from("already running this firmware") })
        } else {
            Some(Decision::Apply)
        }
    }

    /// The server told who decides when this device is updated. Returns the mode the device wants instead, which is
    /// then asked for, or `None` (the default) to leave it. Called after every join, so that a wish is kept even if
    /// an older firmware ran in between.
    fn update_mode(&mut self, mode: Option<UpdateMode>, managed_updates_allowed: bool) -> Option<UpdateMode> {
        let _ = (mode, managed_updates_allowed);
        None
    }

    /// Has the running firmware proved good? Asked every ten seconds while it hadn't. `None` (the default) and
    /// `Some(false)` mean not yet; the machine can also be told with
    /// [`Command::FirmwareValidated`].
    fn firmware_validated(&mut self) -> Option<bool> {
        None
    }

    /// An update the application took over ([`Decision::TakeOver`]) is its own from here on; it reports with
    /// [`Command::ReportUpdate`].
    fn update_handed_over(
        &mut self,
        offer: OfferId,
        info: &UpdateInfo,
        url: &Secret,
        public_keys: &[String],
    ) {
        let _ = (offer, info, url, public_keys);
    }

    /// Decides about an archive, or returns `None` to decide later with
    /// [`ArchiveCommand::Decide`]. The default ignores it.
    fn archive_available(&mut self, archive: &ArchiveInfo) -> Option<ArchiveDecision> {
        let _ = archive;
        Some(ArchiveDecision::Ignore)
    }

    /// An archive is in a file that is the application's from here on: delete it when it was used, and give its UUID to
    /// [`Config::known_archives`](crate::Config::known_archives) at the next start.
    fn archive_ready(&mut self, archive: &ArchiveInfo, path: &str) {
        let _ = (archive, path);
    }

    /// An update got further.
    fn update_progress(&mut self, stage: Stage, percent: u8) {
        let _ = (stage, percent);
    }

    /// An update failed; the running firmware is untouched.
    fn update_failed(&mut self, reason: &str) {
        let _ = reason;
    }

    /// A condition of the device began (`true`) or ended.
    fn alarm(&mut self, alarm: Alarm, raised: bool, description: &str) {
        let _ = (alarm, raised, description);
    }

    /// Starts a shell in a terminal, or says why not, which operators see. `room` bytes of its output may be handed in
    /// with [`ShellCommand::Output`] before [`Client::shell_ready`] allows more. The default has none.
    ///
    /// An adapter that was given a shell of its own asks nobody about shells.
    ///
    /// # Errors
    ///
    /// Why there is no shell.
    fn shell_wanted(
        &mut self,
        shell: ShellId,
        kind: ShellKind,
        size: WindowSize,
        room: usize,
    ) -> Result<(), String> {
        let _ = (shell, kind, size, room);
        Err(String::from("this device has no shell for operators"))
    }

    /// Somebody typed something.
    fn shell_input(&mut self, shell: ShellId, data: &str) {
        let _ = (shell, data);
    }

    /// The window of a shell's terminal has another size.
    fn shell_resized(&mut self, shell: ShellId, size: WindowSize) {
        let _ = (shell, size);
    }

    /// So many more bytes of a shell's output may be handed in.
    fn shell_ready(&mut self, shell: ShellId, bytes: usize) {
        let _ = (shell, bytes);
    }

    /// A shell is to be stopped; its number is no longer in use.
    fn shell_stopped(&mut self, shell: ShellId, why: ShellStop) {
        let _ = (shell, why);
    }

    /// An operator sends a file. The default takes none.
    ///
    /// An adapter that was given a folder for files asks nobody about files.
    ///
    /// # Errors
    ///
    /// Why it isn't taken; the operator is told.
    fn file_started(&mut self, file: FileId, name: &str) -> Result<(), String> {
        let _ = (file, name);
        Err(String::from("this device takes no files"))
    }

    /// Stores the next piece of a file.
    ///
    /// # Errors
    ///
    /// Why it can't be stored; the operator is told.
    fn file_chunk(&mut self, file: FileId, data: &[u8]) -> Result<(), String> {
        let _ = (file, data);
        Ok(())
    }

    /// A file is complete.
    ///
    /// # Errors
    ///
    /// Why it can't be stored; the operator is told.
    fn file_finished(&mut self, file: FileId) -> Result<(), String> {
        let _ = file;
        Ok(())
    }

    /// The rest of a file won't come, or is not wanted.
    fn file_discarded(&mut self, file: FileId, reason: &str) {
        let _ = (file, reason);
    }

    /// Returns the next bytes of the file that [`UploadCommand::Send`] announced, `bytes` at most; or `None` to hand them
    /// in later with [`UploadCommand::Data`].
    fn upload_ready(&mut self, upload: UploadId, bytes: usize) -> Option<Vec<u8>> {
        let _ = (upload, bytes);
        None
    }

    /// Shows a person which device this is (a blinking light, say).
    fn identify(&mut self) {}

    /// Restarts the device. Returning is fine; the adapter goes on until the machine stops.
    fn reboot(&mut self, reason: &str) {
        let _ = reason;
    }

    /// Tells how the device is doing, or `None` (the default) to do so later with
    /// [`ExtensionCommand::HealthReport`].
    fn health_report(&mut self) -> Option<HealthReport> {
        None
    }

    /// Tells where the device is or why that can't be said, or `None` (the default) to do so later with
    /// [`ExtensionCommand::Location`].
    fn location(&mut self) -> Option<Result<Location, LocationError>> {
        None
    }

    /// Lists all network identities, or `None` (the default) to do so later with
    /// [`ExtensionCommand::NetworkIdentities`].
    fn network_identities(&mut self) -> Option<Vec<NetworkIdentity>> {
        None
    }

    /// Tells the numbers of this moment, or `None` (the default) to do so later with [`ExtensionCommand::Metrics`].
    fn metrics(&mut self) -> Option<MetricSample> {
        None
    }

    /// An event of an extension of the application's own arrived; `payload` is JSON text.
    fn extension_event(&mut self, name: &str, event: &str, payload: &str) {
        let _ = (name, event, payload);
    }

    /// Every event, before the callbacks above. For logs and screens.
    fn event(&mut self, event: &Event) {
        let _ = event;
    }
}

/// An application with nothing but defaults.
struct Default;

impl Client for Default {}

/// Returns the command that answers `event` for an application whose callback panicked: that of the default callbacks.
/// So an update is applied; else a firmware whose application always panics could never be replaced.
pub fn fallback(running: &FirmwareMeta, event: &Event) -> Option<Command> {
    deliver(&mut Default, running, event)
}

/// Calls what fits `event` on `client` and returns the command that answers it, if any.
pub fn deliver(client: &mut dyn Client, running: &FirmwareMeta, event: &Event) -> Option<Command> {
    client.event(event);
    match event {
        Event::Joined => client.connected(),
        Event::Disconnected { reason, retry_at, .. } => {
            client.disconnected(reason);
            retry_at.as_ref()?;
            return Some(Command::ReconnectAfter { delays: client.reconnect_backoff()? });
        }
        Event::UpdateOffered { offer, info } => {
            let decision = client.update_available(running, info)?;
            return Some(Command::Decide { offer: *offer, decision });
        }
        Event::UpdateModeChanged { mode, managed_updates_allowed } => {
            let wanted = client.update_mode(*mode, *managed_updates_allowed)?;
            // What is so already is not asked for, and what operators decide is left to them.
            let asked = *mode != Some(wanted) && *mode != Some(UpdateMode::Off) && wanted != UpdateMode::Off;
            return asked.then_some(Command::SetUpdateMode { mode: wanted });
        }
        Event::ValidationWanted => {
            return (client.firmware_validated() == Some(true)).then_some(Command::FirmwareValidated);
        }
        Event::UpdateHandedOver { offer, info, url, public_keys } => {
            client.update_handed_over(*offer, info, url, public_keys);
        }
        Event::Archive(ArchiveEvent::Offered { archive, info }) => {
            let decision = client.archive_available(info)?;
            return Some(Command::Archive(ArchiveCommand::Decide { archive: *archive, decision }));
        }
        Event::Archive(ArchiveEvent::Ready { info, path, .. }) => client.archive_ready(info, path),
        Event::UpdateProgress { stage, percent, .. } => client.update_progress(*stage, *percent),
        Event::UpdateFailed { reason, .. } => client.update_failed(reason),
        Event::AlarmRaised { alarm, description } => client.alarm(*alarm, true, description),
        Event::AlarmCleared { alarm } => client.alarm(*alarm, false, ""),
        Event::Identify => client.identify(),
        Event::Shell(ShellEvent::Wanted { shell, kind, size, room }) => {
            return Some(match client.shell_wanted(*shell, *kind, *size, *room) {
                Ok(()) => Command::Shell(ShellCommand::Started { shell: *shell }),
                Err(reason) => {
                    Command::Shell(ShellCommand::Ended { shell: *shell, end: ShellEnd::Failed(reason) })
                }
            });
        }
        Event::Shell(ShellEvent::Input { shell, data }) => client.shell_input(*shell, data.expose()),
        Event::Shell(ShellEvent::Resized { shell, size }) => client.shell_resized(*shell, *size),
        Event::Shell(ShellEvent::Ready { shell, bytes }) => client.shell_ready(*shell, *bytes),
        Event::Shell(ShellEvent::Stopped { shell, why }) => client.shell_stopped(*shell, *why),
        Event::File(FileEvent::Started { file, name }) => {
            return stored(*file, 0, client.file_started(*file, name));
        }
        Event::File(FileEvent::Chunk { file, data }) => {
            return stored(*file, data.0.len(), client.file_chunk(*file, &data.0));
        }
        Event::File(FileEvent::Finished { file }) => return stored(*file, 0, client.file_finished(*file)),
        Event::File(FileEvent::Discarded { file, reason }) => client.file_discarded(*file, reason),
        Event::Upload(UploadEvent::Ready { upload, bytes }) => {
            let data = Chunk(client.upload_ready(*upload, *bytes)?);
            return Some(Command::Upload(UploadCommand::Data { upload: *upload, data }));
        }
        Event::Extension(event) => return deliver_extension(client, event).map(Command::Extension),
        _ => {}
    }
    None
}

/// Returns what to say about a file after a step of its way.
fn stored(file: FileId, bytes: usize, result: Result<(), String>) -> Option<Command> {
    match result {
        Ok(()) if bytes == 0 => None,
        Ok(()) => Some(Command::File(FileCommand::Stored { file, bytes })),
        Err(reason) => Some(Command::File(FileCommand::Failed { file, reason })),
    }
}

fn deliver_extension(client: &mut dyn Client, event: &ExtensionEvent) -> Option<ExtensionCommand> {
    match event {
        ExtensionEvent::HealthRequested => {
            let report = client.health_report()?;
            Some(ExtensionCommand::HealthReport(Box::new(report)))
        }
        ExtensionEvent::LocationRequested => client.location().map(ExtensionCommand::Location),
        ExtensionEvent::NetworkIdentitiesRequested => {
            client.network_identities().map(ExtensionCommand::NetworkIdentities)
        }
        ExtensionEvent::MetricsRequested => client.metrics().map(ExtensionCommand::Metrics),
        ExtensionEvent::Received { name, event, payload } => {
            client.extension_event(name, event, payload);
            None
        }
        _ => None,
    }
}
