//! The recorded device's program: what it decided, typed, measured and answered, done again for the machine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nerves_hub_link_protocol::{
    ArchiveCommand, ArchiveDecision, ArchiveEvent, Chunk, Command, Event, ExtensionCommand, ExtensionEvent,
    FileCommand, FileEvent, Input, OfferId, ScriptId, ShellCommand, ShellEnd, ShellEvent, ShellId, ShellKind,
    UpdateMode, UploadCommand, UploadEvent, UploadId,
};
use serde_json::Value;

use super::drive::Drive;
use super::plot::said;
use super::recording::Envelope;
use super::values;

/// What the program has in hand.
#[derive(Default)]
pub struct Actor {
    /// The update that is being applied.
    pub offer: Option<OfferId>,
    /// Whether the applier has all bytes.
    finishing: bool,
    /// The recorded applier was done before that.
    done: bool,
    /// The reference of the script that the server sends now.
    pub script: Option<String>,
    scripts: BTreeMap<String, ScriptId>,
    shells: BTreeMap<&'static str, ShellId>,
    /// The file that is sent to operators, and its bytes that are to come.
    upload: Option<UploadId>,
    upload_bytes: VecDeque<u8>,
    /// What the server asked extensions for, and what the machine passed on of it.
    asked: BTreeSet<&'static str>,
    wanted: BTreeSet<&'static str>,
    said_interface: bool,
}

/// How servers ask for health, for the location and for network identities.
const ASKS: [&str; 3] = ["health:check", "geo:location:request", "network_identity:request"];

