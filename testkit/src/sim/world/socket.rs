//! Dialling, and what happens to connections.

use nerves_hub_link_protocol::{Dial, HeaderRef, Input, ProbeId, SocketId};

use super::World;
use crate::hub::ConnId;
use crate::sim::asked::is_question;
use crate::sim::device::Device;
use crate::sim::dice::Rng;
use crate::sim::fault::Fault;
use crate::sim::message::{Frame, Message};
use crate::sim::mutation::Mutation;
use crate::sim::net::{Blocked, IDLE, Net};
use crate::sim::queue::{Answer, DeviceDue, Due};
use crate::sim::scenario::{SECOND, Variant};
use crate::sim::violation::Broken;
use crate::sim::watch::ANSWERS;

impl World {
    /// The machine looks whether the network is there.
    pub(super) fn probe(&mut self, device: &mut Device, probe: ProbeId) {
        let now = self.now;
        let Some(net) = self.nets.get_mut(device.number as usize) else { return };
        let delay = net.delay(now, &mut device.rng);
        let (after, failure) = match net.blocked(now, 2 * delay) {
            Some(Blocked::Failed { after, reason }) => (after, Some(reason)),
            Some(Blocked::Hangs) if device.rng.one_in(4) => return,
            Some(Blocked::Hangs) => (2 * SECOND, Some("connecting took too long")),
            None if self.server.down_until > now => (2 * delay, Some("connection refused")),
            None => (2 * delay, None),
        };
        self.later(device, after, DeviceDue::Probed { probe, failure });
    }

    /// The machine wants a connection.
    pub(super) fn dial(&mut self, device: &mut Device, dial: Dial) -> Result<(), Broken> {
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let socket = dial.socket;
        if let Some(old) = life.socket.replace(socket) {
            return Err(Broken::TwoSockets { old, new: socket });
        }
        life.unsent = 0;
        self.stats.dials += 1;
        self.connect(device, dial)
    }

    fn connect(&mut self, device: &mut Device, dial: Dial) -> Result<(), Broken> {
        let (now, unix, number, socket) = (self.now, self.unix(), device.number, dial.socket);
        let Some(net) = self.nets.get_mut(number as usize) else { return Ok(()) };
        let down = |reason| DeviceDue::Down { socket, code: None, reason };
        let timeout = u64::try_from(dial.timeout.as_micros()).unwrap_or(u64::MAX);
        let delay = net.delay(now, &mut device.rng);
        let (after, what) = if let Some(blocked) = net.blocked(now, delay) {
            match blocked {
                Blocked::Failed { after, reason } => (after, down(reason)),
                // Some adapters give up by themselves; the machine's own timer is behind them.
                Blocked::Hangs if device.rng.one_in(4) => return Ok(()),
                Blocked::Hangs => (timeout, down("connecting took too long")),
            }
        } else if self.server.down_until > now {
            (delay, down("connection refused"))
        } else if self.scenario.has(Variant::Bytes) {
            return self.dial_line(device, &dial, 2 * delay);
        } else if let Some(answer) = turned_away(net, now, unix, &mut device.rng) {
            (2 * delay, DeviceDue::Refused { socket, answer: Box::new(answer) })
        } else {
            let due = Due::HubDial { device: number, life: device.life, dial: Box::new(dial) };
            self.queue.push(now + 3 * delay, due);
            return Ok(());
        };
        self.later(device, after, what);
        Ok(())
    }

    /// The hub's answer came.
    pub(super) fn socket_up(&mut self, device: &mut Device, socket: SocketId, conn: ConnId) {
        let Some(life) = device.link.as_mut() else { return };
        if life.socket != Some(socket) {
            // Nobody waits for it any more.
            return self.queue.push(self.now + SECOND, Due::HubGone { conn });
        }
        self.tell_up(device, socket);
    }

    /// The machine is told that the upgrade succeeded.
    pub(super) fn tell_up(&mut self, device: &mut Device, socket: SocketId) {
        let interface = self.scenario.has(Variant::Interface).then_some("eth0");
        let Some(life) = device.link.as_mut().filter(|life| life.socket == Some(socket)) else { return };
        life.watch.came_up(socket);
        life.model.up(socket);
        life.input(self.now, device.wall, Input::SocketUp { socket, interface });
    }

