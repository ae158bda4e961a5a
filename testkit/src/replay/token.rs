//! The token in `x-nh-signature`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::hub::token_payload;

/// Returns the identifier and the time of signing in milliseconds; nothing is verified.
pub fn read(signature: &str) -> Option<(String, i128)> {
    let payload = signature.split('.').nth(1)?;
    token_payload(&URL_SAFE_NO_PAD.decode(payload).ok()?)
}
