//! What else happens to a device: scripts, questions about updates, other update tools, settings that change, files for
//! operators, what extensions send by themselves, clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nerves_hub_link_protocol::limits::{MAX_SCRIPT_BYTES, MAX_SCRIPTS, MAX_UPLOAD_BUFFER, MIN_RATE};
use nerves_hub_link_protocol::{
    Chunk, Command, CommandError, Config, Decision, ErrorReport, ErrorReportsConfig, Event, ExtensionCommand,
    Input, Location, LogLevel, LogLine, LoggingConfig, MetricSample, NetworkIdentity, OfferId, Output,
    ProbeId, Request, ScriptId, Stage, ThirdPartyExtension, UnixTime, UpdateMode, UpdateReport,
    UploadCommand, UploadEvent, UploadId, Weekday, Window,
};

use super::input::Source;
use super::link::Scenario;
use super::{link_more, link_world};

/// What servers say about updates that devices decide about.
const MANAGED: [&str; 10] = [
    r#""update_mode",{"mode":"device_managed","managed_updates_allowed":true}"#,
    r#""update_mode",{"mode":"automatic","managed_updates_allowed":true}"#,
    r#""update_mode",{"mode":"off","managed_updates_allowed":false}"#,
    r#""update_mode",{"mode":"automatic","error":"not_permitted"}"#,
    r#""update_mode",{"mode":"weekly"}"#,
    r#""update_available",{"available":true,"firmware_meta":{"uuid":"1"}}"#,
    r#""update_available",{"available":"yes"}"#,
    r#""update_rejected",{"reason":"busy","delay_for":7}"#,
    r#""update_rejected",{"reason":"busy","delay_for":18446744073709551615}"#,
    r#""update_rejected",{"reason":{}}"#,
];

/// Changes a configuration by still more bits.
pub(super) fn config(config: &mut Config, bits: u8) {
    let bit = |at: u8| bits >> at & 1 == 1;
    config.scripts = bit(0);
    if bit(1) {
        config.extensions.logging = Some(LoggingConfig::default());
        config.extensions.error_reports = Some(ErrorReportsConfig::default());
    }
    if bit(2) {
        config.maintenance.windows =
            vec![Window { day: Weekday::Monday, start_minute: 14 * 60, minutes: 120 }];
        config.maintenance.utc_offset_minutes = 30;
        config.maintenance.by_hand_any_time = false;
    }
    if bit(3) {
        config.rate.bytes_per_second = Some(MIN_RATE);
    }
    if bit(4) {
        config.extensions.join_uninvited = true;
        let own = ThirdPartyExtension { name: "lift".to_owned(), versions: vec!["1.0.0".to_owned()] };
        config.extensions.third_party = vec![own];
    }
    config.wait_for_network = bit(5);
    if bit(6) {
        config.attempts.limit = 1;
    }
    if let Some(console) = config.console.as_mut().filter(|_| bit(7)) {
        (console.timeout, console.max_file_size) = (Duration::from_secs(60), 1000);
    }
}

/// What a device did of this, as far as it binds what it may do next.
#[derive(Default)]
pub(super) struct Rest {
    scripts: BTreeSet<ScriptId>,
    script: u64,
    /// The file for operators, and the bytes asked for.
    upload: Option<(UploadId, usize)>,
    uploaded: u64,
    /// An update that the application carries out.
    handed: Option<OfferId>,
    given: BTreeSet<OfferId>,
    probe: Option<ProbeId>,
    /// Questions that were asked, of each kind.
    asked: BTreeMap<&'static str, u32>,
}

