//! Keys: making them (`-g`) and loading them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use fwup_stream::create::{KeyPair, PrivateKey, PrivateKeyError};
use fwup_stream::trust::PublicKey;

use crate::Failure;
use crate::input::reason;
use crate::options::Options;
use crate::output::Output;

/// The beginning of the key files' names when none is given.
const PREFIX: &str = "fwup-key";
/// Bytes read of a key file.
const PUBLIC_FILE_BYTES: u64 = 44;
const PRIVATE_FILE_BYTES: u64 = 88;

/// `-g`.
pub(crate) fn generate(options: &Options, output: &mut Output) -> Result<(), Failure> {
    let prefix = options.output.as_deref().map_or(Path::new(PREFIX), Path::new);
    let keys = KeyPair::generate().map_err(Failure::new)?;
    keys.write(prefix).map_err(Failure::new)?;
    let [public, private] = KeyPair::paths(prefix).map(|path| {
        let path = path.to_string_lossy().into_owned();
        path.strip_prefix("./").map(str::to_owned).unwrap_or(path)
    });
    output.result([
        format!("Firmware signing keys created and saved to '{public}' and '{private}'"),
        String::new(),
        format!("Distribute '{public}' with your system so that firmware updates can be"),
        format!("authenticated. Keep '{private}' in a safe location."),
    ]);
    Ok(())
}

/// Loads a key file to verify with.
pub(crate) fn public_from_file(path: &OsStr) -> Result<PublicKey, Failure> {
    let bytes = read_key_file(path, "public", PUBLIC_FILE_BYTES)?;
    PublicKey::from_file_bytes(&bytes).map_err(|_| Failure::new(undecodable(path, "public")))
}

/// Loads a key file to sign with.
pub(crate) fn private_from_file(path: &OsStr) -> Result<PrivateKey, Failure> {
    let bytes = read_key_file(path, "private", PRIVATE_FILE_BYTES)?;
    usable(Some(PrivateKey::from_file_bytes(&bytes)), || undecodable(path, "private"))
}

/// Bytes of the mark with which some editors begin a text.
const MARK_BYTES: u64 = 3;

fn read_key_file(path: &OsStr, kind: &str, limit: u64) -> Result<Vec<u8>, Failure> {
    let shown = path.to_string_lossy();
    let file = File::open(path).map_err(|error| {
        let reason = reason(&error);
        Failure::new(format!("Error opening {kind} key file '{shown}': {reason}"))
    })?;
    let mut bytes = Vec::new();
    let read = file.take(limit.saturating_add(MARK_BYTES)).read_to_end(&mut bytes);
    read.map_err(|_| Failure::new(undecodable(path, kind)))?;
    Ok(bytes)
}

fn undecodable(path: &OsStr, kind: &str) -> String {
    format!("Error reading or decoding {kind} key from file '{}'", path.to_string_lossy())
}

/// The key, or what fwup says of what is none; a key that would sign in vain has a text of its own.
fn usable(
    key: Option<Result<PrivateKey, PrivateKeyError>>,
    no_key: impl Fn() -> String,
) -> Result<PrivateKey, Failure> {
    match key {
        Some(Ok(key)) => Ok(key),
        Some(Err(error @ PrivateKeyError::Halves)) => Err(Failure::new(error)),
        _ => Err(Failure::new(no_key())),
    }
}

/// Reads the argument of `--private-key`.
pub(crate) fn private_from_text(text: &OsStr) -> Result<PrivateKey, Failure> {
    usable(text.to_str().map(PrivateKey::from_text), || "Error decoding private key".to_owned())
}
