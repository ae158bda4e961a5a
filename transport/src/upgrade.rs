//! The opening handshake: what we ask for, and what a right answer is (RFC 6455 §4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tungstenite::handshake::derive_accept_key;

use crate::head::Head;

/// One opening handshake.
pub(crate) struct Upgrade {
    key: String,
    /// The only right `Sec-WebSocket-Accept`.
    accept: String,
}

impl Upgrade {
    pub(crate) fn new(nonce: [u8; 16]) -> Self {
        let key = STANDARD.encode(nonce);
        let accept = derive_accept_key(key.as_bytes());
        Self { key, accept }
    }

    /// The headers that ask for it: no extension, no subprotocol.
    pub(crate) fn headers(&self) -> [(&'static str, &str); 4] {
        [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", self.key.as_str()),
        ]
    }

    /// Checks a 101 answer as RFC 6455 §4.1 asks.
    pub(crate) fn check(&self, head: &Head) -> Result<(), &'static str> {
        let values = |wanted: &'static str| {
            head.headers.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.trim())
        };
        let has_token = |name, token: &str| {
            values(name)
                .flat_map(|value| value.split(','))
                .any(|part| part.trim().eq_ignore_ascii_case(token))
        };
        if !has_token("upgrade", "websocket") {
            return Err("no \"Upgrade: websocket\" header");
        }
        if !has_token("connection", "upgrade") {
            return Err("no \"Connection: Upgrade\" header");
        }
        let mut accepts = values("sec-websocket-accept");
        if accepts.next() != Some(self.accept.as_str()) || accepts.next().is_some() {
            return Err("the Sec-WebSocket-Accept header does not answer our key");
        }
        if values("sec-websocket-extensions").any(|value| !value.is_empty()) {
            return Err("an extension that was not offered");
        }
        if values("sec-websocket-protocol").next().is_some() {
            return Err("a subprotocol that was not offered");
        }
        Ok(())
    }
}
