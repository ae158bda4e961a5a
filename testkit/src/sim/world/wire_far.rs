//! Connections of bytes, at the hub's end: upgrades, messages, and how they end.

use nerves_hub_link_protocol::SocketId;

use super::World;
use super::socket::turned_away;
use crate::hub::ConnId;
use crate::server::http::{head, parse};
use crate::server::socket::{accept_key, upgraded};
use crate::sim::bytes::{End, Far, Heard, LineId, Reply, Way, broken_frames, broken_upgrade};
use crate::sim::fault::Fault;
use crate::sim::net::IDLE;
use crate::sim::queue::{Answer, DeviceDue, Due, Says, WireDue};
use crate::sim::scenario::SECOND;
use crate::sim::violation::{Broken, Violation};

impl World {
    /// Bytes of a device arrive at the hub.
    pub(super) fn far_reads(&mut self, id: LineId) -> Result<(), Violation> {
        self.far_hears(id).map_err(|broken| {
            self.trace.note(self.now, id.device, "BROKEN", &broken.to_string());
            Violation { at: self.now, device: id.device, broken }
        })
    }

    fn far_hears(&mut self, id: LineId) -> Result<(), Broken> {
        let silent = self.is_silent(id);
        let Some(line) = self.lines.all.get_mut(&id) else { return Ok(()) };
        if silent {
            line.up.postpone();
            self.plan_line(id);
            return Ok(());
        }
        line.up.arrive(self.now);
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        line.up.read(usize::MAX, &mut bytes);
        line.far.receive(&bytes);
        line.far_since += bytes.len();
        self.trace.note_number(self.now, id.device, "hub reads", bytes.len() as u64);
        self.scratch = bytes;
        self.far_upgrades(id)?;
        while let Some(heard) = self.lines.all.get_mut(&id).and_then(|line| line.far.next()) {
            self.far_heard(id, heard)?;
        }
        if self.lines.all.get(&id).is_some_and(|line| line.up.ended().is_some()) {
            self.far_ends(id);
        }
        self.pump_line(id);
        self.plan_line(id);
        if let Some(line) = self.lines.all.get_mut(&id)
            && line.unsent() > 0
            && !line.stalled
        {
            // There is room again.
            let what = DeviceDue::Wire { way: id.way, what: WireDue::Writes };
            self.queue.push(self.now, Due::Device { device: id.device, life: id.life, what });
        }
        self.tidy(id);
        Ok(())
    }

    fn far_heard(&mut self, id: LineId, heard: Heard) -> Result<(), Broken> {
        let Some(line) = self.lines.all.get_mut(&id) else { return Ok(()) };
        line.far_since = 0;
        match heard {
            Heard::Message(frame) => {
                line.to_hub.arrives(&frame)?;
                let Some(conn) = line.conn else { return Ok(()) };
                self.hub_hears(conn, &frame);
            }
            Heard::Pong(payload) => {
                self.stats.bytes.pongs += 1;
                line.to_device.pong(&payload)?;
            }
            Heard::Closed => {
                // Some servers end without an answer.
                if self.rng.one_in(4) {
                    line.far.take_output();
                }
                self.far_ends(id);
            }
            Heard::Nonsense(why) => return Err(Broken::NotWebSocket(why)),
        }
        Ok(())
    }

    /// Answers the request, once it is whole.
    fn far_upgrades(&mut self, id: LineId) -> Result<(), Broken> {
        let nonsense = |why: &str| Broken::NotWebSocket(why.to_owned());
        let Way::Socket(socket) = id.way else { return Ok(()) };
        let Some(line) = self.lines.all.get_mut(&id) else { return Ok(()) };
        let Far::Request(bytes) = &line.far else { return Ok(()) };
        let (request, used) = match parse(bytes) {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(()),
            Err(()) => return Err(nonsense("the request is not HTTP")),
        };
        if used != bytes.len() {
            return Err(nonsense("it says something before it was let in"));
        }
        let accept = accept_key(&request).map_err(|refusal| Broken::NotWebSocket(refusal.body))?;
        if self.server.down_until > self.now {
            self.reset_far(id);
            return Ok(());
        }
        let headers = upgraded(&accept);
        let armed =
            self.devices.get_mut(id.device as usize).and_then(Option::as_mut).map(|device| &mut device.armed);
        if let Some(armed) = armed.filter(|armed| armed.waits(Fault::Hostile)) {
            armed.strikes(Fault::Hostile);
            line.file.broken_head = true;
            line.pending.extend(broken_upgrade(armed.how, &headers));
            (line.far, line.ends) = (Far::Over, true);
            return Ok(());
        }
        let (now, unix) = (self.now, self.unix());
        let net = self.nets.get_mut(id.device as usize);
        let away = net.and_then(|net| turned_away(net, now, unix, &mut self.rng));
        let whose = (id.device, id.life, socket);
        let query = request.query.as_deref();
        let answer = away.map_or_else(|| self.admit(whose, &request.path, query, &request.headers), Err);
        let Some(line) = self.lines.all.get_mut(&id) else { return Ok(()) };
        match answer {
            Ok(conn) => {
                (line.conn, line.far, line.far_since) = (Some(conn), Far::open(), 0);
                line.pending.extend(head(101, &headers).into_bytes());
                if self.rng.one_in(4) {
                    line.far.ping(&mut line.to_device);
                }
            }
            Err(Answer { status, headers, body }) => {
                let mut reply = Reply::whole(status, &headers, &body, &mut self.rng);
                line.file.head = Some((status, headers));
                line.far = Far::Over;
                // Some never come to an end.
                line.ends = !self.rng.one_in(16);
                if !line.ends {
                    reply.cut_short(&mut self.rng);
                }
                line.pending.extend(reply.bytes);
            }
        }
        self.serve();
        Ok(())
    }

