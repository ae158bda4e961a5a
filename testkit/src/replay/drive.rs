//! Feeding the server's side of one life to the machine, in time taken from the recording.
//!
//! Where the machine is slower than the recorded device (a longer back-off, say), time is stretched: what the
//! recording has next waits for it.

use std::collections::{BTreeMap, VecDeque};

use nerves_hub_link_protocol::{
    Command, ConfigError, Dial, Event, Fetch, Input, OfferId, Output, ScriptId, SocketId, UpdateState,
};

use super::body::Downloads;
use super::plot::Plot;
use super::recording::{Envelope, Kind, Line, Message, Raw, Side};
use super::refs::{Address, Refs};
use super::rig::Rig;

/// Longest wait for a dial or a request that the recording has, in microseconds.
const LONG_WAIT: u64 = 600_000_000;
/// Longest wait for a message that the recording answers.
const SHORT_WAIT: u64 = 15_000_000;

/// What the machine did.
#[derive(Default)]
pub struct Transcript {
    /// Connections it opened, and the recorded one each was taken for.
    pub dials: Vec<Dialled>,
    /// Messages it sent.
    pub frames: Vec<Sent>,
    /// Files it requested.
    pub fetches: Vec<Fetch>,
    /// Connections it hung up, with its reason.
    pub hang_ups: Vec<(Option<u64>, String)>,
    /// Recorded connections it never opened.
    pub undialled: Vec<u64>,
    /// Recorded requests it never made.
    pub unfetched: Vec<String>,
    /// Messages of the server that could not be handed over, as they answer what the machine did not send.
    pub undelivered: Vec<Envelope>,
    /// Promises it broke.
    pub broken: Vec<String>,
    /// Messages handed over.
    pub delivered: usize,
}

/// A connection the machine opened.
pub struct Dialled {
    /// The order.
    pub dial: Dial,
    /// The device's Unix time then.
    pub unix_seconds: i64,
    /// Since the connection before ended, in microseconds.
    pub after: Option<u64>,
    /// The recorded connection.
    pub conn: Option<u64>,
}

/// A message the machine sent.
pub struct Sent {
    /// The recorded connection.
    pub conn: u64,
    /// The message.
    pub envelope: Envelope,
    /// When, in microseconds of the recording's time.
    pub at: u64,
}

/// The connection that the machine opened last.
struct Socket {
    id: SocketId,
    conn: Option<u64>,
    up: bool,
}

/// One life on stage.
pub struct Drive<'r> {
    plot: &'r Plot<'r>,
    rig: Rig,
    /// How much later everything happens than in the recording, in microseconds.
    stretch: u64,
    /// The line after the present one.
    position: usize,
    socket: Option<Socket>,
    ended_at: Option<u64>,
    refs: Refs,
    waiting: VecDeque<Fetch>,
    downloads: Downloads,
    offer: Option<OfferId>,
    /// How the recorded applier ended, once it did.
    outcome: Option<Result<(), String>>,
    finishing: bool,
    script: Option<String>,
    scripts: BTreeMap<String, ScriptId>,
    transcript: Transcript,
}

impl<'r> Drive<'r> {
    /// Plays a life from beginning to end.
    pub fn play(plot: &'r Plot<'r>) -> Result<Transcript, ConfigError> {
        let first = plot.lines(0).next();
        let clock = first.map_or(0, |line| line.at);
        let unix = first.and_then(|line| line.unix_micros).unwrap_or(1_800_000_000_000_000);
        let epoch = unix.saturating_sub(i64::try_from(clock).unwrap_or_default());
        let rig = Rig::new(plot.config.clone(), clock, epoch.saturating_add(plot.clock_error))?;
        let mut drive = Self {
            plot,
            rig,
            stretch: 0,
            position: 0,
            socket: None,
            ended_at: None,
            refs: Refs::default(),
            waiting: VecDeque::new(),
            downloads: Downloads::default(),
            offer: None,
            outcome: None,
            finishing: false,
            script: None,
            scripts: BTreeMap::new(),
            transcript: Transcript::default(),
        };
        drive.command(Command::Connect);
        for (index, line) in plot.lines(0).enumerate() {
            drive.position = index + 1;
            drive.advance(line.at.saturating_add(drive.stretch));
            drive.line(line);
        }
        drive.transcript.broken.append(&mut drive.rig.broken);
        Ok(drive.transcript)
    }

