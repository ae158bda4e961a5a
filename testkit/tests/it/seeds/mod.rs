//! Where fuzzing starts: inputs made from the golden data, and a few written by hand.

mod talk;

use std::collections::BTreeSet;

use fwup_stream::action::fat::Mounts;
use fwup_stream::archive::{ArchiveEvent, ArchiveReader};
use fwup_stream::disk::{CacheOptions, MemoryTarget, SegmentCache};
use nerves_hub_link_testkit::harness;
use serde_json::Value;

use crate::common;
use crate::harness::files;

/// Bytes of an archive, a manifest or a conversation taken as a seed.
const ARCHIVE_MAX: usize = 2500;
const MANIFEST_MAX: usize = 3000;
const WIRE_MAX: usize = 3000;

/// Titles and inputs.
type Inputs = Vec<(String, Vec<u8>)>;

/// The seeds of every target.
pub fn all() -> Vec<(&'static str, Inputs)> {
    harness::TARGETS.iter().map(|(name, _)| (*name, of(name))).collect()
}

fn of(target: &str) -> Inputs {
    match target {
        "archive_reader" => in_front(&[0x21, 0x98, 0], archives()),
        "manifest" => in_front(&[0], manifests()),
        "apply" => apply(),
        "configuration" => in_front(&[0], configurations()),
        "signer" => signer(),
        "delta" => delta(),
        "fat" => fat(),
        "environment" => environment(),
        "tables" => tables(),
        "keys" => keys(),
        "frames" => vec![named(
            "two",
            [&[0x44, 0x33, 0, 0, 0, 3], &b"abc"[..], &[0, 0, 0, 1, 9, 0, 0, 0, 0, 7]].concat(),
        )],
        "texts" => talk::texts(),
        "link" => talk::link(),
        "planner" => talk::planner(),
        "wire_json" => talk::wire_json(),
        "wire_msgpack" => talk::wire_msgpack(),
        "exchange" => talk::exchange(),
        "socket" => talk::socket(),
        "world" => world(),
        other => panic!("no seeds for {other}"),
    }
}

/// Anything is a scenario; longer ones have more happen in them.
fn world() -> Inputs {
    let mut state = 7;
    (1..=6)
        .map(|number| (format!("steps-{number}"), crate::harness::random_bytes(&mut state, 40 * number)))
        .collect()
}

fn named(title: &str, input: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (title.to_owned(), input.into())
}

fn in_front(header: &[u8], inputs: Inputs) -> Inputs {
    inputs.into_iter().map(|(title, input)| (title, [header, &input].concat())).collect()
}

/// Small archives of all kinds, two with the sizes behind the data, and one stored that way.
fn archives() -> Inputs {
    let mut inputs = vec![named("stored-with-descriptor", stored())];
    let Some(golden) = common::golden("fw") else { return inputs };
    for case in folders(&golden) {
        let mut taken = 0;
        for path in files(&case) {
            let bytes = std::fs::read(&path).unwrap();
            let form = path.ends_with("zip-forms/dd-nosig.fw") || path.ends_with("zip-forms/dd64.fw");
            if path.extension().is_some_and(|end| end == "fw")
                && (form || bytes.len() <= ARCHIVE_MAX && taken < 3)
            {
                taken += 1;
                inputs.push((title(&path), bytes));
            }
        }
    }
    inputs
}

/// One entry, stored, with its sizes behind it.
fn stored() -> Vec<u8> {
    let data = b"meta-product=x\n";
    let size = u32::try_from(data.len()).unwrap().to_le_bytes();
    let descriptor = [b"PK\x07\x08", &crc32fast::hash(data).to_le_bytes()[..], &size, &size].concat();
    let local = b"PK\x03\x04\x14\0\x08\0\0\0\0\0\x21\0\0\0\0\0\0\0\0\0\0\0\0\0\x09\0\0\0meta.conf";
    [&local[..], data, &descriptor, b"PK\x01\x02", &[0; 42]].concat()
}

/// Manifests as they stand in archives, up to three of a case.
fn manifests() -> Inputs {
    let mut inputs = Inputs::new();
    let Some(golden) = common::golden("fw") else { return inputs };
    let mut known = BTreeSet::new();
    for case in folders(&golden) {
        let Ok(text) = std::fs::read_to_string(case.join("expected.json")) else { continue };
        let expected: Value = serde_json::from_str(&text).unwrap();
        let archives = expected["archives"].as_object().into_iter().flatten();
        let texts = archives.filter_map(|(name, archive)| Some((name, archive["meta_conf"].as_str()?)));
        let new = texts.filter(|(_, text)| text.len() <= MANIFEST_MAX && known.insert((*text).to_owned()));
        for (name, text) in new.take(3) {
            inputs.push((title(&case.join(name)), text.as_bytes().to_vec()));
        }
    }
    inputs
}

