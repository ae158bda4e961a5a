//! The push reader: bytes in, entries and their data out.

mod data;

use super::error::{ArchiveError, ArchiveErrorKind as Kind};
use super::event::ArchiveEvent;
use super::header::{EntryInfo, FIXED_LENGTH, LocalHeader};
use super::inflate::Inflater;
use super::search::Search;
use super::tally::Tally;
use crate::internal::Internal;
use crate::limits::ENTRY_NAME;

/// Third and fourth byte of the words an archive may begin with, after `PK`.
const FIRST_WORDS: [[u8; 2]; 6] = [[1, 2], [3, 4], [5, 6], [6, 6], [7, 8], *b"00"];
/// Third and fourth byte of the word of a local header.
const LOCAL_HEADER: [u8; 2] = [3, 4];
/// Third and fourth byte of the words that say that no entry follows.
const NO_MORE_ENTRIES: [[u8; 2]; 3] = [[1, 2], [5, 6], [6, 6]];

const METHOD_STORED: u16 = 0;
const METHOD_DEFLATE: u16 = 8;

/// Reads a ZIP archive from front to back, from pieces of any size. Holds one buffer of
/// [`DATA_PIECE`](crate::limits::DATA_PIECE) bytes and one local header, whatever comes in.
#[derive(Debug)]
pub struct ArchiveReader {
    state: State,
    /// Bytes of the part being collected.
    part: Vec<u8>,
    name: Vec<u8>,
    header: LocalHeader,
    /// What was read of the present entry.
    tally: Tally,
    skipping: bool,
    inflater: Option<Inflater>,
    search: Search,
    bytes: u64,
}

/// What the next byte belongs to.
#[derive(Clone, Debug)]
enum State {
    /// The first word of the archive.
    Start,
    /// Something between entries: a local header is looked for, as the reference does.
    Between,
    HeaderFixed,
    HeaderName,
    HeaderExtra,
    /// Stored data, or data skipped by their size.
    Counted {
        remaining: u64,
    },
    /// Stored data whose size stands behind them.
    Searched,
    /// Deflated data; with the bytes left if the header said it.
    Deflated {
        remaining: Option<u64>,
    },
    /// Data that cannot be read, only skipped.
    Unreadable(Kind),
    /// The checksum and sizes behind the data.
    Descriptor,
    End,
    Failed(ArchiveError),
}

/// What one step came to, without borrowing the reader.
enum Step<'i> {
    Continue,
    NeedInput,
    Entry(EntryInfo),
    Direct(&'i [u8]),
    Inflated(usize),
    Released,
    EntryEnd,
    End,
}

impl Default for ArchiveReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ArchiveReader {
    /// Makes a reader at the start of an archive.
    pub fn new() -> Self {
        Self {
            state: State::Start,
            part: Vec::new(),
            name: Vec::new(),
            header: LocalHeader::default(),
            tally: Tally::default(),
            skipping: false,
            inflater: None,
            search: Search::default(),
            bytes: 0,
        }
    }

    /// Takes what it needs off the front of `input` and returns the next event; `NeedInput` only when
    /// `input` is empty. After an error every call returns that error.
    pub fn next<'e, 'i: 'e>(&'e mut self, input: &mut &'i [u8]) -> Result<ArchiveEvent<'e>, ArchiveError> {
        loop {
            let step = match self.step(input) {
                Ok(step) => step,
                Err(kind) => return Err(self.fail(kind)),
            };
            if matches!(step, Step::Inflated(_)) && self.inflater.is_none() {
                return Err(self.fail(Internal::new("data were inflated by nothing").into()));
            }
            return Ok(match step {
                Step::Continue => continue,
                Step::NeedInput => ArchiveEvent::NeedInput,
                Step::Entry(info) => ArchiveEvent::Entry(info),
                Step::Direct(data) => ArchiveEvent::Data(data),
                Step::Inflated(length) => ArchiveEvent::Data(
                    self.inflater.as_ref().map(|inflater| inflater.output(length)).unwrap_or_default(),
                ),
                Step::Released => ArchiveEvent::Data(self.search.released()),
                Step::EntryEnd => ArchiveEvent::EntryEnd,
                Step::End => ArchiveEvent::End,
            });
        }
    }

    /// Tells that the input ended: an error if that is too early (nothing at all, inside a header, inside an
    /// entry, or less than 24 bytes after one). A cut directory at the end is no error.
    pub fn finish(&mut self) -> Result<(), ArchiveError> {
        let kind = match &self.state {
            State::Between | State::End => return Ok(()),
            State::Failed(error) => return Err(error.clone()),
            State::Start => Kind::Unrecognized,
            State::HeaderFixed | State::HeaderName | State::HeaderExtra => Kind::TruncatedHeader,
            State::Counted { .. } | State::Searched => Kind::TruncatedData,
            State::Deflated { .. } => Kind::TruncatedDeflate,
            State::Unreadable(kind) => kind.clone(),
            State::Descriptor => Kind::TruncatedDescriptor,
        };
        Err(self.fail(kind))
    }

    /// Skips the rest of the present entry: its data are not delivered and not checked. `EntryEnd` still
    /// comes. Without an entry does nothing.
    pub fn skip_entry(&mut self) {
        match &self.state {
            State::Counted { .. } | State::Searched | State::Descriptor => {}
            State::Deflated { .. } | State::Unreadable(_) => {
                // Knowing the size saves inflating; whatever descriptor follows is passed over between entries.
                if !self.header.descriptor || self.header.compressed > 0 {
                    // A header that lies, of an entry with a descriptor, may say less than has come.
                    let remaining = self.header.compressed.saturating_sub(self.tally.compressed);
                    self.state = State::Counted { remaining };
                }
            }
            _ => return,
        }
        self.skipping = true;
    }

