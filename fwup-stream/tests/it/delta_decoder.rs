//! Every form of instruction, and every way a delta can be wrong.

use crate::delta_support::{Bits, HEADER, Op, Raw, Window, adler, decode, decode_whole, encode, number};
use fwup_stream::delta::{DecodeError, Decoder, DeltaFault, Source, Step};
use fwup_stream::limits::{DATA_PIECE, DELTA_OVERHEAD, DELTA_WINDOW};

const SOURCE: &[u8] = b"the quick brown fox jumps over the lazy dog";

fn window(ops: Vec<Op>) -> Vec<u8> {
    let window = Window { source: Some((4, 39)), ops, checksum: true, choice: 1 };
    [HEADER.as_slice(), &encode(&window, SOURCE)].concat()
}

fn text(delta: &[u8]) -> String {
    String::from_utf8(decode_whole(delta, SOURCE).unwrap()).unwrap()
}

#[test]
fn each_instruction_does_its_work() {
    assert_eq!(text(&window(vec![Op::Add(b"hello".to_vec())])), "hello");
    assert_eq!(text(&window(vec![Op::Run(b'-', 30)])), "-".repeat(30));
    assert_eq!(text(&window(vec![Op::Copy(0, 11)])), "quick brown");
    // From the target itself, not overlapping, overlapping by one byte and by three.
    assert_eq!(text(&window(vec![Op::Add(b"abcd".to_vec()), Op::Copy(39, 4)])), "abcdabcd");
    assert_eq!(text(&window(vec![Op::Add(b"x".to_vec()), Op::Copy(39, 9)])), "x".repeat(10));
    assert_eq!(text(&window(vec![Op::Add(b"abc".to_vec()), Op::Copy(39, 8)])), "abcabcabcab");
    // From the source into the target: the two lie side by side.
    assert_eq!(text(&window(vec![Op::Add(b"gy".to_vec()), Op::Copy(36, 8)])), "gydoggydog");
}

/// Every code of the table, by its number, with the size written behind it where it has none.
#[test]
fn all_codes_of_the_table_are_understood() {
    for code in 0..=255_u8 {
        let mut raw = Raw { bits: 1, source: vec![43, 0], ..Raw::default() };
        raw.instructions = vec![code];
        let mut want = Vec::new();
        let add = |raw: &mut Raw, want: &mut Vec<u8>, size: usize| {
            raw.data.extend(&b"0123456789abcdefg"[..size]);
            want.extend(&b"0123456789abcdefg"[..size]);
        };
        // Address 0 in each mode: as itself, from here, near 0, and in the cache of same.
        let copy = |raw: &mut Raw, want: &mut Vec<u8>, size: usize, mode: usize| {
            let here = 43 + want.len() as u64;
            raw.addresses.extend(if mode == 1 { number(here) } else { vec![0] });
            want.extend(&SOURCE[..size]);
        };
        let at = usize::from(code);
        let (group, inside) = (at.saturating_sub(19) / 16, at.saturating_sub(19) % 16);
        match code {
            0 => {
                raw.instructions.push(5);
                raw.data.push(b'!');
                want.extend(b"!!!!!");
            }
            1 => {
                raw.instructions.push(9);
                add(&mut raw, &mut want, 9);
            }
            2..=18 => add(&mut raw, &mut want, at - 1),
            19..=162 if inside == 0 => {
                raw.instructions.push(20);
                copy(&mut raw, &mut want, 20, group);
            }
            19..=162 => copy(&mut raw, &mut want, inside + 3, group),
            163..=234 => {
                let (mode, inside) = ((at - 163) / 12, (at - 163) % 12);
                add(&mut raw, &mut want, inside / 3 + 1);
                copy(&mut raw, &mut want, inside % 3 + 4, mode);
            }
            235..=246 => {
                add(&mut raw, &mut want, (at - 235) % 4 + 1);
                copy(&mut raw, &mut want, 4, (at - 235) / 4 + 6);
            }
            247..=255 => {
                copy(&mut raw, &mut want, 4, at - 247);
                add(&mut raw, &mut want, 1);
            }
        }
        raw.target = want.len() as u64;
        assert_eq!(decode_whole(&raw.delta(), SOURCE), Ok(want), "code {code}");
    }
}

#[test]
fn windows_follow_each_other_and_the_application_header_is_skipped() {
    let one = Window { source: Some((0, 3)), ops: vec![Op::Copy(0, 3)], checksum: true, choice: 1 };
    let two = Window { source: None, ops: vec![Op::Add(b"!".to_vec())], ..Window::default() };
    let empty = Window::default();
    let mut delta = vec![0xd6, 0xc3, 0xc4, 0, 4, 5];
    delta.extend(b"a//b/");
    for window in [&one, &empty, &two, &one] {
        delta.extend(encode(window, SOURCE));
    }
    for size in 1..delta.len() {
        assert_eq!(decode(&delta, &mut Bits(SOURCE, 2), std::iter::repeat(size)).unwrap(), b"the!the");
    }
}

