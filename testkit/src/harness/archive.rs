//! The container, and verifying it.

use fwup_stream::Verifier;
use fwup_stream::archive::{ArchiveEvent, ArchiveReader, EntryInfo};
use fwup_stream::limits::DATA_PIECE;

use super::input::{Cuts, Passed, Source};

/// Bytes of archive taken: deflate makes a thousand times as much of them.
const ARCHIVE_MAX: usize = 64 * 1024;

/// An archive as it was read.
#[derive(Debug, Default, PartialEq)]
struct Read {
    entries: Vec<Entry>,
    /// Bytes behind the end, which the reader leaves alone.
    left: usize,
    outcome: Option<Result<(), String>>,
}

#[derive(Debug, PartialEq)]
struct Entry {
    info: EntryInfo,
    data: (u64, u32),
    complete: bool,
}

/// Reads an archive whole and cut, skipping the entries that the input says, and verifies it likewise.
///
/// # Panics
/// When the cuts show, events come out of order, a piece is too large, or an error does not stay.
pub fn archive_reader(data: &[u8]) {
    let mut source = Source::new(data);
    let cuts = source.cuts();
    let skips = source.byte();
    let archive = source.rest(ARCHIVE_MAX);
    assert_eq!(read(archive, Cuts::whole(), skips), read(archive, cuts.clone(), skips), "cuts show");
    assert_eq!(verify(archive, Cuts::whole()), verify(archive, cuts), "cuts show in verifying");
}

fn read(archive: &[u8], mut cuts: Cuts, skips: u8) -> Read {
    let mut reader = ArchiveReader::new();
    let mut read = Read::default();
    // The data of the entry under way.
    let mut passed = None;
    let mut input = archive;
    while let Some(mut piece) = cuts.next(&mut input) {
        loop {
            match reader.next(&mut piece) {
                Ok(ArchiveEvent::NeedInput) => {
                    assert!(piece.is_empty(), "more input is wanted while there is some");
                    break;
                }
                Ok(ArchiveEvent::Entry(info)) => {
                    assert!(passed.replace(Passed::default()).is_none(), "an entry inside an entry");
                    let skip = skips >> (read.entries.len() % 8) & 1 == 1;
                    read.entries.push(Entry { info, data: (0, 0), complete: false });
                    if skip {
                        reader.skip_entry();
                    }
                }
                Ok(ArchiveEvent::Data(data)) => {
                    assert!((1..=DATA_PIECE).contains(&data.len()), "{} bytes at once", data.len());
                    assert!(passed.is_some(), "data outside of an entry");
                    if let Some(passed) = &mut passed {
                        Passed::add(passed, data);
                    }
                }
                Ok(ArchiveEvent::EntryEnd) => {
                    let passed = passed.take();
                    assert!(passed.is_some(), "the end of an entry that never began");
                    if let (Some(passed), Some(entry)) = (passed, read.entries.last_mut()) {
                        (entry.data, entry.complete) = (passed.sum(), true);
                    }
                }
                Ok(ArchiveEvent::End) => {
                    assert!(passed.is_none(), "the end inside an entry");
                    read.left += piece.len();
                    break;
                }
                Err(error) => {
                    assert_eq!(reader.next(&mut piece), Err(error.clone()), "an error stays");
                    assert_eq!(reader.finish(), Err(error.clone()), "an error stays to the end");
                    read.outcome = Some(Err(error.to_string()));
                    return read;
                }
            }
        }
    }
    let outcome = reader.finish();
    assert_eq!(outcome, reader.finish(), "finishing twice");
    read.outcome = Some(outcome.map_err(|error| error.to_string()));
    read
}

fn verify(archive: &[u8], mut cuts: Cuts) -> Result<String, String> {
    let mut verifier = Verifier::new(Vec::new(), Verifier::no_variables(), None);
    let mut input = archive;
    while let Some(piece) = cuts.next(&mut input) {
        verifier.push(piece).map_err(|error| error.to_string())?;
    }
    verifier.finish().map(|verdict| verdict.to_string()).map_err(|error| error.to_string())
}