    /// The device ended a connection.
    fn far_ends(&mut self, id: LineId) {
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        line.pending.extend(line.far.take_output());
        (line.far, line.ends) = (Far::Over, true);
        self.stats.bytes.torn += u64::from(line.far_since > 0);
        if let Some(conn) = line.conn.take() {
            if let Some(net) = self.nets.get_mut(id.device as usize)
                && net.conn.is_some_and(|(its, _)| its == conn)
            {
                net.hang_up();
            }
            self.server.gone(conn);
            self.serve();
        }
    }

    /// The hub says something; with `doubles`, the network may say it again.
    pub(super) fn hub_says(&mut self, conn: ConnId, says: Says, doubles: bool) {
        let Some((device, life, socket)) = self.server.whose(conn) else { return };
        let Some(net) = self.nets.get_mut(device as usize) else { return };
        if let Says::Frame(frame) = &says
            && doubles
            && net.duplicates > 0
            && frame.may_double()
        {
            net.duplicates -= 1;
            net.felt.insert(Fault::Duplicate);
            let again = self.now + self.rng.below(3 * SECOND);
            self.queue.push(again, Due::HubSays { conn, says: Says::Frame(frame.clone()) });
        }
        let id = LineId { device, life, way: Way::Socket(socket) };
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        match says {
            Says::Frame(frame) => line.far.say(&frame, &mut line.to_device, &mut self.rng),
            Says::Garbage(how) => line.far.say_bytes(&broken_frames(how), &mut line.to_device),
        }
        self.pump_line(id);
    }

    /// The hub ends a connection: politely if with a code, or without a word.
    pub(super) fn close_far(&mut self, device: u32, life: u32, socket: SocketId, code: Option<u16>) {
        let id = LineId { device, life, way: Way::Socket(socket) };
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        line.conn = None;
        if let Some(code) = code {
            line.closed = line.far.close(code, &mut self.rng);
            line.ends = true;
            self.pump_line(id);
        }
        // Some servers cut off their own last words.
        if code.is_none() || self.rng.one_in(4) {
            self.reset_far(id);
        }
        if let Some(line) = self.lines.all.get_mut(&id) {
            line.far = Far::Over;
        }
        self.tidy(id);
    }

    /// No connection to the hub is left, and none is being made.
    pub(super) fn reset_sockets(&mut self) {
        let ids: Vec<LineId> = self.lines.all.keys().copied().collect();
        for id in ids.into_iter().filter(|id| matches!(id.way, Way::Socket(_))) {
            if self.lines.all.get(&id).is_some_and(|line| line.connected && line.conn.is_none()) {
                self.reset_far(id);
                self.tidy(id);
            }
        }
    }

    fn reset_far(&mut self, id: LineId) {
        let Some(net) = self.nets.get_mut(id.device as usize) else { return };
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        let at = self.now + net.delay(self.now, &mut self.rng);
        let end = if self.rng.one_in(4) { End::Fin } else { End::Reset };
        line.pending.clear();
        line.far = Far::Over;
        line.down.cut(at, end, &mut self.rng);
        self.plan_line(id);
    }

    /// The hub learns in the end that a connection is gone, if not before.
    pub(super) fn gone_in_the_end(&mut self, id: LineId) {
        if let Some(conn) = self.lines.all.get(&id).and_then(|line| line.conn) {
            self.queue.push(self.now + IDLE, Due::HubGone { conn });
        }
    }

    /// The hub gives a connection up.
    pub(super) fn forget_line(&mut self, conn: ConnId) {
        let Some((device, life, socket)) = self.server.whose(conn) else { return };
        let id = LineId { device, life, way: Way::Socket(socket) };
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        line.conn = None;
        self.reset_far(id);
        self.tidy(id);
    }

    /// Hands the server's bytes to its system as far as it takes them.
    pub(super) fn pump_line(&mut self, id: LineId) {
        let Some(net) = self.nets.get_mut(id.device as usize) else { return };
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        let output = line.far.take_output();
        line.pending.extend(output);
        if !line.pending.is_empty() || line.ends {
            let at = self.now + net.delay(self.now, &mut self.rng);
            line.pump(at, &mut self.rng);
        }
        if line.file.waits
            && line.pending.is_empty()
            && let Way::Fetch(fetch) = id.way
        {
            line.file.waits = false;
            let what = DeviceDue::Body(fetch);
            self.queue.push(self.now, Due::Device { device: id.device, life: id.life, what });
        }
        self.plan_line(id);
    }

    /// Forgets a connection that both ends have left.
    pub(super) fn tidy(&mut self, id: LineId) {
        if self.lines.all.get(&id).is_some_and(|line| line.near.is_none() && matches!(line.far, Far::Over)) {
            self.lines.all.remove(&id);
        }
    }
}
