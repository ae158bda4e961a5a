//! One window of a delta: carrying out its instructions (RFC 3284 §5).

use std::ops::Range;

use simd_adler32::Adler32;

use super::addresses::AddressCache;
use super::buffer::Buffer;
use super::codes::{Code, Kind, codes};
use super::error::{DecodeError, DeltaError, DeltaFault};
use super::source::Source;
use super::window_header::WindowHeader;
use crate::limits::DATA_PIECE;

/// An instruction, or what is left of it.
#[derive(Clone, Copy, Debug)]
struct Instruction {
    what: What,
    left: usize,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Add,
    Run(u8),
    /// From this address on, counted from the start of the source segment.
    Copy(u64),
}

/// The window at work. Its memory is used again for the next one.
pub(super) struct Window {
    header: WindowHeader,
    buffer: Buffer,
    cache: AddressCache,
    /// The second half of the instruction code at work.
    second: Option<Code>,
    current: Option<Instruction>,
    /// Bytes of the target that were handed out, and those that can be.
    given: usize,
    ready: usize,
    /// The checksum of so many bytes.
    sum: Adler32,
    summed: usize,
    /// The part of the source used last, in pieces.
    part: Option<u64>,
    /// Whole pieces wait to be handed out before another part of the source is read.
    source_moves: bool,
    /// The source is not there, so that the checksum of what is made from it is not known.
    sourceless: bool,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            header: WindowHeader::default(),
            buffer: Buffer::default(),
            cache: AddressCache::new(),
            second: None,
            current: None,
            given: 0,
            ready: 0,
            sum: Adler32::new(),
            summed: 0,
            part: None,
            source_moves: false,
            sourceless: false,
        }
    }

    /// Leaves out the checksums of windows that have a part of the source.
    pub(super) fn without_source(&mut self) {
        self.sourceless = true;
    }

    /// Begins the next window.
    pub(super) fn begin(&mut self, header: WindowHeader) {
        let (_, source) = header.source;
        let checksum = header.checksum.filter(|_| !self.sourceless || source == 0);
        let header = WindowHeader { checksum, ..header };
        self.buffer.begin(header.target, header.sections);
        self.cache.clear();
        self.second = None;
        self.current = None;
        (self.given, self.ready, self.summed) = (0, 0, 0);
        self.sum = Adler32::new();
        self.header = header;
    }

    /// Takes the sections in; says whether they are complete.
    pub(super) fn fill(&mut self, input: &mut &[u8]) -> Result<bool, DeltaFault> {
        self.buffer.fill(input)
    }

    /// Whether everything was made and handed out.
    pub(super) fn is_done(&self) -> bool {
        self.given == self.header.target
    }

    /// Returns a range of the bytes made.
    pub(super) fn made(&self, range: Range<usize>) -> Option<&[u8]> {
        self.buffer.get(range)
    }

    /// Makes the next piece and says where it is.
    ///
    /// As in fwup, which can be seen in what a delta that fails leaves behind: what is made is handed out in
    /// whole pieces, when another part of the source is needed. The rest waits for the checksum.
    pub(super) fn produce<S: Source>(&mut self, source: &mut S) -> Result<Range<usize>, Stop<S::Error>> {
        if self.given == self.ready {
            self.ready = self.make(source)?;
        }
        let piece = self.given..self.ready.min(self.given + DATA_PIECE);
        self.given = piece.end;
        Ok(piece)
    }

    /// Carries instructions out until something can be handed out, and says up to where.
    fn make<S: Source>(&mut self, source: &mut S) -> Result<usize, Stop<S::Error>> {
        while self.buffer.made() < self.header.target {
            let instruction = self
                .next()?
                .ok_or(DeltaFault::TargetLength { made: self.buffer.made(), expected: self.header.target })?;
            // The checksum is brought up to date while what it is over is still in the processor's cache.
            let limit = self.header.target.min(self.summed + DATA_PIECE);
            self.carry_out(instruction, limit, source)?;
            if self.buffer.made() == limit {
                self.add_to_sum();
            }
            if self.source_moves {
                self.source_moves = false;
                let waiting = self.buffer.made() - self.given;
                return Ok(self.buffer.made() - waiting % DATA_PIECE);
            }
        }
        self.check_end()?;
        Ok(self.buffer.made())
    }

    fn add_to_sum(&mut self) {
        if self.header.checksum.is_some() {
            let new = self.buffer.get(self.summed..self.buffer.made());
            debug_assert!(new.is_some(), "more was summed up than was made");
            // Without them, the checksum is wrong and the window refused.
            self.sum.write(new.unwrap_or_default());
        }
        self.summed = self.buffer.made();
    }

    /// Nothing may be left over, and the checksum must be right.
    fn check_end(&mut self) -> Result<(), DeltaFault> {
        // What makes nothing may still follow.
        while self.next()?.is_some() {}
        let (data, addresses) = self.buffer.left();
        if data > 0 || addresses > 0 {
            return Err(DeltaFault::LeftOver { data, addresses });
        }
        match self.header.checksum {
            Some(checksum) if checksum != self.sum.finish() => Err(DeltaFault::Checksum),
            _ => Ok(()),
        }
    }

    /// The instruction to go on with; `None` when there are no more.
    fn next(&mut self) -> Result<Option<Instruction>, DeltaFault> {
        if let Some(instruction) = self.current.take() {
            return Ok(Some(instruction));
        }
        let code = if let Some(code) = self.second.take() {
            code
        } else {
            let Some(byte) = self.buffer.instructions().byte() else { return Ok(None) };
            let [first, second] = codes(byte);
            self.second = (second.kind != Kind::NoOp).then_some(second);
            first
        };
        let size = match code.size {
            0 => self.buffer.instructions().number()?.ok_or(DeltaFault::Instructions)?,
            size => u64::from(size),
        };
        let room = self.buffer.room();
        let left = usize::try_from(size).ok().filter(|size| *size <= room);
        let left = left.ok_or(DeltaFault::TargetOverflow { size, room })?;
        let what = match code.kind {
            Kind::Add | Kind::NoOp => What::Add,
            Kind::Run => What::Run(self.buffer.data().byte().ok_or(DeltaFault::Data)?),
            Kind::Copy => {
                let here = self.header.source.1 + self.buffer.made() as u64;
                What::Copy(self.cache.take(&mut self.buffer.addresses(), code.mode, here)?)
            }
        };
        Ok(Some(Instruction { what, left }))
    }

    /// Carries out an instruction until the target is `limit` bytes long, or until what was made should be
    /// handed out before the source is read further.
    fn carry_out<S: Source>(
        &mut self,
        mut instruction: Instruction,
        limit: usize,
        source: &mut S,
    ) -> Result<(), Stop<S::Error>> {
        while instruction.left > 0 && self.buffer.made() < limit && !self.source_moves {
            let wanted = instruction.left.min(limit - self.buffer.made());
            let made = match &mut instruction.what {
                What::Add => {
                    self.buffer.add(wanted)?;
                    wanted
                }
                What::Run(byte) => {
                    self.buffer.run(*byte, wanted)?;
                    wanted
                }
                What::Copy(address) => {
                    let (_, length) = self.header.source;
                    let made = match length.checked_sub(*address) {
                        None | Some(0) => self.copy_target(*address - length, wanted)?,
                        Some(left) => self.copy_source(*address, left, wanted, source)?,
                    };
                    *address += made as u64;
                    made
                }
            };
            instruction.left -= made;
        }
        if instruction.left > 0 {
            self.current = Some(instruction);
        }
        Ok(())
    }

    /// Copies up to `wanted` bytes of the source segment and says how many: none only if what was made should
    /// be handed out first.
    fn copy_source<S: Source>(
        &mut self,
        address: u64,
        left: u64,
        wanted: usize,
        source: &mut S,
    ) -> Result<usize, Stop<S::Error>> {
        let place = self.header.source.0 + address;
        let (part, inside) = (place / DATA_PIECE as u64, place % DATA_PIECE as u64);
        if self.part != Some(part) {
            if self.buffer.made() - self.given >= DATA_PIECE {
                self.source_moves = true;
                return Ok(0);
            }
            self.part = Some(part);
        }
        let bytes = source.bytes_at(place).map_err(Stop::Source)?;
        // At most a piece, which every `usize` holds.
        let most = usize::try_from(left.min(DATA_PIECE as u64 - inside)).unwrap_or(usize::MAX);
        let count = wanted.min(most).min(bytes.len());
        if count == 0 {
            return Err(DeltaFault::SourceEnd(place).into());
        }
        let bytes =
            bytes.get(..count).ok_or_else(|| DeltaFault::internal("the source was read behind its end"))?;
        self.buffer.copy(bytes)?;
        Ok(count)
    }

    /// Copies bytes of the target.
    fn copy_target(&mut self, start: u64, wanted: usize) -> Result<usize, DeltaFault> {
        let here = self.buffer.made() as u64;
        let start = usize::try_from(start).ok().filter(|start| *start < self.buffer.made());
        // An address is checked when it is read, so there is something to copy.
        let start = start.ok_or(DeltaFault::Address { address: here, here })?;
        self.buffer.copy_made(start, wanted)?;
        Ok(wanted)
    }
}

