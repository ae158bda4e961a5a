//! Orders about extensions.

use alloc::string::String;

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
