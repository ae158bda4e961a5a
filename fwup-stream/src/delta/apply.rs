//! Applying the delta of an archive's entry: the source on the destination, the result to a function.

use super::decoder::{Decoder, Step};
use super::error::DecodeError;
use super::source::Source;
use crate::action::{ActionError, Context, DataRun, blocks, bytes, cipher};
use crate::disk::cipher::BlockCipher;
use crate::disk::{BLOCK_BYTES, DiskError, SEGMENT, SEGMENT_BYTES, within};
use crate::limits::{CACHE_MEGABYTES_DEFAULT, CACHE_MEGABYTES_MAX, DELTA_SOURCE_SHARE};
use crate::manifest::OnResource;

/// `delta-source-raw-count` when it is not given.
const COUNT_DEFAULT: i64 = 2_147_483_647;

const MEGABYTE: u64 = 1024 * 1024;

/// The delta of an entry, on its way to becoming the resource's data.
pub(crate) struct Delta {
    decoder: Decoder,
    source: DiskSource,
}

impl Delta {
    /// Begins with the source that the section names; `None` when it names none.
    /// The delta makes `length` bytes at most, in `memory` bytes.
    pub(crate) fn new(
        event: &OnResource,
        cache_megabytes: u64,
        length: u64,
        memory: usize,
    ) -> Result<Option<Self>, ActionError> {
        let place = Place::new(event)?;
        let of_source = memory / DELTA_SOURCE_SHARE;
        let decoder = Decoder::new().result(length).memory(memory - of_source);
        Ok(place.map(|place| Self { decoder, source: DiskSource::new(place, cache_megabytes, of_source) }))
    }

    /// Takes bytes of the delta and hands what they make to the function.
    pub(crate) fn apply(
        &mut self,
        context: &mut Context<'_>,
        delta: &[u8],
        run: &mut DataRun,
    ) -> Result<(), ActionError> {
        let mut input = delta;
        loop {
            let mut source = Reading { source: &mut self.source, context };
            match self.decoder.next(&mut input, &mut source) {
                Ok(Step::NeedInput) => return Ok(()),
                Ok(Step::Output(piece)) => run.write(context, piece)?,
                Err(DecodeError::Delta(error)) => return Err(ActionError::Delta(error)),
                Err(DecodeError::Source(error)) => return Err(error),
            }
        }
    }
}

/// Where the source is.
enum Place {
    /// Blocks of the destination, encrypted perhaps.
    Raw { start: u64, size: u64, cipher: Option<BlockCipher> },
    /// A file on a FAT file system.
    Fat { block: u64, path: String },
}

impl Place {
    /// What the section names. As in fwup, blocks win over a file.
    fn new(event: &OnResource) -> Result<Option<Self>, ActionError> {
        let count = event.delta_source_raw_count.unwrap_or(COUNT_DEFAULT);
        let count = u64::try_from(count).ok().filter(|count| *count > 0);
        if let (Some(offset), Some(count)) = (&event.delta_source_raw_offset, count) {
            let options = event.delta_source_raw_options.iter().flat_map(|options| options.split(','));
            let cipher = cipher(options.filter(|option| !option.is_empty()))?;
            let start = bytes(blocks(offset));
            // No medium reaches as far as bytes can be counted.
            let size = bytes(count).min(u64::MAX - start);
            return Ok(Some(Self::Raw { start, size, cipher }));
        }
        Ok(match (&event.delta_source_fat_offset, &event.delta_source_fat_path) {
            (Some(offset), Some(path)) => Some(Self::Fat { block: blocks(offset), path: path.clone() }),
            _ => None,
        })
    }

