//! Checking a signature (fw-format §2).

use ed25519_dalek::{Signature, VerifyingKey};

use super::keys::PublicKey;

/// Bytes of a signature.
pub const SIGNATURE_LENGTH: usize = 64;

/// Tells whether any of `keys` made `signature` over `message`: plain Ed25519 (RFC 8032), without the
/// malleable and small-order signatures that a strict verifier refuses.
pub fn verify(keys: &[PublicKey], message: &[u8], signature: &[u8; SIGNATURE_LENGTH]) -> bool {
    let signature = Signature::from_bytes(signature);
    keys.iter().any(|key| {
        VerifyingKey::from_bytes(key.as_bytes())
            .is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    })
}