    fn line(&mut self, line: &Line) {
        let Some(conn) = line.conn else { return };
        if self.plot.life.fetches.contains(&conn) {
            self.download_line(conn, line);
            return;
        }
        match &line.kind {
            Kind::Request(_) => self.expect_dial(conn),
            Kind::Failed(why) => {
                self.expect_dial(conn);
                self.down(conn, None, why);
            }
            Kind::Response { status, headers } => self.answered(conn, *status, headers),
            Kind::Message(Side::Server, message) => self.deliver(conn, message),
            Kind::Message(Side::Device, message) => {
                if let Some(envelope) = &message.envelope {
                    self.refs.theirs(conn, envelope);
                    self.device_said(envelope);
                }
            }
            Kind::Close(Side::Server, code) => self.down(conn, *code, ""),
            // The end of the recorded program, unless it comes back.
            Kind::Eof(Side::Device) if self.plot.life.sockets.last() == Some(&conn) => {}
            Kind::Eof(_) | Kind::Closed => self.down(conn, None, "the connection ended"),
            _ => {}
        }
    }

    fn download_line(&mut self, conn: u64, line: &Line) {
        match &line.kind {
            Kind::Request(request) => {
                // Only a download that is to be tried again is worth waiting for.
                let most = if self.rig.link.status().update == UpdateState::Idle { 0 } else { LONG_WAIT };
                if self.wait_for(most, |drive| !drive.waiting.is_empty())
                    && let Some(fetch) = self.waiting.pop_front()
                {
                    self.downloads.begin(conn, &fetch, request);
                } else {
                    let range = request.header("range").unwrap_or("whole");
                    self.transcript.unfetched.push(format!("{} ({range})", request.target));
                }
            }
            Kind::Response { status, headers } => {
                let Some(fetch) = self.downloads.head(conn, *status, headers, self.plot, self.position)
                else {
                    return;
                };
                let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                let interface = self.plot.download_interface.as_deref();
                self.handle(Input::FetchHead { fetch, status: *status, headers: &headers, interface });
            }
            Kind::Body { .. } => self.deliver_body(conn, u64::MAX, true),
            Kind::Eof(_) | Kind::Closed | Kind::Failed(_) => {
                let Some(download) = self.downloads.get(conn) else { return };
                let (cut, fetch) = (download.cut, download.fetch);
                self.deliver_body(conn, cut, false);
                if self.downloads.end(conn) {
                    self.handle(Input::FetchFailed { fetch, reason: "the connection ended" });
                }
            }
            _ => {}
        }
    }

    /// Hands over a download's bytes up to a position within its response.
    fn deliver_body(&mut self, conn: u64, up_to: u64, end: bool) {
        while let Some((fetch, chunk)) = self.downloads.next_chunk(conn, up_to) {
            let now = self.rig.now();
            let keep = self.rig.link.body(now, fetch, &chunk);
            self.drain();
            self.rig.link.stored(now, fetch, keep.range.len());
            self.drain();
        }
        let fetch = self.downloads.get(conn).map(|download| download.fetch);
        if let Some(fetch) = fetch.filter(|_| end && self.downloads.end(conn)) {
            self.handle(Input::FetchEnd { fetch });
        }
    }

    fn expect_dial(&mut self, conn: u64) {
        let unbound = |drive: &Self| drive.socket.as_ref().is_some_and(|socket| socket.conn.is_none());
        if self.wait_for(LONG_WAIT, unbound)
            && let Some(socket) = &mut self.socket
        {
            socket.conn = Some(conn);
            if let Some(dialled) = self.transcript.dials.last_mut() {
                dialled.conn = Some(conn);
            }
        } else {
            self.transcript.undialled.push(conn);
        }
    }

    fn answered(&mut self, conn: u64, status: u16, headers: &[(String, String)]) {
        let Some(socket) = self.socket.as_mut().filter(|socket| socket.conn == Some(conn)) else { return };
        let id = socket.id;
        if status == 101 {
            socket.up = true;
            let interface = self.plot.interface.as_deref();
            self.handle(Input::SocketUp { socket: id, interface });
            return;
        }
        let body = self.plot.lines(self.position).take(3).find_map(|line| match &line.kind {
            Kind::Body { data: Some(data), .. } if line.conn == Some(conn) => Some(data.as_slice()),
            _ => None,
        });
        self.socket = None;
        self.ended_at = Some(self.rig.clock());
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let body = body.unwrap_or_default();
        self.handle(Input::SocketRefused { socket: id, status, headers: &headers, body });
    }

