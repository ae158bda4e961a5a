//! What scripts provoked the server to say, said to the machine: it must survive it.

use nerves_hub_link_protocol::{Auth, Command, Config, Event, FirmwareMeta, Input, Output, SocketId};
use serde_json::json;

use super::cast::{Cast, Life};
use super::plot::{Plot, said};
use super::recording::{Envelope, Kind, Line, Raw, Recording, Side};
use super::rig::Rig;

/// What is checked.
const CHECKED: &str = "checked on each connection of a script: the machine took all the server said without a \
    broken promise, planned its next attempt within 16 minutes, joined there, answered an offer and a heartbeat";

/// Longest time until the next attempt, in microseconds: the longest `Retry-After` obeyed and a minute.
const PATIENCE: u64 = 16 * 60 * 1_000_000;

/// Most outputs after one fact. A handful is usual.
const MOST_OUTPUTS: usize = 100;

/// What came of one connection of a script.
pub struct Survived {
    /// Messages handed over.
    pub delivered: usize,
    /// What went wrong.
    pub failures: Vec<String>,
    /// What was checked, in words.
    pub checked: &'static str,
}

/// Puts a machine through each connection of each script, and through each attempt at TLS.
pub fn run(recording: &Recording, cast: &Cast) -> Vec<Survived> {
    let lines_of = |conn: u64| {
        let lines = recording.lines.iter().enumerate().filter(|(_, line)| line.conn == Some(conn));
        lines.map(|(index, _)| index).collect::<Vec<_>>()
    };
    let mut lives: Vec<Vec<usize>> = cast.probes.iter().map(|conn| lines_of(*conn)).collect();
    let tls = recording.lines.iter().enumerate().filter(|(_, line)| matches!(line.kind, Kind::Tls { .. }));
    lives.extend(tls.map(|(index, _)| vec![index]));
    lives.into_iter().map(|lines| one(recording, lines)).collect()
}

fn one(recording: &Recording, lines: Vec<usize>) -> Survived {
    let first = lines.first().and_then(|at| recording.lines.get(*at));
    let number = first.map_or(0, |line| line.number);
    let (clock, unix) = first.map_or((0, None), |line| (line.at, line.unix_micros));
    let epoch =
        unix.unwrap_or(1_800_000_000_000_000).saturating_sub(i64::try_from(clock).unwrap_or_default());
    let life = Life { lines, ..Life::default() };
    let plain = || Config::new("localhost", Auth::Certificate, FirmwareMeta::default());
    let config = Plot::of(recording, &life, None).map_or_else(plain, |plot| plot.config);
    let rig = Rig::new(config, clock, epoch).or_else(|_| Rig::new(plain(), clock, epoch));
    let Ok(rig) = rig else {
        let failures = vec![format!("line {number}: no machine can be built")];
        return Survived { delivered: 0, failures, checked: CHECKED };
    };
    let mut probe = Probe::new(rig);
    probe.command(Command::Connect);
    for line in life.lines.iter().filter_map(|at| recording.lines.get(*at)) {
        probe.advance(line.at);
        probe.line(line);
    }
    probe.recover();
    probe.failures.append(&mut probe.rig.broken);
    let failures = probe.failures.iter().map(|why| format!("connection at line {number}: {why}")).collect();
    Survived { delivered: probe.delivered, failures, checked: CHECKED }
}

/// A machine whose server answers a script.
struct Probe {
    rig: Rig,
    socket: Option<SocketId>,
    up: bool,
    /// The script's join of the device channel, by its reference, and the machine's.
    their_join: Option<String>,
    our_join: Option<String>,
    /// The newest of our messages, and whether it speaks MessagePack.
    sent: Vec<Envelope>,
    binary: bool,
    /// The script said goodbye first: what the server closes then is its echo.
    leaving: bool,
    joined: bool,
    delivered: usize,
    failures: Vec<String>,
}

impl Probe {
    const fn new(rig: Rig) -> Self {
        Self {
            rig,
            socket: None,
            up: false,
            their_join: None,
            our_join: None,
            sent: Vec::new(),
            binary: false,
            leaving: false,
            joined: false,
            delivered: 0,
            failures: Vec::new(),
        }
    }

    fn line(&mut self, line: &Line) {
        if let Some(envelope) = said(line)
            && envelope.event == "phx_join"
            && envelope.topic == "device"
        {
            self.their_join.clone_from(&envelope.reference);
        }
        match &line.kind {
            Kind::Response { status, headers } => self.answered(*status, headers),
            Kind::Tls { error: Some(error), .. } => self.down(None, error),
            Kind::Tls { error: None, status: Some(status) } => self.answered(*status, &[]),
            Kind::Message(Side::Server, message) => self.deliver(message.envelope.as_ref(), &message.raw),
            Kind::Close(Side::Device, _) => self.leaving = true,
            Kind::Close(Side::Server, code) if !self.leaving => self.down(*code, ""),
            Kind::Eof(Side::Server) if !self.leaving => self.down(None, ""),
            Kind::Closed | Kind::Failed(_) => self.down(None, "the connection ended"),
            _ => {}
        }
    }

    fn answered(&mut self, status: u16, headers: &[(String, String)]) {
        let Some(socket) = self.socket.filter(|_| !self.up) else { return };
        if status == 101 {
            self.up = true;
            return self.handle(Input::SocketUp { socket, interface: Some("eth0") });
        }
        self.socket = None;
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        self.handle(Input::SocketRefused { socket, status, headers: &headers, body: b"" });
    }

