//! The frames of `--framing`, both directions (fw-format §17).

use crate::lengths::smaller;

/// Bytes of a frame's length.
const LENGTH: usize = 4;

/// Takes frames apart: what comes in on standard input with `--framing`.
#[derive(Clone, Debug, Default)]
pub struct FrameReader {
    header: [u8; LENGTH],
    header_filled: usize,
    remaining: u32,
    ended: bool,
}

/// What [`FrameReader::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameInput<'a> {
    /// All input was taken; give more, or call [`FrameReader::finish`].
    NeedInput,
    /// Payload, as much of a frame as was there.
    Data(&'a [u8]),
    /// The frame of length zero: the payload is complete. Further input is left alone.
    End,
}

/// The input ended before the frame of length zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the framed input ended too early: expected a frame of length zero at the end")]
pub struct FrameError;

impl FrameReader {
    /// Makes a reader at the start of the input.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what it needs off the front of `input`. `NeedInput` only when `input` is empty.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> FrameInput<'a> {
        while self.remaining == 0 {
            if self.ended {
                return FrameInput::End;
            }
            let Some((byte, rest)) = input.split_first() else {
                return FrameInput::NeedInput;
            };
            *input = rest;
            let place = self.header.get_mut(self.header_filled);
            debug_assert!(place.is_some(), "the length of a frame has too many bytes");
            if let Some(place) = place {
                *place = *byte;
            }
            self.header_filled += 1;
            if self.header_filled == LENGTH {
                self.header_filled = 0;
                self.remaining = u32::from_be_bytes(self.header);
                self.ended = self.remaining == 0;
            }
        }
        if input.is_empty() {
            return FrameInput::NeedInput;
        }
        let remaining = u64::from(self.remaining);
        let (data, rest) = input.split_at(smaller(remaining, input.len()));
        *input = rest;
        // No more than there was: it still fits.
        self.remaining = u32::try_from(remaining - data.len() as u64).unwrap_or_default();
        FrameInput::Data(data)
    }

    /// Tells that the input ended: an error unless the frame of length zero was seen.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.ended { Ok(()) } else { Err(FrameError) }
    }
}

/// A message to whoever started the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Progress in percent (`PR`).
    Progress(u16),
    /// An information or warning (`WN`), without line end.
    Warning(&'a str),
    /// The error that ended the work (`ER`), without line end.
    Error(&'a str),
    /// Success (`OK`), with the output of the command.
    Success(&'a str),
}

impl Frame<'_> {
    /// Returns the bytes of the frame.
    pub fn to_bytes(self) -> Vec<u8> {
        let (kind, code, text) = match self {
            Self::Progress(percent) => (b"PR", percent, ""),
            Self::Warning(text) => (b"WN", 0, text),
            Self::Error(text) => (b"ER", 0, text),
            Self::Success(text) => (b"OK", 0, text),
        };
        let payload = [kind.as_slice(), &code.to_be_bytes(), text.as_bytes()].concat();
        // A text of 4 GiB cannot be told; no message of ours comes near.
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes(), payload.as_slice()].concat()
    }
}
