//! Checking archives: files like firmware, for the application's own use.

use fwup_stream::Verifier;
use fwup_stream::archive::{ArchiveReader, ArchiveStart, Purpose, SignatureState, StartProgress};
use fwup_stream::trust::PublicKey;

use crate::install::SignedFirmware;
use crate::limits::{ARCHIVE_START_MAX, READ_PIECE_MAX};
use crate::store::{StoreError, StoredFile};

const UNTRUSTED: &str = "it is not signed by a trusted key";

/// Why an archive is not to be trusted, or could not be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// There is no key to check it with.
    #[error("no public key for archives is known; configure one or have the server send it")]
    NoKeys,
    /// None of the keys can be read.
    #[error("none of the {count} public keys for archives is an Ed25519 key in base64")]
    BadKeys {
        /// How many there are.
        count: usize,
    },
    /// It is not signed by one of the keys, or damaged.
    #[error("{0}")]
    Refused(String),
    /// It can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks the signature of a `.fw` archive as its first bytes come: nothing behind them needs to be stored before it is known
/// that the archive can be trusted.
pub struct SignatureCheck {
    keys: Vec<PublicKey>,
    reader: ArchiveReader,
    /// Nothing once the signature is known to be good.
    start: Option<ArchiveStart>,
    /// Bytes that came.
    at: u64,
}

impl std::fmt::Debug for SignatureCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignatureCheck").field("at", &self.at).finish_non_exhaustive()
    }
}

impl SignatureCheck {
    /// Begins to check an archive that one of the keys (base64) must have signed.
    ///
    /// # Errors
    ///
    /// There are no usable keys.
    pub fn new(public_keys: &[String]) -> Result<Self, ArchiveError> {
        let keys = usable(public_keys)?;
        let mut check = Self { keys, reader: ArchiveReader::new(), start: None, at: 0 };
        check.restart();
        Ok(check)
    }

    /// Returns whether the signature is there and good.
    pub const fn is_good(&self) -> bool {
        self.start.is_none()
    }

    /// Returns the offset of the next byte to check, as long as the signature isn't known to be good.
    pub const fn position(&self) -> u64 {
        self.at
    }

    /// Begins again, as the archive is received again from its first byte on.
    pub fn restart(&mut self) {
        self.reader = ArchiveReader::new();
        self.start = Some(ArchiveStart::new(self.keys.clone(), None, Purpose::Apply));
        self.at = 0;
    }

    /// Takes the next bytes. Those behind a good signature are not looked at.
    ///
    /// # Errors
    ///
    /// The archive is not signed by one of the keys, or is no archive.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let Some(start) = &mut self.start else { return Ok(()) };
        let mut input = bytes;
        let step = start.step(&mut self.reader, &mut input, &|_| None);
        self.at = self.at.saturating_add(bytes.len() as u64);
        match step.map_err(|error| ArchiveError::Refused(error.to_string()))? {
            StartProgress::NeedInput if self.at > ARCHIVE_START_MAX => Err(ArchiveError::Refused(format!(
                "its signature and its manifest are not within the first {ARCHIVE_START_MAX} bytes"
            ))),
            StartProgress::NeedInput => Ok(()),
            StartProgress::Opened(archive) if archive.signature == SignatureState::Good => {
                self.start = None;
                Ok(())
            }
            StartProgress::Opened(_) => Err(ArchiveError::Refused(UNTRUSTED.to_owned())),
        }
    }
}

/// Returns the keys that are keys.
fn usable(public_keys: &[String]) -> Result<Vec<PublicKey>, ArchiveError> {
    if public_keys.is_empty() {
        return Err(ArchiveError::NoKeys);
    }
    // One bad key must not make the others useless.
    let keys: Vec<PublicKey> = public_keys.iter().filter_map(|key| PublicKey::from_text(key).ok()).collect();
    if keys.is_empty() {
        return Err(ArchiveError::BadKeys { count: public_keys.len() });
    }
    Ok(keys)
}

/// Checks that a download is an archive that is signed by one of the keys (base64), and that everything in it is as its
/// manifest says. Returns what the signed metadata say.
pub fn verify(file: &mut StoredFile, public_keys: &[String]) -> Result<SignedFirmware, ArchiveError> {
    let mut verifier = Verifier::new(usable(public_keys)?, Verifier::no_variables(), None);
    let mut buffer = vec![0; READ_PIECE_MAX];
    let mut at = 0;
    loop {
        let count = file.read(at, &mut buffer)?;
        if count == 0 {
            break;
        }
        at = at.saturating_add(count as u64);
        let read = buffer.get(..count).ok_or_else(|| {
            debug_assert!(false, "{count} bytes were read into {READ_PIECE_MAX}");
            ArchiveError::Refused("internal error: more was read than there was room for".to_owned())
        })?;
        verifier.push(read).map_err(|error| refused(&error))?;
    }
    let signed = verifier.metadata().map(SignedFirmware::of_archive);
    match (verifier.finish().map_err(|error| refused(&error))?.signature, signed) {
        (SignatureState::Good, Some(signed)) => Ok(signed),
        _ => Err(ArchiveError::Refused(UNTRUSTED.to_owned())),
    }
}

fn refused(error: &fwup_stream::Error) -> ArchiveError {
    ArchiveError::Refused(error.to_string())
}