impl Rest {
    /// Looks at an order, or at news.
    pub(super) fn check(&mut self, output: &Output) {
        match output {
            Output::Probe(probe) => {
                assert!(self.probe.is_none_or(|last| probe.probe > last), "a number is used twice");
                self.probe = Some(probe.probe);
            }
            Output::StartApply(_) => assert!(self.handed.is_none(), "another tool uses the disk"),
            Output::Event(event) => self.hear(event),
            _ => {}
        }
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::ScriptRequested { id, text, .. } => {
                assert!(id.0 > self.script, "a number is used twice");
                self.script = id.0;
                self.scripts.insert(*id);
                assert!(self.scripts.len() <= MAX_SCRIPTS, "{} scripts", self.scripts.len());
                assert!(text.len() <= MAX_SCRIPT_BYTES, "a script of {} bytes", text.len());
            }
            Event::ScriptTimedOut { id } => {
                assert!(self.scripts.remove(id), "a script that does not run takes too long");
            }
            Event::Upload(UploadEvent::Started { upload, .. }) => {
                assert!(upload.0 > self.uploaded && self.upload.is_none(), "two files on their way");
                (self.uploaded, self.upload) = (upload.0, Some((*upload, 0)));
            }
            Event::Upload(UploadEvent::Ready { upload, bytes }) => {
                let room = self.upload.as_mut().filter(|(running, _)| running == upload);
                let room = room.map_or(usize::MAX, |(_, room)| {
                    *room += bytes;
                    *room
                });
                assert!(room <= MAX_UPLOAD_BUFFER, "room for {room} bytes");
            }
            Event::Upload(UploadEvent::Finished { upload } | UploadEvent::Aborted { upload, .. }) => {
                let running = self.upload.take().map(|(running, _)| running);
                assert_eq!(running, Some(*upload), "the end of a file that is not on its way");
            }
            Event::UpdateHandedOver { offer, .. } => {
                assert!(self.given.remove(offer), "nobody took it over");
                assert!(self.handed.replace(*offer).is_none(), "two updates at once");
            }
            Event::UpdateFailed { offer, .. } => drop(self.handed.take_if(|handed| handed == offer)),
            Event::UpdateAvailability { .. } => self.answered("check"),
            Event::UpdateRejected { .. } => self.answered("request"),
            Event::RequestFailed { request, .. } => self.answered(match request {
                Request::CheckUpdate => "check",
                Request::RequestUpdate => "request",
                _ => "set",
            }),
            _ => {}
        }
    }

    fn answered(&mut self, question: &'static str) {
        let left = self.asked.get_mut(question).filter(|left| **left > 0).map(|left| *left -= 1);
        assert!(left.is_some(), "an answer to {question}, and nobody asked");
    }
}

