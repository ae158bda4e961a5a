//! Checking an archive without applying it (fw-format §19.1).

use std::fmt;
use std::sync::Arc;

use crate::archive::{
    ArchiveEvent, ArchiveReader, ArchiveStart, EntryInfo, Purpose, SignatureState, StartProgress,
};
use crate::delta::{DecodeError, Decoder, DeltaError, DeltaFault, Step, Unknown};
use crate::error::Error;
use crate::internal::Internal;
use crate::limits::DELTA_MEMORY;
use crate::manifest::{FileResource, Manifest, Metadata};
use crate::names::resource_name;
use crate::options::Variables;
use crate::trust::{PublicKey, StreamingDigest, is_digest};

/// Hears of a delta that is broken.
type Hearer = Box<dyn FnMut(&Error) + Send>;

/// Checks a whole archive: signature, manifest, and every resource's size and digest.
///
/// Of a delta, whose result depends on what a device has, everything else is checked: its header, its windows and
/// their instructions, that it makes as many bytes as the resource has, and the checksums of windows that take
/// nothing from the source.
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
    delta_memory: usize,
    on_broken_delta: Option<Hearer>,
}

enum State {
    Starting(ArchiveStart),
    Running(Box<Running>),
    Failed,
}

struct Running {
    manifest: Manifest,
    metadata: Metadata,
    signature: SignatureState,
    seen: Vec<bool>,
    current: Option<Current>,
    ended: bool,
    threads: bool,
    delta_memory: usize,
}

/// The entry being read.
struct Current {
    resource: FileResource,
    digest: StreamingDigest,
    length: u64,
    /// What goes through a delta, when the entry is one.
    delta: Option<DeltaCheck>,
}

/// A delta being looked through.
struct DeltaCheck {
    decoder: Decoder,
    made: u64,
    fault: Option<DeltaError>,
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
        let state = State::Starting(start);
        let (reader, delta_memory) = (ArchiveReader::new(), DELTA_MEMORY);
        Self { variables, reader, state, threads: false, delta_memory, on_broken_delta: None }
    }

    /// Sets the bytes of memory that a window of a delta may take. Default [`DELTA_MEMORY`]: a delta that needs more
    /// is broken.
    #[must_use]
    pub const fn delta_memory(mut self, bytes: usize) -> Self {
        self.delta_memory = bytes;
        self
    }

    /// Hashes large resources in a thread of their own, or not, as at first. The verdict is the same.
    #[must_use]
    pub fn threads(mut self, threads: bool) -> Self {
        self.threads = threads;
        self
    }

    /// Tells `hear` of deltas whose content is broken and lets them pass, as fwup does, which looks at their headers
    /// only. Applied, they fail.
    #[must_use]
    pub fn tell_broken_deltas(mut self, hear: impl FnMut(&Error) + Send + 'static) -> Self {
        self.on_broken_delta = Some(Box::new(hear));
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

    /// Returns the metadata of the archive, once its signature holds.
    pub fn metadata(&self) -> Option<&Metadata> {
        match &self.state {
            State::Running(running) => Some(&running.metadata),
            State::Starting(_) | State::Failed => None,
        }
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
                        metadata: archive.metadata,
                        signature: archive.signature,
                        seen,
                        current: None,
                        ended: false,
                        threads: self.threads,
                        delta_memory: self.delta_memory,
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
                    let current = running.current.as_mut();
                    let current = current.ok_or_else(|| Internal::new("data came before their entry"))?;
                    current.data(data);
                }
                Ok(ArchiveEvent::EntryEnd) => running.entry_end(self.on_broken_delta.as_mut())?,
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
        // The entry of the folder is no resource.
        let Some(name) = resource_name(&info.name) else { return Ok(()) };
        let found = self.manifest.resources.iter().zip(&mut self.seen).find(|(of, _)| of.name == name);
        let Some((resource, seen)) = found else { return Err(Error::NoSection(name)) };
        if std::mem::replace(seen, true) {
            return Err(Error::Twice(name));
        }
        if !resource.blake2b_256.as_deref().is_some_and(is_digest) {
            return Err(Error::NoDigest(name));
        }
        let digest = StreamingDigest::new(resource.data_length(), self.threads);
        let mut delta = None;
        // An entry whose header tells no size is taken for the resource itself.
        if let Some(size) = info.uncompressed_size {
            if resource.length.len() <= 1 {
                let (length, memory) = (resource.full_length(), self.delta_memory);
                delta = (size != length).then(|| DeltaCheck::new(size, length, memory));
            } else if size != resource.data_length() {
                return Err(Error::HeaderLength(name));
            }
        }
        self.current = Some(Current { resource: resource.clone(), digest, length: 0, delta });
        Ok(())
    }

    fn entry_end(&mut self, hearer: Option<&mut Hearer>) -> Result<(), Error> {
        // The entry of the folder ends, too.
        self.current.take().map_or(Ok(()), |current| current.check(hearer))
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
            Some(delta) => delta.data(data),
            None => self.digest.update(data),
        }
    }

    fn check(self, hearer: Option<&mut Hearer>) -> Result<(), Error> {
        let resource = &self.resource;
        if let Some(delta) = self.delta {
            return match (delta.check(resource), hearer) {
                // What is no delta at all is told by fwup, too.
                (Err(error @ (Error::BrokenDelta { .. } | Error::DeltaLength { .. })), Some(hear)) => {
                    hear(&error);
                    Ok(())
                }
                (outcome, _) => outcome,
            };
        }
        if self.length != resource.data_length() {
            return Err(Error::DataLength(resource.name.clone()));
        }
        let digest = resource.blake2b_256.as_deref();
        let digest = digest.ok_or_else(|| Internal::new("a resource without a digest was read"))?;
        if self.digest.matches(digest)? { Ok(()) } else { Err(Error::Digest(resource.name.clone())) }
    }
}

impl DeltaCheck {
    fn new(entry_size: u64, length: u64, memory: usize) -> Self {
        let decoder = Decoder::without_source().result(length).memory(memory);
        Self { decoder, made: 0, fault: None, entry_size }
    }

    fn data(&mut self, data: &[u8]) {
        let mut input = data;
        // What comes behind a fault is only counted.
        while self.fault.is_none() {
            match self.decoder.next(&mut input, &mut Unknown) {
                Ok(Step::NeedInput) => return,
                Ok(Step::Output(made)) => self.made = self.made.saturating_add(made.len() as u64),
                Err(DecodeError::Delta(error)) => self.fault = Some(error),
                Err(DecodeError::Source(never)) => match never {},
            }
        }
    }

    fn check(self, resource: &FileResource) -> Result<(), Error> {
        let name = || resource.name.clone();
        let expected = resource.full_length();
        match self.fault.map_or_else(|| self.decoder.finish(), Err) {
            // The header of a delta, as far as there is one.
            Err(reason) if reason.window() == 0 && *reason.fault() != DeltaFault::BrokeOff => {
                let reason = reason.fault().clone();
                Err(Error::NotADelta { resource: name(), entry: self.entry_size, expected, reason })
            }
            Err(reason) => Err(Error::BrokenDelta { resource: name(), reason }),
            Ok(()) if self.made != expected => {
                Err(Error::DeltaLength { resource: name(), made: self.made, expected })
            }
            Ok(()) => Ok(()),
        }
    }
}
