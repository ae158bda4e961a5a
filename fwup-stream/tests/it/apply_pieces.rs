//! However an archive is cut into pieces, the result is the same.

use crate::apply_support::{apply_telling, boots, device, installed, options, unsigned};
use crate::golden_support::{folder, say};
use fwup_stream::disk::MemoryTarget;
use fwup_stream::{Applier, ApplyOptions};
use proptest::prelude::*;

fn apply_in_pieces(
    options: ApplyOptions,
    archive: &[u8],
    disk: &mut MemoryTarget,
    mut cuts: impl Iterator<Item = usize>,
) -> Result<(), String> {
    let mut applier = Applier::new(options, disk).map_err(|error| error.to_string())?;
    let mut rest = archive;
    while !rest.is_empty() {
        let (now, after) = rest.split_at(cuts.next().unwrap_or(usize::MAX).clamp(0, rest.len()));
        applier.push(now).map_err(|error| error.to_string())?;
        rest = after;
    }
    applier.finish().map(drop).map_err(|error| error.to_string())
}

#[test]
fn one_byte_at_a_time() {
    let mut disk = installed();
    apply_in_pieces(options("upgrade"), &device(2), &mut disk, std::iter::repeat(1)).unwrap();
    assert_eq!(boots(&disk), Some(('b', 2)));
}

/// The recorded archives, so that deflate, data descriptors and FAT are in it too.
#[test]
fn recorded_archives_one_byte_at_a_time_and_whole() {
    let Some(folder) = folder() else {
        say("SKIPPED: one byte at a time: no recorded archives here");
        return;
    };
    for (case, file) in [("ab-upgrade", "input.fw"), ("raw-write", "input.fw"), ("corrupt", "two-flipped.fw")]
    {
        let Ok(archive) = std::fs::read(folder.join(case).join(file)) else {
            say(&format!("SKIPPED: one byte at a time: case {case} is not here"));
            continue;
        };
        let (mut whole, mut bytes) = (MemoryTarget::new(), MemoryTarget::new());
        let at_once = apply_in_pieces(unsigned("complete"), &archive, &mut whole, std::iter::empty());
        let by_bytes = apply_in_pieces(unsigned("complete"), &archive, &mut bytes, std::iter::repeat(1));
        assert_eq!(at_once, by_bytes, "{case}");
        assert!(whole.image() == bytes.image(), "{case}: the images differ");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn at_random(cuts in proptest::collection::vec(0..40_000_usize, 0..60)) {
        let mut disk = installed();
        apply_in_pieces(options("upgrade"), &device(2), &mut disk, cuts.into_iter()).unwrap();
        prop_assert_eq!(boots(&disk), Some(('b', 2)));
    }

    /// A cut archive never switches, wherever the cut is.
    #[test]
    fn cut_short(place in any::<proptest::sample::Index>()) {
        let archive = device(2);
        let end = place.index(archive.len() - 46 - 1);
        let mut disk = installed();
        let (outcome, _) = apply_telling(options("upgrade"), &archive[..end], &mut disk);
        prop_assert!(outcome.is_err());
        prop_assert_eq!(boots(&disk), Some(('a', 1)));
    }
}
