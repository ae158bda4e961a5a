//! Connections in memory: bytes in packets, each with the moment it arrives; and the faults of networks.

use std::cmp::min;
use std::collections::{BTreeMap, VecDeque};
use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};

use nerves_hub_link_protocol::Instant;
use nerves_hub_link_runtime::{DialOrder, Interest, Network, Tcp};
use nerves_hub_link_testkit::sim::Rng;
use rustls::{ServerConfig, ServerConnection};

/// Microseconds.
pub const MILLI: u64 = 1000;
pub const SECOND: u64 = 1000 * MILLI;

/// Bytes a sender may have under way.
const WINDOW: usize = 32 * 1024;
/// Connections of one device that may be open at a time: the socket, a look for the network, downloads of parts and of
/// an archive.
const LINES_MAX: usize = 8;

/// How long a device may hold a connection after its end: the disk may have to take bytes of it first.
const ENDED_MAX: u64 = 60 * SECOND;

/// One direction of a connection.
#[derive(Debug, Default)]
struct Flow {
    packets: VecDeque<(u64, Vec<u8>)>,
    /// When the last packet arrives: they stay in order.
    last: u64,
    /// When the end arrives, after everything.
    end: Option<u64>,
}

impl Flow {
    fn waiting(&self) -> usize {
        self.packets.iter().map(|(_, packet)| packet.len()).sum()
    }

    /// What there is by now, at most so many bytes.
    fn take(&mut self, now: u64, most: usize) -> Option<Vec<u8>> {
        let (_, packet) = self.packets.front_mut().filter(|(at, _)| *at <= now)?;
        let rest = packet.split_off(min(most, packet.len()));
        let taken = std::mem::replace(packet, rest);
        if packet.is_empty() {
            self.packets.pop_front();
        }
        Some(taken)
    }

    fn next(&self, now: u64) -> Option<u64> {
        let packet = self.packets.front().map(|(at, _)| *at);
        packet.or(self.end).filter(|at| *at > now)
    }

    fn is_readable(&self, now: u64) -> bool {
        let at = self.packets.front().map(|(at, _)| *at).or(self.end);
        at.is_some_and(|at| at <= now)
    }
}

/// A connection.
#[derive(Debug, Default)]
pub struct Line {
    to_device: Flow,
    to_server: Flow,
    /// The server's TLS, if there is any.
    tls: Option<Box<ServerConnection>>,
    /// From when on nothing arrives any more, and whether that is noticed.
    cut: Option<(u64, bool)>,
    /// The device has sent its last byte.
    finished: bool,
    /// The device let go of it.
    left: bool,
    /// When the device read its end.
    ended: Option<u64>,
    /// The host that the device asked for.
    pub host: String,
}

/// What the server hears of a connection.
pub enum Heard {
    /// Maybe none, while TLS is set up.
    Bytes(Vec<u8>),
    End,
}

impl Line {
    fn take(&mut self, now: u64) -> Option<Heard> {
        if self.cut.is_some_and(|(at, _)| at <= now) {
            return None;
        }
        match self.to_server.take(now, usize::MAX) {
            Some(bytes) => Some(Heard::Bytes(bytes)),
            None if self.to_server.is_readable(now) => {
                self.to_server.end = None;
                Some(Heard::End)
            }
            None => None,
        }
    }

    /// The device ends its direction.
    fn finish(&mut self, now: u64) {
        if !self.finished {
            self.finished = true;
            self.to_server.end = Some(self.to_server.last.max(now + MILLI));
        }
    }

    /// What TLS has to say to the device.
    fn records(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut bytes).unwrap();
            }
        }
        bytes
    }

    fn is_reset(&self, now: u64) -> bool {
        self.cut.is_some_and(|(at, noticed)| at <= now && noticed)
    }

    fn is_silent(&self, now: u64) -> bool {
        self.cut.is_some_and(|(at, noticed)| at <= now && !noticed)
    }
}

/// The network between one device and the servers.
#[derive(Debug)]
pub struct State {
    pub now: u64,
    pub rng: Rng,
    pub lines: BTreeMap<u64, Line>,
    dials: Vec<(u64, DialOrder<Side>)>,
    hanging: Vec<(u64, DialOrder<Side>)>,
    last: u64,
    /// Whether anything goes wrong at all.
    pub faults: bool,
    /// How slow bytes come, in microseconds for each.
    pub pace: u64,
    /// Faults of the network that happened.
    pub met: u64,
    /// How servers do TLS, if they do.
    pub tls: Option<Arc<ServerConfig>>,
}

/// It, shared.
#[derive(Clone, Debug)]
pub struct Net(Arc<Mutex<State>>);

