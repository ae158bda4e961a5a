//! What can be wrong with a configuration.

use alloc::string::String;

use crate::http::url::UrlError;
use crate::limits::{
    MAX_BOUND, MAX_FAILURE_PAUSE, MAX_FREEZE_ALARM, MAX_RECONNECT_DELAYS, MAX_WINDOWS, MIN_RATE,
};

/// Why a [`Config`](crate::Config) is unusable. Trying again with the same one never helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The server's address.
    #[error("the host is unusable: {0}; give a name like devices.nervescloud.com")]
    Host(UrlError),
    /// The device's identifier is empty, too long or not printable.
    #[error(
        "the identifier is empty, longer than 255 bytes or not printable; give the device's serial number"
    )]
    Identifier,
    /// The device's identifier is one that many devices share.
    #[error(
        "the identifier {0:?} is a placeholder: devices that share it would all be one device on the server; give this device \
         a serial number of its own"
    )]
    Placeholder(String),
    /// The key of the shared secret is empty or not printable.
    #[error("the key of the shared secret is empty or not printable; copy it from the product's settings")]
    Key,
    /// The secret is empty.
    #[error("the shared secret is empty; copy it from the product's settings")]
    Secret,
    /// Rounds or length of the key derivation.
    #[error("the key derivation takes 1 to 1,000,000 iterations and 1 to 1,024 bytes")]
    KeyDerivation,
    /// A public key that isn't base64 of 32 bytes.
    #[error("public key number {0} is not an Ed25519 key in base64, as `fwup -g` writes it")]
    PublicKey(usize),
    /// More public keys than the machine holds.
    #[error("there are more public keys than the {0} allowed")]
    TooManyKeys(usize),
    /// More renamed interfaces than the machine holds.
    #[error("there are more renamed interfaces than the {0} allowed")]
    TooManyInterfaces(usize),
    /// The windows in which updates may begin.
    #[error(
        "a maintenance window needs a start from 0 to 1439 and 1 to 10,080 minutes; there may be {MAX_WINDOWS}, up to 1439 minutes from UTC"
    )]
    Maintenance,
    /// The speed of downloads.
    #[error(
        "a rate needs {MIN_RATE} bytes per second and minutes from 0 to 1440; there may be {MAX_WINDOWS} windows, up to 1439 minutes from UTC"
    )]
    RateLimit,
    /// The bounds on what a server can make the device do.
    #[error("bounds on reboots and writes must be at most {MAX_BOUND}, a pause after failures at most {} h; 0 means none", MAX_FAILURE_PAUSE.as_secs() / 3600)]
    Bounds,
    /// [`Config::freeze_alarm`](crate::Config::freeze_alarm) is longer than
    /// [`MAX_FREEZE_ALARM`](crate::limits::MAX_FREEZE_ALARM).
    #[error("the alarm about an update service that does not answer can wait {} days at most; 0 means no alarm", MAX_FREEZE_ALARM.as_secs() / (24 * 3600))]
    FreezeAlarm,
    /// More trusted origins than the machine holds.
    #[error("there are more trusted origins than the {0} allowed")]
    TooManyOrigins(usize),
    /// A trusted origin that is no address.
    #[error(
        "trusted origin number {number} is unusable: {why}; give scheme, host and port, as in https://files.example:8443"
    )]
    TrustedOrigin {
        /// Its place, from 1.
        number: usize,
        /// The reason.
        why: UrlError,
    },
    /// A trusted origin without TLS beside a server with TLS.
    #[error(
        "trusted origin number {0} has no TLS, but the server has: credentials would be sent in the clear; give an https:// \
         address"
    )]
    PlainOrigin(usize),
    /// A header with an impossible name or value.
    #[error("the header {0:?} can't be sent: its name or value has forbidden characters")]
    Header(String),
    /// The delays between attempts.
    #[error("the back-off needs 1 ms ≤ min ≤ max ≤ 1 day and a jitter from 0 to 10")]
    Backoff,
    /// Delays in place of the back-off.
    #[error(
        "the delays between attempts to connect must be at most {MAX_RECONNECT_DELAYS}, each from 1 ms to 1 day"
    )]
    ReconnectAfter,
    /// An extension the machine can't offer.
    #[error("the extension {name:?} can't be used: {why}")]
    Extension {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The rules of parts.
    #[error("parts take 1 KiB to 1 GiB each, 1 to 8 requests at a time and at least 1 attempt")]
    Parts,
    /// A time that must not be zero.
    #[error("{0} must not be zero")]
    Zero(&'static str),
}
