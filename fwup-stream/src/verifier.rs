//! Checking an archive without applying it (fw-format §19.1).

use std::fmt;
use std::sync::Arc;

use crate::archive::{
    ArchiveEvent, ArchiveReader, ArchiveStart, EntryInfo, Purpose, SignatureState, StartProgress,
};
use crate::delta::{DeltaFault, Header};
use crate::error::Error;
use crate::manifest::{FileResource, Manifest};
use crate::names::resource_name;
use crate::options::Variables;
use crate::trust::{PublicKey, StreamingDigest, is_digest};

/// Bytes of a delta's header that are looked at.
const DELTA_HEADER: usize = 16;

/// Checks a whole archive: signature, manifest, and every resource's size and digest.
///
/// ```
/// use fwup_stream::Verifier;
/// # use fwup_stream::create::Builder;
/// # use fwup_stream::manifest::Configuration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let text = b"file-resource hello { contents = \"Hello!\" }";
/// # let archive = Builder::new().create(Configuration::parse(text, &|_| None)?, Vec::new())?;
/// let mut verifier = Verifier::new(Vec::new(), Verifier::no_variables(), Some("lamp.fw"));
/// for piece in archive.chunks(100) {
///     verifier.push(piece)?; // what is damaged is told as soon as it has come by
/// }
/// assert_eq!(verifier.finish()?.to_string(), "Valid archive without a signature");
/// # Ok(())
/// # }
/// ```
pub struct Verifier {
    variables: Variables,
    reader: ArchiveReader,
    state: State,
    threads: bool,
}

enum State {
    Starting(ArchiveStart),
    Running(Box<Running>),
    Failed,
}

struct Running {
    manifest: Manifest,
    signature: SignatureState,
    seen: Vec<bool>,
    current: Option<Current>,
    ended: bool,
    threads: bool,
}

/// The entry being read.
struct Current {
    /// Its resource's place in the manifest.
    at: usize,
    digest: StreamingDigest,
    length: u64,
    /// The header of a delta, when the entry is one.
    delta: Option<Vec<u8>>,
    entry_size: u64,
}

/// What a complete and sound archive turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is signed, and by a known key.
    pub signature: SignatureState,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.signature {
            SignatureState::Good => "Valid archive with a good signature",
            SignatureState::Unverified => {
                "Valid archive with an unverified signature. Specify a public key to authenticate."
            }
            SignatureState::Unsigned => "Valid archive without a signature",
        })
    }
}

impl Verifier {
    /// Begins to verify. When there are `keys`, one of them must have signed the archive. `variables`
    /// answers `${NAME}`; `archive_name` is for error texts, `None` for a stream.
    pub fn new(keys: Vec<PublicKey>, variables: Variables, archive_name: Option<&str>) -> Self {
        let start = ArchiveStart::new(keys, archive_name, Purpose::Apply);
        Self { variables, reader: ArchiveReader::new(), state: State::Starting(start), threads: false }
    }

    /// Hashes large resources in a thread of their own, or not, as at first. The verdict is the same.
    #[must_use]
    pub fn threads(mut self, threads: bool) -> Self {
        self.threads = threads;
        self
    }

    /// An answer to `${NAME}` for archives that use no variables.
    pub fn no_variables() -> Variables {
        Arc::new(|_| None)
    }