impl Net {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: 0,
            rng: Rng::of(seed, 100, 0),
            lines: BTreeMap::new(),
            dials: Vec::new(),
            hanging: Vec::new(),
            last: 0,
            faults: true,
            pace: 1,
            met: 0,
            tls: None,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Ends the attempts to connect that are due.
    pub fn connect(&self) {
        let due = self.lock().due();
        // Without the lock: whoever gave an attempt up lets go of the connection at once.
        for (order, id) in due {
            let side = id.map(|id| (Side { id, net: self.clone() }, None));
            order.finish(side.ok_or_else(|| "no route to host".to_owned()));
        }
        self.lock().forget();
    }
}

impl State {
    pub fn one_in(&mut self, n: u64) -> bool {
        let yes = self.faults && self.rng.one_in(n);
        self.met += u64::from(yes);
        yes
    }

    fn delay(&mut self) -> u64 {
        if self.faults && self.rng.one_in(100) {
            return self.rng.within(SECOND, 8 * SECOND);
        }
        self.rng.within(MILLI, 60 * MILLI)
    }

    /// What the server can read on a connection by now.
    pub fn hear(&mut self, id: u64) -> Option<Heard> {
        let now = self.now;
        let line = self.lines.get_mut(&id)?;
        let heard = line.take(now)?;
        let (Heard::Bytes(bytes), Some(tls)) = (&heard, &mut line.tls) else { return Some(heard) };
        let (mut input, mut plain) = (&bytes[..], Vec::new());
        while !input.is_empty() {
            tls.read_tls(&mut input).unwrap();
            tls.process_new_packets().expect("the device speaks TLS as it should");
            // As much as there is; then nothing waits, or the device closed it.
            let _ = tls.reader().read_to_end(&mut plain);
        }
        let records = line.records();
        self.carry(id, &records);
        Some(Heard::Bytes(plain))
    }

    /// Sends something to the device.
    pub fn deliver(&mut self, id: u64, bytes: &[u8]) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        let Some(tls) = &mut line.tls else { return self.carry(id, bytes) };
        tls.set_buffer_limit(None);
        tls.writer().write_all(bytes).unwrap();
        let records = line.records();
        self.carry(id, &records);
    }

    /// Puts bytes under way to the device, in packets that know nothing of what is in them.
    fn carry(&mut self, line: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let size = match self.rng.below(8) {
                0 => 1,
                1 => 2 + self.rng.below(40),
                2..=4 => 100 + self.rng.below(1400),
                _ => 1460 * (1 + self.rng.below(8)),
            };
            let (packet, rest) = bytes.split_at(min(usize::try_from(size).unwrap(), bytes.len()));
            bytes = rest;
            let delay = self.delay();
            let (now, pace) = (self.now, self.pace);
            let Some(line) = self.lines.get_mut(&line) else { return };
            let flow = &mut line.to_device;
            flow.last = (flow.last + pace * packet.len() as u64).max(now + delay);
            flow.packets.push_back((flow.last, packet.to_vec()));
        }
    }

    /// The server ends a connection, after what it sent.
    pub fn end(&mut self, line: u64) {
        let now = self.now;
        // Not all servers say so in TLS, too.
        let says = self.rng.one_in(2);
        let farewell = self.lines.get_mut(&line).filter(|_| says).map(|line| {
            line.tls.iter_mut().for_each(|tls| tls.send_close_notify());
            line.records()
        });
        self.carry(line, &farewell.unwrap_or_default());
        if let Some(line) = self.lines.get_mut(&line) {
            line.to_device.end.get_or_insert(line.to_device.last.max(now + MILLI));
        }
    }

    /// A connection breaks at some moment soon: what is under way by then is lost. Nobody is told, or both sides are.
    pub fn cut(&mut self, line: u64, after: u64) {
        let (at, noticed) = (self.now + after, !self.rng.one_in(4));
        if let Some(line) = self.lines.get_mut(&line) {
            line.cut.get_or_insert((at, noticed));
        }
    }

    /// Everything works from now on; what was cut stays so.
    pub fn heal(&mut self) {
        self.faults = false;
        self.pace = 1;
    }

    /// The dials that are due, each with its new connection, or with none.
    fn due(&mut self) -> Vec<(DialOrder<Side>, Option<u64>)> {
        let now = self.now;
        let dials: Vec<_> = self.dials.extract_if(.., |(at, _)| *at <= now).collect();
        let late: Vec<_> = self.hanging.extract_if(.., |(at, _)| *at <= now).collect();
        let mut due = Vec::new();
        for (_, order) in dials.into_iter().chain(late) {
            if self.one_in(30) {
                due.push((order, None));
                continue;
            }
            self.last += 1;
            let id = self.last;
            let tls = self.tls.as_ref().map(|tls| Box::new(ServerConnection::new(Arc::clone(tls)).unwrap()));
            let host = order.address.host.clone();
            self.lines.insert(id, Line { tls, host, ..Line::default() });
            if self.one_in(3) {
                let longest = [400 * MILLI, 20 * SECOND, 300 * SECOND][usize::try_from(id % 3).unwrap()];
                let after = self.rng.below(longest);
                self.cut(id, after);
            }
            due.push((order, Some(id)));
        }
        due
    }

    /// Forgets connections that nobody has any more.
    fn forget(&mut self) {
        let now = self.now;
        self.lines.retain(|_, line| {
            let done = line.to_server.packets.is_empty() && line.to_server.end.is_none();
            !(line.left && (done || line.cut.is_some_and(|(at, _)| at <= now)))
        });
        let stale =
            self.lines.values().find(|line| !line.left && line.ended.is_some_and(|at| at + ENDED_MAX < now));
        assert!(stale.is_none(), "a connection is kept that ended: {stale:?}");
        let open = self.open();
        assert!(open <= LINES_MAX, "{open} connections are open");
    }

    /// Connections that the device holds and may still write to.
    pub fn open(&self) -> usize {
        self.lines.values().filter(|line| !line.left && !line.finished).count()
    }

    /// When the network has something to do next.
    pub fn next(&self) -> Option<u64> {
        let now = self.now;
        let dials = self.dials.iter().chain(&self.hanging).map(|(at, _)| *at);
        let flows = self.lines.values().filter(|line| !line.is_silent(now)).flat_map(|line| {
            [line.to_device.next(now), line.to_server.next(now), line.cut.map(|(at, _)| at)]
        });
        dials.chain(flows.flatten()).filter(|at| *at > now).min()
    }
}

