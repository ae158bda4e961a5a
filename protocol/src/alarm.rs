//! Alarms: what is wrong or special with a device for as long as it is so (device-protocol §8.3).

use alloc::string::String;

use crate::time::Instant;

/// A condition of the device. Each is either raised or not; it is never raised twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Alarm {
    /// There is no connection to the server. Raised from the start until the socket opens.
    Disconnected,
    /// An accepted update is being downloaded or written.
    UpdateInProgress,
    /// The device fell back from a bad firmware. Stays until the device starts anew.
    FirmwareReverted,
    /// Another device uses this one's identity: each takes the other's connection away.
    DuplicateIdentity,
    /// The application could not make the last health report.
    HealthCheckFailed,
    /// The server orders more reboots than the device allows. Stays until an order would be obeyed again.
    RebootsRefused,
    /// No update service has answered for [`Config::freeze_alarm`](crate::Config::freeze_alarm).
    UpdatesFrozen,
}

/// An alarm that is raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaisedAlarm {
    /// Which.
    pub alarm: Alarm,
    /// What happened last, for a person.
    pub description: String,
    /// Since when.
    pub since: Instant,
}

impl Alarm {
    /// Returns the name under which the server's users know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "NervesHubLink.Disconnected",
            Self::UpdateInProgress => "NervesHubLink.UpdateInProgress",
            Self::FirmwareReverted => "NervesHubLink.FirmwareReverted",
            Self::DuplicateIdentity => "NervesHubLink.DuplicateIdentity",
            Self::RebootsRefused => "NervesHubLink.RebootsRefused",
            Self::UpdatesFrozen => "NervesHubLink.UpdatesFrozen",
            Self::HealthCheckFailed => "NervesHubLink.Extensions.Health.CheckFailed",
        }
    }
}
