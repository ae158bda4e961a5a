//! Archives as they are made: headers, compression on several processors, files, and signing them again.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use crate::create_support::{Entry, entries, hex, run, say, unzip_accepts};
use fwup_stream::archive::{ArchiveWriter, DosTime, EntryHeader, EntryTotals};
use fwup_stream::create::{Builder, CreateError, KeyPair, PrivateKey, PrivateKeyError, Signer};
use fwup_stream::limits::SIGN_ENTRIES;
use fwup_stream::manifest::{Configuration, Manifest};
use fwup_stream::{Variables, Verifier};
use proptest::prelude::*;

fn fixed_time() -> Variables {
    Arc::new(|name| match name {
        "SOURCE_DATE_EPOCH" => Some("1700000000".to_owned()),
        "TZ" => Some("UTC0".to_owned()),
        _ => None,
    })
}

fn configuration(text: &str) -> Configuration {
    Configuration::parse(text.as_bytes(), &|_| None).unwrap()
}

/// A configuration of one file.
fn of_file(path: &Path) -> Configuration {
    let text = format!(
        "file-resource big {{ host-path = \"{}\" }} task complete {{ on-resource big {{ raw_write(0) }} }}",
        path.display()
    );
    configuration(&text)
}

/// Bytes that compress somewhat: words of a small vocabulary.
fn words(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut out = Vec::with_capacity(length + 16);
    while out.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.extend(format!("word{} ", state >> 54).bytes());
    }
    out.truncate(length);
    out
}

fn find<'a>(entries: &'a [Entry], name: &str) -> &'a Entry {
    entries.iter().find(|entry| entry.name == name).unwrap()
}

fn verify(archive: &[u8], keys: Vec<fwup_stream::trust::PublicKey>) -> String {
    let mut verifier = Verifier::new(keys, Verifier::no_variables(), None);
    verifier.push(archive).unwrap();
    verifier.finish().unwrap().to_string()
}

#[test]
fn resources_of_any_size_come_out_whole() {
    const BLOCK: usize = 256 * 1024;
    let folder = tempfile::tempdir().unwrap();
    for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 5 * BLOCK + 77] {
        let data = words(length);
        let path = folder.path().join("big.bin");
        fs::write(&path, &data).unwrap();
        for level in [1, 6, 9] {
            let builder = Builder::new().level(level).variables(fixed_time());
            let archive = builder.create(of_file(&path), Vec::new()).unwrap();
            let again = builder.create(of_file(&path), Vec::new()).unwrap();
            assert!(archive == again, "the same twice, whichever thread was faster");
            let made = entries(&archive);
            assert!(find(&made, "data/big").data(&archive) == data, "{length} at level {level}");
            assert_eq!(verify(&archive, Vec::new()), "Valid archive without a signature");
            if length == 0 {
                assert_eq!(find(&made, "data/big").packed(&archive), [3, 0]);
            }
        }
    }
}

#[test]
fn the_number_of_processors_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("big.bin"), words(3_000_000)).unwrap();
    let text = "file-resource big { host-path = big.bin } task t { on-resource big { raw_write(0) } }";
    fs::write(folder.path().join("fwup.conf"), text).unwrap();
    let argv = ["0", crate::create_support::COMMAND, "-c", "-f", "fwup.conf", "-o", "one.fw"];
    let mut command = std::process::Command::new("taskset");
    command.arg("-c").args(argv).current_dir(folder.path()).env("SOURCE_DATE_EPOCH", "5");
    let Ok(status) = command.status() else {
        say("SKIPPED: the same archive on one processor: taskset is not here");
        return;
    };
    assert!(status.success());
    let env = [("SOURCE_DATE_EPOCH", "5")];
    assert!(run(folder.path(), &["-c", "-f", "fwup.conf", "-o", "all.fw"], &env, b"").status.success());
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert!(read("one.fw") == read("all.fw"));
}