/// Configurations of the golden cases, with contents in place of files; of those made to try the grammar, some.
fn configurations() -> Inputs {
    let mut inputs = vec![named(
        "all-kinds",
        "define(A, 1)\ndefine-eval(B, \"${A} + 2 * 3K\")\nmeta-product = \"${A}\"\nfile-resource a { contents = \
         \"\\x41\\n\" }\nmbr m { partition 0 { block-offset = ${B} block-count = 1 type = 0x83 } }\ntask t { \
         require-partition-offset(0, 1) on-resource a { raw_write(${B}) } on-finish { mbr_write(m) } }\n",
    )];
    let Some(golden) = common::golden("fw") else { return inputs };
    let mut add = |title: String, text: &str| {
        let text = text.replace("bootstrap-code-host-path", "signature").replace("host-path", "contents");
        if !text.contains("include") && text.len() <= MANIFEST_MAX {
            inputs.push((title, text.into_bytes()));
        }
    };
    for case in folders(&golden) {
        for path in files(&case).iter().filter(|path| path.extension().is_some_and(|end| end == "conf")) {
            add(title(path), &std::fs::read_to_string(path).unwrap_or_default());
        }
        let Ok(text) = std::fs::read_to_string(case.join("expected.json")) else { continue };
        let expected: Value = serde_json::from_str(&text).unwrap();
        let tried = expected["runs"].as_array().unwrap().iter().step_by(7);
        for run in tried.filter(|run| run["try.conf"].is_string()) {
            let name = run["name"].as_str().unwrap().replace([' ', '/'], "-");
            add(format!("{}-{name}", case.file_name().unwrap().display()), run["try.conf"].as_str().unwrap());
        }
    }
    inputs
}

fn signer() -> Inputs {
    let small = archives().into_iter().filter(|(_, bytes)| bytes.len() <= ARCHIVE_MAX);
    let mut inputs = in_front(&[0], small.step_by(2).collect());
    inputs.push(named("good", [1]));
    inputs.push(named("changed-flags", [1, 6, 0, 1, 0]));
    inputs
}

fn tables() -> Inputs {
    let partition = |number: u8, kind: u8, flags: u8, offset: u16, count: u16| {
        [&[number, kind, flags][..], &offset.to_le_bytes(), &count.to_le_bytes()].concat()
    };
    let primary =
        [partition(0, 0x0c, 2, 63, 77), partition(1, 0x83, 0, 1024, 2048), partition(2, 0x83, 1, 4096, 9)];
    let logical = [
        partition(0, 0x0c, 2, 63, 77),
        partition(3, 0x0f, 0, 1024, 4096),
        partition(4, 0x83, 0, 2048, 100),
        partition(5, 0x83, 0, 3072, 100),
    ];
    let table = |kind: u8, partitions: &[Vec<u8>]| {
        let count = u8::try_from(partitions.len()).unwrap();
        [&[kind, 0, 0x1f, count][..], &partitions.concat()].concat()
    };
    vec![
        named("mbr", table(1, &primary)),
        named("mbr-logical", table(1, &logical)),
        named("gpt", table(2, &primary)),
        named("gpt-small-disk", [&[2, 3, 0, 1][..], &primary[0]].concat()),
        named("lookup", [0, 2]),
        named("lookup-nothing", [0, 200]),
    ]
}

fn apply() -> Inputs {
    // As it stands; any task; whole and cut.
    let small = archives().into_iter().filter(|(_, bytes)| bytes.len() <= ARCHIVE_MAX);
    let mut inputs = in_front(&[0, 2, 0, 0, 0x54, 0x76], small.collect());
    // A good archive, as it is and with a byte changed, on a new disk and as an update.
    inputs.push(named("good-complete", [1, 0, 1, 0, 0x65, 0x87]));
    inputs.push(named("good-upgrade", [9, 1, 3, 0, 0x65, 0x87]));
    inputs.push(named("good-signed-upgrade", [25, 1, 0, 0, 0x10, 0x32]));
    inputs.push(named("spoilt-upgrade", [9, 1, 0, 0, 0x65, 0x87, 0x00, 0x10, 0, 1, 0xff]));
    // The tasks of the golden manifests, with the resources of the harness.
    for (name, text) in manifests() {
        let header = [2, 2, 0, 1, 0xb9, 0x76, 0x10, 0x27, 2, 0, 1, 0xe8, 3, 0, 0, 2];
        for (number, task) in tasks_of(&String::from_utf8(text).unwrap()).into_iter().enumerate().take(6) {
            inputs.push((format!("task-{number}-{name}"), [&header[..], task.as_bytes()].concat()));
        }
    }
    inputs
}

