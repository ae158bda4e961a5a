//! Random programs of instructions against a plain model, and random bytes.

use crate::delta_support::{Bits, HEADER, Op, Window, decode, decode_whole, encode, model};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// The makings of an instruction: what it does, how much, where from.
type Seed = (u8, usize, Index, u8);

/// Makes instructions that can be carried out: a copy begins before where it goes.
fn program(source: usize, seeds: &[Seed]) -> Vec<Op> {
    let mut here = source;
    let mut ops = Vec::new();
    for (kind, size, place, byte) in seeds {
        let op = match kind % 4 {
            0 => Op::Add((0..*size).map(|at| byte.wrapping_add(at.to_le_bytes()[0])).collect()),
            1 => Op::Run(*byte, *size),
            _ if here == 0 => Op::Add(vec![*byte; *size]),
            // Often the same few places, so that the caches of addresses are used.
            2 => Op::Copy((place.index(here) / 50 * 50) as u64, *size),
            _ => Op::Copy(place.index(here) as u64, *size),
        };
        here += size;
        ops.push(op);
    }
    ops
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1..20_usize, 4 => 1..2000_usize, 1 => 100_000..300_000_usize]
}

fn windows(source: usize) -> impl Strategy<Value = Vec<Window>> {
    let seed = (any::<u8>(), sizes(), any::<Index>(), any::<u8>());
    let window =
        (any::<bool>(), any::<Index>(), any::<Index>(), vec(seed, 0..40), any::<bool>(), 0..1000_usize)
            .prop_map(move |(segment, from, to, seeds, checksum, choice)| {
                let (a, b) = (from.index(source + 1), to.index(source + 1));
                let segment = segment.then_some((a.min(b), a.abs_diff(b)));
                let ops = program(segment.map_or(0, |(_, length)| length), &seeds);
                Window { source: segment, ops, checksum, choice }
            });
    vec(window, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn decoding_does_what_the_program_says(
        source in vec(any::<u8>(), 5000),
        windows in windows(5000),
        cuts in vec(1..3000_usize, 0..100),
        grain in 1..6000_usize,
    ) {
        let mut delta = HEADER.to_vec();
        let mut want = Vec::new();
        for window in &windows {
            delta.extend(encode(window, &source));
            want.extend(model(window, &source));
        }
        let whole = decode_whole(&delta, &source).unwrap();
        prop_assert!(whole == want, "whole");
        let cut = decode(&delta, &mut Bits(&source, grain), cuts.into_iter()).unwrap();
        prop_assert!(cut == want, "in pieces");
        if delta.len() < 5000 {
            let bytes = decode(&delta, &mut Bits(&source, grain), std::iter::repeat(1)).unwrap();
            prop_assert!(bytes == want, "byte by byte");
        }
    }

    /// A sound delta with bytes changed: an error or a result, the same however it comes.
    #[test]
    fn spoilt_deltas_end_the_same_way_in_pieces(
        windows in windows(300),
        changes in vec((any::<Index>(), any::<u8>()), 1..5),
        cuts in vec(1..50_usize, 0..100),
    ) {
        let source: Vec<u8> = (0..300_u16).map(|at| at.to_le_bytes()[0]).collect();
        let mut delta = HEADER.to_vec();
        for window in &windows {
            delta.extend(encode(window, &source));
        }
        for (place, byte) in changes {
            let at = place.index(delta.len());
            delta[at] = byte;
        }
        let whole = decode(&delta, &mut source.as_slice(), std::iter::empty());
        let pieces = decode(&delta, &mut source.as_slice(), cuts.into_iter());
        prop_assert!(whole == pieces, "{:?} and {:?}", whole.map(|out| out.len()), pieces.map(|out| out.len()));
    }

    #[test]
    fn any_bytes_come_to_an_end(bytes in vec(any::<u8>(), 0..400), bits in 0..8_u8) {
        let source = [5; 100];
        let _ = decode_whole(&bytes, &source);
        let _ = decode_whole(&[HEADER.as_slice(), &bytes].concat(), &source);
        // So that more than the first byte of a window is looked at.
        let small: Vec<u8> = bytes.iter().map(|byte| byte % 24).collect();
        let _ = decode_whole(&[HEADER.as_slice(), &[bits], &small].concat(), &source);
    }
}