/// The headers of golden case `zip64`, of whose archive only these bytes matter here.
#[test]
fn large_entries_have_64_bit_sizes() {
    let mut archive = ArchiveWriter::new(Vec::new());
    let header =
        EntryHeader { name: "data/big".to_owned(), size: 4_300_000_000, deflated: true, mtime: None };
    let totals = EntryTotals { crc: 0x3050_ee9c, compressed: 4 };
    archive
        .entry(header, |out| {
            out.write_all(b"data")?;
            Ok::<_, std::io::Error>(totals)
        })
        .unwrap();
    let archive = archive.finish().unwrap();
    let local = "504b03042d00080008000000210000000000ffffffffffffffff08002800646174612f626967555401000075780b00010400\
                 00000004000000000100100000cb4c00010000000000000000000000";
    let descriptor = "504b07089cee5030040000000000000000cb4c0001000000";
    let central = "504b01022d032d0008000800000021009cee503004000000ffffffff080020000000000000000000a4810000000064617461\
                   2f626967555401000075780b0001040000000004000000000100080000cb4c0001000000";
    assert!(hex(&archive).starts_with(&format!("{local}{}{descriptor}{central}504b0506", hex(b"data"))));

    // At the bound an entry is an ordinary one.
    for (size, version) in [(0xff00_0000_u64, "1400"), (0xff00_0001, "2d00")] {
        let mut archive = ArchiveWriter::new(Vec::new());
        let header = EntryHeader { name: "x".to_owned(), size, deflated: true, mtime: None };
        let nothing = EntryTotals { crc: 0, compressed: 0 };
        archive.entry(header, |_| Ok::<_, std::io::Error>(nothing)).unwrap();
        assert_eq!(hex(&archive.finish().unwrap()[4..6]), version);
    }
}

#[test]
fn times_that_headers_cannot_hold_become_the_nearest() {
    assert_eq!(DosTime::new(1979, 12, 31, 23, 59, 59), DosTime { time: 0, date: 0x21 });
    assert_eq!(DosTime::new(2107, 12, 31, 23, 59, 58), DosTime { time: 0xbf7d, date: 0xff9f });
    assert_eq!(DosTime::new(2108, 1, 1, 0, 0, 0), DosTime { time: 0xbf7d, date: 0xff9f });
}

#[test]
fn the_time_zone_decides_the_dos_time_alone() {
    let make = |zone: &'static str| {
        let variables: Variables = Arc::new(move |name| match name {
            "SOURCE_DATE_EPOCH" => Some("1700000000".to_owned()),
            "TZ" => Some(zone.to_owned()),
            _ => None,
        });
        Builder::new().variables(variables).create(configuration("meta-product = x"), Vec::new()).unwrap()
    };
    let (here, there) = (make("UTC0"), make("XYZ3"));
    let (here, there) = (entries(&here), entries(&there));
    assert_eq!(here[0].local_extra, there[0].local_extra);
    assert_eq!(here[0].time - there[0].time, 3 << 11);
    assert_eq!(here[0].date, there[0].date);
}

#[test]
fn a_file_gets_its_name_when_it_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("x.fw");
    fs::write(&target, "the old one").unwrap();
    fs::set_permissions(&target, PermissionsExt::from_mode(0o640)).unwrap();
    let bad = configuration("file-resource \"/data/x\" { contents = x }");
    assert!(matches!(Builder::new().create_file(bad, &target), Err(CreateError::NamedData)));
    assert_eq!(fs::read(&target).unwrap(), b"the old one");
    Builder::new().create_file(configuration("meta-product = x"), &target).unwrap();
    assert_eq!(verify(&fs::read(&target).unwrap(), Vec::new()), "Valid archive without a signature");
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
    // Links stay links, and nothing is left over.
    let link = folder.path().join("link.fw");
    symlink("x.fw", &link).unwrap();
    Builder::new().create_file(configuration("meta-product = longer"), &link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(entries(&fs::read(&target).unwrap())[0].size > 15);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    let missing = folder.path().join("no/x.fw");
    let error = Builder::new().create_file(configuration("meta-product = x"), &missing).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("error creating archive '{0}': Failed to open '{0}'", missing.display())
    );
}

