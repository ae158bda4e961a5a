//! Inflating without keeping more than one buffer.

use flate2::{Decompress, FlushDecompress, Status};

use crate::limits::DATA_PIECE;

/// Inflates a raw deflate stream piece by piece.
#[derive(Debug)]
pub(super) struct Inflater {
    machine: Decompress,
    output: Box<[u8]>,
    /// The output was filled, so more may come without more input.
    full: bool,
    /// The stream turned out to be broken behind what was produced.
    broken: bool,
}

/// What a step of inflating came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inflated {
    /// Bytes taken off the input.
    pub taken: usize,
    /// Bytes of output, to be had from [`Inflater::output`].
    pub produced: usize,
    /// The stream is complete.
    pub done: bool,
}

/// The deflate stream is broken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broken;

impl Inflater {
    pub(super) fn new() -> Self {
        Self {
            machine: Decompress::new(false),
            output: vec![0; DATA_PIECE].into_boxed_slice(),
            full: false,
            broken: false,
        }
    }

    /// Begins a new stream.
    pub(super) fn reset(&mut self) {
        self.machine.reset(false);
        self.full = false;
        self.broken = false;
    }

    /// Tells whether a step without input can produce something.
    pub(super) fn has_more(&self) -> bool {
        self.full || self.broken
    }

    /// Inflates as much as the input and the buffer allow.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<Inflated, Broken> {
        if self.broken {
            return Err(Broken);
        }
        let (before_in, before_out) = (self.machine.total_in(), self.machine.total_out());
        let status = self.machine.decompress(input, &mut self.output, FlushDecompress::None);
        let taken = usize::try_from(self.machine.total_in() - before_in).map_err(|_| Broken)?;
        let produced = usize::try_from(self.machine.total_out() - before_out).map_err(|_| Broken)?;
        // What stands before the broken place comes out first, so that the pieces of the input do not matter.
        self.broken = status.is_err();
        if self.broken && produced == 0 {
            return Err(Broken);
        }
        let done = matches!(status, Ok(Status::StreamEnd));
        if !done && taken == 0 && produced == 0 && !input.is_empty() {
            // A machine that neither takes nor gives would be called for ever.
            return Err(Broken);
        }
        self.full = !done && produced == self.output.len();
        Ok(Inflated { taken, produced, done })
    }

    /// Returns the first `length` bytes of output of the last step.
    pub(super) fn output(&self, length: usize) -> &[u8] {
        let made = self.output.get(..length);
        debug_assert!(made.is_some(), "more was inflated than there is room for");
        // Without it, the file's digest is wrong.
        made.unwrap_or_default()
    }
}
