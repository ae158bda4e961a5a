//! Taking the data of an entry, in each of the ways they can stand in an archive, and what stands behind them.

use super::{ArchiveReader, Kind, State, Step};
use crate::archive::header::{FIXED_LENGTH, le};
use crate::archive::search::{DESCRIPTOR_WORD, Found};
use crate::internal::Internal;
use crate::lengths::smaller;
use crate::limits::DATA_PIECE;

/// Bytes that must follow the data of an entry with a descriptor: the longest one. fwup refuses an archive
/// that ends earlier (golden `truncated`), and so it can't mistake one cut there for a whole one.
const AFTER_DATA: usize = 24;

impl ArchiveReader {
    pub(super) fn counted<'i>(&mut self, input: &mut &'i [u8], remaining: u64) -> Result<Step<'i>, Kind> {
        if remaining == 0 {
            return self.data_end();
        }
        if input.is_empty() {
            return Ok(Step::NeedInput);
        }
        let data = self.take(input, smaller(remaining, DATA_PIECE));
        self.state = State::Counted { remaining: remaining - data.len() as u64 };
        self.tally.compressed += data.len() as u64;
        Ok(self.deliver_direct(data))
    }

    pub(super) fn searched<'i>(&mut self, input: &mut &'i [u8]) -> Step<'i> {
        if input.is_empty() {
            return Step::NeedInput;
        }
        let front = input.get(..DATA_PIECE).unwrap_or(input);
        let crc = self.tally.checksum();
        let step = self.search.step(front, self.header.zip64, crc, self.tally.uncompressed);
        let data = self.take(input, step.taken);
        match step.found {
            Found::Data => self.deliver_direct(data),
            Found::Held(0) => Step::Continue,
            Found::Held(released) => {
                self.tally.crc.update(self.search.released());
                self.tally.uncompressed += released as u64;
                if self.skipping { Step::Continue } else { Step::Released }
            }
            Found::Descriptor => self.entry_end(),
        }
    }

    pub(super) fn deflated<'i>(
        &mut self,
        input: &mut &'i [u8],
        remaining: Option<u64>,
    ) -> Result<Step<'i>, Kind> {
        let inflater =
            self.inflater.as_mut().ok_or_else(|| Internal::new("nothing is there to inflate with"))?;
        if input.is_empty() && remaining != Some(0) && !inflater.has_more() {
            return Ok(Step::NeedInput);
        }
        let allowed = remaining.map_or(input.len(), |remaining| smaller(remaining, input.len()));
        let front = input.get(..allowed).unwrap_or(input);
        let inflated = inflater.step(front).map_err(|_| Kind::BrokenDeflate)?;
        if remaining == Some(0) && inflated.produced == 0 && !inflated.done {
            return Err(Kind::TruncatedDeflate);
        }
        let output = inflater.output(inflated.produced);
        if !self.skipping {
            self.tally.crc.update(output);
        }
        self.tally.uncompressed += inflated.produced as u64;
        self.tally.compressed += inflated.taken as u64;
        self.take(input, inflated.taken);
        self.state = match remaining {
            // What is left of a stream that ended early counts as a wrong size.
            _ if inflated.done => State::Counted { remaining: 0 },
            Some(remaining) => State::Deflated { remaining: Some(remaining - inflated.taken as u64) },
            None => State::Deflated { remaining },
        };
        Ok(if self.skipping || inflated.produced == 0 {
            Step::Continue
        } else {
            Step::Inflated(inflated.produced)
        })
    }

    /// All data were there.
    fn data_end<'i>(&mut self) -> Result<Step<'i>, Kind> {
        if self.skipping && (!self.header.descriptor || self.header.compressed > 0) {
            return Ok(self.entry_end());
        }
        if self.header.descriptor {
            self.part.clear();
            self.state = State::Descriptor;
            return Ok(Step::Continue);
        }
        self.tally.check(&self.header)?;
        Ok(self.entry_end())
    }

    pub(super) fn descriptor<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, Kind> {
        if !self.collect(input, AFTER_DATA) {
            return Ok(Step::NeedInput);
        }
        let size = if self.header.zip64 { 8 } else { 4 };
        let word = if self.part.starts_with(&DESCRIPTOR_WORD) { 4 } else { 0 };
        let short = || Internal::new("a whole descriptor could not be read");
        let field = |at, length| le(&self.part, word + at, length).ok_or_else(short);
        self.header.crc = u32::try_from(field(0, 4)?).map_err(|_| short())?;
        (self.header.compressed, self.header.uncompressed) = (field(4, size)?, field(4 + size, size)?);
        if !self.skipping {
            self.tally.check(&self.header)?;
        }
        let after = self.part.split_off((word + 4 + 2 * size).min(AFTER_DATA));
        let end = self.entry_end();
        self.reread(&after);
        Ok(end)
    }

    /// Takes bytes that were read ahead of an entry's end as what they are: too few for a whole header.
    fn reread(&mut self, mut after: &[u8]) {
        self.bytes -= after.len() as u64;
        if let Step::Continue = self.between(&mut after) {
            self.collect(&mut after, FIXED_LENGTH);
        }
    }

    /// Hands stored data through.
    fn deliver_direct<'i>(&mut self, data: &'i [u8]) -> Step<'i> {
        self.tally.uncompressed += data.len() as u64;
        // A stored entry without size is found by its checksum, so that one is needed even to skip it.
        if !self.skipping || matches!(self.state, State::Searched) {
            self.tally.crc.update(data);
        }
        if self.skipping { Step::Continue } else { Step::Direct(data) }
    }
}
