//! The start of an archive: signature and manifest, before anything else happens.

use super::reader::{ArchiveError, ArchiveReader};
use crate::manifest::{Manifest, ManifestError, Metadata};
use crate::trust::PublicKey;

/// What the archive is opened for; decides only the wording of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Applying or verifying.
    Apply,
    /// Printing metadata or the list of tasks.
    Inspect,
}

/// Whether the manifest was signed, and by a known key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureState {
    /// There is no signature.
    Unsigned,
    /// There is one, but no key was given to check it with.
    Unverified,
    /// One of the given keys made it.
    Good,
}

/// The manifest of an archive, its signature checked.
#[derive(Clone, Debug)]
pub struct OpenedArchive {
    /// The parsed manifest.
    pub manifest: Manifest,
    /// What `fwup -m` prints.
    pub metadata: Metadata,
    /// The manifest's bytes as they stand in the archive.
    pub text: Vec<u8>,
    /// Whether the manifest was signed.
    pub signature: SignatureState,
}

/// What [`ArchiveStart::step`] came to.
#[derive(Debug)]
pub enum StartProgress {
    /// All input was taken; give more, or call [`ArchiveStart::finish`].
    NeedInput,
    /// The manifest is complete. The reader stands right behind it; go on with the same reader and input.
    Opened(Box<OpenedArchive>),
}

/// Why an archive could not be opened. Displays as the reference does.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The container cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The manifest cannot be parsed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Reads the first one or two entries, checks the signature, then parses the manifest.
#[derive(Debug)]
pub struct ArchiveStart {
    keys: Vec<PublicKey>,
    file: Option<String>,
    purpose: Purpose,
}

impl ArchiveStart {
    /// Makes a start that accepts a signature by any of `keys` (none: any archive). `file` is the archive's
    /// name for errors; `None` for a stream.
    pub fn new(keys: Vec<PublicKey>, file: Option<&str>, purpose: Purpose) -> Self {
        Self { keys, file: file.map(str::to_owned), purpose }
    }

    /// Drives `reader` over `input` until the manifest is complete or the input is used up.
    ///
    /// `variables` answers `${NAME}`; `FWUP_META_UUID` and `FWUP_META_NICKNAME` are answered here.
    pub fn step(
        &mut self,
        reader: &mut ArchiveReader,
        input: &mut &[u8],
        variables: &dyn Fn(&str) -> Option<String>,
    ) -> Result<StartProgress, StartError> {
        let _ = (reader, input, variables, &self.keys, &self.file, self.purpose);
        Err(ArchiveError::Unrecognized.into())
    }

    /// Tells that the input ended before the manifest was complete; returns what the reference reports then.
    pub fn finish(&mut self, reader: &mut ArchiveReader) -> StartError {
        let _ = reader;
        ArchiveError::Unrecognized.into()
    }
}
