//! What a device must say about itself, and the numbers that rule its behaviour.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::attempts::{Attempt, AttemptPolicy};
use crate::bounds::{Bounds, History};
use crate::error::ConfigError;
use crate::event::FirmwareMeta;
use crate::extension::ExtensionsConfig;
use crate::http::url::Url;
use crate::hub::{keys, names, origin};
use crate::limits::{
    CLOCK_HORIZON, FREEZE_ALARM, MAX_FREEZE_ALARM, MAX_IDENTIFIER_BYTES, MAX_INTERFACE_NAMES,
    MAX_KEY_ITERATIONS, MAX_KEY_LENGTH, MAX_NAME_CHARS, MAX_PUBLIC_KEYS, MAX_RECONNECT_DELAYS,
};
use crate::mismatch::AllowMismatch;
use crate::schedule::{Maintenance, RateLimit};
use crate::secret::Secret;
use crate::text::cut;
use crate::update_strategy::UpdateStrategy;
use crate::update_tool::{ProgressEvent, UpdateTool};

/// The settings of a [`Link`](crate::Link). Build with [`Config::new`], then change fields.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The server: `host`, `host:port` or a URL (`ws`, `wss`, `http`, `https`). A path is where a proxy before the server puts
    /// it: the socket's own path follows. An IPv6 address may stand without brackets if no port follows.
    pub host: String,
    /// The whole address of the socket, in place of [`Config::host`]: path and query are kept as they are, but for
    /// `vsn`, which the serializer decides. With a shared secret, `/` and the path for certificates become the path
    /// for shared secrets. Default none.
    pub socket_url: Option<String>,
    /// Who the device is to the server.
    pub auth: Auth,
    /// How messages are written. Default JSON.
    pub serializer: Serializer,
    /// The firmware that runs.
    pub firmware: FirmwareMeta,
    /// Whether that firmware is marked good; `None` if the device can't tell.
    pub firmware_validated: Option<bool>,
    /// Whether the device fell back from a bad firmware.
    pub firmware_auto_revert_detected: bool,
    /// The `fwup` version to claim, which decides whether the server sends deltas.
    pub fwup_version: String,
    /// When updates may begin. Default any time.
    pub maintenance: Maintenance,
    /// How fast firmware may come. Default as fast as can be.
    pub rate: RateLimit,
    /// When a firmware that was tried again and again is refused.
    pub attempts: AttemptPolicy,
    /// The attempts that [`Output::SaveAttempts`](crate::Output::SaveAttempts) told last, maybe before a restart.
    pub past_attempts: Vec<Attempt>,
    /// Which differences between a file's signed metadata and the offer or the device are allowed. Default none.
    pub allow_mismatch: AllowMismatch,
    /// How often a server can make the device reboot.
    pub bounds: Bounds,
    /// How long no update service may show itself before [`Alarm::UpdatesFrozen`](crate::Alarm::UpdatesFrozen) is raised.
    /// An accepted join shows one, and every message after it, heartbeats included, over TLS or with
    /// [`Config::insecure_plain_hub`]. The time counts over restarts if [`Output::SaveHistory`](crate::Output::SaveHistory)
    /// is obeyed, and while the device is off if it has a clock. The alarm waits ten minutes for a device that was told to
    /// connect, and is not raised for one that is offline on purpose. Zero means never. At most
    /// [`MAX_FREEZE_ALARM`](crate::limits::MAX_FREEZE_ALARM). Default [`FREEZE_ALARM`](crate::limits::FREEZE_ALARM), a week.
    pub freeze_alarm: Duration,
    /// What [`Output::SaveHistory`](crate::Output::SaveHistory) told last, maybe before a restart;
    /// [`History::unknown`] where nothing can be kept.
    pub history: History,
    /// Refuse firmware that is older than what runs, or than the newest that ran well here
    /// ([`Config::newest_version`]), by the rules of SemVer; also by hand. A version that is none by those rules is refused.
    /// Default false.
    pub refuse_older: bool,
    /// The version that [`Output::SaveNewest`](crate::Output::SaveNewest) told last, maybe before a restart or in another
    /// slot. One that is none by the rules of SemVer counts for nothing. Default none.
    pub newest_version: Option<String>,
    /// What applies updates. Default `fwup`.
    pub update_tool: UpdateTool,
    /// The event by which progress is reported. Default by the tool.
    pub progress_event: ProgressEvent,
    /// Names of interfaces as the server is to know them. Servers tell Wi-Fi, Ethernet and cellular connections apart
    /// by the beginnings `wlan`, `eth`, `en` and `wwan`, and know no `wlp2s0`. At most
    /// [`MAX_INTERFACE_NAMES`](crate::limits::MAX_INTERFACE_NAMES). Default none.
    pub interface_names: BTreeMap<String, String>,
    /// Further join parameters, sent as they are. A name the machine sends itself is ignored.
    pub extra_join_params: BTreeMap<String, String>,
    /// Ed25519 public keys (base64) firmware must be signed with.
    pub public_keys: Vec<String>,
    /// Ask the server for keys even when some are configured.
    pub request_public_keys: bool,
    /// Ed25519 public keys (base64) archives must be signed with. If there are none, those of [`Config::public_keys`].
    pub archive_public_keys: Vec<String>,
    /// Ask the server for keys of archives even when some are configured.
    pub request_archive_public_keys: bool,
    /// UUIDs of archives that the device has, of which the newest
    /// [`MAX_KNOWN_ARCHIVES`](crate::limits::MAX_KNOWN_ARCHIVES) are remembered: they aren't offered to the application.
    pub known_archives: Vec<String>,
    /// Take keys from the server. When false, [`Config::public_keys`] are pinned.
    pub accept_server_keys: bool,
    /// Trust a server that is reached without TLS (`ws://`, `http://`) as if it had proved who it is: take its public keys,
    /// its clock, shells, scripts, and firmware over `http` without a checksum. Anybody between device and server can then
    /// do what the server may. For tests and closed networks. Default false.
    pub insecure_plain_hub: bool,
    /// How long after the release of this software a server's `Date` is believed by a device whose own clock is wrong.
    /// Default 10 years.
    pub clock_horizon: Duration,
    /// Origins, as `https://other.example:8443`, that get the device's credentials beside the server's own: the signature,
    /// [`Config::headers`] and the client certificate. Nobody else does, wherever redirects and files lead. Addresses
    /// inside the device's network are allowed there, too. At most
    /// [`MAX_TRUSTED_ORIGINS`](crate::limits::MAX_TRUSTED_ORIGINS); with TLS, if the server has. Default none.
    pub trusted_origins: Vec<String>,
    /// More headers for the upgrade request.
    pub headers: Vec<(String, Secret)>,
    /// Time between heartbeats; zero switches them off. Default 30 s.
    pub heartbeat: Duration,
    /// How long a join may go unanswered. Default 10 s.
    pub join_timeout: Duration,
    /// Delays before a topic is joined again, each longer by up to [`Backoff::jitter`]; the last repeats.
    /// Default 5 s.
    pub rejoin: Vec<Duration>,
    /// How long connecting may take. Default 30 s.
    pub connect_timeout: Duration,
    /// Before the first connection, look whether the server can be reached, every three seconds until it can. Default
    /// true: it saves the errors and the growing waits of a network that comes up after the device.
    pub wait_for_network: bool,
    /// Delays between attempts to connect.
    pub backoff: Backoff,
    /// Delays between attempts to connect in place of [`Config::backoff`], each longer by up to its jitter; the last
    /// repeats. Empty, the default, means the back-off. At most
    /// [`MAX_RECONNECT_DELAYS`](crate::limits::MAX_RECONNECT_DELAYS), each from 1 ms to 1 day.
    pub reconnect_after: Vec<Duration>,
    /// How many redirects in a row to follow. Default 2.
    pub max_redirects: u8,
    /// Follow redirects from `wss` to `ws`, and without TLS to other hosts. Default false.
    pub allow_redirect_downgrade: bool,
    /// How long the application may think about an offer. Then it is rescheduled. Default 60 s.
    pub decision_timeout: Duration,
    /// The unit of `delay_for` in `rescheduled` reports. Default milliseconds, as servers read it.
    pub delay_unit: DelayUnit,
    /// Whether operators may send scripts, for the application to run. Default false: they are answered with a
    /// refusal.
    pub scripts: bool,
    /// Which extensions to offer to the server.
    pub extensions: ExtensionsConfig,
    /// Whether operators may work with a shell on the device and send files there, and how. Default `None`: they may
    /// not. The shell is the application's, see [`ShellEvent::Wanted`](crate::ShellEvent::Wanted).
    pub console: Option<ConsoleConfig>,
    /// The rules of downloads.
    pub download: DownloadConfig,
    /// How firmware gets from the server to the applier. Default streaming.
    pub strategy: UpdateStrategy,
}

