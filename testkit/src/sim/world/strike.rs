//! Faults as they strike, and how they end.

use nerves_hub_link_protocol::SocketId;

use super::World;
use crate::hub::ConnId;
use crate::sim::device::{Cut, Device};
use crate::sim::fault::Fault;
use crate::sim::message::Frame;
use crate::sim::net::Net;
use crate::sim::queue::{DeviceDue, Due, Says};
use crate::sim::scenario::{MINUTE, SECOND, Variant};
use crate::sim::settings::speaks_msgpack;
use crate::sim::violation::{Broken, Violation};

/// Messages no server should send. None means anything, and none may cost more than being ignored.
const HOSTILE: [&str; 18] = [
    "",
    "[]",
    "{}",
    "null",
    "[1,2,3,4,5]",
    r#"["1","1","device"]"#,
    r#"[null,null,"device","update",{"firmware_url":7}]"#,
    r#"[null,null,"device","update",{"update_available":true}]"#,
    r#"[null,null,"device","update",{"update_available":false}]"#,
    r#"[null,null,"device","fwup_public_keys",{"keys":[1,null,"","no key"]}]"#,
    r#"[null,null,"device","fwup_public_keys",{}]"#,
    r#"[null,"18446744073709551615","device","phx_reply",{"status":"ok","response":{}}]"#,
    r#"[null,"7777777","phoenix","phx_reply",{"status":"ok","response":{}}]"#,
    r#"["99999","99999","device","phx_error",{"reason":"x"}]"#,
    r#"[null,null,"elsewhere","phx_close",{}]"#,
    r#"[null,null,"device","scripts/run",{"ref":1}]"#,
    r#"[null,null,"device","extensions:get",{}]"#,
    r#"[null,null,"device","update_mode",{"mode":7}]"#,
];

impl World {
    /// A fault strikes a device.
    pub(super) fn strike(&mut self, number: u32, fault: Fault, how: u32) -> Result<(), Violation> {
        self.with(number, |world, device| {
            world.stats.struck(world.now, fault);
            world.trace.note(world.now, number, "fault", fault.name());
            if fault.waits() {
                return world.hit(device, fault, how);
            }
            world.rouse(device);
            world.hit(device, fault, how)?;
            world.settle(device, false)
        })
    }