#[test]
fn a_delta_without_windows_makes_nothing() {
    assert_eq!(decode_whole(&HEADER, SOURCE), Ok(Vec::new()));
}

/// A window of one byte added, to be spoilt.
fn good() -> Raw {
    Raw { target: 1, data: b"x".to_vec(), instructions: vec![2], ..Raw::default() }
}

#[test]
fn what_is_malformed_is_refused_with_the_reason() {
    assert_eq!(decode_whole(&good().delta(), SOURCE), Ok(b"x".to_vec()));
    let copy = |address, size: u8| Raw {
        bits: 1,
        source: vec![10, 0],
        target: u64::from(size),
        instructions: vec![19, size],
        addresses: number(address),
        ..Raw::default()
    };
    let huge = vec![0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0];
    let table: Vec<(&str, Vec<u8>, DeltaFault)> = vec![
        ("magic", b"PK\x03\x04".to_vec(), DeltaFault::Magic),
        ("window bits", Raw { bits: 8, ..good() }.delta(), DeltaFault::WindowBits(8)),
        ("target source", Raw { bits: 2, source: vec![1, 0], ..good() }.delta(), DeltaFault::TargetSource),
        ("both sources", Raw { bits: 3, source: vec![1, 0], ..good() }.delta(), DeltaFault::TargetSource),
        ("indicator", Raw { indicator: 1, ..good() }.delta(), DeltaFault::DeltaIndicator(1)),
        ("number", [HEADER.as_slice(), &[0], &huge].concat(), DeltaFault::Number),
        (
            "source end",
            Raw { bits: 1, source: vec![u64::MAX, 1], ..good() }.delta(),
            DeltaFault::SourceSegment { offset: 1, length: u64::MAX },
        ),
        (
            "window size",
            Raw { target: DELTA_WINDOW as u64 + 1, ..good() }.delta(),
            DeltaFault::WindowSize(DELTA_WINDOW as u64 + 1),
        ),
        ("no data", Raw { data: vec![], ..good() }.delta(), DeltaFault::Data),
        ("no run byte", Raw { data: vec![], instructions: vec![0, 1], ..good() }.delta(), DeltaFault::Data),
        ("cut size", Raw { instructions: vec![1], ..good() }.delta(), DeltaFault::Instructions),
        ("long size", Raw { instructions: vec![1, 0x81], ..good() }.delta(), DeltaFault::Instructions),
        (
            "huge size",
            Raw { instructions: [vec![1], huge.clone()].concat(), ..good() }.delta(),
            DeltaFault::Number,
        ),
        ("no address", Raw { addresses: vec![], ..copy(0, 5) }.delta(), DeltaFault::Addresses),
        ("cut address", Raw { addresses: vec![0x80], ..copy(0, 5) }.delta(), DeltaFault::Addresses),
        ("address here", copy(10, 5).delta(), DeltaFault::Address { address: 10, here: 10 }),
        ("address far", copy(1 << 40, 5).delta(), DeltaFault::Address { address: 1 << 40, here: 10 }),
        (
            "too much",
            Raw { instructions: vec![3], ..good() }.delta(),
            DeltaFault::TargetOverflow { size: 2, room: 1 },
        ),
        (
            "more after the end",
            Raw { instructions: vec![2, 2], ..good() }.delta(),
            DeltaFault::TargetOverflow { size: 1, room: 0 },
        ),
        (
            "too little",
            Raw { target: 2, ..good() }.delta(),
            DeltaFault::TargetLength { made: 1, expected: 2 },
        ),
        (
            "nothing",
            Raw { instructions: vec![], ..good() }.delta(),
            DeltaFault::TargetLength { made: 0, expected: 1 },
        ),
        (
            "data left",
            Raw { data: b"xyz".to_vec(), ..good() }.delta(),
            DeltaFault::LeftOver { data: 2, addresses: 0 },
        ),
        (
            "addresses left",
            Raw { addresses: vec![1], ..good() }.delta(),
            DeltaFault::LeftOver { data: 0, addresses: 1 },
        ),
        ("checksum", Raw { bits: 4, checksum: Some(1), ..good() }.delta(), DeltaFault::Checksum),
        ("short source", Raw { source: vec![99, 40], ..copy(0, 5) }.delta(), DeltaFault::SourceEnd(43)),
        ("no source", Raw { source: vec![99, 50], ..copy(0, 5) }.delta(), DeltaFault::SourceEnd(50)),
    ];
    for (name, delta, fault) in table {
        assert_eq!(decode_whole(&delta, SOURCE), Err(fault), "{name}");
        // Byte by byte it is the same.
        assert!(decode(&delta, &mut Bits(SOURCE, 1), std::iter::repeat(1)).is_err(), "{name}");
    }
    let sum = Raw { bits: 4, checksum: Some(adler(b"x")), ..good() };
    assert_eq!(decode_whole(&sum.delta(), SOURCE), Ok(b"x".to_vec()));
}

#[test]
fn a_wrong_length_of_a_window_is_named() {
    let mut delta = good().delta();
    delta[6] += 1;
    let fault = decode_whole(&delta, SOURCE);
    assert_eq!(fault, Err(DeltaFault::EncodingLength { announced: 8, parts: 7 }));
}