/// The rules of the console (device-protocol §4).
#[derive(Clone, Debug, PartialEq)]
pub struct ConsoleConfig {
    /// How long a shell may neither write nor be written to before it is stopped; zero is for ever. Default 300 s.
    pub timeout: Duration,
    /// Largest file that is received, in bytes. Default 10 MiB.
    pub max_file_size: u64,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Serializer {
    /// Phoenix V2 JSON, which every server speaks.
    #[default]
    Json,
    /// MessagePack, which newer servers speak. After a refusal (HTTP 403) the machine speaks JSON for the rest of
    /// its life.
    MsgPack,
}

/// How the device proves who it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Auth {
    /// A key and secret shared with the server; path `/device-socket/websocket`.
    SharedSecret(SharedSecret),
    /// A client certificate, which the adapter's TLS holds; path `/socket/websocket`.
    Certificate,
}

/// A key and secret shared with the server.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedSecret {
    /// `nhp_…` of a product or `nhd_…` of a device.
    pub key: String,
    /// The secret, as text.
    pub secret: Secret,
    /// The device's identifier (serial number).
    pub identifier: String,
    /// The digest of the key derivation. Default SHA-256.
    pub digest: KeyDigest,
    /// Rounds of the key derivation. Default 1000.
    pub iterations: u32,
    /// Bytes of the derived key. Default 32.
    pub key_length: u32,
}

