//! Connections of bytes: how they begin and end, and how bytes move.

use nerves_hub_link_protocol::limits::{
    BULK_CREDIT, MAX_SCRIPT_OUTPUT_BYTES, MAX_SHELL_MESSAGE_BYTES, SEND_CREDIT,
};
use nerves_hub_link_transport::TransportError;
use nerves_hub_link_transport::limits::PONG_BACKLOG_MAX;

use super::World;
use crate::sim::bytes::{End, Line, LineId, Near, Way, broke};
use crate::sim::device::Device;
use crate::sim::fault::Fault;
use crate::sim::mutation::Mutation;
use crate::sim::queue::{DeviceDue, Due, WireDue};
use crate::sim::scenario::SECOND;
use crate::sim::violation::Broken;

/// Bytes that an adapter reads at once, at most.
const READ: usize = 64 * 1024;
/// Bytes that may wait in a machine: as many messages as may be on their way, long ones among them with what scripts wrote
/// and ended with, and answers to pings.
pub(super) const UNSENT: usize = SEND_CREDIT as usize * (MAX_SHELL_MESSAGE_BYTES + 8_192)
    + BULK_CREDIT as usize * 3 * MAX_SCRIPT_OUTPUT_BYTES
    + PONG_BACKLOG_MAX
    + 4_096;
/// How long after a silence bytes arrive that TCP sends again.
const AGAIN: u64 = SECOND / 5;

impl World {
    /// The adapter connects. TCP takes `after`; after `timeout` the connection must be of use.
    pub(super) fn begin_line(
        &mut self,
        device: &mut Device,
        way: Way,
        near: Near,
        after: u64,
        timeout: Option<u64>,
    ) {
        let line = Line::new(near, &mut device.rng);
        self.lines.all.insert(line_of(device, way), line);
        self.later(device, after, DeviceDue::Wire { way, what: WireDue::Opened });
        if let Some(timeout) = timeout {
            self.later(device, timeout, DeviceDue::Wire { way, what: WireDue::Expires });
        }
    }

    /// Something happens to a connection.
    pub(super) fn wire(&mut self, device: &mut Device, way: Way, what: WireDue) -> Result<(), Broken> {
        let id = line_of(device, way);
        let silent = self.is_silent(id);
        let Some(line) = self.lines.all.get_mut(&id) else { return Ok(()) };
        match (what, way) {
            (WireDue::Opened, _) => {
                line.connected = true;
                if matches!(way, Way::Socket(_)) && self.server.down_until > self.now {
                    line.broken = Some("connection refused".to_owned());
                    return self.wire_reads(device, id);
                }
                self.flush_line(device, id);
            }
            (WireDue::Expires, _) => {
                if let Some(near) = line.near.as_mut().filter(|_| !line.settled) {
                    near.out_of_time();
                    line.broken = Some("the server took too long to answer".to_owned());
                    return self.wire_reads(device, id);
                }
            }
            (WireDue::Writes, _) => {
                line.stalled = false;
                self.flush_line(device, id);
            }
            (WireDue::Reads, _) if silent => {
                line.down.postpone();
                self.plan_line(id);
            }
            (WireDue::Serves, _) if silent => {
                line.up.postpone();
                self.plan_line(id);
            }
            (WireDue::Reads, _) => {
                line.down.arrive(self.now);
                return self.wire_reads(device, id);
            }
            (WireDue::Serves, Way::Fetch(fetch)) => return self.file_serves(device, id, fetch),
            (WireDue::Serves, Way::Socket(_)) => {}
        }
        Ok(())
    }

    /// The adapter looks after a connection.
    fn wire_reads(&mut self, device: &mut Device, id: LineId) -> Result<(), Broken> {
        match id.way {
            Way::Socket(socket) => self.socket_reads(device, id, socket)?,
            Way::Fetch(fetch) => self.file_reads(device, id, fetch)?,
        }
        self.pump_line(id);
        self.flush_line(device, id);
        match self.lines.all.get_mut(&id).map_or(0, Line::unsent) {
            0..=UNSENT => Ok(()),
            unsent => Err(Broken::UnsentUnbounded(unsent)),
        }
    }

    /// Reads once, if something is there. Returns whether there may be an event.
    pub(super) fn read_line(&mut self, id: LineId) -> bool {
        let (keep, whole) = (self.mutated(Mutation::KeepPartial), self.mutated(Mutation::ReadWholeBuffer));
        let Some(line) = self.lines.all.get_mut(&id) else { return false };
        let Some(near) = line.near.as_mut().filter(|near| !line.read_ended && near.wants_input()) else {
            return false;
        };
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        line.down.read(READ, &mut bytes);
        let count = bytes.len();
        if count > 0 {
            if matches!(near, Near::Socket(_)) {
                line.since.extend(&bytes);
                if keep {
                    bytes.splice(..0, std::mem::take(&mut self.lines.left));
                }
            }
            if whole && matches!(near, Near::File(_)) {
                let buffer = &mut self.lines.buffer;
                let behind = buffer.split_off(count.min(buffer.len()));
                buffer.clone_from(&bytes);
                buffer.extend(behind);
                bytes.clone_from(buffer);
                bytes.truncate(READ);
            }
            near.receive(&bytes);
        } else if let Some(end) = line.down.ended() {
            line.read_ended = true;
            match end {
                End::Fin => near.receive_eof(),
                End::Reset => {
                    let _ = line.broken.get_or_insert_with(|| "connection reset by peer".to_owned());
                }
            }
        }
        let more = count > 0 || line.read_ended;
        self.scratch = bytes;
        if count > 0 {
            self.stats.bytes.reads += 1;
            self.stats.bytes.read += count as u64;
            self.trace.note_number(self.now, id.device, "reads bytes", count as u64);
        }
        more
    }

