//! The byte-fed machines under any cut of the input, and under anything at all.

use std::io::Write as _;

use crate::front_support::{case, none, open, walk, walk_whole};
use fwup_stream::archive::{ArchiveErrorKind, Purpose};
use fwup_stream::framing::{Frame, FrameInput, FrameReader};
use fwup_stream::limits::ENTRY_NAME;
use proptest::prelude::*;

/// How an entry of a made-up archive is written.
#[derive(Clone, Copy, Debug)]
struct Shape {
    deflate: bool,
    descriptor: bool,
    word: bool,
    sizes: bool,
    zip64: bool,
}

/// Writes a local header, data and descriptor.
fn entry(name: &str, data: &[u8], shape: Shape) -> Vec<u8> {
    let crc = crc32fast::hash(data).to_le_bytes();
    let body = if shape.deflate {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    } else {
        data.to_vec()
    };
    let small = |size: usize| u32::try_from(size).unwrap().to_le_bytes();
    let in_header = !shape.descriptor || shape.sizes;
    let sizes = |compressed: usize, uncompressed: usize| match (shape.zip64, in_header) {
        (true, _) => [[0xff; 4], [0xff; 4]].concat(),
        (false, true) => [small(compressed), small(uncompressed)].concat(),
        (false, false) => vec![0; 8],
    };
    let long = |size: usize| if in_header { size as u64 } else { 0 }.to_le_bytes();
    let extra = if shape.zip64 {
        [&[1, 0, 16, 0][..], &long(data.len()), &long(body.len())].concat()
    } else {
        Vec::new()
    };
    let mut out = b"PK\x03\x04\x14\x03".to_vec();
    out.extend([
        if shape.descriptor { 8 } else { 0 },
        0,
        if shape.deflate { 8 } else { 0 },
        0,
        0,
        0,
        0x21,
        0,
    ]);
    out.extend(if shape.descriptor { [0; 4] } else { crc });
    out.extend(sizes(body.len(), data.len()));
    out.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
    out.extend(u16::try_from(extra.len()).unwrap().to_le_bytes());
    out.extend(name.as_bytes());
    out.extend(extra);
    out.extend(&body);
    if shape.descriptor {
        // An empty stored entry looks like one without size.
        if shape.word || data.is_empty() {
            out.extend(b"PK\x07\x08");
        }
        out.extend(crc);
        if shape.zip64 {
            out.extend((body.len() as u64).to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
        } else {
            out.extend(small(body.len()));
            out.extend(small(data.len()));
        }
    }
    out
}

fn shapes() -> impl Strategy<Value = Shape> {
    any::<[bool; 5]>().prop_map(|[deflate, descriptor, word, sizes, zip64]| Shape {
        deflate,
        descriptor,
        // Stored data without size are found by the word of their descriptor.
        word: word || !(deflate || sizes),
        sizes,
        zip64,
    })
}

/// Data that abound in what looks like the words of a ZIP archive.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"P".to_vec()),
        Just(b"PK".to_vec()),
        Just(b"PK\x07\x08".to_vec()),
        Just(b"PPK\x07\x07".to_vec()),
        Just(b"PK\x03\x04".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// Cuts bytes into pieces of the given lengths, over and over.
fn cut<'a>(bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = lengths.iter().cycle();
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at((*lengths.next().unwrap()).min(rest.len()));
        rest = after;
        Some(piece)
    })
}

