//! Who a device is in overlay networks (device-protocol §5.5).

use alloc::string::String;

/// A name of the device in an overlay network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkIdentity {
    /// The kind of network. Servers know `iroh`, `netbird`, `tailscale` and `wireguard` and pass over all others.
    pub service: String,
    /// The name of one of several networks of a kind, 1 to 255 characters; `None` for the only one. It must stay
    /// the same: servers take another one for another identity.
    pub instance: Option<String>,
    /// The device's name there, such as a public key: 1 to 255 characters, of which no other device may have the same.
    pub identifier: String,
    /// More about it, as the text of a JSON object of at most 4,096 bytes. Never secrets.
    pub details: String,
}

impl NetworkIdentity {
    /// Builds an identity without instance and details.
    pub fn new(service: impl Into<String>, identifier: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            instance: None,
            identifier: identifier.into(),
            details: String::from("{}"),
        }
    }
}