impl Scenario {
    /// One thing happens that is neither an update nor an operator's shell.
    pub(super) fn rest(&mut self, step: u8, source: &mut Source<'_>) {
        match step {
            32 => self.script(source),
            33 => {
                let message = source.pick(&MANAGED);
                self.text(&format!(r#"[null,null,"device",{message}]"#));
            }
            34 => self.question(source),
            35 => self.settings(source),
            36 => self.tool(source),
            37 => self.upload(source),
            38 => self.sends(source),
            _ => self.outside(source),
        }
    }

    fn script(&mut self, source: &mut Source<'_>) {
        let (how, length) = (source.byte(), usize::from(source.short()));
        if how < 100 {
            let (reference, text) = (how % 16, "x".repeat(length * usize::from(how % 8 + 1)));
            return self.text(&format!(
                r#"[null,null,"device","scripts/run",{{"ref":"{reference}","text":"{text}","timeout":{length}}}]"#
            ));
        }
        self.world.drain(&mut self.link);
        let rest = &mut self.world.rest;
        let place = usize::from(how) % MAX_SCRIPTS;
        let id = rest.scripts.iter().nth(place).copied().unwrap_or(ScriptId(u64::from(how)));
        let output = "\u{e4}".repeat(length);
        let result = if how & 1 == 0 { Ok(output.clone()) } else { Err(output.clone()) };
        let known = rest.scripts.remove(&id);
        let result = self.link.command(self.now, Command::ScriptFinished { id, output, result });
        assert_eq!(result.is_ok(), known, "script {id}: {result:?}");
    }

    fn question(&mut self, source: &mut Source<'_>) {
        let (question, command) = match source.byte() % 8 {
            0 | 1 => ("check", Command::CheckUpdate),
            2 | 3 => ("request", Command::RequestUpdate),
            4 => ("set", Command::SetUpdateMode { mode: UpdateMode::DeviceManaged }),
            5 => ("set", Command::SetUpdateMode { mode: UpdateMode::Automatic }),
            6 => ("", Command::NetworkInterface { name: "w\u{e4}".repeat(300) }),
            _ => ("", Command::ConnectionTypes { types: vec!["wifi".repeat(100); 20] }),
        };
        if self.command(command) && !question.is_empty() {
            *self.world.rest.asked.entry(question).or_default() += 1;
        }
    }

    fn settings(&mut self, source: &mut Source<'_>) {
        let (bits, more, rest) = (source.byte(), source.byte(), source.byte());
        let command = if rest == 0 {
            let delays = vec![Duration::from_millis(u64::from(bits) * 100); usize::from(more % 40)];
            Command::ReconnectAfter { delays }
        } else {
            let mut settings = link_world::config(bits);
            link_more::config(&mut settings, more);
            config(&mut settings, rest);
            Command::Reconfigure(Box::new(settings))
        };
        let _ = self.command(command);
    }

    /// Another tool takes updates over, and tells how it gets on.
    fn tool(&mut self, source: &mut Source<'_>) {
        let (how, percent) = (source.byte(), source.byte());
        let offer = OfferId(self.world.offer);
        if how < 80 {
            if self.command(Command::Decide { offer, decision: Decision::TakeOver }) {
                self.world.rest.given.insert(offer);
            }
            return;
        }
        self.world.drain(&mut self.link);
        let report = match how % 8 {
            0 => UpdateReport::Completed,
            1 => UpdateReport::Failed { reason: "\u{e4}".repeat(usize::from(percent) * 10) },
            2 | 3 => UpdateReport::Started { interface: None },
            4 => UpdateReport::Progress { stage: Stage::Downloading, percent },
            _ => UpdateReport::Progress { stage: Stage::Updating, percent },
        };
        let ends = matches!(report, UpdateReport::Completed | UpdateReport::Failed { .. });
        let well = report == UpdateReport::Completed;
        let result = self.link.command(self.now, Command::ReportUpdate { offer, report });
        let handed = self.world.rest.handed == Some(offer);
        assert_eq!(result.is_ok(), handed, "{result:?}");
        if handed && ends {
            self.world.rest.handed = None;
            self.world.tool_ended(well);
        }
    }

    fn upload(&mut self, source: &mut Source<'_>) {
        let (how, length) = (source.byte(), usize::from(source.short()));
        if how < 100 {
            let command = UploadCommand::Send { name: "log".to_owned(), size: length as u64 };
            let _ = self.command(Command::Upload(command));
            return;
        }
        self.world.drain(&mut self.link);
        let Some((upload, room)) = self.world.rest.upload else { return };
        if how > 240 {
            self.world.rest.upload = None;
            let result = self.link.command(self.now, Command::Upload(UploadCommand::Cancel { upload }));
            return assert_eq!(result, Ok(()));
        }
        let length = if how & 1 == 0 { length.min(room) } else { length };
        let data = Chunk(vec![b'x'; length]);
        let result = self.link.command(self.now, Command::Upload(UploadCommand::Data { upload, data }));
        assert!(matches!(result, Ok(()) | Err(CommandError::NoRoom { .. })), "{result:?}");
        assert_eq!(result.is_ok(), length <= room, "{length} bytes, and room for {room}");
        if let Some((_, left)) = self.world.rest.upload.as_mut().filter(|_| result.is_ok()) {
            *left -= length;
        }
    }

    /// What extensions send without being asked.
    fn sends(&mut self, source: &mut Source<'_>) {
        let (how, length) = (source.byte(), usize::from(source.short()));
        let text = source.pick(&["x", "\u{e4}", "\"", "\n"]).repeat(length);
        let number = source.pick(&[0.5, f64::NAN, f64::INFINITY, -0.0, f64::MAX, f64::MIN_POSITIVE]);
        let metrics = BTreeMap::from([("load".to_owned(), number), (text.clone(), number)]);
        let facts = BTreeMap::from([(text.clone(), text.clone())]);
        let command = match how % 10 {
            0 => ExtensionCommand::Log(LogLine {
                level: LogLevel::Error,
                message: text,
                meta: facts,
                time: None,
            }),
            1 => ExtensionCommand::FlushLogs,
            2 => ExtensionCommand::ReportError(Box::new(ErrorReport {
                kind: text.clone(),
                reason: text,
                context: facts,
                ..ErrorReport::default()
            })),
            3 => ExtensionCommand::FlushErrorReports,
            4 => ExtensionCommand::ErrorContext(facts),
            5 => ExtensionCommand::Metrics(MetricSample { time: None, metrics }),
            6 => ExtensionCommand::Push {
                name: "lift".to_owned(),
                event: "moved".to_owned(),
                payload: source.pick(&[r#"{"floor":3}"#, "[1]", "{", ""]).to_owned(),
            },
            7 => ExtensionCommand::NetworkIdentity(NetworkIdentity::new("wireguard", text)),
            8 => ExtensionCommand::Location(Ok(Location {
                source: text,
                latitude: number,
                longitude: number,
                accuracy: Some(u32::MAX),
            })),
            _ => ExtensionCommand::Attach { name: "lift".to_owned() },
        };
        let _ = self.command(Command::Extension(command));
    }

    /// The network is there or not; the wall clock is set, jumps, or is gone.
    fn outside(&mut self, source: &mut Source<'_>) {
        let (how, hours) = (source.byte(), i64::from(source.short()));
        match how % 8 {
            0 => self.now.wall = None,
            1 | 2 => self.now.wall = Some(UnixTime(1_795_444_000 + hours * 3600)),
            3 => self.now.wall = Some(UnixTime(-hours * 1_000_000_000)),
            4 => self.now.wall = Some(UnixTime(i64::MAX - hours)),
            _ => {
                let Some(probe) = self.world.rest.probe else { return };
                if how % 8 == 5 {
                    self.input(Input::Unreachable { probe, reason: "no route to host" });
                } else {
                    self.input(Input::Reachable { probe });
                }
            }
        }
    }
}
