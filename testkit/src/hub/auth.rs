//! NH1 shared-secret signatures (device-protocol §2.3), made and checked.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::term;
use crate::limits::{AUTH_ITERATIONS, AUTH_KEY_LENGTH};

/// Milliseconds a signature stays good. There is no tolerance the other way.
pub const MAX_AGE_MS: i128 = 90_000;

/// The request's headers a signature is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct SignedHeaders<'a> {
    pub alg: &'a str,
    pub key: &'a str,
    pub time: &'a str,
    pub signature: &'a str,
}

/// Makes the four headers of a shared-secret connection: the oracle a client's own are compared with.
///
/// `alg` is for example `NH1-HMAC-sha256-1000-32`; `unix_seconds` the device's time. `None` when the
/// algorithm line is one that the server does not know.
pub fn sign(
    alg: &str,
    key: &str,
    secret: &str,
    identifier: &str,
    unix_seconds: u64,
) -> Option<Vec<(String, String)>> {
    let derived = derive(alg, key, secret, unix_seconds)?;
    let payload = term::encode(identifier, unix_seconds.checked_mul(1000)?);
    let input = format!("SFMyNTY.{}", URL_SAFE_NO_PAD.encode(payload));
    let mut mac = Hmac::<Sha256>::new_from_slice(&derived).ok()?;
    mac.update(input.as_bytes());
    let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
    Some(vec![
        ("x-nh-alg".to_owned(), alg.to_owned()),
        ("x-nh-key".to_owned(), key.to_owned()),
        ("x-nh-time".to_owned(), unix_seconds.to_string()),
        ("x-nh-signature".to_owned(), token),
    ])
}

/// The identifier that the headers prove, or `None` for whatever is wrong with them: the server gives
/// all of it the same empty 401.
pub(super) fn verify(headers: SignedHeaders<'_>, secret: &str, unix_ms: u64) -> Option<String> {
    let time: u64 = headers.time.parse().ok()?;
    let derived = derive(headers.alg, headers.key, secret, time)?;
    let (input, tag) = headers.signature.rsplit_once('.')?;
    let (protected, payload) = input.split_once('.')?;
    let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
    // Plug.Crypto takes the digest that the token names, whatever the algorithm line says.
    match protected {
        "SFMyNTY" => check(Hmac::<Sha256>::new_from_slice(&derived).ok()?, input, &tag)?,
        "SFMzODQ" => check(Hmac::<Sha384>::new_from_slice(&derived).ok()?, input, &tag)?,
        "SFM1MTI" => check(Hmac::<Sha512>::new_from_slice(&derived).ok()?, input, &tag)?,
        _ => return None,
    }
    let (identifier, signed_at) = term::decode(&URL_SAFE_NO_PAD.decode(payload).ok()?)?;
    let age = i128::from(unix_ms) - signed_at;
    (!identifier.is_empty() && (0..=MAX_AGE_MS).contains(&age)).then_some(identifier)
}

fn check<M: Mac>(mut mac: M, input: &str, tag: &[u8]) -> Option<()> {
    mac.update(input.as_bytes());
    mac.verify_slice(tag).ok()
}

fn derive(alg: &str, key: &str, secret: &str, time: u64) -> Option<Vec<u8>> {
    let mut pieces = alg.strip_prefix("NH1-HMAC-")?.split('-');
    let (digest, iterations, length) = (pieces.next()?, pieces.next()?, pieces.next()?);
    if pieces.next().is_some() {
        return None;
    }
    let iterations: u32 = iterations.parse().ok()?;
    let length: u32 = length.parse().ok()?;
    if !(1..=AUTH_ITERATIONS).contains(&iterations) || !(1..=AUTH_KEY_LENGTH).contains(&length) {
        return None;
    }
    let salt = format!(
        "NH1:device-socket:shared-secret:connect\n\nx-nh-alg={alg}\nx-nh-key={key}\nx-nh-time={time}\n"
    );
    let mut out = vec![0; usize::try_from(length).ok()?];
    let (secret, salt) = (secret.as_bytes(), salt.as_bytes());
    match digest.to_ascii_lowercase().as_str() {
        "sha" => pbkdf2::pbkdf2_hmac::<sha1::Sha1>(secret, salt, iterations, &mut out),
        "sha224" => pbkdf2::pbkdf2_hmac::<Sha224>(secret, salt, iterations, &mut out),
        "sha256" => pbkdf2::pbkdf2_hmac::<Sha256>(secret, salt, iterations, &mut out),
        "sha384" => pbkdf2::pbkdf2_hmac::<Sha384>(secret, salt, iterations, &mut out),
        "sha512" => pbkdf2::pbkdf2_hmac::<Sha512>(secret, salt, iterations, &mut out),
        _ => return None,
    }
    Some(out)
}