    /// Returns the number of bytes taken off the input so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes
    }

    fn step<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, Kind> {
        match self.state.clone() {
            State::Start => self.first_word(input),
            State::Between => Ok(self.between(input)),
            State::HeaderFixed => self.header_fixed(input),
            State::HeaderName => Ok(self.header_name(input)),
            State::HeaderExtra => self.header_extra(input),
            State::Counted { remaining } => self.counted(input, remaining),
            State::Searched => Ok(self.searched(input)),
            State::Deflated { remaining } => self.deflated(input, remaining),
            State::Unreadable(kind) => Err(kind),
            State::Descriptor => self.descriptor(input),
            State::End => Ok(Step::End),
            State::Failed(error) => Err(error.kind().clone()),
        }
    }

    fn first_word<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, Kind> {
        if !self.collect(input, 4) {
            return Ok(Step::NeedInput);
        }
        if !after_pk(&self.part).is_some_and(|word| FIRST_WORDS.contains(&word)) {
            return Err(Kind::Unrecognized);
        }
        self.state = State::Between;
        Ok(Step::Continue)
    }

    /// Looks for a word that begins a local header or the end, in the last four bytes seen.
    fn between<'i>(&mut self, input: &mut &'i [u8]) -> Step<'i> {
        loop {
            match after_pk(&self.part) {
                Some(LOCAL_HEADER) => {
                    self.state = State::HeaderFixed;
                    return Step::Continue;
                }
                Some(word) if NO_MORE_ENTRIES.contains(&word) => {
                    self.state = State::End;
                    return Step::End;
                }
                _ => {}
            }
            let Some((byte, _)) = input.split_first() else {
                return Step::NeedInput;
            };
            self.take(input, 1);
            if self.part.len() == 4 {
                self.part.remove(0);
            }
            self.part.push(*byte);
        }
    }

    fn header_fixed<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, Kind> {
        if !self.collect(input, FIXED_LENGTH) {
            return Ok(Step::NeedInput);
        }
        let header = LocalHeader::parse(&self.part);
        self.header = header.ok_or_else(|| Internal::new("a whole local header could not be read"))?;
        let length = self.header.name_length;
        if length > ENTRY_NAME {
            return Err(Kind::NameTooLong { length });
        }
        self.part.clear();
        self.state = State::HeaderName;
        Ok(Step::Continue)
    }

    fn header_name<'i>(&mut self, input: &mut &'i [u8]) -> Step<'i> {
        if !self.collect(input, self.header.name_length) {
            return Step::NeedInput;
        }
        self.name = std::mem::take(&mut self.part);
        self.state = State::HeaderExtra;
        Step::Continue
    }

    fn header_extra<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, Kind> {
        if !self.collect(input, self.header.extra_length) {
            return Ok(Step::NeedInput);
        }
        self.header.read_extra(&self.part).ok_or(Kind::MalformedExtra)?;
        self.part.clear();
        self.tally = Tally::default();
        self.skipping = false;
        let known = (!self.header.descriptor || self.header.compressed > 0).then_some(self.header.compressed);
        self.state = match (self.header.method, known) {
            _ if self.header.encrypted => State::Unreadable(Kind::Encrypted),
            (METHOD_STORED, Some(remaining)) => State::Counted { remaining },
            (METHOD_STORED, None) => {
                self.search.reset();
                State::Searched
            }
            (METHOD_DEFLATE, known) => {
                self.inflater.get_or_insert_with(Inflater::new).reset();
                State::Deflated { remaining: known.filter(|_| !self.header.descriptor) }
            }
            (method, _) => State::Unreadable(Kind::Method { method }),
        };
        Ok(Step::Entry(self.header.info(&self.name)))
    }

    fn entry_end<'i>(&mut self) -> Step<'i> {
        self.part.clear();
        self.state = State::Between;
        Step::EntryEnd
    }

    /// Fills `part` up to `length` bytes; tells whether it is full.
    fn collect(&mut self, input: &mut &[u8], length: usize) -> bool {
        // The word that was looked for may be longer than what is wanted now: then nothing is missing.
        let missing = length.saturating_sub(self.part.len());
        let bytes = self.take(input, missing);
        self.part.extend_from_slice(bytes);
        self.part.len() >= length
    }

    /// Takes up to `length` bytes off the input.
    fn take<'i>(&mut self, input: &mut &'i [u8], length: usize) -> &'i [u8] {
        let (taken, rest) = input.split_at(length.min(input.len()));
        *input = rest;
        self.bytes += taken.len() as u64;
        taken
    }

    fn fail(&mut self, kind: Kind) -> ArchiveError {
        if let State::Failed(error) = &self.state {
            return error.clone();
        }
        let in_entry = matches!(
            self.state,
            State::Counted { .. }
                | State::Searched
                | State::Deflated { .. }
                | State::Unreadable(_)
                | State::Descriptor
        );
        let entry = in_entry.then(|| String::from_utf8_lossy(&self.name).into_owned());
        let error = ArchiveError::new(kind, in_entry && !self.skipping, entry);
        self.state = State::Failed(error.clone());
        error
    }
}

/// Returns the third and fourth byte of a word that begins with `PK`.
fn after_pk(word: &[u8]) -> Option<[u8; 2]> {
    match word {
        [b'P', b'K', third, fourth] => Some([*third, *fourth]),
        _ => None,
    }
}
