//! Which extensions a device offers, and how they behave.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::{ErrorReportsConfig, LoggingConfig};
use crate::error::ConfigError;
use crate::hub::names;
use crate::limits::{MAX_EXTENSION_VERSIONS, MAX_NAME_CHARS, MAX_THIRD_PARTY_EXTENSIONS};
use crate::text::cut;

/// Which extensions a device offers. The server attaches those that its operators switched on, and none before it
/// asked for the offer. Part of [`Config`](crate::Config).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ExtensionsConfig {
    /// Tell how the device is doing. Default on.
    pub health: Option<HealthConfig>,
    /// Tell where the device is, if the application knows. Default true; nothing is looked up without it.
    pub geo: bool,
    /// Tell who the device is in overlay networks, if the application knows. Default on.
    pub network_identity: Option<NetworkIdentityConfig>,
    /// Send log lines. Default off.
    pub logging: Option<LoggingConfig>,
    /// Report errors. Default off.
    pub error_reports: Option<ErrorReportsConfig>,
    /// Send numbers with the time they are of. Default false. Not offered while the device doesn't know the time.
    pub metrics: bool,
    /// Tell alarms as they come and go. Default false. Health reports leave them out then.
    pub alarms: bool,
    /// Let operators work with a shell on the device. Default false. The shell is the application's, see
    /// [`ShellEvent::Wanted`](crate::ShellEvent::Wanted), and asked for as soon as the server attaches the extension. It
    /// has no time-out and outlives a lost connection; the server ends it by detaching the extension.
    pub local_shell: bool,
    /// Extensions of the application's own. At most
    /// [`MAX_THIRD_PARTY_EXTENSIONS`](crate::limits::MAX_THIRD_PARTY_EXTENSIONS).
    pub third_party: Vec<ThirdPartyExtension>,
    /// Offer extensions, all at their oldest version, to a server that asked for none within five seconds of the
    /// join. Default false: no invitation, no extensions, as the Elixir client does.
    pub join_uninvited: bool,
}

/// An extension of the application's own. Its events arrive as
/// [`ExtensionEvent::Received`](crate::ExtensionEvent::Received) and leave as
/// [`ExtensionCommand::Push`](crate::ExtensionCommand::Push).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThirdPartyExtension {
    /// Its name on the wire: 1 to 64 letters, digits and `_ . -`.
    pub name: String,
    /// The versions the application implements, the preferred (newest) one first: texts like `0.0.1`, at least one.
    pub versions: Vec<String>,
}

/// How health is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthConfig {
    /// How often to report unasked; at least every 60 s. Default `None`: the server asks, once an hour by default.
    pub interval: Option<Duration>,
}

/// How network identities are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkIdentityConfig {
    /// How often to look whether they changed; at least every 60 s, zero for never. Default five minutes.
    pub interval: Duration,
}

impl Default for NetworkIdentityConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(300) }
    }
}

impl Default for ExtensionsConfig {
    fn default() -> Self {
        Self {
            health: Some(HealthConfig::default()),
            geo: true,
            network_identity: Some(NetworkIdentityConfig::default()),
            logging: None,
            error_reports: None,
            metrics: false,
            alarms: false,
            local_shell: false,
            third_party: Vec::new(),
            join_uninvited: false,
        }
    }
}

impl ExtensionsConfig {
    /// Checks everything a caller can get wrong.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |name: &str, why| Err(ConfigError::Extension { name: cut(name, MAX_NAME_CHARS), why });
        for (place, extension) in self.third_party.iter().enumerate() {
            let (name, versions) = (extension.name.as_str(), &extension.versions);
            if place >= MAX_THIRD_PARTY_EXTENSIONS {
                return wrong(name, "there are more than 16 extensions of the application's own");
            }
            if !is_name(name) {
                return wrong(name, "the name must be 1 to 64 letters, digits and _ . -");
            }
            let earlier = self.third_party.iter().take(place).any(|other| other.name == name);
            if earlier || names::BUILT_IN_EXTENSIONS.contains(&name) {
                return wrong(name, "the name is taken by another extension");
            }
            if versions.is_empty() || versions.len() > MAX_EXTENSION_VERSIONS {
                return wrong(name, "it needs 1 to 8 versions");
            }
            if !versions.iter().all(|version| is_version(version)) {
                return wrong(name, "versions are texts like 0.0.1");
            }
        }
        Ok(())
    }
}

/// Returns whether a text can name an extension: it goes into messages as it is.
pub(crate) fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=MAX_NAME_CHARS).contains(&name.len()) && name.bytes().all(letter)
}

fn is_version(version: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-+".contains(&byte);
    (1..=MAX_NAME_CHARS).contains(&version.len()) && version.bytes().all(letter)
}
