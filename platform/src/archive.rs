//! Checking archives: files like firmware, for the application's own use.

use fwup_stream::Verifier;
use fwup_stream::archive::SignatureState;
use fwup_stream::trust::PublicKey;

use crate::limits::READ_PIECE_MAX;
use crate::store::{StoreError, StoredFile};

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

/// Checks that a download is an archive that is signed by one of the keys (base64), and that everything in it is as its
/// manifest says.
pub fn verify(file: &mut StoredFile, public_keys: &[String]) -> Result<(), ArchiveError> {
    if public_keys.is_empty() {
        return Err(ArchiveError::NoKeys);
    }
    // One bad key must not make the others useless.
    let keys: Vec<PublicKey> = public_keys.iter().filter_map(|key| PublicKey::from_text(key).ok()).collect();
    if keys.is_empty() {
        return Err(ArchiveError::BadKeys { count: public_keys.len() });
    }
    let mut verifier = Verifier::new(keys, Verifier::no_variables(), None);
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
    match verifier.finish().map_err(|error| refused(&error))?.signature {
        SignatureState::Good => Ok(()),
        _ => Err(ArchiveError::Refused("it is not signed by a trusted key".to_owned())),
    }
}

fn refused(error: &fwup_stream::Error) -> ArchiveError {
    ArchiveError::Refused(error.to_string())
}