impl Network for Net {
    type Tcp = Side;

    fn dial(&mut self, order: DialOrder<Side>) -> Result<(), String> {
        let mut state = self.lock();
        let delay = state.delay();
        let at = state.now + delay;
        if state.one_in(20) {
            return Err("no thread for it".to_owned());
        }
        if state.one_in(10) {
            order.finish(Err("connection refused".to_owned()));
        } else if state.one_in(12) {
            // Answered after everybody gave it up.
            let late = u64::try_from(order.timeout.as_micros()).unwrap() + SECOND;
            let at = state.now + late;
            state.hanging.push((at, order));
        } else if state.one_in(20) {
            drop(order);
        } else {
            state.dials.push((at, order));
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.lock().now)
    }
}

/// The device's end of a connection.
#[derive(Debug)]
pub struct Side {
    id: u64,
    net: Net,
}

impl Side {
    /// Whether waiting for this would end.
    pub fn is_ready(&self, interest: Interest) -> bool {
        let state = self.net.lock();
        let Some(line) = state.lines.get(&self.id) else { return true };
        let now = state.now;
        if line.is_silent(now) {
            return interest.write && line.to_server.waiting() < WINDOW;
        }
        let reset = line.is_reset(now);
        let read = interest.read && line.to_device.is_readable(now);
        let write = interest.write && line.to_server.waiting() < WINDOW;
        reset || read || write
    }
}

impl Tcp for Side {
    fn peer(&self) -> Option<std::net::IpAddr> {
        None
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut state = self.net.lock();
        let (now, most) = (state.now, usize::try_from(state.rng.within(1, 20_000)).unwrap());
        let line = state.lines.get_mut(&self.id).ok_or(ErrorKind::NotConnected)?;
        if line.is_reset(now) {
            return Err(Error::from(ErrorKind::ConnectionReset));
        }
        if line.is_silent(now) {
            return Err(Error::from(ErrorKind::WouldBlock));
        }
        match line.to_device.take(now, min(most, buffer.len())) {
            Some(bytes) => {
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            None if line.to_device.is_readable(now) => {
                line.ended.get_or_insert(now);
                Ok(0)
            }
            None => Err(Error::from(ErrorKind::WouldBlock)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut state = self.net.lock();
        let (now, delay, most) = (state.now, state.delay(), state.rng.within(1, 3000));
        let line = state.lines.get_mut(&self.id).ok_or(ErrorKind::NotConnected)?;
        if line.is_reset(now) {
            return Err(Error::from(ErrorKind::BrokenPipe));
        }
        let room = WINDOW.saturating_sub(line.to_server.waiting());
        let count = min(min(bytes.len(), room), usize::try_from(most).unwrap());
        if count == 0 {
            return Err(Error::from(ErrorKind::WouldBlock));
        }
        let flow = &mut line.to_server;
        flow.last = flow.last.max(now + delay);
        flow.packets.push_back((flow.last, bytes[..count].to_vec()));
        Ok(count)
    }

    fn shut_down_write(&mut self) -> std::io::Result<()> {
        let mut state = self.net.lock();
        let now = state.now;
        let line = state.lines.get_mut(&self.id).ok_or(ErrorKind::NotConnected)?;
        line.finish(now);
        Ok(())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let mut state = self.net.lock();
        let now = state.now;
        if let Some(line) = state.lines.get_mut(&self.id) {
            line.left = true;
            line.finish(now);
        }
    }
}
