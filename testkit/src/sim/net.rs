//! The way between one device and the servers.

use nerves_hub_link_protocol::SocketId;

use super::dice::Rng;
use super::fault::{Fault, Faults};
use super::scenario::SECOND;
use crate::hub::ConnId;

/// How long a hub waits for a device that fell silent, in microseconds (device-protocol §1.4).
pub(super) const IDLE: u64 = crate::limits::IDLE_MS * 1000;

/// What the network is like for one device. Times are until when something holds.
#[derive(Debug, Default)]
pub(super) struct Net {
    /// The time one way takes, at least.
    latency: u64,
    slow_until: u64,
    silent_until: u64,
    pub dns_until: u64,
    pub refused_until: u64,
    pub hang_until: u64,
    pub proxy_until: u64,
    pub stall_until: u64,
    pub deaf_until: u64,
    pub refusal_until: u64,
    /// Which refusal.
    pub refusal: u32,
    /// Dials that are redirected still.
    pub redirects: u8,
    /// Messages that will arrive twice.
    pub duplicates: u8,
    /// The connection at the hub, and whose it is.
    pub conn: Option<(ConnId, SocketId)>,
    /// When the last message on it arrives: they stay in order.
    to_hub: u64,
    to_device: u64,
    /// Classes of faults that made a difference.
    pub felt: Faults,
}

/// Why nobody is reached, and after how many microseconds that shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    /// For a person.
    Failed { after: u64, reason: &'static str },
    /// Whoever tries has to give up by himself.
    Hangs,
}

impl Net {
    /// A usual network.
    pub fn new(rng: &mut Rng) -> Self {
        Self { latency: rng.within(2_000, 80_000), ..Self::default() }
    }

    /// Everything is well again; connections stay.
    pub fn heal(&mut self) {
        let Self { latency, conn, to_hub, to_device, felt, .. } = *self;
        *self = Self { latency, conn, to_hub, to_device, felt, ..Self::default() };
    }

    pub fn slow(&mut self, until: u64) {
        self.slow_until = until;
    }

    pub fn silence(&mut self, until: u64) {
        self.silent_until = self.silent_until.max(until);
    }

    pub fn is_silent(&self, now: u64) -> bool {
        self.silent_until > now
    }

    /// Whether everything arrives soon.
    pub fn is_well(&self, now: u64) -> bool {
        self.silent_until <= now && self.slow_until <= now && self.stall_until <= now
    }

    /// Until when nothing gets through.
    pub fn silent_until(&self) -> u64 {
        self.silent_until
    }

    /// How long a packet takes that leaves now.
    pub fn delay(&mut self, now: u64, rng: &mut Rng) -> u64 {
        let slow = if self.slow_until > now {
            self.felt.insert(Fault::Latency);
            rng.within(SECOND / 2, 10 * SECOND)
        } else {
            0
        };
        // What is lost meanwhile is sent again by TCP.
        let silence = self.silent_until.saturating_sub(now);
        if silence > 0 {
            self.felt.insert(Fault::Silence);
        }
        silence + slow + self.latency + rng.below(self.latency / 2 + 1)
    }

    /// What keeps a connection to a server from being made; `delay` is that of a packet.
    pub fn blocked(&mut self, now: u64, delay: u64) -> Option<Blocked> {
        let (fault, blocked) = if self.dns_until > now {
            (Fault::Dns, Blocked::Failed { after: 40_000, reason: "the name could not be resolved" })
        } else if self.refused_until > now {
            (Fault::Refused, Blocked::Failed { after: delay, reason: "connection refused" })
        } else if self.proxy_until > now {
            let reason = "the proxy refused the connection with HTTP 407";
            (Fault::Proxy, Blocked::Failed { after: delay, reason })
        } else if self.hang_until > now {
            (Fault::Hang, Blocked::Hangs)
        } else if self.is_silent(now) {
            (Fault::Silence, Blocked::Hangs)
        } else {
            return None;
        };
        self.felt.insert(fault);
        Some(blocked)
    }

    /// Forgets the connection.
    pub fn hang_up(&mut self) -> Option<ConnId> {
        self.conn.take().map(|(conn, _)| conn)
    }

    /// A connection opened.
    pub fn connect(&mut self, conn: ConnId, socket: SocketId, at: u64) {
        (self.conn, self.to_hub, self.to_device) = (Some((conn, socket)), at, at);
    }

    /// When a message of the device arrives at the hub.
    pub fn reaches_hub(&mut self, now: u64, rng: &mut Rng) -> u64 {
        self.to_hub = self.to_hub.max(now + self.delay(now, rng));
        self.to_hub
    }

    /// When a message of the hub arrives at the device.
    pub fn reaches_device(&mut self, now: u64, rng: &mut Rng) -> u64 {
        self.to_device = self.to_device.max(now + self.delay(now, rng));
        self.to_device
    }
}