    /// The upgrade was refused.
    pub(super) fn socket_refused(&mut self, device: &mut Device, socket: SocketId, answer: &Answer) {
        let Some(life) = device.link.as_mut() else { return };
        if life.socket != Some(socket) {
            return;
        }
        life.socket = None;
        life.watch.went(socket);
        life.model.down(socket);
        let headers: Vec<HeaderRef<'_>> =
            answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let input =
            Input::SocketRefused { socket, status: answer.status, headers: &headers, body: &answer.body };
        life.input(self.now, device.wall, input);
    }

    /// The connection ended.
    pub(super) fn socket_down(
        &mut self,
        device: &mut Device,
        socket: SocketId,
        code: Option<u16>,
        reason: &str,
    ) {
        let lose_timer = self.mutated(Mutation::LoseTimer);
        let forget_code = self.mutated(Mutation::ForgetCode);
        let Some(life) = device.link.as_mut() else { return };
        if life.socket != Some(socket) {
            return;
        }
        life.socket = None;
        let bytes = self.scenario.has(Variant::Bytes);
        self.let_go(device.number, socket, bytes);
        let Some(life) = device.link.as_mut() else { return };
        life.watch.went(socket);
        life.watch.twins.closed(self.now - life.origin, code);
        life.model.down(socket);
        let code = code.filter(|_| !forget_code);
        life.input(self.now, device.wall, Input::SocketDown { socket, code, reason });
        if lose_timer {
            life.planned = 0;
        }
    }

    /// The adapter closes a connection.
    pub(super) fn hang_up(&mut self, device: &mut Device, socket: SocketId, code: u16, reason: &str) {
        if self.mutated(Mutation::KeepSocket) {
            return;
        }
        let Some(life) = device.link.as_mut() else { return };
        if life.socket == Some(socket) {
            life.socket = None;
            self.close_line(device, socket, code, reason);
            self.let_go(device.number, socket, true);
        }
    }

    /// The hub will learn that the device's end of a connection is gone.
    pub(super) fn let_go(&mut self, number: u32, socket: SocketId, told: bool) {
        let Some(net) = self.nets.get_mut(number as usize) else { return };
        if net.conn.is_none_or(|(_, its)| its != socket) {
            return;
        }
        let Some(conn) = net.hang_up() else { return };
        if told && self.scenario.has(Variant::Bytes) && !net.is_silent(self.now) {
            // Bytes say so.
            return;
        }
        // Without a word through, the hub waits until the silence is too long.
        let after = if told && !net.is_silent(self.now) { net.delay(self.now, &mut self.rng) } else { IDLE };
        self.queue.push(self.now + after, Due::HubGone { conn });
    }

    /// A message of the hub arrives.
    pub(super) fn socket_hears(&mut self, device: &mut Device, socket: SocketId, frame: &Frame) {
        let as_text = self.mutated(Mutation::BinaryAsText);
        let Some(life) = device.link.as_mut() else { return };
        if life.socket != Some(socket) && !device.armed.strikes(Fault::Late) {
            return;
        }
        let message = frame.message();
        if message.as_ref().is_some_and(Message::answers_heartbeat) {
            (life.beating, life.unconfirmed) = (false, false);
        }
        life.model.hears(socket, message.as_ref());
        if let Some(message) = message.filter(|message| message.event == "scripts/run") {
            let must = life.model.takes(socket, &message);
            life.watch.scripts.arrives(self.now - life.origin, &message.payload().unwrap_or_default(), must);
        }
        if let Some(message) = frame.message().filter(|message| message.event.starts_with("file-data")) {
            life.watch.files.arrives(message.event, &message.payload().unwrap_or_default());
        }
        let input = match frame {
            Frame::Text(text) => Input::SocketText { socket, text },
            Frame::Binary(data) if as_text => {
                let text = &String::from_utf8_lossy(data);
                return life.input(self.now, device.wall, Input::SocketText { socket, text });
            }
            Frame::Binary(data) => Input::SocketBinary { socket, data },
        };
        life.input(self.now, device.wall, input);
    }