/// For each task of a manifest, that task on resources "a" and "b" and what it may refer to.
fn tasks_of(text: &str) -> Vec<String> {
    let (mut tasks, mut rest) = (Vec::new(), String::new());
    // Sections end with a brace in the first column.
    for section in text.split_inclusive("\n}\n") {
        let start = section.lines().find(|line| line.ends_with('{')).unwrap_or_default();
        if start.starts_with("task ") {
            let mut names = ["on-resource \"a\" {", "on-resource \"b\" {"].into_iter().cycle();
            let lines = section.lines().map(|line| match line.strip_prefix("on-resource ") {
                Some(_) => names.next().unwrap(),
                None => line,
            });
            tasks.push(lines.collect::<Vec<_>>().join("\n") + "\n");
        } else if !start.starts_with("file-resource ") {
            rest.push_str(section);
        }
    }
    tasks.into_iter().map(|task| format!("{task}{rest}")).collect()
}

/// One window by hand, and the deltas of small archives.
fn delta() -> Inputs {
    // Copies 15 bytes from the start of the source, adds seven, runs five; twice.
    let window =
        [1, 36, 0, 18, 27, 0, 8, 5, 1, b'i', b's', b' ', b'f', b'i', b'n', b'e', b'!', 19, 15, 8, 0, 5, 0];
    let by_hand = [&[0xd6, 0xc3, 0xc4, 0, 0][..], &window, &window].concat();
    let mut inputs = vec![named("by-hand", by_hand)];
    for (title, archive) in archives() {
        let mut reader = ArchiveReader::new();
        let (mut rest, mut entry) = (&archive[..], Vec::new());
        loop {
            match reader.next(&mut rest) {
                Ok(ArchiveEvent::Entry(_)) => entry.clear(),
                Ok(ArchiveEvent::Data(data)) => entry.extend_from_slice(data),
                Ok(ArchiveEvent::EntryEnd) if entry.starts_with(&[0xd6, 0xc3, 0xc4]) => {
                    inputs.push((title.clone(), entry.clone()));
                }
                Ok(ArchiveEvent::EntryEnd) => {}
                Ok(ArchiveEvent::NeedInput | ArchiveEvent::End) | Err(_) => break,
            }
        }
    }
    in_front(&[0x32, 0x54, 30, 0xff, 0xff], inputs)
}

fn fat() -> Inputs {
    // Code, name, other name, number, length; see the harness.
    let script: Vec<Vec<u8>> = (0..14).map(|code| vec![code, code % 16, 3, 1, 0, 9]).collect();
    let header = |kind: u8| vec![kind, u8::try_from(script.concat().len().div_ceil(4)).unwrap()];
    let mut inputs: Inputs = (0..3_u8)
        .map(|kind| (format!("every-operation-{kind}"), [header(kind), script.concat()].concat()))
        .collect();
    // The first cluster of a folder is changed to itself.
    inputs.push(named(
        "changed-table",
        [header(0), script.concat(), vec![1, 0, 3, 0, 4, 2, 0x20, 0, 0]].concat(),
    ));
    let mut disk = SegmentCache::new(MemoryTarget::new(), CacheOptions::default());
    let mut mounts = Mounts::new();
    mounts.mkfs(&mut disk, 0, 256).unwrap();
    mounts.mkdir(&mut disk, 0, "dir").unwrap();
    mounts.truncate(&mut disk, 0, "a.txt").unwrap();
    mounts.write_at(&mut disk, 0, "a.txt", 0, b"hello").unwrap();
    mounts.close(&mut disk).unwrap();
    let mut image = vec![0; 128 * 512];
    fwup_stream::disk::DiskIo::read(&mut disk, 0, &mut image).unwrap();
    image.truncate(image.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    // Four bytes of script, so that a multiple of them ends where the image begins.
    let mut padded = script.concat();
    padded.resize(padded.len().next_multiple_of(4), 0);
    inputs.push(named("image", [header(3), padded, image].concat()));
    inputs
}

fn environment() -> Inputs {
    let pairs = b"nerves_fw_active=a\0a.nerves_fw_version=1.0.0\0\0";
    let length = u8::try_from(pairs.len()).unwrap();
    let both = [&[2, 0, 7, length][..], pairs, &[0, 8, length], pairs].concat();
    let mut bad = both.clone();
    bad[1] = 0x10;
    let mut block = vec![0; 512];
    block[454] = 63;
    block[510..].copy_from_slice(&[0x55, 0xaa]);
    vec![
        named("plain", [&[1, 0, 0][..], pairs].concat()),
        named("redundant", both),
        named("redundant-one-bad", bad),
        named("table", [&[0, 0, 1, 0, 0, 0, 1][..], &block].concat()),
    ]
}

fn keys() -> Inputs {
    let mut inputs = vec![named("raw", [9; 32])];
    for path in common::golden("fw/signed").iter().flat_map(|folder| files(folder)) {
        if path.extension().is_some_and(|end| end == "pub" || end == "rawpub") {
            inputs.push((title(&path), std::fs::read(&path).unwrap()));
        }
    }
    inputs
}

fn folders(of: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut folders: Vec<_> = std::fs::read_dir(of).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders
}

/// The last two parts of a path.
fn title(path: &std::path::Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.iter().rev().take(2).rev().cloned().collect::<Vec<_>>().join("-")
}
