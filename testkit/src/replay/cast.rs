//! Who is who in a recording: lives of devices, scripts that only probe the server, and strangers.

use std::collections::{BTreeMap, BTreeSet};

use super::recording::{Kind, Line, Recording, Request, Side};
use super::token;

/// Everybody in a recording.
#[derive(Debug, Default)]
pub struct Cast {
    /// Lives of devices, in order of their beginning. A device that restarts begins another one.
    pub lives: Vec<Life>,
    /// Connections of scripts that do wrong things on purpose.
    pub probes: Vec<u64>,
    /// Connections that are no device's, such as the server's own.
    pub strangers: Vec<u64>,
}

/// One run of a device's program.
#[derive(Debug, Default, Clone)]
pub struct Life {
    /// Its lines, as indexes into the recording.
    pub lines: Vec<usize>,
    /// Connections that asked for a WebSocket, or found no server, in order.
    pub sockets: Vec<u64>,
    /// Connections of its downloads.
    pub fetches: BTreeSet<u64>,
}

/// A device that ends a connection itself and stays away for longer was started again: the first attempt after a loss
/// comes within a second and a half.
const AWAY_MICROS: u64 = 2_500_000;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Socket,
    Unreached,
    Fetch,
    Probe,
    Stranger,
}

struct Device {
    identity: String,
    life: usize,
    open: Option<u64>,
    /// How the last connection ended and what was said on it.
    last: Past,
}

#[derive(Default, Clone)]
struct Past {
    firmware: Option<String>,
    ended_by_device: bool,
    ended_at: u64,
    said_goodbye: bool,
}

impl Cast {
    /// Tells who is who.
    pub fn of(recording: &Recording) -> Self {
        let roles = roles(recording);
        let mut cast = Self::default();
        let mut devices: Vec<Device> = Vec::new();
        let mut owner: BTreeMap<u64, usize> = BTreeMap::new();
        for (conn, role) in &roles {
            match role {
                Role::Probe => cast.probes.push(*conn),
                Role::Stranger => cast.strangers.push(*conn),
                Role::Socket | Role::Unreached | Role::Fetch => {}
            }
        }
        for (index, line) in recording.lines.iter().enumerate() {
            let Some(conn) = line.conn else { continue };
            let role = roles.get(&conn).copied().unwrap_or(Role::Stranger);
            if matches!(role, Role::Probe | Role::Stranger) {
                continue;
            }
            if let std::collections::btree_map::Entry::Vacant(entry) = owner.entry(conn) {
                let device = cast.choose(recording, line, role, &mut devices);
                entry.insert(device);
            }
            let Some(device) = owner.get(&conn).and_then(|at| devices.get_mut(*at)) else { continue };
            device.remember(line, role);
            if let Some(life) = cast.lives.get_mut(device.life) {
                life.lines.push(index);
            }
        }
        cast
    }

    /// Finds the device a connection belongs to, and begins lives as needed.
    fn choose(&mut self, recording: &Recording, line: &Line, role: Role, devices: &mut Vec<Device>) -> usize {
        let conn = line.conn.unwrap_or_default();
        if role == Role::Fetch {
            let at = devices.len().saturating_sub(1);
            if let Some(life) = devices.get(at).and_then(|device| self.lives.get_mut(device.life)) {
                life.fetches.insert(conn);
            }
            return at;
        }
        let identity = request_of(recording, conn).map(identity);
        let free = |device: &Device| {
            let same = |wanted: &String| *wanted == device.identity || device.identity.is_empty();
            device.open.is_none() && identity.as_ref().is_none_or(same)
        };
        let at = devices.iter().position(free).unwrap_or_else(|| {
            // Attempts that found no server may come before the first that tells who it is.
            let identity = identity.clone().unwrap_or_default();
            devices.push(Device { identity, life: usize::MAX, open: None, last: Past::default() });
            devices.len() - 1
        });
        if let Some(device) = devices.get_mut(at) {
            if let Some(identity) = identity {
                device.identity = identity;
            }
            let firmware = firmware_of(recording, conn);
            let other =
                firmware.is_some() && device.last.firmware.is_some() && firmware != device.last.firmware;
            let away = line.at.saturating_sub(device.last.ended_at) > AWAY_MICROS;
            let restarted = device.last.ended_by_device && (other || away || device.last.said_goodbye);
            if device.life == usize::MAX || restarted {
                device.life = self.lives.len();
                self.lives.push(Life::default());
                device.last = Past::default();
            }
            device.last.ended_by_device = false;
            device.last.firmware = firmware.or(device.last.firmware.take());
            device.open = Some(conn);
            if let Some(life) = self.lives.get_mut(device.life) {
                life.sockets.push(conn);
            }
        }
        at
    }
}

