//! The public keys firmware and archives must be signed with (device-protocol §3.3, "Key rules").

use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::Config;
use crate::limits::MAX_PUBLIC_KEYS;
use crate::number::as_u64;

/// The keys trusted now.
pub(crate) struct Keys {
    list: Vec<String>,
}

impl Keys {
    pub(crate) const fn new(list: Vec<String>) -> Self {
        Self { list }
    }

    /// The keys for archives to begin with: those for firmware, unless others are configured.
    pub(crate) fn for_archives(config: &Config) -> Self {
        let own = &config.archive_public_keys;
        Self::new(if own.is_empty() { config.public_keys.clone() } else { own.clone() })
    }

    pub(crate) fn list(&self) -> &[String] {
        &self.list
    }

    /// Replaces the keys by the usable ones of a list, at most [`MAX_PUBLIC_KEYS`]. When none is
    /// usable the keys stay as they are: an empty list never clears. Returns whether any was usable,
    /// and how many were not.
    pub(crate) fn replace(&mut self, offered: Vec<String>) -> (bool, u64) {
        let total = offered.len();
        let mut usable: Vec<String> = Vec::new();
        for key in offered {
            if usable.len() < MAX_PUBLIC_KEYS && is_usable(&key) {
                usable.push(key);
            }
        }
        debug_assert!(usable.len() <= total, "more keys are usable than were offered");
        let unusable = total.saturating_sub(usable.len());
        let any = !usable.is_empty();
        if any {
            self.list = usable;
        }
        (any, as_u64(unusable))
    }
}

/// Returns whether a text is an Ed25519 public key as `fwup -g` writes it: base64 of 32 bytes.
pub(crate) fn is_usable(key: &str) -> bool {
    // 32 bytes make 44 characters; look no further.
    key.len() == 44 && STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 32)
}
