//! Keys to sign with (fw-format §2).

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};

use crate::trust::{PublicKey, SIGNATURE_LENGTH, without_mark};

/// Bytes of a private key: the seed and the public key.
const LENGTH: usize = 64;
/// Bytes of a public key and of the seed of a private one.
const HALF: usize = 32;
/// Bytes read of a key file: base64 of a key, with padding.
const FILE_LENGTH: usize = 88;
/// Bytes base64 of a key needs at least: without padding.
const TEXT_LENGTH_MIN: usize = 86;
/// Key files belong to their owner alone.
const MODE: u32 = 0o600;

/// An Ed25519 private key.
#[derive(Clone)]
pub struct PrivateKey(SigningKey);

/// The text or file is not a private key that can sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateKeyError {
    /// It is no key at all.
    #[error(
        "not a private key: expected 64 raw bytes, or their standard base64 (86 characters, or 88 with its padding) \
         at the very start"
    )]
    Form,
    /// Its second half is not the public key of its first. fwup signs with such keys, but what it makes then
    /// fits no public key and gives the private one away.
    #[error("the two halves of the private key don't belong together, so nobody could verify its signatures")]
    Halves,
}

impl PrivateKey {
    /// Reads a key given as text, like the argument of `--private-key`.
    pub fn from_text(text: &str) -> Result<Self, PrivateKeyError> {
        Self::from_bytes(without_mark(text.as_bytes(), TEXT_LENGTH_MIN))
    }

    /// Reads a key from the bytes of a key file. Only the first 88 are looked at.
    pub fn from_file_bytes(bytes: &[u8]) -> Result<Self, PrivateKeyError> {
        let bytes = without_mark(bytes, TEXT_LENGTH_MIN);
        Self::from_bytes(bytes.get(..FILE_LENGTH).unwrap_or(bytes))
    }

    /// Returns the public key that verifies what this key signs.
    pub fn public_key(&self) -> Option<PublicKey> {
        PublicKey::from_file_bytes(self.0.verifying_key().as_bytes()).ok()
    }

    /// Signs a message: plain Ed25519 (RFC 8032).
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LENGTH] {
        self.0.sign(message).to_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, PrivateKeyError> {
        let key = match <[u8; LENGTH]>::try_from(bytes) {
            Ok(raw) => raw,
            Err(_) if bytes.len() < TEXT_LENGTH_MIN => return Err(PrivateKeyError::Form),
            // As with public keys, what follows the key is not looked at.
            Err(_) => decode(bytes).ok_or(PrivateKeyError::Form)?,
        };
        SigningKey::from_keypair_bytes(&key).map(Self).map_err(|_| PrivateKeyError::Halves)
    }
}

fn decode(bytes: &[u8]) -> Option<[u8; LENGTH]> {
    let is_digit = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'+' || **byte == b'/';
    let digits = bytes.iter().take_while(is_digit).count();
    STANDARD_NO_PAD.decode(bytes.get(..digits)?).ok()?.try_into().ok()
}

/// Shows no more than that it is one.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// A new private key with its public key.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// The key to sign with.
    pub private: PrivateKey,
    /// The key to verify with.
    pub public: PublicKey,
}

/// Why keys cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyPairError {
    /// The system gives no random numbers.
    #[error("the system gives no random numbers for a new key: {0}")]
    Random(String),
    /// A key file cannot be created. One that is there already is never replaced.
    #[error("Couldn't create '{}': {}", .path.display(), super::error::reason(.source))]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl KeyPair {
    /// Makes new keys from the system's random numbers.
    pub fn generate() -> Result<Self, KeyPairError> {
        let random = |error: &dyn fmt::Display| KeyPairError::Random(error.to_string());
        let mut seed = [0; HALF];
        getrandom::fill(&mut seed).map_err(|error| random(&error))?;
        let private = PrivateKey(SigningKey::from_bytes(&seed));
        let public = private.public_key().ok_or_else(|| random(&"a key of another length"))?;
        Ok(Self { private, public })
    }

    /// Writes the keys to two new files: PREFIX.pub and PREFIX.priv, readable by their owner alone. Writes
    /// both or neither.
    pub fn write(&self, prefix: &Path) -> Result<(), KeyPairError> {
        let [public, private] = Self::paths(prefix);
        let mut key = [0; LENGTH];
        key.copy_from_slice(&self.private.0.to_keypair_bytes());
        create(&public, &STANDARD.encode(self.public.as_bytes()))?;
        create(&private, &STANDARD.encode(key)).inspect_err(|_| {
            // A public key without its private one is of no use to anybody.
            let _ = std::fs::remove_file(&public);
        })
    }

    /// Returns the names of the two files for a prefix: public and private.
    pub fn paths(prefix: &Path) -> [PathBuf; 2] {
        ["pub", "priv"].map(|end| {
            let mut name = prefix.as_os_str().to_owned();
            name.push(".");
            name.push(end);
            PathBuf::from(name)
        })
    }
}

fn create(path: &Path, text: &str) -> Result<(), KeyPairError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
        file.write_all(text.as_bytes()).inspect_err(|_| {
            let _ = std::fs::remove_file(path);
        })
    };
    write().map_err(|source| KeyPairError::Create { path: path.to_owned(), source })
}