    /// What an earlier connection had under way arrives: the machine is told, with the number it had.
    pub(super) fn stale(&mut self, device: &mut Device, socket: SocketId, how: u32) {
        let mix_up = self.mutated(Mutation::MixSockets);
        let Some(life) = device.link.as_mut() else { return };
        if life.socket.is_none_or(|now| now == socket) {
            return;
        }
        device.armed.felt.insert(Fault::Reorder);
        let socket = if mix_up { life.socket.unwrap_or(socket) } else { socket };
        let input = match how % 5 {
            0 => Input::SocketText {
                socket,
                text: r#"["1","1","device","phx_reply",{"status":"ok","response":{}}]"#,
            },
            1 => Input::SocketText { socket, text: r#"["1","1","device","phx_close",{}]"# },
            2 => Input::SocketUp { socket, interface: Some("eth0") },
            3 => Input::SocketSent { socket, frames: 1 },
            _ => Input::SocketDown { socket, code: Some(1006), reason: "connection reset by peer" },
        };
        life.input(self.now, device.wall, input);
    }

    /// The machine sends a message.
    pub(super) fn send(&mut self, device: &mut Device, socket: SocketId, frame: Frame, kind: Sent) {
        let now = self.now;
        let Some(life) = device.link.as_mut() else { return };
        let Some(net) = self.nets.get_mut(device.number as usize) else { return };
        life.unsent += 1;
        match kind {
            Sent::Heartbeat => life.beating = true,
            // Whether such a message arrives is looked at elsewhere.
            Sent::Extension | Sent::Question if net.is_well(now) => {}
            Sent::Piece if self.scenario.mutation == Some(Mutation::LoseUpload) => return,
            Sent::Script if self.scenario.mutation == Some(Mutation::LoseScript) => return,
            Sent::Failure if self.scenario.mutation == Some(Mutation::LoseFailure) => return,
            _ => life.unconfirmed = true,
        }
        if kind == Sent::Extension {
            life.watch.answers(now, frame.message().map_or("", |message| message.event));
            if self.scenario.mutation == Some(Mutation::LoseAnswer) {
                return;
            }
        }
        if self.scenario.has(Variant::Bytes) {
            return self.send_bytes(device, socket, &frame);
        }
        let Some((conn, _)) = net.conn.filter(|(_, its)| *its == socket) else { return };
        let at = net.reaches_hub(now, &mut device.rng);
        self.queue.push(at, Due::HubHears { conn, frame });
    }
}

/// What a message is, as far as the adapter has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Heartbeat,
    Extension,
    /// What the device asks about its updates.
    Question,
    Script,
    /// A piece of a file.
    Piece,
    Failure,
    Other,
}

impl Sent {
    pub fn of(message: &Message<'_>) -> Self {
        match (message.topic, message.event) {
            ("phoenix", _) => Self::Heartbeat,
            ("extensions", event) if ANSWERS.contains(&event) => Self::Extension,
            ("console", "file-data") => Self::Piece,
            ("device", "scripts/run") => Self::Script,
            ("device", event) if is_question(event) => Self::Question,
            ("device", "status_update") if message.tells_failure() => Self::Failure,
            _ => Self::Other,
        }
    }
}

/// What stands before the hub answers in its place: a redirect or a refusal.
pub(super) fn turned_away(net: &mut Net, now: u64, unix: u64, rng: &mut Rng) -> Option<Answer> {
    if net.redirects > 0 {
        net.redirects -= 1;
        net.felt.insert(Fault::Redirect);
        return Some(redirected(rng.below(4)));
    }
    if net.refusal_until > now {
        net.felt.insert(Fault::Refusal);
        return Some(refused(net.refusal, unix));
    }
    None
}

fn redirected(kind: u64) -> Answer {
    let location = match kind {
        0 => "wss://hub2.sim/device-socket/websocket?vsn=2.0.0",
        1 => "https://hub2.sim/device-socket/websocket",
        2 => "/device-socket/websocket?vsn=2.0.0",
        _ => "ws://hub2.sim/device-socket/websocket",
    };
    let headers = vec![("location".to_owned(), location.to_owned())];
    Answer { status: 302, headers, body: Vec::new() }
}

fn refused(kind: u32, unix: u64) -> Answer {
    const STATUSES: [u16; 8] = [401, 403, 404, 429, 500, 502, 503, 429];
    let status = usize::try_from(kind % 8).ok().and_then(|at| STATUSES.get(at)).copied().unwrap_or(503);
    let mut headers = vec![("date".to_owned(), crate::date::http_date(unix))];
    match kind / 8 % 4 {
        0 => headers.push(("retry-after".to_owned(), (kind / 32 % 1000).to_string())),
        1 => headers
            .push(("Retry-After".to_owned(), crate::date::http_date(unix + u64::from(kind / 32 % 5000)))),
        2 => headers.push(("retry-after".to_owned(), "soon".to_owned())),
        _ => {}
    }
    Answer { status, headers, body: b"no".to_vec() }
}
