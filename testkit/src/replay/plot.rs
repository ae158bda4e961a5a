//! What a recording tells about the device: its configuration, its clock, and how its program decided.

use std::collections::BTreeSet;

use std::collections::BTreeMap;
use std::time::Duration;

use nerves_hub_link_protocol::limits::MAX_TRUSTED_ORIGINS;
use nerves_hub_link_protocol::{
    Auth, Config, ConsoleConfig, Decision, ErrorReportsConfig, ExtensionsConfig, FirmwareMeta, HealthConfig,
    KeyDigest, LoggingConfig, NetworkIdentityConfig, PartsConfig, Serializer, SharedSecret,
    ThirdPartyExtension, UpdateStrategy, limits::MAX_CONCURRENT_PARTS,
};
use serde_json::{Map, Value};

use super::before;
use super::cast::Life;
use super::recording::{Envelope, Kind, Line, Recording, Request, Side};
use super::token;

/// The product's key and secret of the recorded installation, to check signatures with.
#[derive(Clone)]
pub struct Credentials {
    /// `nhp_…`.
    pub key: String,
    /// Its secret.
    pub secret: String,
}

/// What stands in for a secret or a key that a recording does not tell.
const MADE_UP_SECRET: &str = "a-secret-that-the-recording-does-not-tell";
const MADE_UP_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// One life of a device, told by its recording.
pub struct Plot<'r> {
    recording: &'r Recording,
    /// The life's lines.
    pub life: &'r Life,
    /// The configuration that the recorded device must have had.
    pub config: Config,
    /// Microseconds to add to the recording's clock to have the device's.
    pub clock_error: i64,
    /// The interface that its connections run over.
    pub interface: Option<String>,
    /// The interface that its downloads run over.
    pub download_interface: Option<String>,
}

impl<'r> Plot<'r> {
    /// Reads a life. `None` if it has no connection that tells anything.
    pub fn of(recording: &'r Recording, life: &'r Life, credentials: Option<&Credentials>) -> Option<Self> {
        let lines = || life.lines.iter().filter_map(|at| recording.lines.get(*at));
        let request = lines().find_map(|line| match &line.kind {
            Kind::Request(request) if request.is_upgrade() => Some(request),
            _ => None,
        })?;
        let via = lines().find_map(|line| match &line.kind {
            Kind::Open(via) => Some(via.as_str()),
            _ => None,
        });
        let said: Vec<&Envelope> = lines().filter_map(said).collect();
        let join = said.iter().find(|m| m.topic == "device" && m.event == "phx_join").map(|m| &m.payload);
        let text = |event: &str, field: &str| {
            said.iter()
                .filter(|m| m.event == event)
                .find_map(|m| m.payload.get(field)?.as_str().map(str::to_owned))
        };
        let mut config = Config::new(host(request, via), auth(request, credentials), firmware(join));
        // Most recordings were made without TLS.
        config.insecure_plain_hub = true;
        // The recorded client shows who it is wherever it is redirected to; ours only where the settings say so.
        let shown = lines().filter_map(|line| match &line.kind {
            Kind::Request(other) if other.is_upgrade() && other.header("x-nh-key").is_some() => {
                Some(host(other, via))
            }
            _ => None,
        });
        let origins: BTreeSet<String> = shown.collect();
        config.trusted_origins = origins.into_iter().take(MAX_TRUSTED_ORIGINS).collect();
        if request.target.contains("vsn=3.") {
            config.serializer = Serializer::MsgPack;
        }
        if let Some(join) = join {
            joined(&mut config, join, lines());
        }
        if let Some(heartbeat) = heartbeat(life, recording) {
            config.heartbeat = heartbeat;
        }
        config.console = said.iter().any(|m| m.topic == "console").then(ConsoleConfig::default);
        if let (Some(console), Some(timeout)) = (&mut config.console, before::console_timeout(lines())) {
            console.timeout = timeout;
        }
        let offered = said.iter().filter(|m| m.topic == "extensions" && m.event == "phx_join");
        extensions(&mut config.extensions, offered.filter_map(|m| m.payload.as_object()));
        config.strategy = strategy(recording, &said, before::at_a_time(&life.fetches, lines()));
        config.scripts = said.iter().any(|m| m.event == "scripts/run");
        Some(Self {
            recording,
            life,
            config,
            clock_error: clock_error(lines()),
            interface: text("report_network_interface", "interface"),
            download_interface: text("status_update", "downloader_network_interface"),
        })
    }

