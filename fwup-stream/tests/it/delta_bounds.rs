//! Bounds of deltas: by what is left of the resource, and by the memory allowed.

use crate::apply_support::{apply, archive, resource, unsigned};
use crate::delta_support::{HEADER, Raw, number};
use fwup_stream::Verifier;
use fwup_stream::delta::{DecodeError, Decoder, DeltaFault, Step};
use fwup_stream::disk::MemoryTarget;
use fwup_stream::limits::{DELTA_SURPLUS, DELTA_WINDOW};

/// A window that makes so many bytes.
fn run(target: u64) -> Raw {
    let instructions = [vec![0], number(target)].concat();
    Raw { target, data: b"x".to_vec(), instructions, ..Raw::default() }
}

fn delta(windows: &[Raw]) -> Vec<u8> {
    windows.iter().fold(HEADER.to_vec(), |delta, window| [delta, window.bytes()].concat())
}

/// Decodes pieces of `step` bytes. Returns the bytes made, and what was wrong with which window.
fn decode(mut decoder: Decoder, delta: &[u8], step: usize) -> (usize, Result<(), (u64, DeltaFault)>) {
    let mut made = 0;
    for mut input in delta.chunks(step) {
        loop {
            match decoder.next(&mut input, &mut &b"source"[..]) {
                Ok(Step::Output(piece)) => made += piece.len(),
                Ok(Step::NeedInput) => break,
                Err(DecodeError::Delta(error)) => {
                    return (made, Err((error.window(), error.fault().clone())));
                }
            }
        }
    }
    let end = decoder.finish().map_err(|error| (error.window(), error.fault().clone()));
    (made, end)
}

#[test]
fn no_window_makes_more_than_is_left_of_the_resource() {
    for step in [1, usize::MAX] {
        let bounded = || Decoder::new().result(1000);
        assert_eq!(decode(bounded(), &delta(&[run(1000)]), step), (1000, Ok(())));
        let fault = DeltaFault::ResultSize { target: 1001, left: 1000 };
        assert_eq!(decode(bounded(), &delta(&[run(1001)]), step), (0, Err((1, fault))));
        assert_eq!(decode(bounded(), &delta(&[run(400), run(600), run(0)]), step), (1000, Ok(())));
        let fault = DeltaFault::ResultSize { target: 601, left: 600 };
        assert_eq!(decode(bounded(), &delta(&[run(400), run(601)]), step), (400, Err((2, fault))));
        let fault = DeltaFault::ResultSize { target: DELTA_WINDOW as u64, left: 1000 };
        assert_eq!(decode(bounded(), &delta(&[run(DELTA_WINDOW as u64)]), step), (0, Err((1, fault))));
    }
}

#[test]
fn a_window_is_refused_before_its_sections_are_read() {
    let all = delta(&[run(1001)]);
    let mut decoder = Decoder::new().result(1000);
    // All but the sections: a byte of data and three of instructions.
    let error = decoder.next(&mut &all[..all.len() - 4], &mut &b""[..]).unwrap_err();
    assert!(error.to_string().contains("only 1000 bytes of the resource are left"), "{error}");
}

#[test]
fn the_memory_of_a_window_is_bounded_with_its_sections() {
    let memory = |bytes: usize| Decoder::new().memory(bytes);
    // The target, a byte of data and three of instructions.
    let window = delta(&[run(10_000)]);
    assert_eq!(decode(memory(10_004), &window, 1), (10_000, Ok(())));
    let fault = DeltaFault::Memory { needed: 10_004, allowed: 10_003 };
    assert_eq!(decode(memory(10_003), &window, 1), (0, Err((1, fault))));
    // Data share the memory of what they make: only the surplus counts beside it.
    let add = Raw {
        target: 200_000,
        data: vec![7; 200_000],
        instructions: [vec![1], number(200_000)].concat(),
        ..Raw::default()
    };
    let needed = 200_000 + DELTA_SURPLUS + 4;
    assert_eq!(decode(memory(needed), &delta(std::slice::from_ref(&add)), 999), (200_000, Ok(())));
    let fault = DeltaFault::Memory { needed: needed as u64, allowed: needed - 1 };
    assert_eq!(decode(memory(needed - 1), &delta(&[add]), 999), (0, Err((1, fault))));
}

