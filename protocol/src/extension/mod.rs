//! What the application says to and hears from the extensions of the protocol (device-protocol §5): typed, and
//! without a word about the wire.

mod command;
mod config;
mod error_reports;
mod event;
mod geo;
mod health;
mod logging;
mod metrics;
mod network_identity;

pub use command::ExtensionCommand;
pub use config::{ExtensionsConfig, HealthConfig, NetworkIdentityConfig, ThirdPartyExtension};
pub use error_reports::{ErrorFrame, ErrorReport, ErrorReportsConfig, ErrorSource};
pub use event::ExtensionEvent;
pub use geo::{Location, LocationError};
pub use health::{Connectivity, HealthCheck, HealthReport, InterfaceKind, Reach};
pub use logging::{LogLevel, LogLine, LoggingConfig};
pub use metrics::MetricSample;
pub use network_identity::NetworkIdentity;

pub(crate) use config::is_name;

/// An extension and what became of it, from [`Link::extensions`](crate::Link::extensions).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExtensionStatus {
    /// Its name on the wire.
    pub name: alloc::string::String,
    /// The version offered to the server on this connection, or attached; `None` if neither.
    pub version: Option<alloc::string::String>,
    /// Whether the server attached it. Only then it sends anything.
    pub attached: bool,
}
