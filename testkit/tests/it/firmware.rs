//! Built, signed and spoilt archives, looked at by an independent reader, unzip and fwup.

use crate::common;

use std::io::{Cursor, Read};
use std::path::Path;
use std::process::Command;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};
use nerves_hub_link_testkit::disk::DiskLayout;
use nerves_hub_link_testkit::firmware::{
    ArchiveError, BuildError, Content, DEFAULT_TIME, FirmwareBuilder, SigningKey, Tamper, Task, call, delta,
    describe, sign_archive, tamper, uuid,
};
use nerves_hub_link_testkit::limits::META_CONF_MAX;
use serde_json::Value;

/// An entry as a reader going forward sees it.
#[derive(Debug)]
struct Entry {
    name: String,
    version: u16,
    flags: u16,
    method: u16,
    time: u16,
    date: u16,
    local: [u32; 3],
    extra: Vec<u8>,
    content: Vec<u8>,
    crc_fits: bool,
    span: Vec<u8>,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Walks an archive front to back by local headers and descriptors alone.
fn entries(bytes: &[u8]) -> Vec<Entry> {
    let mut at = 0;
    let mut entries = Vec::new();
    while bytes[at..].starts_with(b"PK\x03\x04") {
        let start = at;
        let (name_len, extra_len) =
            (usize::from(u16_at(bytes, at + 26)), usize::from(u16_at(bytes, at + 28)));
        let name = String::from_utf8(bytes[at + 30..at + 30 + name_len].to_vec()).unwrap();
        let extra = bytes[at + 30 + name_len..at + 30 + name_len + extra_len].to_vec();
        let local = [14, 18, 22].map(|offset| u32_at(bytes, start + offset));
        let method = u16_at(bytes, start + 8);
        at += 30 + name_len + extra_len;
        let mut content = Vec::new();
        let used = if method == 8 {
            let mut inflate = flate2::bufread::DeflateDecoder::new(&bytes[at..]);
            inflate.read_to_end(&mut content).unwrap();
            usize::try_from(inflate.total_in()).unwrap()
        } else {
            let length = usize::try_from(local[1]).unwrap();
            content.extend(&bytes[at..at + length]);
            length
        };
        at += used;
        assert!(bytes[at..].starts_with(b"PK\x07\x08"), "{name}: no descriptor");
        assert_eq!(u32_at(bytes, at + 8) as usize, used, "{name}: compressed size");
        assert_eq!(u32_at(bytes, at + 12) as usize, content.len(), "{name}: size");
        let crc_fits = u32_at(bytes, at + 4) == crc32fast::hash(&content);
        at += 16;
        entries.push(Entry {
            name,
            version: u16_at(bytes, start + 4),
            flags: u16_at(bytes, start + 6),
            method,
            time: u16_at(bytes, start + 10),
            date: u16_at(bytes, start + 12),
            local,
            extra,
            content,
            crc_fits,
            span: bytes[start..at].to_vec(),
        });
    }
    assert!(bytes[at..].starts_with(b"PK\x01\x02"), "the directory follows");
    entries
}

fn verifies(entries: &[Entry], public_key: &str) -> bool {
    let key: [u8; 32] = STANDARD.decode(public_key).unwrap().try_into().unwrap();
    let signature = Signature::from_slice(&entries[0].content).unwrap();
    VerifyingKey::from_bytes(&key).unwrap().verify_strict(&entries[1].content, &signature).is_ok()
}

fn builder() -> FirmwareBuilder {
    FirmwareBuilder::new("gadget", "1.1.0")
        .platform("rpi4")
        .author("The \"Gadget\" \\ People")
        .description("größer")
        .rootfs(300_000, 7)
        .resource("notes", "hello hello hello hello")
        .resource("empty", "")
        .ab_layout(&DiskLayout::with_slots_of(1).redundant())
}

#[test]
fn archives_have_fwups_form() {
    let key = SigningKey::from_seed(5);
    let archive = builder().build(&key).unwrap();
    let bytes = archive.bytes().unwrap();
    let entries = entries(&bytes);
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["meta.conf.ed25519", "meta.conf", "data/rootfs.img", "data/notes", "data/empty"]);
    for entry in &entries {
        let size = u32::try_from(entry.content.len()).unwrap();
        let stored = entry.name == "meta.conf.ed25519";
        assert!(entry.crc_fits, "{}", entry.name);
        assert_eq!(entry.flags, 8, "{}", entry.name);
        assert_eq!((entry.version, entry.method), if stored { (10, 0) } else { (20, 8) });
        assert_eq!(entry.local, [0, if stored { 64 } else { 0 }, size], "{}", entry.name);
        if entry.name == "meta.conf" {
            // The moment the golden archives were made: the same bytes as theirs.
            assert_eq!(DEFAULT_TIME, 1_700_000_000);
            assert_eq!(entry.extra[..9], [0x55, 0x54, 5, 0, 1, 0x00, 0xf1, 0x53, 0x65]);
            assert_eq!(
                (entry.date, entry.time),
                ((2023 - 1980) * 512 + 11 * 32 + 14, 22 * 2048 + 13 * 32 + 10)
            );
        } else {
            assert_eq!(entry.extra[..5], [0x55, 0x54, 1, 0, 0]);
            assert_eq!((entry.date, entry.time), (0x21, 0));
        }
        assert_eq!(
            entry.extra[entry.extra.len() - 15..],
            [0x75, 0x78, 11, 0, 1, 4, 0, 0, 0, 0, 4, 0, 0, 0, 0]
        );
    }
    assert!(verifies(&entries, &key.public_key()));
    assert!(!verifies(&entries, &SigningKey::from_seed(6).public_key()));
    assert_eq!(archive.meta.uuid, uuid(&entries[1].content));
    assert_eq!(bytes, builder().build(&key).unwrap().bytes().unwrap(), "always the same bytes");
    assert_eq!(describe(Cursor::new(&bytes[..])).unwrap(), archive.meta);
}

