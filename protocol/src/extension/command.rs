//! Orders about extensions.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::{ErrorReport, HealthReport, Location, LocationError, LogLine, MetricSample, NetworkIdentity};

/// An order about an extension, for [`Command::Extension`](crate::Command::Extension).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ExtensionCommand {
    /// Attach an extension by hand, as the server does. Does nothing to one that is attached.
    Attach {
        /// Its name.
        name: String,
    },
    /// Detach an extension by hand: it sends nothing until it is attached again.
    Detach {
        /// Its name.
        name: String,
    },
    /// Tell how the device is doing: the answer to
    /// [`ExtensionEvent::HealthRequested`](crate::ExtensionEvent::HealthRequested), or unasked.
    HealthReport(Box<HealthReport>),
    /// Tell that it can't be said how the device is doing. The server gets a report with an alarm.
    HealthFailed {
        /// Why, for a person.
        reason: String,
    },
    /// Tell where the device is, or why it can't say: the answer to
    /// [`ExtensionEvent::LocationRequested`](crate::ExtensionEvent::LocationRequested), or unasked.
    Location(Result<Location, LocationError>),
    /// List all network identities: the answer to
    /// [`ExtensionEvent::NetworkIdentitiesRequested`](crate::ExtensionEvent::NetworkIdentitiesRequested), or unasked.
    /// If it was the device that wanted to look for changes, only those are sent. One that isn't listed is forgotten
    /// and sent again when it returns; the server keeps it. Leave out those that can't be told now.
    NetworkIdentities(Vec<NetworkIdentity>),
    /// Tell one network identity now.
    NetworkIdentity(NetworkIdentity),
    /// Send a line of the log, some time. Without the extension, or below its least level, it is dropped at once.
    Log(LogLine),
    /// Send the log lines that wait now.
    FlushLogs,
    /// Report an error, some time. Without the extension it is dropped at once.
    ReportError(Box<ErrorReport>),
    /// Send the error reports that wait now.
    FlushErrorReports,
    /// Replace the facts that go with error reports ([`ErrorReportsConfig::context`](crate::ErrorReportsConfig)).
    ErrorContext(BTreeMap<String, String>),
    /// Send numbers: the answer to
    /// [`ExtensionEvent::MetricsRequested`](crate::ExtensionEvent::MetricsRequested), or unasked. While there is no
    /// connection they are held.
    Metrics(MetricSample),
    /// Raise an alarm of the application's own, or describe it anew. The server is told
    /// with health reports, and at once by the `alarms` extension.
    RaiseAlarm {
        /// Its name, 1 to 255 bytes; not one of the link's own, which begin with `NervesHubLink.`.
        name: String,
        /// What is wrong, for a person; at most 1,000 characters are kept.
        description: String,
    },
    /// Clear an alarm of the application's own. Does nothing to one that isn't raised.
    ClearAlarm {
        /// Its name.
        name: String,
    },
    /// Send an event of an extension of the application's own. Pushes are never answered.
    Push {
        /// The extension's name, as in [`ThirdPartyExtension`](crate::ThirdPartyExtension).
        name: String,
        /// The event's name, without the extension's: 1 to 64 letters, digits and `_ . : / -`.
        event: String,
        /// A JSON object, as text; at most
        /// [`MAX_EXTENSION_PAYLOAD_BYTES`](crate::limits::MAX_EXTENSION_PAYLOAD_BYTES).
        payload: String,
    },
}