    /// Takes the next bytes of the archive.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let outcome = self.advance(chunk);
        if outcome.is_err() {
            self.state = State::Failed;
        }
        outcome
    }

    /// Ends the archive and says what it is.
    pub fn finish(mut self) -> Result<Verdict, Error> {
        match &mut self.state {
            State::Starting(start) => Err(start.finish(&mut self.reader).into()),
            State::Failed => Err(Error::Ended),
            State::Running(running) => {
                if !running.ended {
                    match self.reader.finish() {
                        Err(error) if error.in_data() => return Err(error.into()),
                        _ => running.ended = true,
                    }
                }
                running.verdict()
            }
        }
    }

    fn advance(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let mut input = chunk;
        if let State::Starting(start) = &mut self.state {
            match start.step(&mut self.reader, &mut input, &*self.variables)? {
                StartProgress::NeedInput => return Ok(()),
                StartProgress::Opened(archive) => {
                    let seen = vec![false; archive.manifest.resources.len()];
                    self.state = State::Running(Box::new(Running {
                        manifest: archive.manifest,
                        signature: archive.signature,
                        seen,
                        current: None,
                        ended: false,
                        threads: self.threads,
                    }));
                }
            }
        }
        let State::Running(running) = &mut self.state else { return Err(Error::Ended) };
        while !running.ended {
            match self.reader.next(&mut input) {
                Ok(ArchiveEvent::NeedInput) => return Ok(()),
                Ok(ArchiveEvent::Entry(info)) => running.entry(&info)?,
                Ok(ArchiveEvent::Data(data)) => {
                    if let Some(current) = &mut running.current {
                        current.data(data);
                    }
                }
                Ok(ArchiveEvent::EntryEnd) => running.entry_end()?,
                Err(error) if error.in_data() => return Err(error.into()),
                // As in fwup: what is damaged between entries ends them, and what is then missing is told.
                Ok(ArchiveEvent::End) | Err(_) => running.ended = true,
            }
        }
        Ok(())
    }
}

impl Running {
    fn entry(&mut self, info: &EntryInfo) -> Result<(), Error> {
        let Some(name) = resource_name(&info.name) else { return Ok(()) };
        let found = self.manifest.resources.iter().position(|resource| resource.name == name);
        let (Some(at), Some(resource)) = (found, self.manifest.resource(&name)) else {
            return Err(Error::NoSection(name));
        };
        match self.seen.get_mut(at) {
            Some(true) => return Err(Error::Twice(name)),
            Some(seen) => *seen = true,
            None => {}
        }
        if !resource.blake2b_256.as_deref().is_some_and(is_digest) {
            return Err(Error::NoDigest(name));
        }
        let digest = StreamingDigest::new(resource.data_length(), self.threads);
        let mut delta = None;
        let mut entry_size = 0;
        if let Some(size) = info.uncompressed_size {
            entry_size = size;
            if resource.length.len() <= 1 {
                delta = (size != resource.full_length()).then(Vec::new);
            } else if size != resource.data_length() {
                return Err(Error::HeaderLength(name));
            }
        }
        self.current = Some(Current { at, digest, length: 0, delta, entry_size });
        Ok(())
    }

    fn entry_end(&mut self) -> Result<(), Error> {
        let Some(current) = self.current.take() else { return Ok(()) };
        match self.manifest.resources.get(current.at) {
            Some(resource) => current.check(resource),
            None => Ok(()),
        }
    }

    fn verdict(&self) -> Result<Verdict, Error> {
        match self.manifest.resources.iter().zip(&self.seen).rev().find(|(_, seen)| !**seen) {
            Some((resource, _)) => Err(Error::NoResource(resource.name.clone())),
            None => Ok(Verdict { signature: self.signature }),
        }
    }
}

impl Current {
    fn data(&mut self, data: &[u8]) {
        self.length = self.length.saturating_add(data.len() as u64);
        match &mut self.delta {
            Some(header) => header.extend(data.iter().take(DELTA_HEADER - header.len().min(DELTA_HEADER))),
            None => self.digest.update(data),
        }
    }

    fn check(self, resource: &FileResource) -> Result<(), Error> {
        if let Some(header) = &self.delta {
            return check_delta(header).map_err(|reason| Error::NotADelta {
                resource: resource.name.clone(),
                entry: self.entry_size,
                expected: resource.full_length(),
                reason,
            });
        }
        if self.length != resource.data_length() {
            return Err(Error::DataLength(resource.name.clone()));
        }
        if !resource.blake2b_256.as_deref().is_some_and(|digest| self.digest.matches(digest)) {
            return Err(Error::Digest(resource.name.clone()));
        }
        Ok(())
    }
}

/// A delta's content cannot be checked without its source, only its header. fwup lets an empty one pass.
fn check_delta(header: &[u8]) -> Result<(), DeltaFault> {
    if header.is_empty() {
        return Ok(());
    }
    match Header::read(header)? {
        Some(_) => Ok(()),
        None => Err(DeltaFault::BrokeOff),
    }
}