impl Device {
    fn remember(&mut self, line: &Line, role: Role) {
        if role == Role::Fetch || line.conn != self.open {
            return;
        }
        match &line.kind {
            Kind::Eof(side) => {
                self.last.ended_by_device = *side == Side::Device;
                self.last.ended_at = line.at;
                self.open = None;
            }
            Kind::Close(Side::Server, _) => {
                self.last.ended_by_device = false;
                self.open = None;
            }
            Kind::Closed | Kind::Failed(_) => self.open = None,
            Kind::Message(Side::Device, message) => {
                if let Some(envelope) = &message.envelope {
                    let completed =
                        envelope.payload.get("status").is_some_and(|status| status == "completed");
                    self.last.said_goodbye |= envelope.event == "rebooting" || completed;
                }
            }
            _ => {}
        }
    }
}

fn roles(recording: &Recording) -> BTreeMap<u64, Role> {
    let mut roles = BTreeMap::new();
    for line in &recording.lines {
        let Some(conn) = line.conn else { continue };
        match &line.kind {
            Kind::Request(request) => {
                roles.entry(conn).or_insert_with(|| role(request));
            }
            Kind::Failed(_) => {
                roles.entry(conn).or_insert(Role::Unreached);
            }
            _ => {}
        }
    }
    let has_device = roles.values().any(|role| *role == Role::Socket);
    if !has_device {
        // Without a device that connects, requests and failures are a script's.
        for role in roles.values_mut().filter(|role| **role != Role::Stranger) {
            *role = Role::Probe;
        }
    }
    roles
}

fn role(request: &Request) -> Role {
    let agent = request.header("user-agent").unwrap_or_default();
    // The Elixir client's connections say mint, its downloads NHL; the server's own requests say req.
    match (request.is_upgrade(), agent) {
        (true, "") => Role::Probe,
        (true, agent) if agent.to_ascii_lowercase().contains("python") => Role::Probe,
        (true, _) => Role::Socket,
        (false, agent) if agent.starts_with("req/") => Role::Stranger,
        (false, "") => Role::Probe,
        (false, _) => Role::Fetch,
    }
}

fn request_of(recording: &Recording, conn: u64) -> Option<&Request> {
    recording.lines.iter().find_map(|line| match &line.kind {
        Kind::Request(request) if line.conn == Some(conn) => Some(request),
        _ => None,
    })
}

fn identity(request: &Request) -> String {
    match (request.header("x-nh-key"), request.header("x-nh-signature").and_then(token::read)) {
        (Some(key), Some((identifier, _))) => format!("{key} {identifier}"),
        (Some(key), None) => key.to_owned(),
        _ => "certificate".to_owned(),
    }
}

/// The firmware that the device says it runs, in the first join on a connection.
fn firmware_of(recording: &Recording, conn: u64) -> Option<String> {
    recording.lines.iter().find_map(|line| match &line.kind {
        Kind::Message(Side::Device, message) if line.conn == Some(conn) => {
            let envelope = message.envelope.as_ref().filter(|envelope| envelope.event == "phx_join")?;
            envelope.payload.get("nerves_fw_uuid")?.as_str().map(str::to_owned)
        }
        _ => None,
    })
}
