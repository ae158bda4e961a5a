//! What a device must say about itself, and the numbers that rule its behaviour.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::event::FirmwareMeta;
use crate::secret::Secret;

/// The settings of a [`Link`](crate::Link). Build with [`Config::new`], then change fields.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The server: `host`, `host:port` or a URL (`ws`, `wss`, `http`, `https`). A path is replaced.
    pub host: String,
    /// Who the device is to the server.
    pub auth: Auth,
    /// The firmware that runs.
    pub firmware: FirmwareMeta,
    /// Whether that firmware is marked good; `None` if the device can't tell.
    pub firmware_validated: Option<bool>,
    /// Whether the device fell back from a bad firmware.
    pub firmware_auto_revert_detected: bool,
    /// The `fwup` version to claim, which decides whether the server sends deltas.
    pub fwup_version: String,
    /// Further join parameters, sent as they are. A name the machine sends itself is ignored.
    pub extra_join_params: BTreeMap<String, String>,
    /// Ed25519 public keys (base64) firmware must be signed with.
    pub public_keys: Vec<String>,
    /// Ask the server for keys even when some are configured.
    pub request_public_keys: bool,
    /// Take keys from the server. When false, [`Config::public_keys`] are pinned.
    pub accept_server_keys: bool,
    /// More headers for the upgrade request.
    pub headers: Vec<(String, Secret)>,
    /// Time between heartbeats; zero switches them off. Default 30 s.
    pub heartbeat: Duration,
    /// How long a join may go unanswered. Default 10 s.
    pub join_timeout: Duration,
    /// Delays before a topic is joined again; the last repeats. Default 5 s.
    pub rejoin: Vec<Duration>,
    /// How long connecting may take. Default 30 s.
    pub connect_timeout: Duration,
    /// Delays between attempts to connect.
    pub backoff: Backoff,
    /// How many redirects in a row to follow. Default 2.
    pub max_redirects: u8,
    /// How long the application may think about an offer. Then it is rescheduled. Default 60 s.
    pub decision_timeout: Duration,
    /// The unit of `delay_for` in `rescheduled` reports. Default milliseconds, as servers read it.
    pub delay_unit: DelayUnit,
    /// The rules of downloads.
    pub download: DownloadConfig,
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
    /// Largest file accepted. Default 4 GiB.
    pub max_size: u64,
    /// Follow redirects and accept URLs to plain `http`. Default true: the signature protects firmware.
    pub allow_http: bool,
}
