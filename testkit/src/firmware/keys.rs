//! Signing keys.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::Signer as _;

/// An Ed25519 key that signs firmware. Its private half never shows in `Debug`.
#[derive(Clone)]
pub struct SigningKey {
    inner: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// The key of a seed; for tests, where the same key each time is wanted.
    pub fn from_seed(seed: u64) -> Self {
        let mut bytes = [0; 32];
        if let Some(first) = bytes.first_chunk_mut::<8>() {
            *first = seed.to_le_bytes();
        }
        Self { inner: ed25519_dalek::SigningKey::from_bytes(&bytes) }
    }

    /// Reads fwup's private key file: base64 of seed and public key (fw-format §2). `None` when it is none.
    pub fn from_fwup(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.trim()).ok()?;
        let seed = bytes.first_chunk::<32>().filter(|_| bytes.len() == 64)?;
        Some(Self { inner: ed25519_dalek::SigningKey::from_bytes(seed) })
    }

    /// The public key as `fwup -g` writes it: base64 of 32 bytes.
    pub fn public_key(&self) -> String {
        STANDARD.encode(self.inner.verifying_key().as_bytes())
    }

    /// The signature over the text of a `meta.conf`.
    pub fn sign(&self, meta_conf: &[u8]) -> [u8; 64] {
        self.inner.sign(meta_conf).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public_key()).finish_non_exhaustive()
    }
}
