//! News about extensions.

use alloc::string::String;
use core::time::Duration;

/// News about an extension, in [`Event::Extension`](crate::Event::Extension).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ExtensionEvent {
    /// The server attached an extension: it may send from now on.
    Attached {
        /// Its name.
        name: String,
        /// The version agreed on.
        version: String,
    },
    /// An extension was detached: it sends nothing until it is attached again.
    Detached {
        /// Its name.
        name: String,
        /// Why, for a person.
        reason: String,
    },
    /// The device offered an extension, and the server left it out. It is switched off for the product or the
    /// device, or the server knows no such version.
    NotAccepted {
        /// Its name.
        name: String,
        /// Whether the server listed this extension when it asked for an offer, and so knows it.
        known: bool,
    },
    /// The extensions channel was refused or lost, on a connection that stays; it will be joined again.
    ChannelLost {
        /// What happened, for a person.
        reason: String,
        /// How long until the next attempt to join.
        retry_in: Duration,
    },
    /// An event of an extension of the application's own arrived.
    Received {
        /// The extension's name.
        name: String,
        /// The event's name, without the extension's.
        event: String,
        /// The payload as JSON text, however it came over the wire.
        payload: String,
    },
    /// The server wants to know how the device is doing, or the interval is over: answer with
    /// [`ExtensionCommand::HealthReport`](crate::ExtensionCommand::HealthReport) or
    /// [`ExtensionCommand::HealthFailed`](crate::ExtensionCommand::HealthFailed).
    HealthRequested,
    /// The server wants to know where the device is: answer with
    /// [`ExtensionCommand::Location`](crate::ExtensionCommand::Location).
    LocationRequested,
    /// The server wants to know the device's network identities, or it is time to look whether they changed: answer
    /// with [`ExtensionCommand::NetworkIdentities`](crate::ExtensionCommand::NetworkIdentities).
    NetworkIdentitiesRequested,
    /// The server wants the numbers of this moment: answer with
    /// [`ExtensionCommand::Metrics`](crate::ExtensionCommand::Metrics).
    MetricsRequested,
    /// The application didn't answer a question of the server, or of an interval it chose itself, within
    /// [`EXTENSION_ANSWER_TIMEOUT`](crate::limits::EXTENSION_ANSWER_TIMEOUT). Nothing was sent.
    Unanswered {
        /// The extension's name.
        name: String,
    },
    /// Something about an extension went wrong and was left out. Nothing else was disturbed.
    Problem {
        /// The extension's name.
        name: String,
        /// What, for a person.
        problem: String,
    },
}
