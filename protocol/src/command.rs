//! What the application wants: orders to the machine, which it may refuse.

use alloc::string::String;
use core::time::Duration;

use crate::ids::OfferId;

/// An order for [`Link::command`](crate::Link::command).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// Connect. The machine starts offline.
    Connect,
    /// Close the connection and stay offline until [`Command::Connect`].
    Disconnect,
    /// Close the connection and dial again, without waiting for the back-off.
    Reconnect,
    /// Answer [`Event::UpdateOffered`](crate::Event::UpdateOffered).
    Decide {
        /// The offer the answer is for.
        offer: OfferId,
        /// The answer.
        decision: Decision,
    },
    /// Tell the server that the running firmware proved good.
    FirmwareValidated,
}

/// What to do with an update.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Decision {
    /// Download and apply it now.
    Apply,
    /// Refuse it. The server counts this as a failure and may not offer again for a day.
    Ignore {
        /// Why, for the operator; may be empty.
        reason: String,
    },
    /// Ask the server to offer it again later.
    Reschedule {
        /// How long from now. Raised to five minutes if shorter.
        delay: Duration,
        /// Why, for the operator.
        reason: Option<String>,
    },
}

/// Why a command was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The offer is not, or no longer, waiting for a decision.
    #[error("offer {0} is not waiting for a decision")]
    UnknownOffer(OfferId),
    /// The machine was told to stay offline.
    #[error("the link is offline; send Command::Connect first")]
    Offline,
    /// Nobody fetches the machine's outputs.
    #[error("too many outputs wait; call Link::poll until it returns None")]
    Undrained,
}

impl CommandError {
    /// Returns whether the same command may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Offline | Self::Undrained)
    }
}
