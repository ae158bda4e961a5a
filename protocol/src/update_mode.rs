//! The words of device-managed updates (device-protocol A2): who decides when, and what a device may ask.

use alloc::string::String;

/// Who decides when a device is updated. The server keeps it; what is installed is never the device's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateMode {
    /// The server pushes updates. The default of servers.
    Automatic,
    /// The device asks for updates with [`Command::RequestUpdate`](crate::Command::RequestUpdate); the server pushes
    /// none by itself.
    DeviceManaged,
    /// Only an operator pushes updates, by hand. Only an operator can set or leave this mode.
    Off,
}

/// A question to the server that it answers at some time, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// [`Command::CheckUpdate`](crate::Command::CheckUpdate).
    CheckUpdate,
    /// [`Command::RequestUpdate`](crate::Command::RequestUpdate).
    RequestUpdate,
    /// [`Command::SetUpdateMode`](crate::Command::SetUpdateMode).
    SetUpdateMode,
}

/// Why a question got no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFailure {
    /// The connection or the channel ended before the answer. Nothing is asked again by itself.
    #[error("the connection ended before the answer")]
    Disconnected,
    /// No answer came in 30 seconds: a server that knows no device-managed updates, perhaps.
    #[error("no answer came; this server may not know device-managed updates")]
    Timeout,
    /// The operator hasn't granted it.
    #[error("an operator has not allowed it for this device")]
    NotPermitted,
    /// The server doesn't know the mode.
    #[error("the server does not know the update mode")]
    UnknownMode,
    /// Anything else, in the server's words.
    #[error("the server says: {0}")]
    Other(String),
}

/// Why the server gives no update now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// Too many devices update at this moment.
    #[error("too many devices are updating now")]
    Busy,
    /// There is nothing newer, or not for this device now.
    #[error("there is no newer firmware for this device now")]
    NoUpdate,
    /// The device belongs to no deployment group.
    #[error("the device belongs to no deployment group")]
    NoDeploymentGroup,
    /// The server thinks that an update is under way.
    #[error("the server believes that an update is already under way")]
    AlreadyUpdating,
    /// The operator hasn't granted it.
    #[error("an operator has not allowed this device to ask for updates")]
    NotPermitted,
    /// Anything else, in the server's words.
    #[error("the server says: {0}")]
    Other(String),
}

impl core::fmt::Display for Request {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::CheckUpdate => "whether an update is available",
            Self::RequestUpdate => "for an update",
            Self::SetUpdateMode => "for another update mode",
        })
    }
}

impl UpdateMode {
    /// Returns the server's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::DeviceManaged => "device_managed",
            Self::Off => "off",
        }
    }

    /// Reads the server's word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Automatic, Self::DeviceManaged, Self::Off].into_iter().find(|mode| mode.as_str() == word)
    }
}