    fn hit(&mut self, device: &mut Device, fault: Fault, how: u32) -> Result<(), Broken> {
        let now = self.now;
        // Short ones are the more frequent: seconds mostly, half an hour at most.
        let seconds = u64::from(how >> 16) % 300 * if how.is_multiple_of(8) { 6 } else { 1 };
        let until = now + (5 + seconds) * SECOND;
        let times = u8::try_from(1 + (how >> 8) % 3).unwrap_or(1);
        let Some(net) = self.nets.get_mut(device.number as usize) else { return Ok(()) };
        let armed = &mut device.armed;
        match fault {
            Fault::Latency => net.slow(until),
            Fault::Silence => net.silence(until),
            Fault::Dns => net.dns_until = until,
            Fault::Refused => net.refused_until = until,
            Fault::Hang => net.hang_until = until,
            Fault::Proxy => net.proxy_until = until,
            Fault::Stall => net.stall_until = until,
            Fault::Deaf => net.deaf_until = until,
            Fault::Duplicate => net.duplicates = times.saturating_mul(4),
            Fault::Late => {
                armed.arm(fault, times);
                armed.until = armed.until.max(until);
                // The connection ends between two pieces of what the server sent.
                if let Some((_, socket)) = net.conn {
                    let frame = self.encoded(device.number, r#"[null,null,"device","identify",{}]"#);
                    self.later(device, 200_000, DeviceDue::Hears { socket, frame });
                }
                self.break_connections(device, how);
            }
            Fault::Reorder => {
                let Some(socket) = device.link.as_ref().and_then(|life| life.socket) else { return Ok(()) };
                for number in 0..u32::from(times) + 2 {
                    let after = 2 * SECOND + device.rng.below(20 * SECOND);
                    self.later(device, after, DeviceDue::Stale { socket, how: how.wrapping_add(number) });
                }
                self.break_connections(device, how);
            }
            Fault::Redirect => {
                net.redirects = times.saturating_mul(if how & 1 == 0 { 1 } else { 4 });
                self.break_connections(device, how);
            }
            Fault::Refusal => {
                (net.refusal, net.refusal_until) = (how >> 3, until);
                self.break_connections(device, how);
            }
            Fault::Cut => self.break_connections(device, how),
            Fault::Kick => {
                const CODES: [u16; 6] = [1000, 1001, 1008, 1011, 1012, 1002];
                let code =
                    usize::try_from(how % 6).ok().and_then(|at| CODES.get(at)).copied().unwrap_or(1000);
                if let Some((conn, _)) = net.conn {
                    net.felt.insert(fault);
                    self.server.hub.close_conn(conn, code, "");
                    self.serve();
                }
            }
            Fault::Crash => {
                if let Some((conn, _)) = net.conn {
                    net.felt.insert(fault);
                    self.server.hub.crash_channel(conn);
                    self.serve();
                }
            }
            Fault::Hostile => self.send_raw(device, how),
            Fault::RebootAsked => {
                let reboot = r#"[null,null,"device","reboot",{}]"#;
                if let Some((conn, socket)) = net.conn {
                    net.felt.insert(fault);
                    let frame = self.encoded(device.number, reboot);
                    self.server_says(device, (conn, socket), 20_000, frame);
                }
            }
            Fault::PowerCut | Fault::Torn => {
                let tear = fault == Fault::Torn;
                // Half of them wait for an operation of the disk: the next, or one of those behind it.
                if how & 1 == 0 {
                    return self.lose_power(device, (5 + seconds) * SECOND, tear);
                }
                device.cut = Some(Cut { after: (how >> 1) % 24, tear });
            }
            Fault::Exit => {
                if device.link.is_some() {
                    armed.felt.insert(fault);
                    self.end(device, true);
                    self.later(device, (1 + seconds / 20) * SECOND, DeviceDue::Start);
                }
            }
            Fault::ClockJump => {
                device.uncounted = true;
                armed.felt.insert(fault);
                let seconds = i64::from(how >> 7);
                device.wall.until = self.wrong_until(how);
                device.wall.offset += if how & 1 == 0 { seconds } else { -seconds };
            }
            Fault::ClockUnset => {
                (device.wall.unset, device.uncounted) = (true, true);
                device.wall.until = self.wrong_until(how);
                armed.felt.insert(fault);
            }
            Fault::SlowBody
            | Fault::RangeIgnored
            | Fault::ShortBody
            | Fault::FileError
            | Fault::FileRedirect
            | Fault::FileChanged
            | Fault::Tampered
            | Fault::DiskFull
            | Fault::DiskError
            | Fault::ReadError
            | Fault::DiskSlow
            | Fault::SlowAnswer
            | Fault::NoAnswer
            | Fault::Refuses => {
                armed.expire(now);
                // In a short scenario they meet the next update; in a fleet, only one that comes soon.
                armed.until = if self.scenario.fleet { until + 30 * MINUTE } else { u64::MAX };
                armed.how = how;
                match fault {
                    // Once in a while longer than the machine waits for an applier that stands still.
                    Fault::DiskSlow if how.is_multiple_of(16) => armed.slow_down(16 * MINUTE),
                    Fault::DiskSlow => armed.slow_down(u64::from(how >> 8) % 60 * SECOND + 1),
                    Fault::FileChanged
                    | Fault::Tampered
                    | Fault::DiskFull
                    | Fault::DiskError
                    | Fault::NoAnswer => armed.arm(fault, 1),
                    _ => armed.arm(fault, times),
                }
            }
            Fault::Restart | Fault::Drain | Fault::BadRelease | Fault::Untrusted => {}
        }
        Ok(())
    }

    /// A fault strikes all at once.
    pub(super) fn strike_all(&mut self, fault: Fault, how: u32) {
        self.stats.struck(self.now, fault);
        self.trace.note(self.now, u32::MAX, "fault", fault.name());
        let down = u64::from(how >> 16) % 180 * SECOND;
        if !self.server.all().is_empty() && matches!(fault, Fault::Restart | Fault::Drain) {
            self.stats.felt([fault].into_iter().collect());
        }
        match fault {
            Fault::Restart => {
                self.hub_dies();
                self.server.down_until = self.now + SECOND + down;
            }
            Fault::Drain => {
                self.server.hub.drain();
                self.serve();
                self.server.down_until = self.now + SECOND + down / 4;
            }
            Fault::BadRelease => self.release(true, false),
            Fault::Untrusted => self.release(false, true),
            _ => {}
        }
    }

    /// Until when a wall clock is wrong. In a fleet some service sets it right after minutes or hours.
    fn wrong_until(&self, how: u32) -> u64 {
        let seconds = 600 + u64::from(how % 36_000);
        if self.scenario.fleet { self.now + seconds * SECOND } else { u64::MAX }
    }

    /// All connections of a device break.
    fn break_connections(&mut self, device: &mut Device, how: u32) {
        if self.scenario.has(Variant::Bytes) {
            return self.cut_lines(device, how);
        }
        let Some(life) = device.link.as_ref() else { return };
        let fetches: Vec<_> = life.fetches.iter().map(|fetching| fetching.fetch).collect();
        let socket = life.socket;
        for fetch in fetches {
            self.later(device, 0, DeviceDue::FetchFailed { fetch, reason: "connection reset by peer" });
        }
        if socket.is_some() || !device.link.as_ref().is_none_or(|life| life.fetches.is_empty()) {
            device.armed.felt.insert(Fault::Cut);
        }
        if let Some(socket) = socket {
            let conn = self.nets.get_mut(device.number as usize).and_then(Net::hang_up);
            self.lose(conn, how);
            self.tell_down(device, socket);
        }
    }

    pub(super) fn lose(&mut self, conn: Option<ConnId>, how: u32) {
        if let Some(conn) = conn {
            // What is under way to the hub arrives, or is lost with the connection.
            let after = if how & 2 == 0 { 0 } else { 2 * SECOND };
            self.queue.push(self.now + after, Due::HubGone { conn });
        }
    }

    fn tell_down(&mut self, device: &Device, socket: SocketId) {
        self.later(device, 0, DeviceDue::Down { socket, code: None, reason: "connection reset by peer" });
    }

    fn send_raw(&mut self, device: &mut Device, how: u32) {
        let bytes = self.scenario.has(Variant::Bytes);
        if bytes && how.is_multiple_of(4) {
            // The next answers in HTTP are none.
            device.armed.arm(Fault::Hostile, 1);
            (device.armed.how, device.armed.until) = (how >> 3, u64::MAX);
        }
        let Some((conn, socket)) = self.nets.get(device.number as usize).and_then(|net| net.conn) else {
            return;
        };
        device.armed.felt.insert(Fault::Hostile);
        let count = 1 + (how >> 8) % 3;
        for number in 0..=count {
            let turn = how.wrapping_add(number * 7);
            if bytes && turn % 16 == 15 {
                let due = Due::HubSays { conn, says: Says::Garbage(turn >> 4) };
                self.queue.push(self.now + 5000 * u64::from(number), due);
                continue;
            }
            let pick = usize::try_from(turn).unwrap_or(0) % (HOSTILE.len() + 2);
            let text = match HOSTILE.get(pick) {
                Some(text) => (*text).to_owned(),
                None if pick == HOSTILE.len() => {
                    format!(r#"[null,null,"device","{}",{{}}]"#, "x".repeat(5000))
                }
                None => "[".repeat(3000),
            };
            let frame = match turn % 11 {
                // Bytes where text belongs and the other way round, and what is neither.
                0 => Frame::Binary(text.into_bytes()),
                1 => Frame::Binary((0..200_u32).map(|at| (turn >> (at % 24)).to_le_bytes()[0]).collect()),
                2 => Frame::Text(text),
                _ => self.encoded(device.number, &text),
            };
            self.server_says(device, (conn, socket), 5000 * u64::from(number), frame);
        }
    }

    /// The server, or who speaks in its place, says something to a device after a while.
    pub(super) fn server_says(
        &mut self,
        device: &Device,
        (conn, socket): (ConnId, SocketId),
        after: u64,
        frame: Frame,
    ) {
        if self.scenario.has(Variant::Bytes) {
            return self.queue.push(self.now + after, Due::HubSays { conn, says: Says::Frame(frame) });
        }
        self.later(device, after, DeviceDue::Hears { socket, frame });
    }

    /// A message in what a device's connection speaks.
    pub(super) fn encoded(&self, number: u32, text: &str) -> Frame {
        let binary = speaks_msgpack(&self.scenario, number) && !self.scenario.has(Variant::OldHub);
        match serde_json::from_str(text) {
            Ok(value) if binary => Frame::Binary(crate::msgpack::encode(&value)),
            _ => Frame::Text(text.to_owned()),
        }
    }

    /// A device is well again: nothing that goes wrong is left.
    pub(super) fn heal_device(&mut self, device: &mut Device) -> Result<(), Broken> {
        device.armed.disarm();
        device.cut = None;
        device.wall = crate::sim::device::Wall::default();
        if let Some(life) = device.link.as_mut() {
            for fetching in &mut life.fetches {
                fetching.bytes_per_second = 500_000;
                fetching.tampered = None;
            }
        }
        self.rouse(device);
        self.settle(device, false)
    }
}