/// The digest of the shared secret's key derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeyDigest {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// Delays between attempts to connect: `min`, doubled up to `max`, each longer by up to `jitter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The first delay. Default 1 s.
    pub min: Duration,
    /// The longest delay before jitter. Default 60 s.
    pub max: Duration,
    /// The largest share added at random. Default 0.5.
    pub jitter: f64,
}

/// The unit of `delay_for`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DelayUnit {
    /// As servers read it.
    #[default]
    Milliseconds,
    /// As the Elixir client sends it.
    Minutes,
}

/// The rules of downloads (device-protocol §6.4).
#[derive(Clone, Debug, PartialEq)]
pub struct DownloadConfig {
    /// Attempts in a row that may fail without a byte of progress. Default 10.
    pub max_disconnects: u32,
    /// Longest silence while waiting for the network. Default 60 s.
    pub idle_timeout: Duration,
    /// Longest life of one download. Default 24 h.
    pub max_duration: Duration,
    /// Wait before another attempt. Default 15 s.
    pub retry_delay: Duration,
    /// Slowest acceptable average, in bits per second of network time. Default 30,000.
    pub min_bits_per_second: u64,
    /// How long connecting may take. Default 30 s.
    pub connect_timeout: Duration,
    /// How many redirects in a row to follow. Default 5.
    pub max_redirects: u8,
    /// Largest firmware accepted, in bytes, whether the server announces its size or not. Default 4 GiB.
    pub max_size: u64,
    /// Largest archive accepted, in bytes, whether the server announces its size or not. Default 1 GiB.
    pub max_archive_size: u64,
    /// Refuse files at addresses of private networks, too, unless the server itself has that address. Those of the device
    /// itself and of its link are always refused, unless the server is there. Default false.
    pub refuse_private_addresses: bool,
    /// Follow redirects and accept URLs to plain `http`. Default true: the signature protects firmware.
    pub allow_http: bool,
}