    fn down(&mut self, conn: u64, code: Option<u16>, reason: &str) {
        if let Some(socket) = self.socket.take_if(|socket| socket.conn == Some(conn)) {
            self.ended_at = Some(self.rig.clock());
            self.handle(Input::SocketDown { socket: socket.id, code, reason });
        }
    }

    fn deliver(&mut self, conn: u64, message: &Message) {
        let up = |drive: &Self| drive.socket.as_ref().filter(|s| s.up && s.conn == Some(conn)).map(|s| s.id);
        if up(self).is_none() {
            return;
        }
        let Some(envelope) = &message.envelope else { return self.hand_over(conn, &message.raw) };
        let address = self.refs.address(conn, envelope);
        if let Address::Awaited { key, nth } = &address
            // Whoever lost a channel or beats now may do so a little later than the recorded device.
            && (*nth > 0 || key.starts_with("phoenix "))
        {
            let (key, nth) = (key.clone(), *nth);
            self.wait_for(SHORT_WAIT, |drive| drive.refs.have(conn, &key, nth));
        }
        let Some(mut ours) = self.refs.translate(conn, envelope) else {
            self.transcript.undelivered.push(envelope.clone());
            return;
        };
        if envelope.event == "scripts/run" {
            self.script = envelope.payload.get("ref").and_then(|r| r.as_str()).map(str::to_owned);
        }
        self.downloads.adjust(&mut ours, self.plot);
        if ours == *envelope {
            return self.hand_over(conn, &message.raw);
        }
        let value = ours.to_value();
        let raw = match &message.raw {
            Raw::Text(_) => Raw::Text(value.to_string()),
            Raw::Binary(_) => Raw::Binary(crate::msgpack::encode(&value)),
        };
        self.hand_over(conn, &raw);
    }

    fn hand_over(&mut self, conn: u64, raw: &Raw) {
        let Some(socket) = self.socket.as_ref().filter(|s| s.conn == Some(conn)).map(|s| s.id) else {
            return;
        };
        self.transcript.delivered += 1;
        match raw {
            Raw::Text(text) => self.handle(Input::SocketText { socket, text }),
            Raw::Binary(data) => self.handle(Input::SocketBinary { socket, data }),
        }
    }

    /// Does what the recorded device's program did when it said that.
    fn device_said(&mut self, said: &Envelope) {
        let text = |name: &str| said.payload.get(name).and_then(|value| value.as_str());
        match (said.topic.as_str(), said.event.as_str()) {
            ("device", "fwup_progress" | "update_progress") => {
                let percent =
                    said.payload.get("value").and_then(serde_json::Value::as_u64).unwrap_or_default();
                let updating = text("stage") == Some("updating");
                for (conn, up_to) in self.downloads.positions(percent, updating) {
                    self.deliver_body(conn, up_to, false);
                }
                if let (true, Some(offer)) = (updating, self.offer) {
                    let percent = u8::try_from(percent).unwrap_or(100);
                    self.handle(Input::ApplyProgress { offer, percent });
                }
            }
            ("device", "status_update") => match text("status") {
                Some("completed") => self.applier_ended(Ok(())),
                Some("failed") => {
                    let reason = text("reason").unwrap_or_default();
                    if let Some(reason) = reason.strip_prefix("FWUP error : ") {
                        self.applier_ended(Err(reason.to_owned()));
                    }
                }
                _ => {}
            },
            ("device", "firmware_validated") => self.command(Command::FirmwareValidated),
            ("device", "check_update") => self.command(Command::CheckUpdate),
            ("device", "request_update") => self.command(Command::RequestUpdate),
            ("device", "connection_types") => {
                let values = said.payload.get("values").and_then(|values| values.as_array());
                let types =
                    values.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect();
                self.command(Command::ConnectionTypes { types });
            }
            ("device", "scripts/run") => {
                let Some(id) = text("ref").and_then(|reference| self.scripts.remove(reference)) else {
                    return;
                };
                // A script that ran too long is the machine's to end.
                if text("reason") != Some("timeout") {
                    let output = text("output").unwrap_or_default().to_owned();
                    let result = match text("result") {
                        Some("completed") => Ok(text("return").unwrap_or_default().to_owned()),
                        _ => Err(text("reason").unwrap_or_default().to_owned()),
                    };
                    self.command(Command::ScriptFinished { id, output, result });
                }
            }
            _ => {}
        }
    }

