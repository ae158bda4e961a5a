//! The hub's side: the pure hub, its connections, and what it notes.

use std::collections::{BTreeMap, BTreeSet};

use nerves_hub_link_protocol::{Dial, SocketId};

use super::World;
use crate::hub::{ConnId, Hub, HubEvent, HubOutput};
use crate::sim::device::{self, BEGIN, Life};
use crate::sim::fault::Fault;
use crate::sim::message::Frame;
use crate::sim::queue::{Answer, DeviceDue, Due, Says};
use crate::sim::scenario::{SECOND, Variant};
use crate::sim::twins::namesake;

/// The hub and its connections.
pub(super) struct Server {
    pub hub: Hub,
    conns: BTreeMap<ConnId, (u32, u32, SocketId)>,
    joined: BTreeMap<u32, ConnId>,
    next: u64,
    /// When it comes up again.
    pub down_until: u64,
    /// When the queue holds a tick for it.
    pub wake: u64,
    /// The device that the hub just heard: two may have one name.
    pub speaking: Option<u32>,
    /// Devices that were let manage their updates.
    pub granted: BTreeSet<u32>,
}

impl Server {
    pub fn new(hub: Hub) -> Self {
        Self {
            hub,
            conns: BTreeMap::new(),
            joined: BTreeMap::new(),
            next: 0,
            down_until: 0,
            wake: u64::MAX,
            speaking: None,
            granted: BTreeSet::new(),
        }
    }

    /// Whether the hub counts a device as joined.
    pub fn is_joined(&self, device: u32) -> bool {
        self.joined.contains_key(&device)
    }

    /// A connection ended without the hub's doing.
    pub fn gone(&mut self, conn: ConnId) {
        self.hub.disconnected(conn);
        self.forget(conn);
    }

    /// A connection says something.
    pub fn hears(&mut self, conn: ConnId) {
        self.speaking = self.conns.get(&conn).map(|(number, ..)| *number);
    }

    fn forget(&mut self, conn: ConnId) {
        if let Some((device, ..)) = self.conns.remove(&conn)
            && self.joined.get(&device) == Some(&conn)
        {
            self.joined.remove(&device);
        }
    }

    /// Whose a connection is.
    pub fn whose(&self, conn: ConnId) -> Option<(u32, u32, SocketId)> {
        self.conns.get(&conn).copied()
    }

    pub fn all(&self) -> Vec<ConnId> {
        self.conns.keys().copied().collect()
    }
}

impl World {
    /// The server's clock, in seconds since 1970.
    pub(super) fn unix(&self) -> u64 {
        u64::try_from(BEGIN).unwrap_or(0) + self.now / SECOND
    }

    /// A device's request for an upgrade arrives.
    pub(super) fn hub_dial(&mut self, number: u32, life: u32, dial: &Dial) {
        let path =
            dial.url.split_once("://").and_then(|(_, rest)| rest.find('/').and_then(|at| rest.get(at..)));
        let (path, query) = path
            .unwrap_or("/")
            .split_once('?')
            .map_or((path.unwrap_or("/"), None), |(path, query)| (path, Some(query)));
        let headers: Vec<(String, String)> =
            dial.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
        let socket = dial.socket;
        let what = match self.admit((number, life, socket), path, query, &headers) {
            Ok(conn) => DeviceDue::Up { socket, conn },
            Err(answer) => DeviceDue::Refused { socket, answer: Box::new(answer) },
        };
        let Some(net) = self.nets.get_mut(number as usize) else { return };
        let at = net.reaches_device(self.now, &mut self.rng);
        self.queue.push(at, Due::Device { device: number, life, what });
        self.serve();
    }

    /// Lets a device in, or not, by its request.
    pub(super) fn admit(
        &mut self,
        whose: (u32, u32, SocketId),
        path: &str,
        query: Option<&str>,
        headers: &[(String, String)],
    ) -> Result<ConnId, Answer> {
        let unix = self.unix();
        let answer = self.server.hub.authenticate(unix * 1000, path, query, headers);
        let speaks = self.server.hub.serializer(query).unwrap_or_default();
        let id = answer.map_err(|refusal| {
            let mut headers = refusal.headers;
            headers.push(("date".to_owned(), crate::date::http_date(unix)));
            Answer { status: refusal.status, headers, body: refusal.body.into_bytes() }
        })?;
        self.server.next += 1;
        let conn = ConnId(self.server.next);
        self.server.conns.insert(conn, whose);
        self.server.hears(conn);
        self.server.hub.connected_speaking(self.now / 1000, conn, id, speaks);
        let (number, _, socket) = whose;
        if let Some(net) = self.nets.get_mut(number as usize) {
            net.connect(conn, socket, self.now);
        }
        Ok(conn)
    }

    /// A message of a device arrived.
    pub(super) fn hub_hears(&mut self, conn: ConnId, frame: &Frame) {
        self.trace.frame(self.now, u32::MAX, "hub receives", frame);
        self.server.hears(conn);
        match frame {
            Frame::Text(text) => self.server.hub.text(self.now / 1000, conn, text),
            Frame::Binary(data) => self.server.hub.binary(self.now / 1000, conn, data),
        }
        self.serve();
    }

