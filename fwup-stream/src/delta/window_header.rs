//! The header of a window (RFC 3284 §4.2 and §4.3).

use super::buffer;
use super::error::DeltaFault;
use super::header::byte;
use super::varint;
use crate::limits::{DELTA_OVERHEAD, DELTA_WINDOW};

const SOURCE: u8 = 1;
const TARGET: u8 = 2;
/// xdelta3's addition to the standard.
const CHECKSUM: u8 = 4;

/// What the header of a window says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WindowHeader {
    /// Where the source segment begins, and how long it is.
    pub(super) source: (u64, u64),
    /// Bytes the window makes.
    pub(super) target: usize,
    /// Bytes of its sections: data, instructions, addresses.
    pub(super) sections: [usize; 3],
    pub(super) checksum: Option<u32>,
}

impl WindowHeader {
    /// Reads the header of a window; `None` when more bytes are needed. What follows it is not looked at.
    pub(super) fn read(mut bytes: &[u8]) -> Result<Option<Self>, DeltaFault> {
        let rest = &mut bytes;
        let Some(bits) = byte(rest) else { return Ok(None) };
        if bits & !(SOURCE | TARGET | CHECKSUM) != 0 {
            return Err(DeltaFault::WindowBits(bits));
        }
        if bits & TARGET != 0 {
            return Err(DeltaFault::TargetSource);
        }
        let mut source = (0, 0);
        if bits & SOURCE != 0 {
            let Some(length) = varint::take(rest)? else { return Ok(None) };
            let Some(offset) = varint::take(rest)? else { return Ok(None) };
            // Target bytes are addressed right behind the segment.
            let end = offset.max(DELTA_WINDOW as u64).checked_add(length);
            end.ok_or(DeltaFault::SourceSegment { offset, length })?;
            source = (offset, length);
        }
        let Some(announced) = varint::take(rest)? else { return Ok(None) };
        let before = rest.len();
        let Some(target) = varint::take(rest)? else { return Ok(None) };
        let fits = usize::try_from(target).ok().filter(|target| *target <= DELTA_WINDOW);
        let target = fits.ok_or(DeltaFault::WindowSize(target))?;
        let Some(compressed) = byte(rest) else { return Ok(None) };
        if compressed != 0 {
            return Err(DeltaFault::DeltaIndicator(compressed));
        }
        let mut lengths = [0; 3];
        for length in &mut lengths {
            let Some(number) = varint::take(rest)? else { return Ok(None) };
            *length = number;
        }
        let total = lengths.iter().fold(0, |total: u64, length| total.saturating_add(*length));
        let wasteful = DeltaFault::Sections { sections: total, target: target as u64 };
        if total > target as u64 + DELTA_OVERHEAD as u64 {
            return Err(wasteful);
        }
        let mut sections = [0; 3];
        for (section, length) in sections.iter_mut().zip(lengths) {
            *section = usize::try_from(length).map_err(|_| wasteful.clone())?;
        }
        let mut checksum = None;
        if bits & CHECKSUM != 0 {
            let Some((four, after)) = rest.split_first_chunk() else { return Ok(None) };
            checksum = Some(u32::from_be_bytes(*four));
            *rest = after;
        }
        let parts = total + (before - rest.len()) as u64;
        if announced != parts {
            return Err(DeltaFault::EncodingLength { announced, parts });
        }
        Ok(Some(Self { source, target, sections, checksum }))
    }

    /// Checks the window against what is left to make, and the memory it may take.
    pub(super) fn check(&self, left: u64, memory: usize) -> Result<(), DeltaFault> {
        let target = self.target as u64;
        if target > left {
            return Err(DeltaFault::ResultSize { target, left });
        }
        let needed = buffer::memory(self.target, self.sections);
        if needed > memory {
            Err(DeltaFault::Memory { needed: needed as u64, allowed: memory })
        } else {
            Ok(())
        }
    }
}