/// Why a window could not go on.
#[derive(Debug)]
pub(super) enum Stop<E> {
    Fault(DeltaFault),
    Source(E),
}

impl<E> From<DeltaFault> for Stop<E> {
    fn from(fault: DeltaFault) -> Self {
        Self::Fault(fault)
    }
}

impl<E> Stop<E> {
    /// Adds where it happened.
    pub(super) fn at(self, window: u64, at: u64) -> DecodeError<E> {
        match self {
            Self::Fault(fault) => DeltaError::new(fault, window, at).into(),
            Self::Source(error) => DecodeError::Source(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::DELTA_WINDOW;

    #[test]
    fn what_is_announced_takes_no_memory() {
        // 64 MiB of target, and as much of data, of which a few bytes come.
        let header =
            WindowHeader { target: DELTA_WINDOW, sections: [DELTA_WINDOW, 5, 1], ..Default::default() };
        let mut window = Window::new();
        window.begin(header);
        assert!(!window.fill(&mut &[7; 100][..]).unwrap());
        assert_eq!(window.buffer.capacity(), 100);

        // A run makes all of it: memory follows, and ends where the window does.
        let header = WindowHeader { target: DELTA_WINDOW, sections: [1, 5, 0], ..Default::default() };
        window.begin(header);
        assert!(window.fill(&mut &[b'x', 0, 0xa0, 0x80, 0x80, 0][..]).unwrap());
        let mut source: &[u8] = &[];
        window.produce(&mut source).unwrap();
        assert_eq!(window.buffer.capacity(), DELTA_WINDOW + 6);
    }
}