impl Config {
    /// Builds a configuration with the documented defaults: no keys of its own (the server is asked
    /// for them), nothing known about validation, and a claimed `fwup` version of 1.0.0, which keeps
    /// servers from sending deltas.
    pub fn new(host: impl Into<String>, auth: Auth, firmware: FirmwareMeta) -> Self {
        Self {
            host: host.into(),
            socket_url: None,
            auth,
            serializer: Serializer::default(),
            firmware,
            firmware_validated: None,
            firmware_auto_revert_detected: false,
            fwup_version: String::from("1.0.0"),
            maintenance: Maintenance::default(),
            rate: RateLimit::default(),
            attempts: AttemptPolicy::default(),
            past_attempts: Vec::new(),
            allow_mismatch: AllowMismatch::default(),
            bounds: Bounds::default(),
            freeze_alarm: FREEZE_ALARM,
            history: History::default(),
            refuse_older: false,
            newest_version: None,
            update_tool: UpdateTool::default(),
            progress_event: ProgressEvent::default(),
            interface_names: BTreeMap::new(),
            extra_join_params: BTreeMap::new(),
            public_keys: Vec::new(),
            request_public_keys: false,
            archive_public_keys: Vec::new(),
            request_archive_public_keys: false,
            known_archives: Vec::new(),
            accept_server_keys: true,
            insecure_plain_hub: false,
            clock_horizon: CLOCK_HORIZON,
            trusted_origins: Vec::new(),
            headers: Vec::new(),
            heartbeat: Duration::from_secs(30),
            join_timeout: Duration::from_secs(10),
            rejoin: alloc::vec![Duration::from_secs(5)],
            connect_timeout: Duration::from_secs(30),
            wait_for_network: true,
            backoff: Backoff::default(),
            reconnect_after: Vec::new(),
            max_redirects: 2,
            allow_redirect_downgrade: false,
            decision_timeout: Duration::from_secs(60),
            delay_unit: DelayUnit::default(),
            scripts: false,
            extensions: ExtensionsConfig::default(),
            console: None,
            download: DownloadConfig::default(),
            strategy: UpdateStrategy::default(),
        }
    }

    /// Checks everything a caller can get wrong, as [`Link::new`](crate::Link::new) does.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.validate().map(drop)
    }

    /// Checks everything a caller can get wrong. Returns the address of the socket.
    pub(crate) fn validate(&self) -> Result<Url, ConfigError> {
        let given = self.socket_url.as_deref();
        let host = given.unwrap_or(&self.host).trim();
        let full = if given.is_some() || host.contains("://") {
            with_brackets(host)
        } else {
            with_brackets(&format!("wss://{host}"))
        };
        let url = Url::parse(&full).map_err(ConfigError::Host)?;
        let path = match &self.auth {
            Auth::SharedSecret(secret) => {
                secret.validate()?;
                names::SHARED_SECRET_PATH
            }
            Auth::Certificate => names::CERTIFICATE_PATH,
        };
        if self.interface_names.len() > MAX_INTERFACE_NAMES {
            return Err(ConfigError::TooManyInterfaces(MAX_INTERFACE_NAMES));
        }
        for keys in [&self.public_keys, &self.archive_public_keys] {
            if keys.len() > MAX_PUBLIC_KEYS {
                return Err(ConfigError::TooManyKeys(MAX_PUBLIC_KEYS));
            }
            if let Some(bad) = keys.iter().position(|key| !keys::is_usable(key)) {
                return Err(ConfigError::PublicKey(bad + 1));
            }
        }
        origin::check(&url, &self.trusted_origins)?;
        if let Some((name, _)) = self.headers.iter().find(|(name, value)| !is_header(name, value.expose())) {
            return Err(ConfigError::Header(cut(name, MAX_NAME_CHARS)));
        }
        self.backoff.validate()?;
        Backoff::validate_list(&self.reconnect_after)?;
        self.maintenance.validate()?;
        self.rate.validate()?;
        self.bounds.validate()?;
        if self.freeze_alarm > MAX_FREEZE_ALARM {
            return Err(ConfigError::FreezeAlarm);
        }
        self.extensions.validate()?;
        if let UpdateStrategy::Parts(parts) = &self.strategy {
            parts.validate()?;
        }
        let times = [
            ("join_timeout", self.join_timeout),
            ("connect_timeout", self.connect_timeout),
            ("decision_timeout", self.decision_timeout),
            ("download.idle_timeout", self.download.idle_timeout),
            ("download.max_duration", self.download.max_duration),
            ("download.connect_timeout", self.download.connect_timeout),
        ];
        match times.iter().find(|(_, time)| time.is_zero()) {
            Some((name, _)) => Err(ConfigError::Zero(name)),
            None if given.is_none() => Ok(url.with_path(&format!("{}{path}", prefix(url.path())))),
            None if matches!(url.path(), "/" | names::CERTIFICATE_PATH) => Ok(url.with_path(path)),
            None => Ok(url),
        }
    }
}

