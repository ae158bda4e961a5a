//! Feeding the server's side of one life to the machine, in time taken from the recording.
//!
//! Where the machine is slower than the recorded device (a longer back-off, say), time is stretched: what the
//! recording has next waits for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nerves_hub_link_protocol::{Command, ConfigError, Dial, Fetch, FetchId, Input, SocketId};

use super::actor::Actor;
use super::body::Downloads;
use super::plot::Plot;
use super::recording::{Envelope, Kind, Line, Message, Raw, Side};
use super::refs::{Address, Refs};
use super::rig::Rig;
use super::store::Store;

/// Longest wait for a dial or a request that the recording has, in microseconds.
pub(super) const LONG_WAIT: u64 = 600_000_000;
/// What comes so shortly before or after the end of a recording may be missing on either side.
pub(super) const MOMENT: u64 = 1_000_000;
/// Longest wait for a message that the recording answers.
const SHORT_WAIT: u64 = 15_000_000;

/// What the machine did.
#[derive(Default)]
pub struct Transcript {
    /// Connections it opened, and the recorded one each was taken for.
    pub dials: Vec<Dialled>,
    /// Messages it sent.
    pub frames: Vec<Sent>,
    /// Files it requested, the last one at that time of the recording.
    pub fetches: Vec<Fetch>,
    pub fetched_last: u64,
    /// Which of them each recorded request was taken for.
    pub fetched: BTreeMap<u64, FetchId>,
    /// Those of them that found no server, in the recording as well.
    pub unreached: BTreeSet<FetchId>,
    /// Connections it hung up, with its reason.
    pub hang_ups: Vec<(Option<u64>, String)>,
    /// Recorded connections it never opened.
    pub undialled: Vec<u64>,
    /// Recorded requests it never made.
    pub unfetched: Vec<String>,
    /// Requests for an archive that the machine has, from an earlier offer of the same.
    pub kept: Vec<String>,
    /// Messages of the server that could not be handed over, as they answer what the machine did not send.
    pub undelivered: Vec<Envelope>,
    /// What the recorded program wanted and the machine refused: which of the life's lines, and why.
    pub refused: BTreeMap<usize, String>,
    /// Promises it broke.
    pub broken: Vec<String>,
    /// Messages handed over.
    pub delivered: usize,
    /// When the recording ends, if it ends while the device is connected.
    pub cut_at: Option<u64>,
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
    /// How much later that was for the machine.
    pub stretch: u64,
}

/// The connection that the machine opened last.
pub(super) struct Socket {
    pub id: SocketId,
    pub conn: Option<u64>,
    pub up: bool,
}

/// One life on stage.
pub struct Drive<'r> {
    pub(super) plot: &'r Plot<'r>,
    pub(super) rig: Rig,
    /// How much later everything happens than in the recording, in microseconds.
    pub(super) stretch: u64,
    /// The line after the present one.
    pub(super) position: usize,
    pub(super) socket: Option<Socket>,
    pub(super) ended_at: Option<u64>,
    pub(super) refs: Refs,
    pub(super) waiting: VecDeque<Fetch>,
    pub(super) downloads: Downloads,
    pub(super) store: Store,
    pub(super) actor: Actor,
    pub(super) transcript: Transcript,
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
            store: Store::default(),
            actor: Actor::default(),
            transcript: Transcript::default(),
        };
        drive.command(Command::Connect);
        for (index, line) in plot.lines(0).enumerate() {
            drive.position = index + 1;
            while let Some((conn, at)) = drive.downloads.stalls(line.at) {
                drive.advance(at.saturating_add(drive.stretch));
                if let Some(cut) = drive.downloads.get(conn).map(|download| download.cut) {
                    drive.deliver_body(conn, cut, false);
                }
            }
            drive.advance(line.at.saturating_add(drive.stretch));
            drive.line(line);
        }
        drive.run_on();
        drive.transcript.broken.append(&mut drive.rig.broken);
        Ok(drive.transcript)
    }

    /// Where the recording ends in the middle of a connection, says what the machine was about to say.
    fn run_on(&mut self) {
        let last = self.plot.life.sockets.last();
        let over = |line: &Line| {
            let ends = matches!(line.kind, Kind::Eof(_) | Kind::Close(..) | Kind::Closed | Kind::Failed(_));
            ends && line.conn.as_ref() == last
        };
        if last.is_some() && !self.plot.lines(0).any(over) {
            self.transcript.cut_at = self.plot.lines(0).last().map(|line| line.at);
            self.advance(self.rig.clock().saturating_add(MOMENT));
        }
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
                // The server was not there, unless the connection had been open.
                if self.transcript.dials.iter().all(|dialled| dialled.conn != Some(conn)) {
                    self.expect_dial(conn);
                }
                self.down(conn, None, why);
            }
            Kind::Response { status, headers } => self.answered(conn, *status, headers),
            Kind::Message(Side::Server, message) => self.deliver(conn, message),
            Kind::Message(Side::Device, message) => {
                if let Some(envelope) = &message.envelope {
                    self.device_said(envelope);
                    // What the machine refused has no counterpart.
                    if !self.transcript.refused.contains_key(&(self.position - 1)) {
                        self.refs.theirs(conn, envelope);
                    }
                }
            }
            Kind::Close(Side::Server, code) => self.down(conn, *code, ""),
            // The recorded program wanted another connection.
            Kind::Close(Side::Device, _)
                if self.plot.life.sockets.last() != Some(&conn)
                    && self.socket.as_ref().is_some_and(|socket| socket.up && socket.conn == Some(conn)) =>
            {
                self.command(Command::Reconnect);
            }
            // The end of the recorded program, unless it comes back.
            Kind::Eof(Side::Device) if self.plot.life.sockets.last() == Some(&conn) => {}
            Kind::Eof(_) | Kind::Closed => self.down(conn, None, "the connection ended"),
            _ => {}
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
            self.actor.script = envelope.payload.get("ref").and_then(|r| r.as_str()).map(str::to_owned);
        }
        self.server_asks(&envelope.event);
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

    pub(super) fn handle(&mut self, input: Input<'_>) {
        self.rig.handle(input);
        self.drain();
    }

    /// Gives an order for what the recorded device said. A refusal is remembered with it.
    pub(super) fn order(&mut self, command: impl Into<Command>) {
        if let Err(error) = self.rig.command(command.into()) {
            self.transcript.refused.insert(self.position - 1, error.to_string());
        }
        self.drain();
    }

    pub(super) fn command(&mut self, command: impl Into<Command>) {
        // A refusal shows as a message that is missing.
        let _ = self.rig.command(command.into());
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.rig.poll() {
            self.output(output);
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
    pub(super) fn wait_for(&mut self, most: u64, so: impl Fn(&Self) -> bool) -> bool {
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
