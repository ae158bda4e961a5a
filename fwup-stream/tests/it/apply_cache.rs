//! The write cache against a plain model of a disk.

use std::io;

use fwup_stream::disk::{CacheOptions, DiskError, DiskIo, Extent, MemoryTarget, SegmentCache, Target};
use proptest::prelude::*;

const SEGMENT: usize = 128 * 1024;
/// Twelve segments, more than the smallest cache holds.
const DISK: usize = 12 * SEGMENT;

#[derive(Clone, Debug)]
enum Step {
    Write { offset: usize, length: usize, byte: u8, streamed: bool },
    Read { offset: usize, length: usize },
    Trim { offset: usize, length: usize },
    LastAct,
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = || (0..DISK, prop_oneof![1..2000_usize, 1..3 * SEGMENT]);
    let aligned = (0..DISK / 512, 1..600_usize).prop_map(|(offset, length)| (offset * 512, length * 512));
    let write = (prop_oneof![range(), aligned], any::<u8>(), any::<bool>())
        .prop_map(|((offset, length), byte, streamed)| Step::Write { offset, length, byte, streamed });
    let read = range().prop_map(|(offset, length)| Step::Read { offset, length });
    let trim = range().prop_map(|(offset, length)| Step::Trim { offset, length });
    let step =
        prop_oneof![8 => write, 3 => read, 1 => trim, 1 => Just(Step::LastAct), 1 => Just(Step::Flush)];
    proptest::collection::vec(step, 1..60)
}

/// The part of a range that is on the disk.
fn clip(offset: usize, length: usize) -> std::ops::Range<usize> {
    offset..(offset + length).min(DISK)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn reads_and_the_flushed_image_are_those_of_a_plain_disk(
        steps in steps(),
        verify_writes in any::<bool>(),
        minimize_writes in any::<bool>(),
    ) {
        let mut model = vec![0x5a; DISK];
        let mut target = MemoryTarget::with_content(&model);
        let options = CacheOptions { verify_writes, minimize_writes, ..CacheOptions::default() };
        let mut cache = SegmentCache::new(&mut target, options);
        cache.set_megabytes(1);
        // Trimmed segments may hold anything until they are written.
        let mut unknown = [false; DISK / SEGMENT];
        for step in steps {
            match step {
                Step::Write { offset, length, byte, streamed } => {
                    let range = clip(offset, length);
                    cache.write(offset as u64, &vec![byte; range.len()], streamed).unwrap();
                    for segment in range.start / SEGMENT..=(range.end - 1) / SEGMENT {
                        if std::mem::take(&mut unknown[segment]) {
                            model[segment * SEGMENT..][..SEGMENT].fill(0);
                        }
                    }
                    model[range].fill(byte);
                }
                Step::Read { offset, length } => {
                    let range = clip(offset, length);
                    let mut got = vec![0; range.len()];
                    cache.read(offset as u64, &mut got).unwrap();
                    for (place, byte) in range.clone().zip(got) {
                        let want = if unknown[place / SEGMENT] { 0 } else { model[place] };
                        prop_assert_eq!(byte, want, "at {}", place);
                    }
                }
                Step::Trim { offset, length } => {
                    let range = clip(offset, length);
                    cache.trim(range.start as u64, range.len() as u64).unwrap();
                    let whole = range.start.div_ceil(SEGMENT)..range.end / SEGMENT;
                    if !whole.is_empty() {
                        unknown[whole].fill(true);
                    }
                }
                Step::LastAct => cache.begin_last_act(),
                Step::Flush => cache.flush().unwrap(),
            }
        }
        cache.flush().unwrap();
        drop(cache);
        let image = target.image();
        for (number, unknown) in unknown.iter().enumerate() {
            let range = number * SEGMENT..(number + 1) * SEGMENT;
            prop_assert!(*unknown || image[range.clone()] == model[range], "segment {} differs", number);
        }
    }
}