#[test]
fn names_that_cannot_stand_in_an_archive_are_refused() {
    let try_name = |name: &str| {
        let text = format!("file-resource \"{name}\" {{ contents = x }}");
        Builder::new()
            .create(configuration(&text), Vec::new())
            .map(|archive| entries(&archive)[1].name.clone())
    };
    let long = "n".repeat(506);
    assert_eq!(try_name(&long).unwrap().len(), 511);
    for (name, text) in [
        ("/meta.conf", "resources can't be named /meta.conf"),
        ("/meta.conf.ed25519", "resources can't be named /meta.conf"),
        ("/data", "use a normal resource name rather than specifying /data"),
        ("x/", "resource name 'x/' can't end in a '/'"),
        ("", "resource name can't be empty"),
    ] {
        assert_eq!(try_name(name).unwrap_err().to_string(), text);
    }
    let longer = "n".repeat(507);
    assert_eq!(try_name(&longer).unwrap_err().to_string(), format!("resource name '{longer}' is too long"));
    assert_eq!(try_name("/notes.txt").unwrap(), "notes.txt");
}

#[test]
fn manifests_nobody_could_read_are_refused() {
    // 20 bytes stand around the text.
    let description = |length: usize| format!("meta-description = \" {}\"", "a".repeat(length - 21));
    let made = |text: &str| Builder::new().create(configuration(text), Vec::new());
    assert_eq!(entries(&made(&description(49_999)).unwrap())[0].size, 49_999);
    let error = made(&description(50_000)).unwrap_err().to_string();
    assert!(error.starts_with("meta.conf would be 50000 bytes"), "{error}");
    // fwup writes these titles as they are.
    let error = made("task 'a\\b' { }").unwrap_err().to_string();
    assert!(error.contains("quote or backslash"), "{error}");
    assert!(made("task \"it's\" { }").is_ok());
}

#[test]
fn a_signature_replaces_the_one_before_and_copies_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.bin");
    fs::write(&path, words(700_000)).unwrap();
    let (first, second) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let builder = Builder::new().level(1).variables(fixed_time());
    let archive = builder.signing_key(first.private).create(of_file(&path), Vec::new()).unwrap();
    assert_eq!(verify(&archive, vec![first.public.clone()]), "Valid archive with a good signature");
    let signer = Signer::new(second.private).variables(fixed_time());
    let signed = signer.sign(&mut Cursor::new(&archive), Vec::new()).unwrap();
    assert_eq!(verify(&signed, vec![second.public]), "Valid archive with a good signature");
    let (before, after) = (entries(&archive), entries(&signed));
    let names = |entries: &[Entry]| entries.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    let data = |entries: &[Entry], archive: &[u8]| find(entries, "data/big").packed(archive).to_vec();
    assert!(data(&before, &archive) == data(&after, &signed), "the compressed data are the same");
    let file = folder.path().join("signed.fw");
    fs::write(&file, &signed).unwrap();
    if !unzip_accepts(&file) {
        say("SKIPPED: a signed archive checked with unzip, which is not here");
    }
}

#[test]
fn names_from_dos_are_signed_as_they_are_read() {
    let pair = KeyPair::generate().unwrap();
    let text = "file-resource a { contents = aaaaaaaaaa } task t { on-resource a { raw_write(0) } }";
    let mut archive = Builder::new().create(configuration(text), Vec::new()).unwrap();
    for at in 0..archive.len() - 6 {
        if archive[at..].starts_with(b"data/a") {
            archive[at + 4] = b'\\';
        }
    }
    let entry = find(&entries(&archive), "data\\a").offset;
    archive[entry + 5] = 0; // The system it was made on.
    let signed = Signer::new(pair.private).sign(&mut Cursor::new(&archive), Vec::new()).unwrap();
    assert_eq!(verify(&signed, vec![pair.public]), "Valid archive with a good signature");
    find(&entries(&signed), "data/a");
}

