//! The reader against archives made by and for the reference.

use crate::front_support::{Walk, case, check_metadata_run, none, open, walk, walk_whole};
use fwup_stream::archive::{ArchiveErrorKind, Purpose};
use fwup_stream::trust::PublicKey;
use serde_json::Value;

/// Archives whose data are not what their headers say, and the error that reading them ends with.
fn expected_error(archive: &str) -> Option<&'static str> {
    match archive {
        "crc-wrong.fw" => Some("ZIP bad CRC: 0x7792f862 should be 0x1"),
        "meta-crc-wrong.fw" => Some("ZIP bad CRC"),
        "dd64.fw" => Some("ZIP uncompressed data is wrong size"),
        "flip.fw" => Some("ZIP uncompressed data is wrong size (read 149183, expected 149169)"),
        _ => None,
    }
}

fn compare(walk: &Walk, archive: &str, expected: &[Value]) {
    if let Some(error) = expected_error(archive) {
        let outcome = walk.outcome.as_ref().unwrap_err();
        assert!(outcome.in_data());
        assert!(outcome.to_string().starts_with(error), "{archive}: {outcome}");
        return;
    }
    assert_eq!(walk.outcome, Ok(()), "{archive}");
    assert_eq!(walk.reached_end, archive != "nocd.fw", "{archive}");
    assert_eq!(walk.entries.len(), expected.len(), "{archive}");
    for (entry, expected) in walk.entries.iter().zip(expected) {
        assert!(entry.complete);
        assert_eq!(entry.info.name, expected["name"].as_str().unwrap().replace('\\', "/"), "{archive}");
        assert_eq!(entry.data.len() as u64, expected["size"].as_u64().unwrap(), "{archive}");
        let crc = format!("{:08x}", crc32fast::hash(&entry.data));
        assert_eq!(crc, expected["crc32"].as_str().unwrap(), "{archive}");
        let local = expected["local_sizes"][2].as_u64().unwrap();
        let descriptor = expected["flags"].as_u64().unwrap() & 8 != 0;
        assert_eq!(entry.info.uncompressed_size, (local > 0 || !descriptor).then_some(local), "{archive}");
    }
}

fn check_case(name: &str) {
    let Some(case) = case(name) else { return };
    let mut compared = 0;
    for (archive, bytes) in case.archives() {
        let Some(expected) = case.expected["archives"][&archive]["entries"].as_array() else { continue };
        compare(&walk_whole(&bytes), &archive, expected);
        compare(&walk(bytes.chunks(1), &|_| false), &archive, expected);
        compare(&walk(bytes.chunks(4099), &|_| false), &archive, expected);
        compared += 1;
    }
    assert!(compared > 0, "no archive of {name} was here");
}

#[test]
fn archives_of_many_shapes_are_read() {
    check_case("zip-forms");
}

#[test]
fn damaged_archives_are_noticed() {
    check_case("corrupt");
    check_case("truncated");
}

#[test]
fn signed_archives_are_read() {
    check_case("signed");
}

#[test]
fn data_can_be_skipped_without_being_checked() {
    for name in ["zip-forms", "corrupt"] {
        let Some(case) = case(name) else { return };
        for (archive, bytes) in case.archives() {
            let skip = |name: &str| name != "meta.conf";
            for piece in [1, 700, usize::MAX] {
                let walk = walk(bytes.chunks(piece.min(bytes.len())), &skip);
                if matches!(archive.as_str(), "dd64.fw" | "meta-crc-wrong.fw") {
                    continue;
                }
                assert_eq!(walk.outcome, Ok(()), "{archive}");
                let expected = case.expected["archives"][&archive]["entries"].as_array().map(Vec::len);
                assert!(expected.is_none_or(|expected| expected == walk.entries.len()), "{archive}");
                assert!(walk.entries.iter().all(|entry| entry.complete), "{archive}");
            }
        }
    }
}

#[test]
fn more_than_four_gigabytes_are_found_their_end() {
    let Some(case) = case("zip64") else { return };
    let Some(archive) = case.file("input.fw") else { return };
    let skip = |name: &str| name == "data/big";
    let walk = walk(archive.chunks(65536), &skip);
    assert_eq!(walk.outcome, Ok(()));
    let names: Vec<_> = walk.entries.iter().map(|entry| entry.info.name.as_str()).collect();
    assert_eq!(names, ["meta.conf", "data/big", "data/after"]);
    assert_eq!(walk.entries[1].info.uncompressed_size, Some(4_300_000_000));
    assert_eq!(walk.entries[2].data.len(), 700);
    assert!(walk.reached_end);
}

/// Runs of the case `truncated` use the first bytes of `signed.fw`.
#[test]
fn cut_archives_end_as_in_the_reference() {
    let Some(case) = case("truncated") else { return };
    let (Some(signed), Some(key)) = (case.file("signed.fw"), case.file("k1.pub")) else { return };
    let keys = [PublicKey::from_file_bytes(&key).unwrap()];
    let all = walk_whole(&signed).entries.len();
    for run in case.runs() {
        let name = run["name"].as_str().unwrap();
        let (Some(place), Some(note)) = (name.strip_prefix("file-"), run["note"].as_str()) else { continue };
        let length = note.split_whitespace().find_map(|word| word.parse::<usize>().ok()).unwrap();
        let cut = &signed[..length];
        check_metadata_run(case.run(&format!("meta-{place}")), cut, &[]);

        let failed_to_open = open(cut, &keys, Some("cut.fw"), Purpose::Apply, &none, 1).err();
        let walk = walk(cut.chunks(1000), &|_| false);
        let outcome = match failed_to_open {
            Some(error) => Some(error.to_string()),
            None => match &walk.outcome {
                Err(error) if error.in_data() => Some(error.to_string()),
                _ if walk.entries.len() < all => Some("Resource two not found in archive".to_owned()),
                _ => None,
            },
        };
        let expected = run["stdout"].as_str().and_then(|text| text.strip_prefix("fwup: ")).map(str::trim_end);
        // Texts of the ZIP library go on to name the entry.
        assert_eq!(outcome.is_some(), expected.is_some(), "{name}: {outcome:?}");
        assert!(
            outcome.unwrap_or_default().starts_with(expected.unwrap_or_default()),
            "{name}, expected {expected:?}"
        );
    }
    let garbage = [signed.as_slice(), &vec![0; 100_000]].concat();
    assert!(walk_whole(&garbage).reached_end);
    let garbage = [b"#!/bin/sh\n".as_slice(), &signed].concat();
    let outcome = walk_whole(&garbage).outcome.unwrap_err();
    assert_eq!(outcome.kind(), &ArchiveErrorKind::Unrecognized);
}