    fn applier_ended(&mut self, outcome: Result<(), String>) {
        let Some(offer) = self.offer else { return };
        if outcome.is_ok() {
            for conn in self.downloads.open() {
                self.deliver_body(conn, u64::MAX, true);
            }
        }
        match outcome {
            Ok(()) if self.finishing => self.handle(Input::ApplyDone { offer }),
            Err(reason) => self.handle(Input::ApplyFailed { offer, reason: &reason }),
            // The order to finish comes yet.
            Ok(()) => self.outcome = Some(outcome),
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.rig.handle(input);
        self.drain();
    }

    fn command(&mut self, command: Command) {
        // A refusal shows as a message that is missing.
        let _ = self.rig.command(command);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.rig.poll() {
            self.output(output);
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Dial(dial) => {
                self.socket = Some(Socket { id: dial.socket, conn: None, up: false });
                let at = self.rig.clock();
                self.transcript.dials.push(Dialled {
                    dial,
                    unix_seconds: self.rig.now().wall.map_or(0, |wall| wall.0),
                    after: self.ended_at.map(|ended| at.saturating_sub(ended)),
                    conn: None,
                });
            }
            Output::Send { socket, text } => self.sent(socket, Envelope::from_text(&text)),
            Output::SendBinary { socket, data } => self.sent(socket, Envelope::from_msgpack(&data)),
            Output::HangUp { socket, reason, .. } => {
                if let Some(gone) = self.socket.take_if(|present| present.id == socket) {
                    self.ended_at = Some(self.rig.clock());
                    self.transcript.hang_ups.push((gone.conn, reason));
                }
            }
            Output::Fetch(fetch) => {
                self.transcript.fetches.push(fetch.clone());
                self.waiting.push_back(fetch);
            }
            Output::Abort { fetch } => {
                self.downloads.abort(fetch);
                self.waiting.retain(|waiting| waiting.fetch != fetch);
            }
            Output::StartApply(start) => {
                self.offer = Some(start.offer);
                self.outcome = None;
                self.finishing = false;
            }
            Output::FinishApply { offer } => {
                self.finishing = true;
                if self.outcome.take().is_some() {
                    self.handle(Input::ApplyDone { offer });
                }
            }
            Output::CancelApply { .. } => self.offer = None,
            // The recorded network is there; whoever looks for it leaves no trace.
            Output::Probe(probe) => self.handle(Input::Reachable { probe: probe.probe }),
            Output::OpenStore(_)
            | Output::ReadStore(_)
            | Output::CommitPart { .. }
            | Output::DropPart { .. }
            | Output::CloseStore { .. } => {
                self.transcript.broken.push("it ordered a store, though it streams".to_owned());
            }
            Output::Reboot { .. } => {}
            Output::Event(event) => self.event(&event),
        }
    }

    fn sent(&mut self, socket: SocketId, envelope: Option<Envelope>) {
        self.rig.handle(Input::SocketSent { socket, frames: 1 });
        let conn = self.socket.as_ref().filter(|s| s.id == socket).and_then(|s| s.conn);
        let (Some(envelope), Some(conn)) = (envelope, conn) else {
            self.transcript
                .broken
                .push("it sent something that is no message, or where nothing is open".to_owned());
            return;
        };
        self.refs.ours(conn, &envelope);
        let at = self.rig.clock().saturating_sub(self.stretch);
        self.transcript.frames.push(Sent { conn, envelope, at });
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::UpdateOffered { offer, .. } => {
                if let Some(decision) = self.plot.decision(self.position) {
                    self.command(Command::Decide { offer: *offer, decision });
                }
            }
            Event::ScriptRequested { id, .. } => {
                if let Some(reference) = self.script.take() {
                    self.scripts.insert(reference, *id);
                }
            }
            _ => {}
        }
    }

    /// Lets time pass up to a moment.
    fn advance(&mut self, to: u64) {
        while let Some(at) = self.rig.due(to) {
            self.tick(at);
            if !self.rig.broken.is_empty() {
                break;
            }
        }
        self.rig.set_clock(to);
    }

    /// Lets time pass until something is so, at most so long. Otherwise no time passes.
    fn wait_for(&mut self, most: u64, so: impl Fn(&Self) -> bool) -> bool {
        let by = self.rig.clock().saturating_add(most);
        while !so(self) {
            match self.rig.due(by) {
                Some(at) if self.rig.broken.is_empty() => {
                    let before = self.rig.clock();
                    self.tick(at);
                    self.stretch = self.stretch.saturating_add(self.rig.clock().saturating_sub(before));
                }
                _ => return false,
            }
        }
        true
    }

    fn tick(&mut self, at: u64) {
        self.rig.set_clock(at);
        self.handle(Input::Tick);
        self.rig.check_deadline();
    }
}
