//! The start of an archive: signature and manifest, before anything else happens.

use super::error::ArchiveError;
use super::event::ArchiveEvent;
use super::header::EntryInfo;
use super::reader::ArchiveReader;
use crate::limits::{MANIFEST_MAX, MANIFEST_MIN};
use crate::manifest::{Manifest, ManifestError, Metadata};
use crate::trust::{PublicKey, SIGNATURE_LENGTH, verify};

const MANIFEST_NAME: &str = "meta.conf";
const SIGNATURE_NAME: &str = "meta.conf.ed25519";

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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The container cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// There is no readable entry at all, and the archive was to be inspected.
    #[error("Corrupt archive '{file}'")]
    Corrupt {
        /// The archive's name.
        file: String,
    },
    /// Something else stands where the manifest should.
    #[error("Expecting meta.conf to be at {}beginning of {file}", if *.purpose == Purpose::Apply { "the " } else { "" })]
    NotAtBeginning {
        /// The archive's name.
        file: String,
        /// What the archive was opened for.
        purpose: Purpose,
    },
    /// The manifest is empty, too short, too long or cannot be read.
    #[error("Unexpected meta.conf size: {0}")]
    ManifestSize(usize),
    /// The signature is too short.
    #[error("Unexpected meta.conf.ed25519 size: {0}")]
    SignatureSize(usize),
    /// Keys were given and the archive has no signature.
    #[error("Expecting signed firmware archive.")]
    NotSigned,
    /// None of the keys made the signature.
    #[error("Firmware archive's meta.conf fails digital signature verification.")]
    BadSignature,
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
    place: Place,
    signature: Option<[u8; SIGNATURE_LENGTH]>,
    /// Bytes of the present entry, at most one more than a manifest may have.
    collected: Vec<u8>,
    mtime: Option<i64>,
}

/// Which part of the archive comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    FirstEntry,
    Signature,
    AfterSignature,
    Manifest,
}

impl ArchiveStart {
    /// Makes a start that accepts a signature by any of `keys` (none: any archive). `file` is the archive's
    /// name for errors; `None` for a stream.
    pub fn new(keys: Vec<PublicKey>, file: Option<&str>, purpose: Purpose) -> Self {
        Self {
            keys,
            file: file.map(str::to_owned),
            purpose,
            place: Place::FirstEntry,
            signature: None,
            collected: Vec::new(),
            mtime: None,
        }
    }

    /// Drives `reader` over `input` until the manifest is complete or the input is used up.
    ///
    /// `variables` answers `${NAME}` in the manifest, see [`Manifest::parse`].
    pub fn step(
        &mut self,
        reader: &mut ArchiveReader,
        input: &mut &[u8],
        variables: &dyn Fn(&str) -> Option<String>,
    ) -> Result<StartProgress, StartError> {
        loop {
            let event = match reader.next(input) {
                Ok(event) => event,
                Err(error) => return Err(self.translate(error)),
            };
            match event {
                ArchiveEvent::NeedInput => return Ok(StartProgress::NeedInput),
                ArchiveEvent::Entry(entry) => self.entry(&entry)?,
                ArchiveEvent::Data(data) => {
                    let skip = self.data(data)?;
                    if skip {
                        reader.skip_entry();
                    }
                }
                ArchiveEvent::EntryEnd if self.place == Place::Manifest => {
                    return self.open(variables).map(|opened| StartProgress::Opened(Box::new(opened)));
                }
                ArchiveEvent::EntryEnd => self.signature_end()?,
                ArchiveEvent::End => return Err(self.no_entry()),
            }
        }
    }

    /// Tells that the input ended before the manifest was complete; returns what the reference reports then.
    pub fn finish(&mut self, reader: &mut ArchiveReader) -> StartError {
        match reader.finish() {
            Err(error) => self.translate(error),
            Ok(()) => self.no_entry(),
        }
    }

    fn entry(&mut self, entry: &EntryInfo) -> Result<(), StartError> {
        self.collected.clear();
        self.place = match (self.place, entry.name.as_str()) {
            (Place::FirstEntry, SIGNATURE_NAME) => Place::Signature,
            (Place::FirstEntry | Place::AfterSignature, MANIFEST_NAME) => {
                if self.signature.is_none() && !self.keys.is_empty() {
                    return Err(StartError::NotSigned);
                }
                self.mtime = entry.mtime;
                Place::Manifest
            }
            _ => return Err(self.not_at_beginning()),
        };
        Ok(())
    }

    /// Keeps data up to the limit; tells whether the rest of the entry does not matter.
    fn data(&mut self, data: &[u8]) -> Result<bool, StartError> {
        let limit = if self.place == Place::Signature { SIGNATURE_LENGTH } else { MANIFEST_MAX + 1 };
        // A longer entry is noticed by its last byte; what is behind the limit is not kept.
        let missing = limit.saturating_sub(self.collected.len());
        self.collected.extend_from_slice(data.get(..missing).unwrap_or(data));
        if self.place == Place::Signature {
            return Ok(self.collected.len() == SIGNATURE_LENGTH);
        }
        if self.collected.len() > MANIFEST_MAX {
            return Err(StartError::ManifestSize(self.collected.len()));
        }
        Ok(false)
    }

    fn signature_end(&mut self) -> Result<(), StartError> {
        let signature = <[u8; SIGNATURE_LENGTH]>::try_from(self.collected.as_slice())
            .map_err(|_| StartError::SignatureSize(self.collected.len()))?;
        self.signature = Some(signature);
        self.place = Place::AfterSignature;
        Ok(())
    }

    /// The manifest is complete: checks it, then parses it.
    fn open(&mut self, variables: &dyn Fn(&str) -> Option<String>) -> Result<OpenedArchive, StartError> {
        let text = std::mem::take(&mut self.collected);
        if text.len() < MANIFEST_MIN {
            return Err(StartError::ManifestSize(text.len()));
        }
        let signature = match &self.signature {
            _ if self.keys.is_empty() => match self.signature {
                Some(_) => SignatureState::Unverified,
                None => SignatureState::Unsigned,
            },
            Some(signature) if verify(&self.keys, &text, signature) => SignatureState::Good,
            Some(_) => return Err(StartError::BadSignature),
            None => return Err(StartError::NotSigned),
        };
        let manifest = Manifest::parse(&text, variables)?;
        let metadata = Metadata::of(&text, &manifest, self.mtime);
        Ok(OpenedArchive { manifest, metadata, text, signature })
    }

    /// Says an error of the container as the reference does at this place.
    fn translate(&self, error: ArchiveError) -> StartError {
        match self.place {
            // Whatever is wrong with these entries, the reference only sees that it could not read them.
            Place::Manifest => StartError::ManifestSize(0),
            Place::Signature if error.in_data() => StartError::SignatureSize(0),
            _ if self.purpose == Purpose::Inspect && !error.is_unrecognized() => {
                StartError::Corrupt { file: self.file() }
            }
            _ => error.into(),
        }
    }

    fn no_entry(&self) -> StartError {
        match self.purpose {
            Purpose::Apply => self.not_at_beginning(),
            Purpose::Inspect => StartError::Corrupt { file: self.file() },
        }
    }

    fn not_at_beginning(&self) -> StartError {
        StartError::NotAtBeginning { file: self.file(), purpose: self.purpose }
    }

    /// Returns the archive's name as the reference prints it.
    fn file(&self) -> String {
        self.file.clone().unwrap_or_else(|| "(null)".to_owned())
    }
}
