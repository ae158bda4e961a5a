//! How the socket hub is started.

use crate::hub::{HubConfig, KeyPair};

/// Settings of a [`super::HubServer`]. The defaults: TLS, a free port, made-up credentials.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Serve TLS with a certificate of a CA made at start; plain TCP otherwise.
    pub tls: bool,
    /// Show a certificate whose time is over.
    pub expired: bool,
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The product's shared secret.
    pub product: KeyPair,
    /// The hub's own settings.
    pub hub: HubConfig,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            tls: true,
            expired: false,
            port: 0,
            product: KeyPair::new(
                "nhp_dGVzdGtpdCBwcm9kdWN0IGtleSwgbm90IGEgc2VjcmV",
                "dGVzdGtpdCBwcm9kdWN0IHNlY3JldCwga25vd24gdG8",
            ),
            hub: HubConfig::default(),
        }
    }
}