#[test]
fn the_manifest_is_printed_as_fwup_prints_it() {
    let archive = builder().build_unsigned().unwrap();
    let entries = entries(&archive.bytes().unwrap());
    let text = String::from_utf8(entries[0].content.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "meta-product=gadget");
    assert_eq!(lines[1], "meta-description=\"größer\"");
    assert_eq!(lines[2], "meta-version=1.1.0");
    assert_eq!(lines[3], r#"meta-author="The \"Gadget\" \\ People""#);
    assert_eq!(lines[4], "meta-platform=rpi4");
    let digest = blake2b_simd::Params::new().hash_length(32).hash(b"hello hello hello hello").to_hex();
    let notes = format!("file-resource \"notes\" {{\nlength=23\nblake2b-256={digest}\n}}\n");
    assert!(text.contains(&notes), "{text}");
    assert!(text.contains("file-resource \"empty\" {\nblake2b-256="), "an empty resource has no length");
    let task = "task \"upgrade.b\" {\nreqlist={4,\"require-uboot-variable\",\"uboot-env\",nerves_fw_active,a,\
                4,\"require-uboot-variable\",\"uboot-env\",nerves_fw_validated,1,";
    assert!(text.contains(task), "{text}");
    assert!(text.contains(r#"4,uboot_setenv,"uboot-env",b.nerves_fw_uuid,"${FWUP_META_UUID}""#));
    assert!(text.contains(r#"3,uboot_unsetenv,"uboot-env",b.nerves_fw_uuid"#));
    assert!(text.ends_with(
        "uboot-environment \"uboot-env\" {\nblock-offset=16\nblock-count=16\nblock-offset-redund=528\n}\n"
    ));
}

#[test]
fn the_golden_manifest_comes_out_the_same() {
    // What the printer must make of the calls in golden ab-upgrade.
    let mut task = Task::new("upgrade.wrong");
    task.on_init = vec![call(&["error", "active is neither a nor b"])];
    let archive =
        FirmwareBuilder::new("", "").platform("").architecture("").task(task).build_unsigned().unwrap();
    let entries = entries(&archive.bytes().unwrap());
    let expected =
        "task \"upgrade.wrong\" {\non-init {\nfunlist={2,error,\"active is neither a nor b\"}\n}\n}\n";
    assert_eq!(String::from_utf8(entries[0].content.clone()).unwrap(), expected);
    let Some(path) = common::golden("fw/ab-upgrade/expected.json") else { return };
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(golden["archives"]["input.fw"]["meta_conf"].as_str().unwrap().contains(expected));
}

#[test]
fn streaming_into_a_file_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.fw");
    let key = SigningKey::from_seed(5);
    let from_file = builder().build_file(&key, &path).unwrap();
    let in_memory = builder().build(&key).unwrap();
    assert_eq!(from_file.bytes().unwrap(), in_memory.bytes().unwrap());
    assert_eq!(from_file.meta, in_memory.meta);
}

#[test]
fn what_cannot_be_built_is_refused() {
    let key = SigningKey::from_seed(5);
    let layout = DiskLayout::with_slots_of(1);
    let new = || FirmwareBuilder::new("gadget", "1.1.0");
    let built = new().ab_layout(&layout).build(&key);
    assert!(matches!(built, Err(BuildError::NoRootfs)));
    let fits = new().rootfs(1 << 20, 1).ab_layout(&layout).build(&key);
    assert!(fits.is_ok());
    let built = new().rootfs((1 << 20) + 1, 1).ab_layout(&layout).build(&key);
    assert!(matches!(built, Err(BuildError::SlotTooSmall { .. })));
    let built = new().resource("a\"b", "x").build(&key);
    assert!(matches!(built, Err(BuildError::Name(_))));
    let base = new().description("x").build(&key).unwrap();
    let base = entries(&base.bytes().unwrap())[1].content.len() - 1;
    let at = |length: usize| new().description(&"x".repeat(length - base)).build(&key);
    assert!(at(META_CONF_MAX).is_ok());
    assert!(matches!(at(META_CONF_MAX + 1), Err(BuildError::MetaConf(n)) if n == META_CONF_MAX + 1));
}

#[test]
fn signing_changes_nothing_else() {
    let key = SigningKey::from_seed(9);
    let unsigned = builder().build_unsigned().unwrap().bytes().unwrap();
    let signed = sign_archive(&unsigned, &key).unwrap();
    assert_eq!(signed[..], builder().build(&key).unwrap().bytes().unwrap()[..]);
    let other = sign_archive(&signed, &SigningKey::from_seed(10)).unwrap();
    assert!(verifies(&entries(&other), &SigningKey::from_seed(10).public_key()));
    assert!(!verifies(&entries(&other), &key.public_key()));
}

#[test]
fn signs_the_golden_upgrade_archive() {
    let Some(path) = common::golden("fw/ab-upgrade/input.fw") else { return };
    let key = SigningKey::from_seed(9);
    let golden = std::fs::read(path).unwrap();
    let signed = sign_archive(&golden, &key).unwrap();
    let (before, after) = (entries(&golden), entries(&signed));
    assert_eq!(after.len(), before.len() + 1);
    assert!(verifies(&after, &key.public_key()));
    for (old, new) in before.iter().zip(&after[1..]) {
        assert_eq!(old.span, new.span, "{}", old.name);
    }
    check_with_unzip(&signed);
    check_with_fwup(&signed, &key.public_key(), true);
}

#[test]
fn the_golden_key_signs_as_fwup_signs() {
    let Some(folder) = common::golden("fw/corrupt") else { return };
    let key = SigningKey::from_fwup(&std::fs::read_to_string(folder.join("k1.priv")).unwrap()).unwrap();
    assert_eq!(key.public_key(), std::fs::read_to_string(folder.join("k1.pub")).unwrap());
    let signed = entries(&std::fs::read(folder.join("signed.fw")).unwrap());
    assert_eq!(key.sign(&signed[1].content).to_vec(), signed[0].content);
    assert!(SigningKey::from_fwup("AAAA").is_none());
}

#[test]
fn spoilt_archives_are_spoilt_where_asked() {
    let key = SigningKey::from_seed(5);
    let good = builder().build(&key).unwrap().bytes().unwrap();
    let before = entries(&good);
    let content = |list: &[Entry], name: &str| list.iter().find(|e| e.name == name).unwrap().content.clone();

    let spoilt = tamper(&good, &Tamper::Resource { name: "rootfs.img".to_owned(), offset: 1000 }).unwrap();
    let after = entries(&spoilt);
    assert!(after.iter().all(|entry| entry.crc_fits));
    assert!(verifies(&after, &key.public_key()));
    let (old, new) = (content(&before, "data/rootfs.img"), content(&after, "data/rootfs.img"));
    let differ: Vec<usize> = (0..old.len()).filter(|i| old[*i] != new[*i]).collect();
    assert_eq!(differ, [1000]);

    let spoilt = tamper(&good, &Tamper::Compressed { name: "rootfs.img".to_owned() }).unwrap();
    let differ = (0..good.len()).filter(|i| good[*i] != spoilt[*i]).count();
    assert_eq!((spoilt.len(), differ), (good.len(), 1));

    let after = entries(&tamper(&good, &Tamper::MetaConf).unwrap());
    assert!(!verifies(&after, &key.public_key()));
    assert_eq!(after[1].content.len(), before[1].content.len());

    let after = entries(&tamper(&good, &Tamper::Signature).unwrap());
    assert!(after[0].crc_fits && !verifies(&after, &key.public_key()));

    let unsigned = tamper(&good, &Tamper::Unsigned).unwrap();
    assert_eq!(unsigned[..], builder().build_unsigned().unwrap().bytes().unwrap()[..]);

    let cut = tamper(&good, &Tamper::Truncated(5000)).unwrap();
    assert_eq!(cut[..], good[..5000]);
    assert!(matches!(describe(Cursor::new(cut)), Err(ArchiveError::NoDirectory)));
    let missing = tamper(&good, &Tamper::Compressed { name: "none".to_owned() });
    assert!(matches!(missing, Err(ArchiveError::NoEntry(name)) if name == "data/none"));
}

#[test]
fn other_programs_read_what_is_built() {
    let key = SigningKey::from_seed(5);
    let archive = builder().build(&key).unwrap().bytes().unwrap();
    check_with_unzip(&archive);
    check_with_fwup(&archive, &key.public_key(), true);
    check_with_fwup(&archive, &SigningKey::from_seed(6).public_key(), false);
    let spoilt = tamper(&archive, &Tamper::Resource { name: "rootfs.img".to_owned(), offset: 9 }).unwrap();
    check_with_unzip(&spoilt);
    check_with_fwup(&spoilt, &key.public_key(), false);
}

#[test]
fn content_that_does_not_compress_does_not() {
    let archive = FirmwareBuilder::new("g", "1")
        .resource("noise", Content::random(1, 1 << 20))
        .level(6)
        .build_unsigned();
    assert!(archive.unwrap().bytes().unwrap().len() > 1 << 20);
}

fn in_file(bytes: &[u8], act: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.fw");
    std::fs::write(&path, bytes).unwrap();
    act(&path);
}

fn check_with_unzip(bytes: &[u8]) {
    if !common::program("unzip") {
        return;
    }
    in_file(bytes, |path| {
        let output = Command::new("unzip").arg("-t").arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    });
}

fn check_with_fwup(bytes: &[u8], public_key: &str, good: bool) {
    if !common::program("fwup") {
        return;
    }
    in_file(bytes, |path| {
        let output =
            Command::new("fwup").args(["-V", "--public-key", public_key, "-i"]).arg(path).output().unwrap();
        assert_eq!(output.status.success(), good, "{}", String::from_utf8_lossy(&output.stderr));
    });
}

#[test]
fn a_delta_is_signed_as_its_target_and_xdelta3_decodes_it() {
    let key = SigningKey::from_seed(3);
    let image = |version: &str, change: fn(&mut Vec<u8>)| {
        let mut content: Vec<u8> = (0..70_000_u32).flat_map(u32::to_le_bytes).collect();
        change(&mut content);
        let archive =
            FirmwareBuilder::new("lift", version).resource("rootfs.img", content.clone()).build(&key);
        (archive.unwrap(), content)
    };
    let changes: [fn(&mut Vec<u8>); 6] = [
        |_| {},
        |content| content[5000] ^= 1,
        |content| content[..9000].fill(9),
        |content| content.truncate(100_001),
        |content| content.resize(350_001, 7),
        |content| *content = vec![3; 1],
    ];
    let missing = Command::new("xdelta3").arg("-V").output().is_err();
    if missing {
        drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("SKIPPED: no xdelta3\n")));
    }
    let (old, old_content) = image("1.0.0", |_| {});
    for (index, change) in changes.into_iter().enumerate() {
        let (new, new_content) = image("1.1.0", change);
        let small = delta(&old, &new, "rootfs.img").unwrap();
        assert_eq!((&small.meta, &small.public_key), (&new.meta, &new.public_key));
        let bytes = small.bytes().unwrap();
        assert_eq!(describe(Cursor::new(&bytes)).unwrap(), new.meta, "the manifest is the target's");
        let entries = entries(&bytes);
        let patch = &entries.iter().find(|entry| entry.name == "data/rootfs.img").unwrap().content;
        assert!(patch.starts_with(&[0xd6, 0xc3, 0xc4, 0]));
        if missing {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("old"), &old_content).unwrap();
        std::fs::write(path("patch"), patch).unwrap();
        let output =
            Command::new("xdelta3").arg("-dcs").arg(path("old")).arg(path("patch")).output().unwrap();
        assert!(output.status.success(), "{index}: {output:?}");
        assert!(output.stdout == new_content, "{index}");
    }
}