    fn down(&mut self, code: Option<u16>, reason: &str) {
        if let Some(socket) = self.socket.take() {
            (self.up, self.joined) = (false, false);
            self.handle(Input::SocketDown { socket, code, reason });
        }
    }

    fn deliver(&mut self, envelope: Option<&Envelope>, raw: &Raw) {
        let Some(socket) = self.socket.filter(|_| self.up) else { return };
        self.delivered += 1;
        // The answer to the script's join becomes the answer to the machine's. All else stays as it is.
        if let (Some(envelope), Some(ours)) = (envelope, self.our_join.clone())
            && envelope.topic == "device"
            && envelope.event == "phx_reply"
            && envelope.reference == self.their_join
        {
            let mut mine = envelope.clone();
            mine.reference = Some(ours.clone());
            mine.join_ref = mine.join_ref.map(|_| ours);
            return self.say(&mine);
        }
        match raw {
            Raw::Text(text) => self.handle(Input::SocketText { socket, text }),
            Raw::Binary(data) => self.handle(Input::SocketBinary { socket, data }),
        }
    }

    /// Says something the way the machine speaks.
    fn say(&mut self, envelope: &Envelope) {
        let Some(socket) = self.socket else { return };
        let value = envelope.to_value();
        if self.binary {
            let data = crate::msgpack::encode(&value);
            self.handle(Input::SocketBinary { socket, data: &data });
        } else {
            let text = value.to_string();
            self.handle(Input::SocketText { socket, text: &text });
        }
    }

    /// Gives the machine a good server again, and demands that it comes back.
    fn recover(&mut self) {
        self.leaving = false;
        self.down(None, "the recording is over");
        let by = self.rig.clock().saturating_add(PATIENCE);
        while self.socket.is_none() {
            let Some(at) = self.rig.due(by) else {
                return self.failures.push("it never tried to connect again".to_owned());
            };
            self.tick(at);
            if !self.rig.broken.is_empty() {
                return;
            }
        }
        self.answered(101, &[]);
        let reference = self.our_join.clone();
        let ok = json!({"status": "ok", "response": {}});
        self.say(&envelope(reference.clone(), reference, "device", "phx_reply", ok));
        if !self.joined {
            return self.failures.push("it did not join again".to_owned());
        }
        let meta = json!({"uuid": "00000000-0000-0000-0000-000000000001"});
        let offer = json!({"firmware_url": "http://localhost/1.fw", "firmware_meta": meta, "size": 1});
        self.say(&envelope(None, None, "device", "update", offer));
        if !self.sent.iter().any(|message| message.event == "status_update") {
            self.failures.push("it did not answer an offer after it joined again".to_owned());
        }
        let beat = |probe: &Self| probe.sent.iter().any(|message| message.event == "heartbeat");
        let by = self.rig.clock().saturating_add(PATIENCE);
        while !beat(self) {
            let Some(at) = self.rig.due(by) else {
                return self.failures.push("it sent no heartbeat after it joined again".to_owned());
            };
            self.tick(at);
            if !self.rig.broken.is_empty() {
                return;
            }
        }
    }

    fn advance(&mut self, to: u64) {
        while let Some(at) = self.rig.due(to) {
            self.tick(at);
            if !self.rig.broken.is_empty() {
                break;
            }
        }
        self.rig.set_clock(to);
    }

    fn tick(&mut self, at: u64) {
        self.rig.set_clock(at);
        self.handle(Input::Tick);
        self.rig.check_deadline();
    }

    fn handle(&mut self, input: Input<'_>) {
        self.rig.handle(input);
        self.drain();
    }

    fn command(&mut self, command: Command) {
        if let Err(error) = self.rig.command(command) {
            self.failures.push(error.to_string());
        }
        self.drain();
    }

    fn drain(&mut self) {
        let mut count = 0;
        while let Some(output) = self.rig.poll() {
            count += 1;
            match output {
                Output::Dial(dial) => {
                    self.socket = Some(dial.socket);
                    (self.up, self.joined, self.our_join) = (false, false, None);
                    self.sent.clear();
                }
                Output::Send { socket, text } => self.sent(socket, Envelope::from_text(&text), false),
                Output::SendBinary { socket, data } => self.sent(socket, Envelope::from_msgpack(&data), true),
                Output::HangUp { socket, .. } if self.socket == Some(socket) => {
                    self.socket = None;
                    self.up = false;
                }
                Output::Probe(probe) => self.rig.handle(Input::Reachable { probe: probe.probe }),
                Output::Event(Event::Joined) => self.joined = true,
                Output::Reboot { .. } => self.failures.push("it wants to reboot".to_owned()),
                _ => {}
            }
        }
        if count > MOST_OUTPUTS {
            self.failures.push(format!("{count} outputs after one fact"));
        }
    }

    fn sent(&mut self, socket: SocketId, envelope: Option<Envelope>, binary: bool) {
        self.rig.handle(Input::SocketSent { socket, frames: 1 });
        self.binary = binary;
        let Some(envelope) = envelope else {
            return self.failures.push("it sent something that is no message".to_owned());
        };
        if envelope.topic == "device" && envelope.event == "phx_join" {
            self.our_join.clone_from(&envelope.reference);
        }
        if !self.up {
            self.failures.push(format!("it sent {} where nothing is open", envelope.event));
        }
        self.sent.push(envelope);
    }
}

fn envelope(
    join_ref: Option<String>,
    reference: Option<String>,
    topic: &str,
    event: &str,
    payload: serde_json::Value,
) -> Envelope {
    Envelope { join_ref, reference, topic: topic.to_owned(), event: event.to_owned(), payload }
}