#[test]
fn a_backslash_in_a_name_stays_one_when_it_is_signed() {
    let pair = KeyPair::generate().unwrap();
    let text = "file-resource ab { contents = aaaaaaaaaa } task t { on-resource ab { raw_write(0) } }";
    let mut archive = Builder::new().create(configuration(text), Vec::new()).unwrap();
    for at in 0..archive.len() - 7 {
        if archive[at..].starts_with(b"data/ab") {
            archive[at + 6] = b'\\';
        }
    }
    let entry = find(&entries(&archive), "data/a\\").offset;
    archive[entry + 5] = 3; // Made on Unix, where that is a letter like others.
    let signed = Signer::new(pair.private).sign(&mut Cursor::new(&archive), Vec::new()).unwrap();
    let entry = find(&entries(&signed), "data/a\\").offset;
    assert_eq!(signed[entry + 5], 3);
}

#[test]
fn what_cannot_be_signed_is_told_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let pair = KeyPair::generate().unwrap();
    let text = "file-resource a { contents = aaaaaaaaaa } task t { on-resource a { raw_write(0) } }";
    let archive = Builder::new().create(configuration(text), Vec::new()).unwrap();
    let signer = Signer::new(pair.private);
    let sign = |bytes: &[u8]| signer.sign(&mut Cursor::new(bytes), Vec::new());
    let directory = archive.windows(4).position(|word| word == b"PK\x01\x02").unwrap();
    let told = |bytes: &[u8]| sign(bytes).unwrap_err().to_string();
    assert!(told(&archive[..directory]).contains("no directory"));
    assert!(told(b"").contains("no directory"));
    assert!(told(&[b"#!/bin/sh\n", archive.as_slice()].concat()).contains("can't be signed"));
    let made = entries(&archive);
    let mut wrong = archive.clone();
    wrong[find(&made, "data/a").offset - 1] ^= 1;
    assert!(told(&wrong).contains("disagree"), "the descriptor of meta.conf");
    let mut wrong = archive.clone();
    wrong[made[0].offset + 30 + 9 + 24 + 3] ^= 0xff;
    assert!(told(&wrong).starts_with("Unexpected meta.conf size"));
    let file = folder.path().join("a.fw");
    fs::write(&file, &archive[..directory]).unwrap();
    assert!(signer.sign_file(&file, &file).is_err());
    assert_eq!(fs::read(&file).unwrap(), &archive[..directory]);
    fs::write(&file, &archive).unwrap();
    signer.sign_file(&file, &file).unwrap();
    assert_eq!(verify(&fs::read(&file).unwrap(), vec![pair.public]), "Valid archive with a good signature");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// An archive with a manifest and more entries, whose data are not looked at.
fn with_entries(count: usize, size: u64) -> Vec<u8> {
    let mut archive = ArchiveWriter::new(Vec::new());
    let text = b"meta-product=x\n";
    let header =
        EntryHeader { name: "meta.conf".to_owned(), size: text.len() as u64, deflated: false, mtime: None };
    let mut put = |header: EntryHeader, data: &[u8]| {
        let totals = EntryTotals { crc: crc32fast::hash(data), compressed: data.len() as u64 };
        archive
            .entry(header, |out| {
                out.write_all(data)?;
                Ok::<_, std::io::Error>(totals)
            })
            .unwrap();
    };
    put(header, text);
    for number in 1..count {
        put(EntryHeader { name: format!("data/{number}"), size, deflated: true, mtime: None }, b"data");
    }
    archive.finish().unwrap()
}