    /// Returns the life's lines from a position on.
    pub fn lines(&self, from: usize) -> impl Iterator<Item = &'r Line> {
        let recording = self.recording;
        self.life.lines.iter().skip(from).filter_map(move |at| recording.lines.get(*at))
    }

    /// Returns whether the recorded device fetched the archive that arrived just before `from`.
    pub fn wants_archive(&self, from: usize) -> bool {
        let before: Vec<&Line> = self.lines(0).take(from).collect();
        let url = before.iter().rev().find_map(|line| match &line.kind {
            Kind::Message(Side::Server, message) => {
                let envelope = message.envelope.as_ref().filter(|m| m.event == "archive")?;
                envelope.payload.get("url")?.as_str()
            }
            _ => None,
        });
        let wanted = url.and_then(target);
        wanted.is_some()
            && self.lines(from).any(|line| match &line.kind {
                Kind::Request(request) => Some(request.target.as_str()) == wanted,
                _ => false,
            })
    }

    /// Returns whether the server offered an archive under that path and query.
    pub fn is_archive(&self, path: &str) -> bool {
        self.lines(0).any(|line| match &line.kind {
            Kind::Message(Side::Server, message) => message.envelope.as_ref().is_some_and(|m| {
                let url = m.payload.get("url").and_then(Value::as_str);
                m.event == "archive" && url.and_then(target) == Some(path)
            }),
            _ => false,
        })
    }

    /// Returns what the recorded device decided about the update that arrived just before `from`.
    pub fn decision(&self, from: usize) -> Option<Decision> {
        let offered = self.lines(0).take(from).filter_map(|line| match &line.kind {
            Kind::Message(Side::Server, message) => message.envelope.as_ref()?.payload.get("firmware_url"),
            _ => None,
        });
        let wanted = offered.last().and_then(|url| target(url.as_str()?));
        for line in self.lines(from) {
            if let Kind::Request(request) = &line.kind
                && wanted == Some(request.target.as_str())
            {
                return Some(Decision::Apply);
            }
            if let Kind::Message(Side::Server, message) = &line.kind
                && message.envelope.as_ref().is_some_and(|m| m.topic == "device" && m.event == "update")
            {
                return None;
            }
            let Some(payload) = said(line).filter(|m| m.event == "status_update").map(|m| &m.payload) else {
                continue;
            };
            let reason = payload.get("reason").and_then(Value::as_str);
            match payload.get("status").and_then(Value::as_str) {
                Some("ignored") => {
                    return Some(Decision::Ignore { reason: reason.unwrap_or_default().to_owned() });
                }
                Some("rescheduled") => {
                    // The Elixir client says minutes.
                    let minutes = payload.get("delay_for").and_then(Value::as_u64).unwrap_or_default();
                    let delay = Duration::from_secs(minutes.saturating_mul(60));
                    return Some(Decision::Reschedule { delay, reason: reason.map(str::to_owned) });
                }
                Some("started" | "downloading" | "updating" | "completed" | "failed") => {
                    return Some(Decision::Apply);
                }
                _ => {}
            }
        }
        None
    }
}

/// The path and query of an address.
pub fn target(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.get(rest.find('/')?..)
}

/// Returns what a line says from the device to the server.
pub fn said(line: &Line) -> Option<&Envelope> {
    match &line.kind {
        Kind::Message(Side::Device, message) => message.envelope.as_ref(),
        _ => None,
    }
}

fn host(request: &Request, via: Option<&str>) -> String {
    let tls = via.is_some_and(|via| via.to_ascii_lowercase().contains("tls"));
    let scheme = if tls { "wss" } else { "ws" };
    format!("{scheme}://{}", request.header("host").unwrap_or("localhost"))
}

fn auth(request: &Request, credentials: Option<&Credentials>) -> Auth {
    let Some(key) = request.header("x-nh-key") else { return Auth::Certificate };
    let identifier = request.header("x-nh-signature").and_then(token::read).map(|(identifier, _)| identifier);
    let known = credentials.filter(|known| known.key == key);
    let secret = known.map_or(MADE_UP_SECRET, |known| known.secret.as_str());
    let mut shared = SharedSecret::new(key, secret, identifier.unwrap_or_else(|| "device".to_owned()));
    let algorithm = request.header("x-nh-alg").unwrap_or_default();
    let mut words = algorithm.split('-').skip(2);
    match words.next().map(str::to_ascii_lowercase).as_deref() {
        Some("sha384") => shared.digest = KeyDigest::Sha384,
        Some("sha512") => shared.digest = KeyDigest::Sha512,
        _ => {}
    }
    if let Some(rounds) = words.next().and_then(|word| word.parse().ok()) {
        shared.iterations = rounds;
    }
    if let Some(length) = words.next().and_then(|word| word.parse().ok()) {
        shared.key_length = length;
    }
    Auth::SharedSecret(shared)
}

fn firmware(join: Option<&Value>) -> FirmwareMeta {
    let text = |name: &str| Some(join?.get(format!("nerves_fw_{name}"))?.as_str()?.to_owned());
    FirmwareMeta {
        uuid: text("uuid").unwrap_or_default(),
        product: text("product").unwrap_or_default(),
        version: text("version").unwrap_or_default(),
        platform: text("platform").unwrap_or_default(),
        architecture: text("architecture").unwrap_or_default(),
        author: text("author"),
        description: text("description"),
        vcs_identifier: text("vcs_identifier"),
        misc: text("misc"),
    }
}