#[test]
fn data_that_nothing_can_use_are_refused_before_they_take_memory_beside_the_window() {
    let window = |target: usize, data: usize| {
        let first = [vec![0], number(target as u64 - 1)].concat();
        let instructions = [first, vec![1], number(1)].concat();
        Raw { target: target as u64, data: vec![7; data], instructions, ..Raw::default() }
    };
    // One byte is left to make; of the data, the run has used one.
    let fits = window(500_000, DELTA_SURPLUS + 2);
    let (data, addresses) = (DELTA_SURPLUS, 0);
    let error = decode(Decoder::new(), &delta(&[fits]), 1000).1;
    assert_eq!(error, Err((1, DeltaFault::LeftOver { data, addresses })), "noticed at the end");
    let over = window(500_000, DELTA_SURPLUS + 3);
    let error = decode(Decoder::new(), &delta(&[over]), 1000);
    assert_eq!(error, (0, Err((1, DeltaFault::Surplus { data: DELTA_SURPLUS + 2, room: 1 }))));
}

#[test]
fn a_delta_for_a_small_resource_writes_nothing_beyond_it() {
    let task =
        "task \"go\" {\non-resource \"r\" {\ndelta-source-raw-offset=0\nfunlist={2,raw_write,8}\n}\n}\n";
    let small = vec![b'x'; 4000];
    let manifest = resource("r", &small) + task;
    let apply_it = |windows: &[Raw]| {
        let mut disk = MemoryTarget::with_content(&vec![7; 65536]);
        let entry = delta(windows);
        let done = apply(unsigned("go"), &archive(&manifest, &[("r", &entry)]), &mut disk);
        (done.map(drop), disk, archive(&manifest, &[("r", &entry)]))
    };
    let (done, disk, _) = apply_it(&[run(2000), run(2000)]);
    done.unwrap();
    assert!(disk.bytes(8 * 512, 4000) == small);
    for windows in [vec![run(4001)], vec![run(2000), run(2001)], vec![run(DELTA_WINDOW as u64)]] {
        let (done, disk, bytes) = apply_it(&windows);
        let error = done.unwrap_err();
        assert!(error.is_delta(), "the device asks for full images: {error}");
        assert!(error.to_string().contains("of the resource are left to make"), "{error}");
        assert!(disk.bytes(8 * 512 + 4000, 4096).iter().all(|byte| *byte == 7));
        let mut verifier = Verifier::new(Vec::new(), Verifier::no_variables(), None);
        let verdict = verifier.push(&bytes).and_then(|()| verifier.finish().map(drop));
        assert!(verdict.unwrap_err().to_string().contains("of the resource are left to make"));
    }
}

#[test]
fn more_memory_than_allowed_is_refused_and_named() {
    let task =
        "task \"go\" {\non-resource \"r\" {\ndelta-source-raw-offset=0\nfunlist={2,raw_write,8}\n}\n}\n";
    let big = vec![b'x'; 3 << 20];
    let manifest = resource("r", &big) + task;
    let bytes = archive(&manifest, &[("r", &delta(&[run(3 << 20)]))]);
    let mut options = unsigned("go");
    // A quarter is for the source.
    options.delta_memory = ((3 << 20) + 6) / 3 * 4;
    apply(options.clone(), &bytes, MemoryTarget::new()).unwrap();
    options.delta_memory -= 4;
    let error = apply(options, &bytes, MemoryTarget::new()).unwrap_err();
    assert!(error.is_delta() && error.to_string().contains("smaller windows"), "{error}");
}