    /// Carries out what the hub wants, and takes note of what it noted.
    pub(super) fn serve(&mut self) {
        while let Some(output) = self.server.hub.poll() {
            match output {
                HubOutput::Send { conn, text } => self.hub_sends(conn, Frame::Text(text)),
                HubOutput::SendBinary { conn, data } => self.hub_sends(conn, Frame::Binary(data)),
                HubOutput::Close { conn, code, .. } => self.hub_closes(conn, Some(code)),
            }
        }
        while let Some(event) = self.server.hub.take_event() {
            self.hub_noted(event);
        }
        self.server.speaking = None;
        let due = [self.server.hub.next_due(), self.server.hub.next_ask()].into_iter().flatten().min();
        let due = due.map_or(u64::MAX, |ms| (ms * 1000).max(self.now + 1000));
        if due < self.server.wake {
            self.server.wake = due;
            self.queue.push(due, Due::HubTick);
        }
    }

    fn hub_sends(&mut self, conn: ConnId, frame: Frame) {
        let Some((number, life, socket)) = self.server.conns.get(&conn).copied() else { return };
        let Some(net) = self.nets.get_mut(number as usize) else { return };
        if net.deaf_until > self.now && frame.message().is_some_and(|message| message.answers_heartbeat()) {
            net.felt.insert(Fault::Deaf);
            return;
        }
        if self.scenario.has(Variant::Bytes) {
            return self.hub_says(conn, Says::Frame(frame), true);
        }
        let at = net.reaches_device(self.now, &mut self.rng);
        if net.duplicates > 0 && frame.may_double() {
            net.duplicates -= 1;
            net.felt.insert(Fault::Duplicate);
            let (again, frame) = (at + self.rng.below(3 * SECOND), frame.clone());
            let what = DeviceDue::Hears { socket, frame };
            self.queue.push(again, Due::Device { device: number, life, what });
        }
        let what = DeviceDue::Hears { socket, frame };
        self.queue.push(at, Due::Device { device: number, life, what });
    }

    /// The hub ended a connection, politely if with a code.
    pub(super) fn hub_closes(&mut self, conn: ConnId, code: Option<u16>) {
        let Some((number, life, socket)) = self.server.conns.get(&conn).copied() else { return };
        self.server.forget(conn);
        if self.scenario.has(Variant::Bytes) {
            return self.close_far(number, life, socket, code);
        }
        let Some(net) = self.nets.get_mut(number as usize) else { return };
        let at = net.reaches_device(self.now, &mut self.rng);
        let reason = if code.is_some() { "" } else { "connection reset by peer" };
        let what = DeviceDue::Down { socket, code, reason };
        self.queue.push(at, Due::Device { device: number, life, what });
    }

    /// The hub dies or restarts: no connection is left.
    pub(super) fn hub_dies(&mut self) {
        for conn in self.server.all() {
            self.server.hub.disconnected(conn);
            self.hub_closes(conn, None);
        }
        self.reset_sockets();
        self.serve();
    }

    /// The device of a name; of two, the one that the hub just heard.
    fn named(&self, identifier: &str) -> Option<u32> {
        let number = device::number(identifier)?;
        let twin = self.server.speaking.filter(|speaking| namesake(&self.scenario, *speaking) == number);
        twin.or(Some(number))
    }

    fn life_named(&mut self, identifier: &str) -> Option<&mut Life> {
        let number = self.named(identifier)?;
        let device = self.devices.get_mut(number as usize).and_then(Option::as_mut);
        device.and_then(|device| device.link.as_deref_mut())
    }

    fn hub_noted(&mut self, event: HubEvent) {
        match event {
            HubEvent::Connected { identifier, .. } => {
                if let Some(number) = self.named(&identifier) {
                    self.server.joined.remove(&number);
                    self.grant(number);
                }
            }
            HubEvent::Joined { identifier, .. } => {
                let Some(number) = self.named(&identifier) else { return };
                let conn = self.nets.get(number as usize).and_then(|net| net.conn);
                if let Some((conn, _)) = conn {
                    self.server.joined.insert(number, conn);
                }
            }
            HubEvent::Status { identifier, status, reason, .. } => {
                self.stats.status(&status);
                if status == "failed"
                    && let Some(life) = self.life_named(&identifier)
                {
                    life.watch.reported(&reason.unwrap_or_default());
                }
            }
            HubEvent::Extension { identifier, event, .. } => {
                self.stats.answers +=
                    u64::from(matches!(event.as_str(), "health:report" | "geo:location:update"));
                if let Some(life) = self.life_named(&identifier) {
                    life.watch.answer_arrived(&event);
                }
            }
            HubEvent::ScriptAnswered { identifier, payload } => {
                self.stats.script_answers += 1;
                if let Some(life) = self.life_named(&identifier) {
                    life.watch.scripts.arrived(&payload);
                }
            }
            HubEvent::Console { identifier, event, payload } => {
                self.stats.console_messages += 1;
                if event != "up"
                    && let Some(life) = self.life_named(&identifier)
                {
                    life.watch.files.got(&event, &payload);
                }
            }
            HubEvent::Blocked { why, .. } => self.stats.blocked(why),
            HubEvent::UpdateExpired { .. } => self.stats.expired += 1,
            _ => {}
        }
    }
}