    /// Hands the machine's bytes to the system, if it takes any.
    pub(super) fn flush_line(&mut self, device: &mut Device, id: LineId) {
        let now = self.now;
        let Some(net) = self.nets.get_mut(device.number as usize) else { return };
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        if !line.connected || line.unsent() == 0 {
            return;
        }
        if net.stall_until > now {
            net.felt.insert(Fault::Stall);
            let after = net.stall_until - now;
            if !std::mem::replace(&mut line.stalled, true) {
                self.later(device, after, DeviceDue::Wire { way: id.way, what: WireDue::Writes });
            }
            return;
        }
        let at = now + net.delay(now, &mut device.rng);
        line.flush(at, &mut device.rng);
        self.plan_line(id);
    }

    /// The adapter hangs up: what the machine has to say still goes out if that can be done at once.
    pub(super) fn leave_line(&mut self, device: &mut Device, id: LineId) {
        self.flush_line(device, id);
        let keep = self.mutated(Mutation::KeepPartial);
        let (now, Some(net)) = (self.now, self.nets.get_mut(device.number as usize)) else { return };
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        self.stats.bytes.torn += u64::from(!line.since.is_empty());
        if keep {
            self.lines.left = std::mem::take(&mut line.since);
        }
        line.near = None;
        if line.connected {
            line.up.finish(now + net.delay(now, &mut device.rng));
            self.plan_line(id);
            self.tidy(id);
        } else {
            self.lines.all.remove(&id);
        }
    }

    /// The adapter drops a connection.
    pub(super) fn drop_line(&mut self, device: &Device, way: Way) {
        self.lines.all.remove(&line_of(device, way));
    }

    /// The program ends, and all connections with it: the system says so, unless power went.
    pub(super) fn end_lines(&mut self, device: &mut Device, told: bool) {
        for id in self.lines.of(device.number, device.life) {
            let Some(line) = self.lines.all.get_mut(&id) else { continue };
            if matches!(id.way, Way::Fetch(_)) || (!told && line.conn.is_none()) {
                self.lines.all.remove(&id);
            } else if told {
                self.leave_line(device, id);
            } else {
                line.near = None;
                line.up.fall_silent(&mut device.rng);
                self.gone_in_the_end(id);
            }
        }
    }

    /// All connections of a device break.
    pub(super) fn cut_lines(&mut self, device: &mut Device, how: u32) {
        let now = self.now;
        for id in self.lines.of(device.number, device.life) {
            let Some(line) = self.lines.all.get_mut(&id) else { continue };
            if line.near.is_some() {
                device.armed.felt.insert(Fault::Cut);
            }
            let end = if device.rng.one_in(4) { End::Fin } else { End::Reset };
            line.pending.clear();
            line.down.cut(now, end, &mut device.rng);
            // What is under way to the hub arrives, or is lost with the connection.
            line.up.cut(now + if how & 2 == 0 { 0 } else { 2 * SECOND }, end, &mut device.rng);
            self.plan_line(id);
            self.gone_in_the_end(id);
        }
        if let Some(net) = self.nets.get_mut(device.number as usize) {
            net.hang_up();
        }
    }

    /// Whether nothing gets through.
    pub(super) fn is_silent(&self, id: LineId) -> bool {
        self.nets.get(id.device as usize).is_some_and(|net| net.is_silent(self.now))
    }

    /// Puts what arrives next into the queue.
    pub(super) fn plan_line(&mut self, id: LineId) {
        let Some(net) = self.nets.get(id.device as usize) else { return };
        let floor = if net.is_silent(self.now) { net.silent_until() + AGAIN } else { self.now };
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        let (device, life, way) = (id.device, id.life, id.way);
        if let Some(at) = line.down.plan(floor) {
            let what = DeviceDue::Wire { way, what: WireDue::Reads };
            self.queue.push(at, Due::Device { device, life, what });
        }
        if let Some(at) = line.up.plan(floor) {
            let what = DeviceDue::Wire { way, what: WireDue::Serves };
            self.queue.push(
                at,
                match way {
                    Way::Socket(_) => Due::Wire(id),
                    Way::Fetch(_) => Due::Device { device, life, what },
                },
            );
        }
    }
}

impl Line {
    /// Whether the machine may give up for this reason.
    pub(super) fn may_fail(&self, error: &TransportError) -> Result<(), Broken> {
        let good = if broke(error) { self.is_garbage() } else { self.read_ended };
        if good { Ok(()) } else { Err(Broken::GoodBytesRefused(error.to_string())) }
    }
}

/// A connection of a device's present life.
pub(super) const fn line_of(device: &Device, way: Way) -> LineId {
    LineId { device: device.number, life: device.life, way }
}
