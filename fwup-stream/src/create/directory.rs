//! The directory at the end of an archive: what signing needs to know of entries whose headers do not say it.

use std::io::{self, Read, Seek, SeekFrom};

use crate::archive::le;
use crate::limits::{SIGN_DIRECTORY, SIGN_ENTRIES};

/// Bytes of the fixed part of a directory entry and of the record at the end.
const ENTRY: usize = 46;
const END: usize = 22;
/// Bytes of the comment that may stand behind the record at the end.
const COMMENT_MAX: u64 = 65_535;
/// Bytes of the record that says where the zip64 record is.
const LOCATOR: u64 = 20;
/// What stands in a 32-bit field whose value is elsewhere.
const ELSEWHERE: u64 = 0xffff_ffff;
const EXTRA_ZIP64: u64 = 1;

/// An entry of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirectoryEntry {
    /// Where its local header is.
    pub(super) offset: u64,
    pub(super) crc: u32,
    pub(super) compressed: u64,
    pub(super) uncompressed: u64,
}

/// Reads the directory, sorted by offset; nothing when there is none that makes sense.
pub(super) fn read<R: Read + Seek>(input: &mut R) -> io::Result<Option<Vec<DirectoryEntry>>> {
    let size = input.seek(SeekFrom::End(0))?;
    let tail_start = size.saturating_sub(COMMENT_MAX + END as u64);
    let tail = bytes_at(input, tail_start, size - tail_start)?;
    let Some(at) = tail.windows(4).rposition(|word| word == b"PK\x05\x06") else { return Ok(None) };
    let end = tail.get(at..).unwrap_or_default();
    let (Some(mut length), Some(mut start)) = (le(end, 12, 4), le(end, 16, 4)) else { return Ok(None) };
    if length == ELSEWHERE || start == ELSEWHERE || le(end, 10, 2) == Some(0xffff) {
        let locator = (tail_start + at as u64).checked_sub(LOCATOR);
        let Some(locator) = locator else { return Ok(None) };
        let locator = bytes_at(input, locator, LOCATOR)?;
        let record = le(&locator, 8, 8).filter(|at| locator.starts_with(b"PK\x06\x07") && *at < size);
        let Some(record) = record else { return Ok(None) };
        let record = bytes_at(input, record, (size - record).min(56))?;
        match (le(&record, 40, 8), le(&record, 48, 8)) {
            (Some(a), Some(b)) if record.starts_with(b"PK\x06\x06") => (length, start) = (a, b),
            _ => return Ok(None),
        }
    }
    if length > SIGN_DIRECTORY || start.checked_add(length).is_none_or(|end| end > size) {
        return Ok(None);
    }
    Ok(entries(&bytes_at(input, start, length)?))
}

fn entries(mut rest: &[u8]) -> Option<Vec<DirectoryEntry>> {
    let mut entries = Vec::new();
    while rest.starts_with(b"PK\x01\x02") {
        let part = |at, length| le(rest, at, length);
        let usize_at = |at| part(at, 2).and_then(|value| usize::try_from(value).ok());
        let (name, extra, comment) = (usize_at(28)?, usize_at(30)?, usize_at(32)?);
        let mut sizes = [part(24, 4)?, part(20, 4)?, part(42, 4)?];
        zip64(&mut sizes, rest.get(ENTRY + name..)?.get(..extra)?)?;
        let [uncompressed, compressed, offset] = sizes;
        let crc = u32::try_from(part(16, 4)?).ok()?;
        entries.push(DirectoryEntry { offset, crc, compressed, uncompressed });
        if entries.len() > SIGN_ENTRIES {
            // One more than allowed is enough to tell.
            break;
        }
        rest = rest.get(ENTRY + name + extra + comment..)?;
    }
    entries.sort_by_key(|entry: &DirectoryEntry| entry.offset);
    Some(entries)
}

/// Reads the sizes that are in the zip64 extra field: those that do not fit, in their order.
fn zip64(sizes: &mut [u64; 3], mut extra: &[u8]) -> Option<()> {
    while extra.len() >= 4 {
        let length = usize::try_from(le(extra, 2, 2)?).ok()?;
        let field = extra.get(4..)?.get(..length)?;
        if le(extra, 0, 2)? == EXTRA_ZIP64 {
            let mut at = 0;
            for size in sizes.iter_mut().filter(|size| **size == ELSEWHERE) {
                *size = le(field, at, 8)?;
                at += 8;
            }
        }
        extra = extra.get(4 + length..)?;
    }
    Some(())
}

/// Reads bytes at a place of the file. Never asked for more than the file or the limits allow.
fn bytes_at<R: Read + Seek>(input: &mut R, at: u64, length: u64) -> io::Result<Vec<u8>> {
    input.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    input.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}