    /// Reads the source's bytes from `offset` on, and says how many there were before its end.
    fn read(&self, context: &mut Context<'_>, offset: u64, buffer: &mut [u8]) -> Result<usize, ActionError> {
        match self {
            Self::Raw { start, size, cipher } => {
                let Some(left) = size.checked_sub(offset).filter(|left| *left > 0) else {
                    return Err(ActionError::DeltaRange { size: *size, offset, count: buffer.len() });
                };
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                let buffer = buffer.get_mut(..count);
                let buffer = buffer
                    .ok_or_else(|| DiskError::internal(*start, "the source of a delta has no memory"))?;
                context.disk.read_uncached(start + offset, buffer)?;
                if let Some(cipher) = cipher {
                    cipher.decrypt(offset / BLOCK_BYTES, buffer);
                }
                Ok(count)
            }
            Self::Fat { block, path } => {
                let mut count = 0;
                while let Some(rest) = buffer.get_mut(count..).filter(|rest| !rest.is_empty()) {
                    let place = offset.saturating_add(count as u64);
                    match context.fats.read_at(context.disk, *block, path, place, rest)? {
                        0 => break,
                        read => count += read,
                    }
                }
                Ok(count)
            }
        }
    }
}

/// The source in pieces of a segment, those used last kept in memory.
struct DiskSource {
    place: Place,
    pieces: Vec<Piece>,
    /// Pieces kept at most.
    capacity: usize,
    /// The piece used last.
    last: usize,
    /// Counts changes of piece; the time of these pieces.
    clock: u64,
}

/// A piece of the source.
struct Piece {
    number: u64,
    bytes: Vec<u8>,
    last_use: u64,
}

impl DiskSource {
    /// Keeps as much of the source as the manifest lets the write cache have (`block-cache-size-mb`), which
    /// hardly needs it when the result is written from front to back, and no more than `memory` bytes.
    fn new(place: Place, megabytes: u64, memory: usize) -> Self {
        let megabytes = if megabytes == 0 { CACHE_MEGABYTES_DEFAULT } else { megabytes };
        let pieces = megabytes.min(CACHE_MEGABYTES_MAX) * MEGABYTE / SEGMENT_BYTES;
        // At most the limit, which every `usize` holds.
        let capacity = usize::try_from(pieces).unwrap_or(usize::MAX).min(memory / SEGMENT).max(1);
        Self { place, pieces: Vec::new(), capacity, last: 0, clock: 0 }
    }

    /// Returns where the piece is, reading it if it is not there.
    fn find(&mut self, context: &mut Context<'_>, number: u64) -> Result<usize, ActionError> {
        if self.pieces.get(self.last).is_some_and(|piece| piece.number == number) {
            return Ok(self.last);
        }
        self.clock += 1;
        let at = match self.pieces.iter().position(|piece| piece.number == number) {
            Some(at) => at,
            None => self.read(context, number)?,
        };
        if let Some(piece) = self.pieces.get_mut(at) {
            piece.last_use = self.clock;
        }
        self.last = at;
        Ok(at)
    }

    /// Reads a piece, in the place of the one not used for longest when there are enough.
    fn read(&mut self, context: &mut Context<'_>, number: u64) -> Result<usize, ActionError> {
        let mut bytes = Vec::new();
        let new = self.pieces.len() < self.capacity && bytes.try_reserve_exact(SEGMENT).is_ok();
        let mut piece = if new {
            Piece { number, bytes, last_use: 0 }
        } else {
            let oldest = self.pieces.iter().enumerate().min_by_key(|(_, piece)| piece.last_use);
            self.pieces.swap_remove(oldest.map(|(at, _)| at).ok_or(ActionError::NoMemory { bytes: SEGMENT })?)
        };
        piece.number = number;
        piece.bytes.resize(SEGMENT, 0);
        let offset = number.saturating_mul(SEGMENT_BYTES);
        let count = self.place.read(context, offset, &mut piece.bytes)?;
        piece.bytes.truncate(count);
        self.pieces.push(piece);
        Ok(self.pieces.len() - 1)
    }
}

/// A source with what it takes to read it.
struct Reading<'s, 'c, 'x> {
    source: &'s mut DiskSource,
    context: &'c mut Context<'x>,
}

impl Source for Reading<'_, '_, '_> {
    type Error = ActionError;

    fn bytes_at(&mut self, offset: u64) -> Result<&[u8], ActionError> {
        let at = self.source.find(self.context, offset / SEGMENT_BYTES)?;
        let piece = self.source.pieces.get(at);
        let piece =
            piece.ok_or_else(|| DiskError::internal(offset, "a piece of the source of a delta was lost"))?;
        // A piece that ends before is the source's end, which is what nothing tells.
        Ok(piece.bytes.get(within(offset)..).unwrap_or_default())
    }
}
