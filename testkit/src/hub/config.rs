//! How the hub is set up.

use std::fmt;

use crate::meta::FirmwareMeta;

/// Settings of the hub. The defaults are today's real server's, but for `offer_interval_ms` and
/// `concurrent_updates`.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Milliseconds between two rounds of offers; the real server takes 3000. 0 (the default) makes
    /// tests quick: an offer follows its cause at once.
    pub offer_interval_ms: u64,
    /// Extensions the product allows; each attaches when the device lists a version that the server implements. A name
    /// that NervesHub doesn't know counts as one with the version 0.0.1.
    pub extensions: Vec<String>,
    /// Names the versions of extensions in `extensions:get` (device-protocol A3). Servers until August 2026 did not.
    pub advertise_extensions: bool,
    /// Has the analytics database that `logging`, `error_reports` and `metrics` need.
    pub analytics: bool,
    /// Milliseconds between two `health:check`; the real server takes an hour.
    pub health_interval_ms: u64,
    /// Milliseconds between two `metrics:check`; the real server takes a quarter of an hour.
    pub metrics_interval_ms: u64,
    /// Speaks MessagePack (`vsn=3.0.0`).
    pub msgpack: bool,
    /// Lets devices ask for their updates (device-protocol A2). Servers until August 2026 ignore them.
    pub managed_updates: bool,
    /// What a request for an update gets while one is in flight.
    pub already_updating: AlreadyUpdating,
    /// Updates of the deployment group in flight at a time; 0 (the default) is no limit, the real server takes 10.
    pub concurrent_updates: usize,
    /// Which fields newer than server 2.4.0 an `update` carries.
    pub update_fields: UpdateFields,
    /// Attempts after which a device is blocked.
    pub failure_threshold: usize,
    /// Attempts within `failure_rate_seconds` after which a device is blocked.
    pub failure_rate_amount: usize,
    /// The window of `failure_rate_amount`, in seconds.
    pub failure_rate_seconds: u64,
    /// Minutes a device stays blocked.
    pub penalty_timeout_minutes: u64,
    /// What joins of the device channel get.
    pub joins: Joins,
    /// Answers heartbeats. Switched off, the device must notice that the connection is dead.
    pub heartbeat_replies: bool,
    /// Milliseconds without any frame before a socket is closed with 1002.
    pub idle_ms: u64,
    /// Devices registered on first sight at most.
    pub devices_max: usize,
    /// Notes heartbeats in the log. Switched off, a large fleet leaves room for what matters.
    pub log_heartbeats: bool,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            offer_interval_ms: 0,
            extensions: ["geo", "health", "local_shell", "network_identity"].map(str::to_owned).to_vec(),
            advertise_extensions: true,
            analytics: true,
            health_interval_ms: 3_600_000,
            metrics_interval_ms: 900_000,
            msgpack: true,
            managed_updates: true,
            already_updating: AlreadyUpdating::default(),
            concurrent_updates: 0,
            update_fields: UpdateFields::default(),
            failure_threshold: 3,
            failure_rate_amount: 5,
            failure_rate_seconds: 180,
            penalty_timeout_minutes: 1440,
            joins: Joins::default(),
            heartbeat_replies: true,
            idle_ms: crate::limits::IDLE_MS,
            devices_max: crate::limits::DEVICES,
            log_heartbeats: true,
        }
    }
}

impl HubConfig {
    /// The server that the recordings were made with: 22 August 2026, without analytics.
    pub fn recorded() -> Self {
        Self { advertise_extensions: false, analytics: false, managed_updates: false, ..Self::default() }
    }
}

/// What joins of the device channel get.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Joins {
    /// What they deserve.
    #[default]
    Judged,
    /// The answer `error` with this reason.
    Refused(String),
    /// No answer.
    Unanswered,
}

/// What a request for an update gets while one is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AlreadyUpdating {
    /// `update_rejected` with the reason `already_updating`.
    #[default]
    Rejected,
    /// The device channel crashes, as in the first server with device-managed updates.
    Crash,
}

/// An archive as the hub offers it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Archive {
    /// Bytes of the file.
    pub size: u64,
    /// The archive's UUID.
    pub uuid: String,
    /// Its version.
    pub version: String,
    /// What it is.
    pub description: Option<String>,
    /// The platform it is for.
    pub platform: Option<String>,
    /// The architecture it is for.
    pub architecture: Option<String>,
    /// When it was uploaded: ISO 8601 without zone.
    pub uploaded_at: String,
    /// Where to download it; absolute.
    pub url: String,
}

/// Fields of `update` that older servers leave out (device-protocol §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateFields {
    /// Send `size`.
    pub size: bool,
    /// Send `checksum`.
    pub checksum: bool,
    /// Send `partials_checksums`.
    pub partials: bool,
}

impl Default for UpdateFields {
    fn default() -> Self {
        Self { size: true, checksum: true, partials: true }
    }
}

/// A product's key, and its secret, which never shows in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// `nhp_…` for a product, `nhd_…` for one device.
    pub key: String,
    /// The secret, used as the ASCII text it is.
    pub secret: String,
}

impl KeyPair {
    /// Takes both texts.
    pub fn new(key: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { key: key.into(), secret: secret.into() }
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A firmware as the hub offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// What it is.
    pub meta: FirmwareMeta,
    /// Where to download it; absolute.
    pub url: String,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file in upper-case hex.
    pub checksum: String,
    /// SHA-256 of each 1 MiB part in upper-case hex.
    pub partials: Vec<String>,
}

/// Why an upgrade is refused, and with which answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Headers beyond `date` and `content-length`.
    pub headers: Vec<(String, String)>,
    /// The body, often empty.
    pub body: String,
}

impl Refusal {
    /// An answer with the headers every refusal of the real server has.
    pub fn new(status: u16, body: &str) -> Self {
        let mut headers = vec![
            ("vary".to_owned(), "accept-encoding".to_owned()),
            ("cache-control".to_owned(), "max-age=0, private, must-revalidate".to_owned()),
        ];
        if !body.is_empty() {
            headers.push(("nh-connection-error-reason".to_owned(), body.to_owned()));
        }
        Self { status, headers, body: body.to_owned() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}
