//! Deltas.

use std::convert::Infallible;

use fwup_stream::delta::{Decoder, Source as Old, Step};
use fwup_stream::limits::DATA_PIECE;

use super::input::{Cuts, Passed, Source};

/// Bytes of delta taken.
const DELTA_MAX: usize = 64 * 1024;
/// Bytes of new content looked at: a few bytes of delta can make 64 MiB.
const OUTPUT_MAX: u64 = 2 << 20;
/// Bytes of a resource, and of the memory for a window, that some are decoded under.
const BOUND: u64 = 5000;
const MEMORY: usize = 8000;
/// Bytes of old content.
const OLD_MAX: usize = 100_000;

/// Decodes a delta whole and cut, its source at hand whole and in pieces.
///
/// # Panics
/// When the cuts show, a piece is too large, or an error does not stay.
pub fn delta(data: &[u8]) {
    let mut source = Source::new(data);
    let cuts = source.cuts();
    let piece = usize::from(source.byte()) + 1;
    let length = usize::from(source.short()).min(OLD_MAX);
    let old: Vec<u8> = (0_u32..).map(old_byte).take(length).collect();
    let delta = source.rest(DELTA_MAX);
    let whole = decode(Decoder::new(), delta, Cuts::whole(), &mut Pieces { old: &old, piece: usize::MAX });
    let cut = decode(Decoder::new(), delta, cuts, &mut Pieces { old: &old, piece });
    assert_eq!(whole, cut, "cuts show");
    // Under a manifest whose resource is short, in little memory.
    let bounded = Decoder::new().result(BOUND).memory(MEMORY);
    let bounded = decode(bounded, delta, Cuts::whole(), &mut Pieces { old: &old, piece: usize::MAX });
    let made = bounded.as_ref().map(|(_, (made, _))| *made);
    assert!(made.is_some_and(|made| made <= BOUND), "{made:?} bytes were made, more than the resource has");
    if matches!(bounded, Some((Ok(()), _))) {
        assert_eq!(bounded, whole, "bounds show");
    }
}

/// What the old content has at a place: nothing that repeats soon.
fn old_byte(at: u32) -> u8 {
    at.wrapping_mul(0x9e37_79b1).to_le_bytes()[3]
}

/// What was made, and how it ended; `None` when there was too much of it.
fn decode(
    mut decoder: Decoder,
    delta: &[u8],
    mut cuts: Cuts,
    old: &mut Pieces<'_>,
) -> Option<(Result<(), String>, (u64, u32))> {
    let mut passed = Passed::default();
    let mut input = delta;
    let mut made = 0;
    while let Some(mut piece) = cuts.next(&mut input) {
        loop {
            match decoder.next(&mut piece, old) {
                Ok(Step::NeedInput) => {
                    assert!(piece.is_empty(), "more input is wanted while there is some");
                    break;
                }
                Ok(Step::Output(bytes)) => {
                    assert!((1..=DATA_PIECE).contains(&bytes.len()), "{} bytes at once", bytes.len());
                    passed.add(bytes);
                    made += bytes.len() as u64;
                    if made > OUTPUT_MAX {
                        return None;
                    }
                }
                Err(error) => {
                    let again = decoder.next(&mut piece, old).err();
                    assert_eq!(again.as_ref(), Some(&error), "an error stays");
                    return Some((Err(error.to_string()), passed.sum()));
                }
            }
        }
    }
    Some((decoder.finish().map_err(|error| error.to_string()), passed.sum()))
}

/// Old content that is at hand in pieces.
struct Pieces<'a> {
    old: &'a [u8],
    piece: usize,
}

impl Old for Pieces<'_> {
    type Error = Infallible;

    fn bytes_at(&mut self, offset: u64) -> Result<&[u8], Infallible> {
        let Ok(offset) = usize::try_from(offset) else { return Ok(&[]) };
        let rest = self.old.get(offset..).unwrap_or_default();
        let left = self.piece - offset % self.piece;
        Ok(rest.get(..left).unwrap_or(rest))
    }
}