impl Drive<'_> {
    /// Does what the recorded device's program did when it said that.
    pub(super) fn device_said(&mut self, said: &Envelope) {
        match said.topic.as_str() {
            "device" => self.said_on_device(said),
            "console" => self.said_on_console(said),
            "extensions" => self.said_by_extension(said),
            _ => {}
        }
    }

    fn said_on_device(&mut self, said: &Envelope) {
        let text = |name: &str| said.payload.get(name).and_then(Value::as_str);
        match said.event.as_str() {
            "fwup_progress" | "update_progress" => self.progress(said),
            "status_update" => match (text("status"), text("reason").unwrap_or_default()) {
                (Some("completed"), _) => self.apply_done(),
                (Some("failed"), reason) => {
                    // What failed in downloading is the machine's to find out.
                    let applier = !reason.starts_with("Download failed");
                    if let Some(offer) = self.actor.offer.filter(|_| applier) {
                        let reason = reason.strip_prefix("FWUP error : ").unwrap_or(reason);
                        self.handle(Input::ApplyFailed { offer, reason });
                    }
                }
                _ => {}
            },
            "firmware_validated" => self.order(Command::FirmwareValidated),
            "check_update" => self.order(Command::CheckUpdate),
            "request_update" => self.order(Command::RequestUpdate),
            "set_update_mode" => {
                let modes = [UpdateMode::Automatic, UpdateMode::DeviceManaged, UpdateMode::Off];
                if let Some(mode) = modes.into_iter().find(|mode| text("mode") == Some(mode.as_str())) {
                    self.order(Command::SetUpdateMode { mode });
                }
            }
            // The first is the machine's own, after the join.
            "report_network_interface" if !core::mem::replace(&mut self.actor.said_interface, true) => {}
            "report_network_interface" => {
                let name = text("interface").unwrap_or_default().to_owned();
                self.order(Command::NetworkInterface { name });
            }
            "phx_join" => self.actor.said_interface = false,
            "connection_types" => {
                let values = said.payload.get("values").and_then(Value::as_array);
                let types =
                    values.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect();
                self.order(Command::ConnectionTypes { types });
            }
            "scripts/run" => {
                let id = text("ref").and_then(|reference| self.actor.scripts.remove(reference));
                // A script that ran too long is the machine's to end.
                if let Some(id) = id.filter(|_| text("reason") != Some("timeout")) {
                    let output = text("output").unwrap_or_default().to_owned();
                    let result = match text("result") {
                        Some("completed") => Ok(text("return").unwrap_or_default().to_owned()),
                        _ => Err(text("reason").unwrap_or_default().to_owned()),
                    };
                    self.order(Command::ScriptFinished { id, output, result });
                }
            }
            _ => {}
        }
    }

    fn progress(&mut self, said: &Envelope) {
        let percent = said.payload.get("value").and_then(Value::as_u64).unwrap_or_default();
        let updating = said.payload.get("stage").is_some_and(|stage| stage == "updating");
        for (conn, up_to) in self.downloads.positions(percent, updating) {
            self.deliver_body(conn, up_to, false);
        }
        if let (true, Some(offer)) = (updating, self.actor.offer) {
            let percent = u8::try_from(percent).unwrap_or(100);
            self.handle(Input::ApplyProgress { offer, percent });
        }
    }

    /// The machine wants an applier.
    pub(super) fn apply_started(&mut self, offer: OfferId) {
        self.actor.offer = Some(offer);
        (self.actor.finishing, self.actor.done) = (false, false);
    }

    /// The machine says that the applier has all bytes.
    pub(super) fn apply_complete(&mut self, offer: OfferId) {
        self.actor.finishing = true;
        if self.actor.done {
            self.handle(Input::ApplyDone { offer });
        }
    }

    fn apply_done(&mut self) {
        let Some(offer) = self.actor.offer else { return };
        self.actor.done = true;
        for conn in self.downloads.open() {
            self.deliver_body(conn, u64::MAX, true);
        }
        if self.actor.finishing {
            self.handle(Input::ApplyDone { offer });
        }
    }

    fn said_on_console(&mut self, said: &Envelope) {
        let data = said.payload.get("data").and_then(Value::as_str).unwrap_or_default();
        match said.event.as_str() {
            "up" => {
                let Some(shell) = self.actor.shells.get("console").copied() else { return };
                match values::notice(data) {
                    values::Notice::None => self.shell_wrote(shell, data),
                    // Those the machine says by itself.
                    values::Notice::OfTheLink => {}
                    values::Notice::Stopped(reason) => {
                        let end = ShellEnd::Failed(reason.to_owned());
                        self.order(Command::Shell(ShellCommand::Ended { shell, end }));
                    }
                }
            }
            "file-data/start" => {
                let name =
                    said.payload.get("filename").and_then(Value::as_str).unwrap_or_default().to_owned();
                let bytes = self.file_bytes();
                let size = bytes.len() as u64;
                self.actor.upload_bytes = bytes.into();
                self.order(Command::Upload(UploadCommand::Send { name, size }));
            }
            _ => {}
        }
    }

    fn shell_wrote(&mut self, shell: ShellId, data: &str) {
        if !data.is_empty() {
            let data = Chunk::from(data.as_bytes());
            self.order(Command::Shell(ShellCommand::Output { shell, data }));
        }
    }

    /// All bytes of the file that the recorded device begins to send now.
    fn file_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in self.plot.lines(self.position).filter_map(said).filter(|m| m.topic == "console") {
            match message.event.as_str() {
                "file-data" => {
                    let data = message.payload.get("data").and_then(Value::as_str).unwrap_or_default();
                    bytes.extend(STANDARD.decode(data).unwrap_or_default());
                }
                "file-data/stop" => break,
                _ => {}
            }
        }
        bytes
    }

    fn said_by_extension(&mut self, said: &Envelope) {
        let (name, event) = said.event.split_once(':').unwrap_or((said.event.as_str(), ""));
        let data = said.payload.get("data").and_then(Value::as_str).unwrap_or_default();
        match (name, event) {
            // The machine's own words.
            ("local_shell", "request_status") => {
                let Some(shell) = self.actor.shells.get("local_shell").copied() else { return };
                let status = said.payload.get("status").and_then(Value::as_str).unwrap_or_default();
                self.order(Command::Shell(match status {
                    "started" => ShellCommand::Started { shell },
                    other => ShellCommand::Ended { shell, end: ShellEnd::Failed(other.to_owned()) },
                }));
            }
            (_, "attached" | "detached" | "error" | "") => {}
            ("health", "report") if self.unheard("health") => {}
            ("geo", "location:update") if self.unheard("geo") => {}
            ("health", "report") => {
                if let Some(report) = said.payload.get("value").and_then(values::health) {
                    self.order(ExtensionCommand::HealthReport(Box::new(report)));
                }
            }
            ("geo", "location:update") => {
                self.order(ExtensionCommand::Location(values::location(&said.payload)));
            }
            ("network_identity", "report") => {
                let identities = values::identities(&said.payload);
                let all = self.actor.wanted.contains("network_identity");
                if self.unheard("network_identity") {
                    return;
                }
                if let ([one], false) = (identities.as_slice(), all) {
                    self.order(ExtensionCommand::NetworkIdentity(one.clone()));
                } else {
                    self.order(ExtensionCommand::NetworkIdentities(identities));
                }
            }
            ("local_shell", "shell_output") => {
                if let Some(shell) = self.actor.shells.get("local_shell").copied() {
                    self.shell_wrote(shell, data);
                }
            }
            ("local_shell", "shell_exited") => {
                if let Some(shell) = self.actor.shells.remove("local_shell") {
                    let code = said.payload.get("exit_code").and_then(Value::as_i64);
                    let code = code.and_then(|code| i32::try_from(code).ok()).unwrap_or_default();
                    let end = ShellEnd::Exited(code);
                    self.order(Command::Shell(ShellCommand::Ended { shell, end }));
                }
            }
            _ => {
                let (name, event) = (name.to_owned(), event.to_owned());
                let payload = said.payload.to_string();
                self.order(ExtensionCommand::Push { name, event, payload });
            }
        }
    }

    /// The server asks an extension for something.
    pub(super) fn server_asks(&mut self, event: &str) {
        let asked =
            ["health", "geo", "network_identity"].into_iter().zip(ASKS).find(|(_, ask)| *ask == event);
        self.actor.asked.extend(asked.map(|(name, _)| name));
    }

    /// Returns whether the server asked for that and the machine did not pass it on: then nobody answers.
    fn unheard(&mut self, name: &'static str) -> bool {
        let asked = self.actor.asked.remove(name);
        asked && !self.actor.wanted.remove(name)
    }

    /// Takes the machine's news as the recorded program did.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::UpdateOffered { offer, .. } => {
                if let Some(decision) = self.plot.decision(self.position) {
                    self.command(Command::Decide { offer: *offer, decision });
                }
            }
            Event::Archive(ArchiveEvent::Offered { archive, .. }) => {
                let wanted = self.plot.wants_archive(self.position);
                let decision = if wanted { ArchiveDecision::Download } else { ArchiveDecision::Ignore };
                self.command(Command::Archive(ArchiveCommand::Decide { archive: *archive, decision }));
            }
            Event::ScriptRequested { id, .. } => {
                if let Some(reference) = self.actor.script.take() {
                    self.actor.scripts.insert(reference, *id);
                }
            }
            Event::Shell(ShellEvent::Wanted { shell, kind, .. }) => {
                let name = if *kind == ShellKind::Local { "local_shell" } else { "console" };
                self.actor.shells.insert(name, *shell);
                // The start of a local shell shows in the recording.
                if *kind != ShellKind::Local {
                    self.command(Command::Shell(ShellCommand::Started { shell: *shell }));
                }
            }
            Event::Shell(ShellEvent::Stopped { shell, .. }) => {
                self.actor.shells.retain(|_, running| running != shell);
            }
            Event::File(FileEvent::Chunk { file, data }) => {
                let (file, bytes) = (*file, data.0.len());
                self.command(Command::File(FileCommand::Stored { file, bytes }));
            }
            Event::Upload(UploadEvent::Started { upload, .. }) => self.actor.upload = Some(*upload),
            Event::Upload(UploadEvent::Ready { upload, bytes }) => {
                let now = (*bytes).min(self.actor.upload_bytes.len());
                let data: Vec<u8> = self.actor.upload_bytes.drain(..now).collect();
                if !data.is_empty() {
                    let data = Chunk::from(data);
                    self.command(Command::Upload(UploadCommand::Data { upload: *upload, data }));
                }
            }
            Event::Extension(ExtensionEvent::HealthRequested) => {
                self.actor.wanted.insert("health");
            }
            Event::Extension(ExtensionEvent::LocationRequested) => {
                self.actor.wanted.insert("geo");
            }
            Event::Extension(ExtensionEvent::NetworkIdentitiesRequested) => {
                self.actor.wanted.insert("network_identity");
            }
            _ => {}
        }
    }
}