#[test]
fn signing_has_limits_that_no_firmware_meets() {
    let signer = Signer::new(KeyPair::generate().unwrap().private).variables(fixed_time());
    let sign = |archive: &[u8]| signer.sign(&mut Cursor::new(archive), Vec::new());
    assert!(sign(&with_entries(SIGN_ENTRIES, 5)).is_ok());
    assert!(matches!(sign(&with_entries(SIGN_ENTRIES + 1, 5)), Err(CreateError::Entries)));
    // Sizes of 64 bits are copied like others.
    let signed = sign(&with_entries(2, 5_000_000_000)).unwrap();
    let local = "504b03042d00080008000000210000000000ffffffffffffffff";
    assert!(hex(&signed).contains(local));
}

#[test]
fn private_keys_are_read_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let pair = KeyPair::generate().unwrap();
    let prefix = folder.path().join("k");
    pair.write(&prefix).unwrap();
    assert!(pair.write(&prefix).unwrap_err().to_string().ends_with("k.pub': File exists"));
    let text = fs::read_to_string(folder.path().join("k.priv")).unwrap();
    let same = |bytes: &[u8]| {
        PrivateKey::from_file_bytes(bytes).map(|key| key.public_key() == Some(pair.public.clone()))
    };
    for form in
        [text.clone(), format!("{text}\n"), text.trim_end_matches('=').to_owned(), format!("{text} me")]
    {
        assert_eq!(same(form.as_bytes()), Ok(true), "{form}");
    }
    for form in [format!(" {text}"), text[..85].to_owned(), String::new(), text.replace(&text[3..4], "_")] {
        assert_eq!(same(form.as_bytes()), Err(PrivateKeyError::Form), "{form}");
    }
    assert_eq!(same(&[7; 64]), Err(PrivateKeyError::Halves));
    assert_eq!(same(&[7; 65]), Err(PrivateKeyError::Form));
    assert!(!format!("{pair:?}").contains(&text[..8]));
    // A private key that cannot be written takes its public key with it.
    fs::remove_file(folder.path().join("k.pub")).unwrap();
    assert!(pair.write(&prefix).unwrap_err().to_string().ends_with("k.priv': File exists"));
    assert!(!folder.path().join("k.pub").exists());
}

#[test]
fn more_holes_than_the_list_has_room_for_become_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holes.bin");
    let mut content = Vec::new();
    let file = fs::File::create(&path).unwrap();
    let steps: u64 = 200;
    file.set_len(steps * 8192).unwrap();
    for step in 0..steps {
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], step * 8192).unwrap();
        content.extend([7; 4096]);
        content.extend([0; 4096]);
    }
    drop(file);
    let text = format!("file-resource h {{ host-path = \"{}\" skip-holes = true }}", path.display());
    let archive = Builder::new().create(configuration(&text), Vec::new()).unwrap();
    let made = entries(&archive);
    let manifest = Manifest::parse(&made[0].data(&archive), &|_| None).unwrap();
    let resource = manifest.resource("h").unwrap();
    assert_eq!(resource.full_length(), steps * 8192);
    if resource.length.len() == 1 {
        say("SKIPPED: lists of holes: this file system makes none");
        return;
    }
    assert_eq!(resource.length.len(), 255);
    assert_eq!(&resource.length[..4], [4096; 4]);
    assert_eq!(resource.length[254], (steps - 127) * 8192);
    let data = made[1].data(&archive);
    assert!(data[127 * 4096..] == content[127 * 8192..]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to an archive, signing it ends with a result or an error.
    #[test]
    fn damaged_archives_never_stop_the_signer(
        places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
    ) {
        let text = "file-resource a { contents = aaaaaaaaaa } task t { on-resource a { raw_write(0) } }";
        let mut archive = Builder::new().create(configuration(text), Vec::new()).unwrap();
        for (place, byte) in places {
            let at = place.index(archive.len());
            archive[at] = byte;
        }
        if shorten {
            archive.truncate(cut.index(archive.len()));
        }
        let signer = Signer::new(KeyPair::generate().unwrap().private);
        let _ = signer.sign(&mut Cursor::new(archive), Vec::new());
    }
}
