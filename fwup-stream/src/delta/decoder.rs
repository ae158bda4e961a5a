//! The decoder: bytes of a delta in, bytes of the new content out.

use std::fmt;
use std::ops::Range;

use super::error::{DecodeError, DeltaError, DeltaFault};
use super::header::Header;
use super::source::Source;
use super::window::{Stop, Window};
use super::window_header::WindowHeader;

/// Decodes a delta that comes in pieces of any size.
///
/// Memory: one target window ([`DELTA_WINDOW`](crate::limits::DELTA_WINDOW) at most) and the sections of its
/// delta, which are at most [`DELTA_OVERHEAD`](crate::limits::DELTA_OVERHEAD) longer; the window takes the place of data that were used. It
/// grows with what has come and was made, not with what a delta announces. [`Decoder::result`] and
/// [`Decoder::memory`] bound it further.
pub struct Decoder {
    state: State,
    /// The beginning of a header.
    part: Vec<u8>,
    window: Window,
    /// Windows begun.
    windows: u64,
    /// Bytes taken.
    at: u64,
    /// Bytes that windows may still make.
    left: u64,
    /// Bytes of memory that a window may take.
    memory: usize,
}

#[derive(Debug)]
enum State {
    Header,
    /// So many bytes are left that concern the application only.
    Application(u64),
    WindowHeader,
    Sections,
    Producing,
    Failed(DeltaError),
}

/// What decoding comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// All input was taken; give more, or call [`Decoder::finish`].
    NeedInput,
    /// The next bytes of the new content, never empty, at most
    /// [`DATA_PIECE`](crate::limits::DATA_PIECE) of them.
    Output(&'a [u8]),
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Decoder");
        text.field("state", &self.state).field("windows", &self.windows).field("at", &self.at);
        text.finish_non_exhaustive()
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// Begins a delta.
    pub fn new() -> Self {
        let (state, part, window) = (State::Header, Vec::new(), Window::new());
        Self { state, part, window, windows: 0, at: 0, left: u64::MAX, memory: usize::MAX }
    }

    /// Bounds the new content: no window may make more than is left of so many bytes. Default: no bound.
    #[must_use]
    pub const fn result(mut self, bytes: u64) -> Self {
        self.left = bytes;
        self
    }

    /// Bounds the memory of each window with its sections, in bytes. Default: no bound but
    /// [`DELTA_WINDOW`](crate::limits::DELTA_WINDOW).
    #[must_use]
    pub const fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Begins a delta that is only looked through, with an [`Unknown`](super::source::Unknown) source: checksums of
    /// windows that take something from it cannot be right.
    pub(crate) fn without_source() -> Self {
        let mut decoder = Self::new();
        decoder.window.without_source();
        decoder
    }

    /// Goes on: takes from the front of `input` what it needs and returns the next piece of the new content,
    /// or that it needs more input. Content of large windows is handed out before their checksum is known.
    ///
    /// # Errors
    ///
    /// The delta is malformed, does not fit the source, or the source cannot be read. It is of no use after
    /// that; the same error comes again.
    pub fn next<S: Source>(
        &mut self,
        input: &mut &[u8],
        source: &mut S,
    ) -> Result<Step<'_>, DecodeError<S::Error>> {
        match self.advance(input, source) {
            Ok(Some(piece)) if self.window.made(piece.clone()).is_none() => {
                Err(self.fail(DeltaFault::internal("a piece of the target was not made").into()))
            }
            // That it is there was made sure just now.
            Ok(Some(piece)) => Ok(Step::Output(self.window.made(piece).unwrap_or_default())),
            Ok(None) => Ok(Step::NeedInput),
            Err(stop) => Err(self.fail(stop)),
        }
    }

    /// Ends the delta.
    ///
    /// # Errors
    ///
    /// It ended in the middle, or had failed before.
    pub fn finish(&self) -> Result<(), DeltaError> {
        match &self.state {
            State::WindowHeader if self.part.is_empty() => Ok(()),
            State::Failed(error) => Err(error.clone()),
            _ => Err(DeltaError::new(DeltaFault::BrokeOff, self.windows, self.at)),
        }
    }

    fn advance<S: Source>(
        &mut self,
        input: &mut &[u8],
        source: &mut S,
    ) -> Result<Option<Range<usize>>, Stop<S::Error>> {
        loop {
            match &mut self.state {
                State::Header => {
                    let Some(header) = self.collect(input, Header::read)? else {
                        return Ok(None);
                    };
                    self.state = State::Application(header.application);
                }
                State::Application(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    *left -= count as u64;
                    let done = *left == 0;
                    self.skip(input, count);
                    if !done {
                        return Ok(None);
                    }
                    self.state = State::WindowHeader;
                }
                State::WindowHeader => {
                    if self.part.is_empty() && !input.is_empty() {
                        self.windows += 1;
                    }
                    let Some(header) = self.collect(input, WindowHeader::read)? else {
                        return Ok(None);
                    };
                    header.check(self.left, self.memory)?;
                    let left = self.left.checked_sub(header.target as u64);
                    self.left = left.ok_or_else(|| {
                        DeltaFault::internal("a window is larger than what is left of its file")
                    })?;
                    self.window.begin(header);
                    self.state = State::Sections;
                }
                State::Sections => {
                    let before = input.len();
                    let complete = self.window.fill(input)?;
                    self.at += (before - input.len()) as u64;
                    if !complete {
                        return Ok(None);
                    }
                    self.state = State::Producing;
                }
                State::Producing => {
                    let piece = self.window.produce(source)?;
                    if self.window.is_done() {
                        self.state = State::WindowHeader;
                    }
                    if !piece.is_empty() {
                        return Ok(Some(piece));
                    }
                }
                State::Failed(error) => return Err(error.fault().clone().into()),
            }
        }
    }

    /// Adds input to the beginning of a header until it can be read; headers are a few bytes long.
    fn collect<T>(
        &mut self,
        input: &mut &[u8],
        read: impl Fn(&[u8]) -> Result<Option<T>, DeltaFault>,
    ) -> Result<Option<T>, DeltaFault> {
        while let Some(byte) = input.first() {
            self.part.push(*byte);
            self.skip(input, 1);
            if let Some(header) = read(&self.part)? {
                self.part.clear();
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    fn skip(&mut self, input: &mut &[u8], count: usize) {
        debug_assert!(count <= input.len(), "more input was taken than there is");
        *input = input.get(count..).unwrap_or_default();
        self.at += count as u64;
    }

    fn fail<E>(&mut self, stop: Stop<E>) -> DecodeError<E> {
        if let State::Failed(error) = &self.state {
            return error.clone().into();
        }
        let (windows, at) = (self.windows, self.at);
        let kept = match &stop {
            Stop::Fault(fault) => fault.clone(),
            Stop::Source(_) => DeltaFault::Ended,
        };
        self.state = State::Failed(DeltaError::new(kept, windows, at));
        stop.at(windows, at)
    }
}
