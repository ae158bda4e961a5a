//! Where fuzzing starts: inputs made from the golden data, and a few written by hand.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fwup_stream::action::fat::Mounts;
use fwup_stream::archive::{ArchiveEvent, ArchiveReader};
use fwup_stream::disk::{CacheOptions, MemoryTarget, SegmentCache};
use nerves_hub_link_testkit::harness;
use serde_json::Value;

use crate::common;
use crate::files;

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
        "link" => link(),
        "planner" => planner(),
        "wire_json" => wire_json(),
        "wire_msgpack" => wire_msgpack(),
        "exchange" => exchange(),
        "socket" => socket(),
        "world" => world(),
        other => panic!("no seeds for {other}"),
    }
}

/// Anything is a scenario; longer ones have more happen in them.
fn world() -> Inputs {
    let mut state = 7;
    (1..=6).map(|number| (format!("steps-{number}"), crate::random_bytes(&mut state, 40 * number))).collect()
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

/// Scenarios: two bytes of settings, then steps as the harness reads them.
/// What is announced and configured, the size of the file, and things that happen.
fn planner() -> Inputs {
    let opened: &[u8] = &[5];
    let head: &[u8] = &[8, 0, 0];
    let right = |low: u8, high: u8| [10, 0, low, high, 200];
    let wrong: &[u8] = &[10, 0, 0, 4, 0];
    let settled: &[u8] = &[5, 5, 5, 5];
    vec![
        named(
            "parts",
            [&[0, 0, 20][..], opened, head, &right(0, 4), settled, &right(0, 8), settled].concat(),
        ),
        named("at_once", [&[0x18, 0, 22][..], opened, head, &[8, 1, 0, 8, 2, 0], &right(0, 4)].concat()),
        named("wrong_part", [&[0, 0, 20][..], opened, head, wrong, head, &right(0, 4), settled].concat()),
        named("restarted", [&[2, 0, 20][..], opened, head, &right(0, 6), settled, &[2], opened].concat()),
        named("spoilt", [&[0, 0, 20][..], opened, head, &right(0, 4), settled, &[2, 3, 0, 8]].concat()),
        named(
            "cached",
            [&[0x22, 0, 20][..], opened, head, &right(0, 6), settled, &[13, 0, 1, 0, 8, 0, 1]].concat(),
        ),
        named("gone", [&[0, 0, 20][..], opened, &[8, 0, 5]].concat()),
    ]
}

fn link() -> Inputs {
    let joined: &[u8] = &[0, 1, 2, 0, 0, 11, 8, 3];
    let taken: &[u8] = &[4, 1, 0, 0, 0, 0, 5, 0, 11, 8];
    let head: &[u8] = &[7, 0, 0, 1];
    let half: &[u8] = &[8, 0, 0xf4, 1, 10];
    let done: &[u8] = &[16, 0, 18, 0, 100, 2, 18, 0, 0, 0, 0, 11, 8, 0, 0];
    vec![
        named("joined", joined),
        named("updated", [joined, taken, head, half, half, done].concat()),
        named(
            "resumed",
            [
                joined,
                taken,
                &[7, 0, 0, 9],
                // The first tick is for the question whether the firmware is validated.
                &[8, 0, 0x90, 1, 10, 17, 0, 0, 0, 7, 0, 1, 2],
                &[8, 0, 0x58, 2, 10],
                done,
            ]
            .concat(),
        ),
        named(
            "redirected",
            [&[0, 1, 14, 0, 3, 16, 0][..], &joined[2..], &[15, 0, 2, 0, 2, 0, 0, 3]].concat(),
        ),
        named("refused", [joined, &[4, 1, 0, 0, 0, 0, 6, 0, 4, 0, 6, 60, 5, 0, 0, 1, 200, 0]].concat()),
        named("hoarded", [joined, taken, &[20, 30], head, half, half, done].concat()),
        named(
            "kicked",
            // The third kick looks like another device with the same identity, and makes this one wait for minutes.
            [joined, &[15, 0, 2, 0, 2, 0, 0, 3, 15, 0, 2, 0, 2, 0, 0, 3, 15, 0, 2], &[1, 255, 255]].concat(),
        ),
        named("rebooted", [joined, &[13, 9, 11, 8, 0, 0]].concat()),
        named("heartbeats", [joined, &[0, 22, 0, 22, 0, 0, 0]].concat()),
    ]
}

fn wire_json() -> Inputs {
    let mut inputs = vec![named("binary", b"\x1f\x04\x01\x01\x00\x0612deviceevent{}")];
    for (title, lines) in recordings() {
        let mut known = BTreeSet::new();
        let mut input = Vec::new();
        for text in lines.iter().filter_map(text_of) {
            if known.insert(text.clone()) && input.len() + text.len() < WIRE_MAX {
                input.extend(text.as_bytes());
                input.push(0x1e);
            }
        }
        if !input.is_empty() {
            inputs.push((title, input));
        }
    }
    inputs
}

fn wire_msgpack() -> Inputs {
    let message = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat();
    let mut inputs = vec![named("refused", message(b"\x95\xc0\xa11\xa6device\xa9phx_reply\x80"))];
    for (title, lines) in recordings() {
        let mut known = BTreeSet::new();
        let mut input = Vec::new();
        for line in lines.iter().filter(|line| line["encoding"] == "msgpack") {
            let bytes = STANDARD.decode(line["base64"].as_str().unwrap_or_default()).unwrap();
            if input.len() + bytes.len() < WIRE_MAX && known.insert(bytes.clone()) {
                input.extend(message(&bytes));
            }
        }
        if !input.is_empty() {
            inputs.push((title, input));
        }
    }
    inputs
}

/// What is sent in place of a body.
const BODY: &[u8] = b"0123456789";

fn exchange() -> Inputs {
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nt: 1\r\n\r\n";
    let interim = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 206 Partial Content\r\ncontent-length: 2\r\n\r\nab";
    let mut inputs = vec![
        named("chunked", [&[1, 0x43, 0x21][..], chunked].concat()),
        named("interim", [&[0, 0x43, 0x21][..], interim].concat()),
        named("to-the-end", [&[1, 0x43, 0x21][..], b"HTTP/1.1 200 OK\r\n\r\nabc"].concat()),
        named(
            "tls",
            [&[0xf1, 0x10, 0x32][..], b"\x16\x03\x03\0\x04\x02\0\0\0\x15\x03\x03\0\x02\x02\x28"].concat(),
        ),
    ];
    let mut known = BTreeSet::new();
    for (title, lines) in recordings() {
        for head in lines.iter().filter_map(head_of) {
            // Heads that differ in their names alone or less are one.
            let names: String = head.lines().map(|line| line.split(':').next().unwrap_or_default()).collect();
            if known.insert(names) {
                let input = [&[1, 0x54, 0x76][..], head.as_bytes(), BODY].concat();
                inputs.push((format!("{title}-{}", known.len()), input));
            }
        }
    }
    inputs
}

fn socket() -> Inputs {
    let frame = |first: u8, payload: &[u8]| {
        let length = u16::try_from(payload.len()).unwrap();
        let header = match length {
            0..=125 => vec![first, length.to_le_bytes()[0]],
            _ => [&[first, 126][..], &length.to_be_bytes()].concat(),
        };
        [header, payload.to_vec()].concat()
    };
    // Settings, what the client does after each event, cuts.
    let header = [4, 4, 0, 20, 210, 120, 0x43, 0x21];
    let mixed = [
        frame(0x01, b"{"),
        frame(0x89, b"hi"),
        frame(0x80, b"}"),
        frame(0x8a, b""),
        frame(0x82, &[0; 200]),
        frame(0x88, b"\x03\xe9bye"),
    ];
    let mut inputs = vec![
        named("mixed", [&header[..], &mixed.concat()].concat()),
        named("closed-by-us", [&[4, 1, 230, 0x43, 0x21][..], &frame(0x88, b"\x03\xe8")].concat()),
        named(
            "refused",
            [&[1, 0, 0x43, 0x21][..], b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\n\r\nnope"].concat(),
        ),
        named("masked", [&[4, 0, 0, 0][..], &[0x81, 0x82, 1, 2, 3, 4, 5, 6]].concat()),
    ];
    for (title, lines) in recordings().into_iter().take(6) {
        let frames: Vec<u8> =
            lines.iter().filter_map(text_of).take(6).flat_map(|text| frame(0x81, text.as_bytes())).collect();
        let input = [&header[..], &frames].concat();
        if !frames.is_empty() && input.len() <= 2 * WIRE_MAX {
            inputs.push((title, input));
        }
    }
    inputs
}

/// What the server says in each recording.
fn recordings() -> Vec<(String, Vec<Value>)> {
    let Some(golden) = common::golden("wire") else { return Vec::new() };
    let jsonl = files(&golden).into_iter().filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    jsonl
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let title = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (title, lines.filter(|line| line["dir"] == "server_to_client").collect())
        })
        .collect()
}

fn text_of(line: &Value) -> Option<String> {
    (line["kind"] == "text").then_some(())?;
    line["text"].as_str().map(str::to_owned).or_else(|| line.get("value").map(Value::to_string))
}

fn head_of(line: &Value) -> Option<String> {
    (line["kind"] == "http_response").then_some(())?;
    let mut head = format!("{}\r\n", line["line"].as_str()?);
    for header in line["headers"].as_array()? {
        head += &[header[0].as_str()?, ": ", header[1].as_str()?, "\r\n"].concat();
    }
    Some(head + "\r\n")
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