fn joined<'r>(config: &mut Config, join: &Value, lines: impl Iterator<Item = &'r Line>) {
    let meta = |name: &str| join.get("meta").and_then(|meta| meta.get(name)).and_then(Value::as_bool);
    config.firmware_validated = meta("firmware_validated");
    config.firmware_auto_revert_detected = meta("firmware_auto_revert_detected").unwrap_or_default();
    let fwup = join.get("fwup_version").and_then(Value::as_str);
    fwup.unwrap_or_default().clone_into(&mut config.fwup_version);
    let asks = join.get("fwup_public_keys").is_some();
    config.request_public_keys = asks;
    if !asks {
        let sent = lines.filter_map(|line| match &line.kind {
            Kind::Message(Side::Server, message) => message.envelope.as_ref(),
            _ => None,
        });
        let keys = sent.filter(|m| m.event == "fwup_public_keys").find_map(|m| m.payload.get("keys")?.get(0));
        let key = keys.and_then(Value::as_str).unwrap_or(MADE_UP_KEY);
        config.public_keys = vec![key.to_owned()];
    }
    config.request_archive_public_keys = join.get("archive_public_keys").is_some();
    if !config.request_archive_public_keys && config.public_keys.is_empty() {
        config.archive_public_keys = vec![MADE_UP_KEY.to_owned()];
    }
    let known: BTreeMap<&String, &Value> = join.as_object().into_iter().flatten().collect();
    for (name, value) in known {
        // What the slot's own variables say beyond what every device knows.
        if let (true, Some(value)) = (name.starts_with("nerves_fw_"), value.as_str()) {
            config.extra_join_params.insert(name.clone(), value.to_owned());
        }
    }
}

/// What the device offered: extensions of the protocol, and others with their versions.
fn extensions<'r>(config: &mut ExtensionsConfig, offers: impl Iterator<Item = &'r Map<String, Value>>) {
    let mut offered: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for (name, version) in offers.flatten() {
        let versions = offered.entry(name).or_default();
        let version = version.as_str().unwrap_or_default().to_owned();
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let mut has = |name: &str| offered.remove(&name.to_owned()).is_some();
    config.health = has("health").then(HealthConfig::default);
    config.geo = has("geo");
    config.network_identity = has("network_identity").then(NetworkIdentityConfig::default);
    config.local_shell = has("local_shell");
    config.logging = has("logging").then(LoggingConfig::default);
    config.error_reports = has("error_reports").then(ErrorReportsConfig::default);
    config.metrics = has("metrics");
    config.alarms = has("alarms");
    let third_party = offered.into_iter().map(|(name, versions)| {
        let name = name.clone();
        ThirdPartyExtension { name, versions }
    });
    config.third_party = third_party.collect();
}

/// How firmware got to the applier: a device that reports a stage of downloading kept it first.
fn strategy(recording: &Recording, said: &[&Envelope], at_a_time: u32) -> UpdateStrategy {
    let kept = said.iter().any(|m| m.payload.get("stage").is_some_and(|stage| stage == "downloading"));
    let noted = recording.lines.iter().any(|line| match &line.kind {
        Kind::Note(text) => text.contains("PartsUpdater"),
        _ => false,
    });
    match (kept, noted || at_a_time > 1) {
        (false, _) => UpdateStrategy::Streaming,
        (true, false) => UpdateStrategy::Caching,
        (true, true) => {
            let max_concurrent_parts = at_a_time.clamp(1, MAX_CONCURRENT_PARTS);
            UpdateStrategy::Parts(PartsConfig { max_concurrent_parts, ..PartsConfig::default() })
        }
    }
}

/// The time between two heartbeats, or between the upgrade and the only one, to a tenth of a second.
fn heartbeat(life: &Life, recording: &Recording) -> Option<Duration> {
    let mut since: Option<u64> = None;
    for line in life.lines.iter().filter_map(|at| recording.lines.get(*at)) {
        match &line.kind {
            Kind::Response { status: 101, .. } => since = Some(line.at),
            _ if said(line).is_some_and(|m| m.topic == "phoenix" && m.event == "heartbeat") => {
                let tenths = (line.at.saturating_sub(since?) + 50_000) / 100_000;
                return Some(Duration::from_millis(tenths.max(1) * 100));
            }
            _ => {}
        }
    }
    None
}

/// How far the device's clock is from the recording's, in whole seconds. Read from what the device signed before the server
/// first refused it, since it may sign by the server's clock then. A signature may be older than its request, so the newest
/// one counts.
fn clock_error<'r>(lines: impl Iterator<Item = &'r Line>) -> i64 {
    let refused = |line: &&Line| matches!(line.kind, Kind::Response { status: 401, .. });
    let error = |line: &Line| match &line.kind {
        Kind::Request(request) if request.is_upgrade() => {
            let signed = request.header("x-nh-time")?.parse::<i64>().ok()?;
            Some(signed.saturating_sub(line.unix_micros?.div_euclid(1_000_000)))
        }
        _ => None,
    };
    let error = lines.take_while(|line| !refused(line)).filter_map(error).max().unwrap_or_default();
    // A second is what rounding and the way to the recorder take.
    if error.abs() > 1 { error.saturating_mul(1_000_000) } else { 0 }
}