impl Serializer {
    /// Returns what servers call it.
    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::Json => names::VSN_JSON,
            Self::MsgPack => names::VSN_MSGPACK,
        }
    }
}

impl SharedSecret {
    /// Builds a shared secret with the server's usual key derivation.
    pub fn new(key: impl Into<String>, secret: impl Into<String>, identifier: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            secret: Secret::new(secret),
            identifier: identifier.into(),
            digest: KeyDigest::Sha256,
            iterations: 1000,
            key_length: 32,
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let identifier = self.identifier.as_str();
        if identifier.trim().is_empty()
            || identifier.len() > MAX_IDENTIFIER_BYTES
            || identifier.chars().any(char::is_control)
        {
            return Err(ConfigError::Identifier);
        }
        if nerves_hub_link_serial::is_placeholder(identifier) {
            return Err(ConfigError::Placeholder(identifier.into()));
        }
        if self.key.is_empty() || !self.key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::Key);
        }
        if self.secret.expose().is_empty() {
            return Err(ConfigError::Secret);
        }
        let rounds = (1..=MAX_KEY_ITERATIONS).contains(&self.iterations);
        if rounds && (1..=MAX_KEY_LENGTH).contains(&self.key_length) {
            Ok(())
        } else {
            Err(ConfigError::KeyDerivation)
        }
    }
}

impl Backoff {
    /// Checks delays that are to take the place of a back-off.
    pub(crate) fn validate_list(delays: &[Duration]) -> Result<(), ConfigError> {
        let sane =
            |delay: &Duration| (Duration::from_millis(1)..=Duration::from_secs(24 * 3600)).contains(delay);
        let fits = delays.len() <= MAX_RECONNECT_DELAYS && delays.iter().all(sane);
        if fits { Ok(()) } else { Err(ConfigError::ReconnectAfter) }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let times = self.min >= Duration::from_millis(1)
            && self.min <= self.max
            && self.max <= Duration::from_secs(24 * 3600);
        // Not a number is in no range.
        if times && (0.0..=10.0).contains(&self.jitter) { Ok(()) } else { Err(ConfigError::Backoff) }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(60), jitter: 0.5 }
    }
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(300), max_file_size: 10 * 1024 * 1024 }
    }
}

impl Default for DownloadConfig {
    fn default() -> Self {
        Self {
            max_disconnects: 10,
            idle_timeout: Duration::from_secs(60),
            max_duration: Duration::from_secs(24 * 3600),
            retry_delay: Duration::from_secs(15),
            min_bits_per_second: 30_000,
            connect_timeout: Duration::from_secs(30),
            max_redirects: 5,
            max_size: 4 * 1024 * 1024 * 1024,
            max_archive_size: 1024 * 1024 * 1024,
            refuse_private_addresses: false,
            allow_http: true,
        }
    }
}

/// Puts brackets around a bare IPv6 address.
fn with_brackets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.parse::<core::net::Ipv6Addr>() {
        Ok(_) => format!("{scheme}://[{authority}]{target}"),
        Err(_) => String::from(url),
    }
}

/// Returns the path before that of the socket, which people may have copied with it, in whole or without its end.
fn prefix(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix("/websocket").unwrap_or(path);
    ["/device-socket", "/socket"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path)
}

/// Returns whether a header can be sent as it is (RFC 9110 §5).
fn is_header(name: &str, value: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let text = |byte: u8| byte == b'\t' || byte == b' ' || byte.is_ascii_graphic();
    !name.is_empty() && name.bytes().all(token) && value.bytes().all(text)
}
