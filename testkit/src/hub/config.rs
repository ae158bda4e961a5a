//! How the hub is set up.

use std::fmt;

use crate::meta::FirmwareMeta;

/// Settings of the hub. The defaults are the real server's, but for `offer_interval_ms`.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Milliseconds between two rounds of offers; the real server takes 3000. 0 (the default) makes
    /// tests quick: an offer follows its cause at once.
    pub offer_interval_ms: u64,
    /// Extensions the product allows; each attaches when the device lists a version `~> 0.0.1`.
    pub extensions: Vec<String>,
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
    /// Answers heartbeats. Switched off, the device must notice that the connection is dead.
    pub heartbeat_replies: bool,
    /// Milliseconds without any frame before a socket is closed with 1002.
    pub idle_ms: u64,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            offer_interval_ms: 0,
            extensions: ["geo", "health", "local_shell", "network_identity"].map(str::to_owned).to_vec(),
            update_fields: UpdateFields::default(),
            failure_threshold: 3,
            failure_rate_amount: 5,
            failure_rate_seconds: 180,
            penalty_timeout_minutes: 1440,
            heartbeat_replies: true,
            idle_ms: crate::limits::IDLE_MS,
        }
    }
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
