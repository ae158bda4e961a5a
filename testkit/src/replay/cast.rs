//! Who is who in a recording: lives of devices, scripts that only probe the server, and strangers.

use std::collections::{BTreeMap, BTreeSet};

use super::plot::target;
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

/// The recorded client tries a download again after so long, give or take what connections take to end.
const RETRY_MICROS: u64 = 15_000_000;
const RETRY_SLACK: u64 = 300_000;

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
    /// Whether the server took that connection.
    taken: bool,
    /// How the last connection ended and what was said on it.
    last: Past,
    /// Paths of the files that the server offered it.
    offered: BTreeSet<String>,
    /// An update or an archive may be on its way to it.
    downloads: bool,
    /// Requests for that so far, and those that are open.
    fetched: usize,
    fetching: BTreeSet<u64>,
    /// When the last of them ended.
    fetch_ended_at: Option<u64>,
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
            device.remember(line);
            if let Some(life) = cast.lives.get_mut(device.life) {
                life.lines.push(index);
            }
        }
        cast
    }

    /// Finds the device a connection belongs to, and begins lives as needed.
    fn choose(&mut self, recording: &Recording, line: &Line, role: Role, devices: &mut Vec<Device>) -> usize {
        let conn = line.conn.unwrap_or_default();
        let request = request_of(recording, conn);
        let identity = request.map(identity);
        let free = |device: &Device| {
            let same = |wanted: &String| *wanted == device.identity || device.identity.is_empty();
            device.open.is_none() && identity.as_ref().is_none_or(same)
        };
        // Whoever has its socket and is to download something found no server for that; so did whoever tries a
        // download again just when it is due.
        let no_socket = !devices.iter().any(free) && devices.iter().any(|device| device.downloads);
        let due = |device: &Device| {
            let since = device.fetch_ended_at.map(|ended| line.at.saturating_sub(ended));
            device.downloads && since.is_some_and(|since| since.abs_diff(RETRY_MICROS) <= RETRY_SLACK)
        };
        let due = devices.iter().position(due);
        if role == Role::Fetch || (role == Role::Unreached && (no_socket || due.is_some())) {
            let at = due.filter(|_| role == Role::Unreached).unwrap_or_else(|| downloader(devices, request));
            if let Some(device) = devices.get_mut(at) {
                device.fetched += 1;
                device.fetching.insert(conn);
                if let Some(life) = self.lives.get_mut(device.life) {
                    life.fetches.insert(conn);
                }
            }
            return at;
        }
        // Of several with one identity, the one that lost its connection last.
        let free = (0..devices.len()).filter(|at| devices.get(*at).is_some_and(free));
        let last = free.max_by_key(|at| devices.get(*at).map(|device| device.last.ended_at));
        let at = last.unwrap_or_else(|| {
            // Attempts that found no server may come before the first that tells who it is.
            let identity = identity.clone().unwrap_or_default();
            devices.push(Device::new(identity));
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
            device.taken = false;
            if let Some(life) = self.lives.get_mut(device.life) {
                life.sockets.push(conn);
            }
        }
        at
    }
}

impl Device {
    fn new(identity: String) -> Self {
        Self {
            identity,
            life: usize::MAX,
            open: None,
            taken: false,
            last: Past::default(),
            offered: BTreeSet::new(),
            downloads: false,
            fetched: 0,
            fetching: BTreeSet::new(),
            fetch_ended_at: None,
        }
    }

    fn remember(&mut self, line: &Line) {
        if line.conn != self.open {
            let over = matches!(line.kind, Kind::Eof(_) | Kind::Closed | Kind::Failed(_) | Kind::Body { .. });
            if line.conn.is_some_and(|conn| over && self.fetching.remove(&conn)) {
                self.fetch_ended_at = Some(line.at);
            }
            return;
        }
        match &line.kind {
            Kind::Response { status: 101, .. } => self.taken = true,
            Kind::Eof(side) => {
                // Whoever was refused goes first, too, and comes back after its back-off.
                self.last.ended_by_device = *side == Side::Device && self.taken;
                self.last.ended_at = line.at;
                self.open = None;
            }
            Kind::Close(Side::Server, _) | Kind::Closed | Kind::Failed(_) => {
                self.last.ended_by_device = false;
                self.last.ended_at = line.at;
                self.open = None;
            }
            Kind::Message(Side::Device, message) => {
                if let Some(envelope) = &message.envelope {
                    let completed =
                        envelope.payload.get("status").is_some_and(|status| status == "completed");
                    self.last.said_goodbye |= envelope.event == "rebooting" || completed;
                    let over = ["completed", "failed", "ignored", "rescheduled"];
                    let status = envelope.payload.get("status").and_then(|status| status.as_str());
                    self.downloads &= status.is_none_or(|status| !over.contains(&status));
                }
            }
            Kind::Message(Side::Server, message) => {
                let offer =
                    message.envelope.as_ref().filter(|m| matches!(m.event.as_str(), "update" | "archive"));
                if let Some(payload) = offer.map(|envelope| &envelope.payload) {
                    let url = payload.get("firmware_url").or_else(|| payload.get("url"));
                    self.offered.extend(url.and_then(|url| target(url.as_str()?)).map(str::to_owned));
                    (self.downloads, self.fetched) = (true, 0);
                }
            }
            _ => {}
        }
    }
}

/// Finds the device that makes a request: of those who were offered the file, the one without an open request, and of
/// these the one that has tried as often as the request says.
fn downloader(devices: &[Device], request: Option<&Request>) -> usize {
    let wanted = request.map(|request| request.target.as_str()).unwrap_or_default();
    let tried = request.and_then(|request| request.header("x-retry-number")?.parse::<usize>().ok());
    let suits = |device: &Device| {
        let tries = tried.map_or(0, |tried| tried.abs_diff(device.fetched));
        let last = core::cmp::Reverse(device.life);
        (!device.offered.contains(wanted), !device.downloads, device.fetching.len(), tries, last)
    };
    (0..devices.len()).min_by_key(|at| devices.get(*at).map(suits)).unwrap_or_default()
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