#[test]
fn a_hard_end_is_kept_to_the_byte() {
    let mut target = MemoryTarget::with_hard_size(1000 * 512);
    let mut cache = SegmentCache::new(&mut target, CacheOptions::default());
    cache.write(999 * 512, &[1; 512], true).unwrap();
    assert!(matches!(cache.write(999 * 512, &[1; 513], true), Err(DiskError::NoSpace { .. })));
    assert!(matches!(cache.write(1000 * 512, &[1], true), Err(DiskError::NoSpace { .. })));
    assert!(matches!(cache.write(u64::MAX - 3, &[1; 8], true), Err(DiskError::Read { .. })));
    assert!(matches!(cache.read(1000 * 512, &mut [0]), Err(DiskError::PastEnd { .. })));
    cache.flush().unwrap();
    drop(cache);
    assert_eq!(target.length(), 1000 * 512);
    assert_eq!(target.bytes(999 * 512, 512), [1; 512]);
}

#[test]
fn what_is_discarded_never_reaches_the_medium() {
    let mut target = MemoryTarget::with_content(&[9; 1024]);
    let mut cache = SegmentCache::new(&mut target, CacheOptions::default());
    cache.write(0, &[1; 512], false).unwrap();
    cache.discard();
    cache.flush().unwrap();
    let mut back = [0; 512];
    cache.read(0, &mut back).unwrap();
    assert_eq!(back, [9; 512]);
    drop(cache);
    assert_eq!(target.image(), [9; 1024]);
}

/// A disk of this many bytes that reads the same everywhere, and notes what it is told to trim and to write.
struct Trims(Extent, Vec<(u64, u64)>, Vec<(u64, usize)>);

impl Target for Trims {
    fn read_at(&mut self, _: u64, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(0x5a);
        Ok(buffer.len())
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.2.push((offset, data.len()));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.1.push((offset, length));
        Ok(())
    }

    fn extent(&self) -> Extent {
        self.0
    }
}

/// The medium is told of whole segments inside the range, none of them beyond its end or beyond the first 64 GiB, where
/// trims are not tracked; and of nothing without `enable_trim`.
#[test]
fn the_medium_is_told_to_trim_whole_segments_and_no_more() {
    const S: u64 = SEGMENT as u64;
    let tracked = 64 << 30;
    let hard = Extent::Hard(10 * S + 5000);
    for (extent, range, want) in [
        (hard, (0, 2 * S), Some((0, 2 * S))),
        (hard, (1, 3 * S), Some((S, 2 * S))),
        (hard, (1, 2 * S - 2), None),
        (hard, (S, 100 * S), Some((S, 9 * S))),
        (hard, (9 * S, u64::MAX), Some((9 * S, S))),
        (hard, (10 * S, S), None),
        (Extent::Hard(tracked * 2), (tracked - S, 4 * S), Some((tracked - S, S))),
        (Extent::Hard(tracked * 2), (tracked, 4 * S), None),
        (Extent::Unknown, (S, u64::MAX), Some((S, tracked - S))),
    ] {
        for enable_trim in [true, false] {
            let mut target = Trims(extent, Vec::new(), Vec::new());
            let options = CacheOptions { enable_trim, ..CacheOptions::default() };
            let mut cache = SegmentCache::new(&mut target, options);
            cache.trim(range.0, range.1).unwrap();
            assert_eq!(cache.take_warnings(), [""; 0]);
            let want: Vec<_> = want.into_iter().filter(|_| enable_trim).collect();
            assert_eq!(target.1, want, "{extent:?} {range:?}");
        }
    }
}

/// What a discarded block reads is anything, the next time perhaps another thing: that it is the right one now does
/// not save the write.
#[test]
fn nothing_is_left_out_where_the_medium_was_told_to_trim() {
    for (enable_trim, streamed) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut target = Trims(Extent::Hard(8 * SEGMENT as u64), Vec::new(), Vec::new());
        let options = CacheOptions { enable_trim, minimize_writes: true, ..CacheOptions::default() };
        let mut cache = SegmentCache::new(&mut target, options);
        cache.trim(0, 4 * SEGMENT as u64).unwrap();
        cache.write(0, &vec![0x5a; 2 * SEGMENT], streamed).unwrap();
        cache.write(2 * SEGMENT as u64 + 512, &[0x5a; 1024], streamed).unwrap();
        cache.write(5 * SEGMENT as u64, &vec![0x5a; 2 * SEGMENT], streamed).unwrap();
        cache.flush().unwrap();
        let written: usize = target.2.iter().map(|(_, length)| length).sum();
        let wanted = if enable_trim { 3 * SEGMENT } else { SEGMENT };
        assert_eq!(written, wanted, "{enable_trim} {streamed} {:?}", target.2);
    }
}