#[test]
fn a_delta_cut_anywhere_says_so() {
    let delta = window(vec![Op::Add(b"abc".to_vec()), Op::Copy(0, 20), Op::Run(b'x', 9)]);
    let complete = [0, HEADER.len(), delta.len()];
    for end in (0..delta.len()).filter(|end| !complete.contains(end)) {
        assert_eq!(decode_whole(&delta[..end], SOURCE), Err(DeltaFault::BrokeOff), "{end}");
    }
    assert_eq!(Decoder::new().finish().unwrap_err().fault(), &DeltaFault::BrokeOff);
}

#[test]
fn errors_say_where_they_are_and_come_again() {
    let delta = [good().delta(), Raw { indicator: 2, ..good() }.bytes()].concat();
    let mut decoder = Decoder::new();
    let mut input = delta.as_slice();
    assert_eq!(decoder.next(&mut input, &mut &*SOURCE), Ok(Step::Output(b"x")));
    let DecodeError::Delta(error) = decoder.next(&mut input, &mut &*SOURCE).unwrap_err();
    assert_eq!((error.window(), error.at()), (2, 5 + 9 + 4));
    assert!(error.to_string().contains("in window 2, within the first 18 bytes"), "{error}");
    assert_eq!(decoder.next(&mut input, &mut &*SOURCE), Err(DecodeError::Delta(error.clone())));
    assert_eq!(decoder.finish(), Err(error));
}

#[test]
fn a_source_that_cannot_be_read_stops_it() {
    struct Broken;
    impl Source for Broken {
        type Error = &'static str;
        fn bytes_at(&mut self, _: u64) -> Result<&[u8], &'static str> {
            Err("the card is gone")
        }
    }
    let delta = window(vec![Op::Copy(0, 20)]);
    let mut decoder = Decoder::new();
    let mut input = delta.as_slice();
    assert_eq!(decoder.next(&mut input, &mut Broken), Err(DecodeError::Source("the card is gone")));
    assert_eq!(decoder.finish().unwrap_err().fault(), &DeltaFault::Ended);
    assert!(matches!(decoder.next(&mut input, &mut Broken), Err(DecodeError::Delta(_))));
}

#[test]
fn the_largest_window_is_decoded() {
    let most = Raw {
        target: DELTA_WINDOW as u64,
        data: b"ab".to_vec(),
        instructions: [vec![3, 19], number(DELTA_WINDOW as u64 - 2)].concat(),
        addresses: vec![0],
        ..Raw::default()
    };
    let mut decoder = Decoder::new();
    let delta = most.delta();
    let mut input = delta.as_slice();
    let mut made = 0;
    while let Step::Output(piece) = decoder.next(&mut input, &mut &*SOURCE).unwrap() {
        assert!(piece.chunks(2).all(|pair| pair == b"ab"));
        made += piece.len();
    }
    assert_eq!(made, DELTA_WINDOW);
    decoder.finish().unwrap();
}

#[test]
fn sections_may_be_a_little_longer_than_what_they_make() {
    // Instructions that make nothing.
    let idle = |count: usize| Raw { target: 0, instructions: [1, 0].repeat(count / 2), ..Raw::default() };
    assert_eq!(decode_whole(&idle(DELTA_OVERHEAD).delta(), SOURCE), Ok(Vec::new()));
    let sections = DELTA_OVERHEAD as u64 + 2;
    let fault = DeltaFault::Sections { sections, target: 0 };
    assert_eq!(decode_whole(&idle(DELTA_OVERHEAD + 2).delta(), SOURCE), Err(fault));
}

/// What fwup does too, and what can be seen when a delta fails: large windows come out as the source is
/// read, in whole pieces, and what is left when it need not be read further waits for the checksum.
#[test]
fn pieces_come_out_when_the_source_is_read_further() {
    let source: Vec<u8> = (0..3 * DATA_PIECE).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let ops = vec![Op::Add(vec![7; 10]), Op::Copy(0, 3 * DATA_PIECE), Op::Run(1, DATA_PIECE)];
    let window = Window { source: Some((0, source.len())), ops, checksum: true, choice: 0 };
    let mut bytes = [HEADER.as_slice(), &encode(&window, &source)].concat();
    // The checksum stands in front of the data.
    let data = bytes.windows(10).position(|part| part == [7; 10]).unwrap();
    bytes[data - 1] ^= 1;
    let mut decoder = Decoder::new();
    let mut input = bytes.as_slice();
    let mut pieces = Vec::new();
    let error = loop {
        match decoder.next(&mut input, &mut source.as_slice()) {
            Ok(Step::Output(piece)) => pieces.push(piece.len()),
            Ok(Step::NeedInput) => panic!("the checksum is wrong"),
            Err(error) => break error,
        }
    };
    let DecodeError::Delta(error) = error;
    assert_eq!(error.fault(), &DeltaFault::Checksum);
    assert_eq!(pieces, [DATA_PIECE, DATA_PIECE]);
}
