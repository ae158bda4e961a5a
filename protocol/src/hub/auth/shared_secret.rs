//! The four headers of a shared secret, byte for byte (device-protocol §2.3).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::etf;
use crate::config::{KeyDigest, SharedSecret};
use crate::fault::Fault;
use crate::number::as_usize;
use crate::secret::Secret;
use crate::time::UnixTime;

/// `{"alg":"HS256"}` in the compact form of the server's library: base64url of `HS256`.
const TOKEN_HEADER: &str = "SFMyNTY";

/// Returns the headers that prove the identity at a time. They are good for 90 seconds.
pub(crate) fn headers(secret: &SharedSecret, at: UnixTime) -> Result<Vec<(String, Secret)>, Fault> {
    // Before 1970 no signature can be valid; the server's answer corrects the clock.
    let seconds = u64::try_from(at.0).unwrap_or(0);
    let alg = format!("NH1-HMAC-{}-{}-{}", name(secret.digest), secret.iterations, secret.key_length);
    let time = seconds.to_string();
    let salt = format!(
        "NH1:device-socket:shared-secret:connect\n\nx-nh-alg={alg}\nx-nh-key={}\nx-nh-time={time}\n",
        secret.key
    );
    let key = derive(secret, &salt);
    let payload = etf::token_payload(&secret.identifier, seconds.saturating_mul(1000));
    let input = format!("{TOKEN_HEADER}.{}", URL_SAFE_NO_PAD.encode(payload));
    let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(sign(&key, input.as_bytes())?));
    let header = |name: &str, value: String| (String::from(name), Secret::new(value));
    Ok(vec![
        header("x-nh-alg", alg),
        header("x-nh-key", secret.key.clone()),
        header("x-nh-time", time),
        header("x-nh-signature", token),
    ])
}

fn derive(secret: &SharedSecret, salt: &str) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(vec![0; as_usize(secret.key_length)]);
    let (password, salt) = (secret.secret.expose().as_bytes(), salt.as_bytes());
    match secret.digest {
        KeyDigest::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, secret.iterations, &mut key),
        KeyDigest::Sha384 => pbkdf2::pbkdf2_hmac::<Sha384>(password, salt, secret.iterations, &mut key),
        KeyDigest::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, secret.iterations, &mut key),
    }
    key
}

/// Signs with HMAC-SHA256, whatever the digest of the derivation.
fn sign(key: &[u8], input: &[u8]) -> Result<Vec<u8>, Fault> {
    let mac = Hmac::<Sha256>::new_from_slice(key);
    let mut mac =
        mac.map_err(|_| Fault::new("HMAC did not accept the key derived from the shared secret"))?;
    mac.update(input);
    Ok(mac.finalize().into_bytes().to_vec())
}

const fn name(digest: KeyDigest) -> &'static str {
    match digest {
        KeyDigest::Sha256 => "sha256",
        KeyDigest::Sha384 => "sha384",
        KeyDigest::Sha512 => "sha512",
    }
}