proptest! {
    #[test]
    fn every_shape_of_entry_is_read_from_any_pieces(
        entries in proptest::collection::vec((data(), shapes()), 1..5),
        lengths in proptest::collection::vec(1_usize..60, 1..10),
        skipped in 0_usize..6,
    ) {
        let mut archive = Vec::new();
        for (index, (data, shape)) in entries.iter().enumerate() {
            archive.extend(entry(&format!("data/{index}"), data, *shape));
        }
        archive.extend(b"PK\x05\x06");
        archive.extend([0; 18]);
        let skipped = format!("data/{skipped}");
        let skip = |name: &str| name == skipped;
        let whole = walk(std::iter::once(archive.as_slice()), &skip);
        prop_assert_eq!(&whole.outcome, &Ok(()));
        prop_assert!(whole.reached_end);
        prop_assert_eq!(whole.entries.len(), entries.len());
        for (index, (read, (data, _))) in whole.entries.iter().zip(&entries).enumerate() {
            prop_assert!(read.complete);
            prop_assert_eq!(&read.info.name, &format!("data/{index}"));
            let expected: &[u8] = if skip(&read.info.name) { &[] } else { data };
            prop_assert_eq!(read.data.as_slice(), expected);
        }
        prop_assert_eq!(&walk(archive.chunks(1), &skip), &whole);
        prop_assert_eq!(&walk(cut(&archive, &lengths), &skip), &whole);
    }

    #[test]
    fn anything_at_all_ends_the_same_from_any_pieces(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        as_header in any::<bool>(),
        lengths in proptest::collection::vec(1_usize..60, 1..10),
    ) {
        if as_header {
            bytes.splice(0..0, *b"PK\x03\x04");
        }
        let whole = walk_whole(&bytes);
        prop_assert_eq!(&walk(bytes.chunks(1), &|_| false), &whole);
        prop_assert_eq!(&walk(cut(&bytes, &lengths), &|_| false), &whole);
    }

    #[test]
    fn frames_are_taken_apart_from_any_pieces(
        payload in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..6),
        lengths in proptest::collection::vec(1_usize..20, 1..10),
    ) {
        let mut framed = Vec::new();
        for frame in &payload {
            framed.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
            framed.extend(frame);
        }
        framed.extend([0; 4]);
        for complete in [true, false] {
            let framed = if complete { &framed[..] } else { &framed[..framed.len() - 1] };
            let mut reader = FrameReader::new();
            let mut found = Vec::new();
            for mut input in cut(framed, &lengths) {
                loop {
                    match reader.next(&mut input) {
                        FrameInput::NeedInput | FrameInput::End => break,
                        FrameInput::Data(data) => found.extend_from_slice(data),
                    }
                }
                prop_assert!(input.is_empty());
            }
            prop_assert_eq!(found, payload.concat());
            prop_assert_eq!(reader.finish().is_ok(), complete);
        }
    }

    #[test]
    fn a_damaged_archive_never_does_harm(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        piece in 1_usize..3000,
    ) {
        let Some(case) = case("signed") else { return Ok(()) };
        let mut archive = case.file("signed.fw").unwrap();
        for (place, byte) in damage {
            let place = place.index(archive.len());
            archive[place] = byte;
        }
        let whole = walk_whole(&archive);
        prop_assert_eq!(&walk(archive.chunks(piece), &|_| false), &whole);
        let opened = open(&archive, &[], None, Purpose::Inspect, &none, piece);
        let again = open(&archive, &[], None, Purpose::Inspect, &none, usize::MAX);
        prop_assert_eq!(opened.map(|opened| opened.text), again.map(|opened| opened.text));
    }
}

const STORED: Shape = Shape { deflate: false, descriptor: false, word: false, sizes: true, zip64: false };

#[test]
fn a_name_at_the_limit_is_read_and_one_past_it_refused() {
    let archive = entry(&"n".repeat(ENTRY_NAME), b"data", STORED);
    assert_eq!(walk_whole(&archive).entries[0].data, b"data");
    let archive = entry(&"n".repeat(ENTRY_NAME + 1), b"data", STORED);
    let error = walk_whole(&archive).outcome.unwrap_err();
    assert_eq!(error.kind(), &ArchiveErrorKind::NameTooLong { length: ENTRY_NAME + 1 });
    assert!(error.to_string().contains("511"));
}

#[test]
fn an_announced_size_decides_no_allocation() {
    let mut archive = entry("data/x", b"", STORED);
    archive[18..26].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f]);
    let walk = walk_whole(&archive);
    assert_eq!(walk.entries[0].info.uncompressed_size, Some(0x7fff_ffff));
    assert_eq!(walk.outcome.unwrap_err().kind(), &ArchiveErrorKind::TruncatedData);
}

#[test]
fn what_cannot_be_read_can_be_skipped() {
    let mut encrypted = entry("data/x", b"secret", STORED);
    encrypted[6] |= 1;
    let mut packed = entry("data/y", b"packed", STORED);
    packed[8] = 12;
    for (archive, kind) in
        [(&encrypted, ArchiveErrorKind::Encrypted), (&packed, ArchiveErrorKind::Method { method: 12 })]
    {
        let error = walk_whole(archive).outcome.unwrap_err();
        assert!(error.in_data());
        assert_eq!(error.kind(), &kind);
        let skipped = walk(std::iter::once(archive.as_slice()), &|_| true);
        assert_eq!(skipped.outcome, Ok(()));
        assert!(skipped.entries[0].complete);
    }
}

#[test]
fn the_input_behind_the_end_is_left_alone() {
    let archive = [entry("data/x", b"x", STORED), b"PK\x01\x02rest".to_vec()].concat();
    let mut reader = fwup_stream::archive::ArchiveReader::new();
    let mut input = archive.as_slice();
    while reader.next(&mut input).unwrap() != fwup_stream::archive::ArchiveEvent::End {}
    assert_eq!(input, b"rest");
    assert_eq!(reader.bytes_read(), archive.len() as u64 - 4);
}

#[test]
fn times_of_entries() {
    let Some(case) = case("zip-forms") else { return };
    let Some(archive) = case.file("infozip.fw").or_else(|| case.file("plain-sizes.fw")) else { return };
    let walk = walk_whole(&archive);
    assert!([1_700_000_000, 315_532_800].contains(&walk.entries[0].info.mtime.unwrap()));
}

#[test]
fn frames_are_written() {
    assert_eq!(Frame::Progress(42).to_bytes(), b"\0\0\0\x04PR\0\x2a");
    assert_eq!(Frame::Warning("hm").to_bytes(), b"\0\0\0\x06WN\0\0hm");
    assert_eq!(Frame::Error("no").to_bytes(), b"\0\0\0\x06ER\0\0no");
    assert_eq!(Frame::Success("").to_bytes(), b"\0\0\0\x04OK\0\0");
}
