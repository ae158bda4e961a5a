//! Deltas in archives: where their source is, what it may be, and what a failure leaves behind.

use crate::apply_support::{apply, archive, data, resource, unsigned};
use crate::delta_support::{HEADER, Op, Window, encode, model};
use std::sync::{Arc, Mutex};

use fwup_stream::disk::{MemoryTarget, Target};
use fwup_stream::{Applier, Verifier};

const LENGTH: usize = 300_000;
const CBC: &str =
    "cipher=aes-cbc-plain,secret=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const XTS: &str = "cipher=aes-xts-plain64,secret=cc1fce798baa2531bf4916b3e36c04b0e65a1643455630184e603946d12b92b9\
                   a4eefcc7433939d639289c69806b089c6fdc4b0820d837eb736b8b6e3aac062e";

fn old() -> Vec<u8> {
    data(1, LENGTH)
}

/// Copies from all over the source, and something new.
fn window() -> Window {
    let far = |at: u64, length: usize| Op::Copy(at, length);
    let ops = vec![
        far(200_000, 90_000),
        Op::Add(data(9, 3000)),
        far(5, 140_000),
        Op::Run(b'r', 700),
        far(131_000, 150_000),
        far(299_999, 1),
        far(LENGTH as u64 + 1000, 4000),
    ];
    Window { source: Some((0, LENGTH)), ops, checksum: true, choice: 5 }
}

fn new() -> Vec<u8> {
    model(&window(), &old())
}

fn delta() -> Vec<u8> {
    [HEADER.as_slice(), &encode(&window(), &old())].concat()
}

/// A task that writes the resource, with `settings` in front of its functions.
fn task(name: &str, settings: &str, function: &str) -> String {
    format!(
        "task \"{name}\" {{\non-resource \"r\" {{\n{settings}\nfunlist={{{function}}}\n}}\n\
         on-finish {{\nfunlist={{4,raw_memset,0,1,1}}\n}}\non-error {{\nfunlist={{4,raw_memset,0,1,2}}\n}}\n}}\n"
    )
}

fn raw(offset: u64, count: i64) -> String {
    format!("delta-source-raw-offset={offset}\ndelta-source-raw-count={count}")
}

/// Applies the delta in a task "go" of these settings.
fn patch(settings: &str, function: &str, delta: &[u8], target: impl Target) -> Result<(), String> {
    let manifest = resource("r", &new()) + &task("go", settings, function);
    apply(unsigned("go"), &archive(&manifest, &[("r", delta)]), target)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// A disk with bytes at a block.
fn disk(block: usize, content: &[u8]) -> MemoryTarget {
    let mut image = vec![0; block * 512];
    image.extend(content);
    image.resize(2 << 20, 0);
    MemoryTarget::with_content(&image)
}

#[test]
fn a_region_may_begin_and_end_anywhere() {
    let blocks = i64::try_from(LENGTH.div_ceil(512)).unwrap();
    for (block, count) in
        [(256, blocks), (1, blocks), (255, blocks + 1), (300, 8_388_608), (257, i64::from(i32::MAX))]
    {
        let mut disk = disk(usize::try_from(block).unwrap(), &old());
        patch(&raw(block, count), "2,raw_write,8192", &delta(), &mut disk).unwrap();
        assert!(disk.bytes(8192 * 512, new().len()) == new(), "{block} {count}");
        assert_eq!(disk.bytes(0, 2), [1, 1]);
    }
}

#[test]
fn the_count_may_be_left_out() {
    let mut disk = disk(256, &old());
    patch("delta-source-raw-offset=256", "2,raw_write,8192", &delta(), &mut disk).unwrap();
    assert!(disk.bytes(8192 * 512, new().len()) == new());
}

#[test]
fn a_region_may_reach_beyond_the_end_of_a_device() {
    let mut image = vec![0; 256 * 512];
    image.extend(old());
    // Not a whole number of segments.
    image.resize(image.len().next_multiple_of(512), 0);
    let before = image.len() as u64;
    let mut disk = MemoryTarget::with_hard_size(before);
    disk.write_at(0, &image).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let manifest = resource("r", &new())
        + &task("go", &raw(256, 100_000), &format!("2,path_write,\"{}\"", path.display()));
    let mut options = unsigned("go");
    options.unsafe_allowed = true;
    apply(options, &archive(&manifest, &[("r", &delta())]), &mut disk).unwrap();
    assert!(std::fs::read(path).unwrap() == new());
}

#[test]
fn what_is_behind_the_region_is_never_read() {
    // The region ends where a piece of 128 KiB does: the next piece is refused.
    let mut whole = disk(256, &old());
    let error = patch(&raw(256, 256), "2,raw_write,8192", &delta(), &mut whole).unwrap_err();
    let range =
        "xdelta tried to load outside of allowed byte range (0-131072): offset: 131072, count: 131072";
    assert_eq!(error, range);
    assert_eq!(whole.bytes(0, 2), [2, 2], "on-error has run");
    // It ends inside a piece, one byte before what is wanted.
    let mut cut = disk(256, &old());
    let blocks = i64::try_from(LENGTH / 512).unwrap();
    let error = patch(&raw(256, blocks), "2,raw_write,8192", &delta(), &mut cut).unwrap_err();
    assert!(error.starts_with("xdelta3 error: source file too short"), "{error}");
}

#[test]
fn a_region_beyond_every_medium_is_refused_at_once() {
    for offset in ["36028797018963967", "36028797018963968", "18446744073709551615", "-1"] {
        let settings = format!("delta-source-raw-offset=\"{offset}\"\ndelta-source-raw-count=9999");
        let mut disk = disk(256, &old());
        let error = patch(&settings, "2,raw_write,8192", &delta(), &mut disk).unwrap_err();
        let behind = error.starts_with("xdelta tried to load outside") || error.contains("too short");
        assert!(behind, "{offset}: {error}");
    }
}

#[test]
fn a_section_without_a_usable_source_takes_no_delta() {
    let (entry, expected) = (delta().len(), new().len());
    for settings in [
        "",
        &raw(256, 0),
        &raw(256, -1),
        "delta-source-raw-count=5",
        "delta-source-fat-offset=256",
        "delta-source-fat-path=x",
    ] {
        let mut disk = disk(256, &old());
        let error = patch(settings, "2,raw_write,8192", &delta(), &mut disk).unwrap_err();
        let start = format!("File 'r' isn't expected size ({entry} vs {expected}) and xdelta3 patch support");
        assert!(error.starts_with(&start), "{settings}: {error}");
    }
}

#[test]
fn the_source_is_what_the_task_has_made_of_it() {
    // On the disk is something else; the task puts right what is wrong before the delta comes.
    let mut wrong = old();
    wrong[1024..1536].fill(0);
    let mut right = old();
    right[1024..1536].fill(0x5a);
    let window =
        Window { source: Some((0, LENGTH)), ops: vec![Op::Copy(0, LENGTH)], checksum: true, choice: 0 };
    let delta = [HEADER.as_slice(), &encode(&window, &right)].concat();
    let manifest = resource("r", &right)
        + &task("go", &raw(256, 1000), "2,raw_write,8192").replacen(
            "on-resource",
            "on-init {\nfunlist={4,raw_memset,258,1,0x5a}\n}\non-resource",
            1,
        );
    let mut disk = disk(256, &wrong);
    apply(unsigned("go"), &archive(&manifest, &[("r", &delta)]), &mut disk).unwrap();
    assert!(disk.bytes(8192 * 512, LENGTH) == right);
}

#[test]
fn sources_and_targets_may_be_encrypted() {
    for (from, to) in [(CBC, CBC), (XTS, XTS), (CBC, XTS), (XTS, CBC)] {
        for block in [256, 100, 511] {
            let base = resource("r", &old()) + &task("go", "", &format!("3,raw_write,{block},\"{from}\""));
            let mut disk = MemoryTarget::new();
            apply(unsigned("go"), &archive(&base, &[("r", &old())]), &mut disk).unwrap();
            assert!(disk.bytes(block * 512, LENGTH) != old());
            let mut plain = disk.clone();
            let write = format!("3,raw_write,8000,\"{to}\"");
            let settings = format!("{}\ndelta-source-raw-options=\"{from}\"", raw(block, 1000));
            patch(&settings, &write, &delta(), &mut disk).unwrap();
            // The full entry, with the same task, gives the same.
            let manifest = resource("r", &new()) + &task("go", &settings, &write);
            apply(unsigned("go"), &archive(&manifest, &[("r", &new())]), &mut plain).unwrap();
            assert!(disk.image() == plain.image(), "{from} {to} {block}");
        }
    }
}

#[test]
fn a_wrong_key_or_cipher_is_refused() {
    let refused = |options: &str| {
        let settings = format!("{}\ndelta-source-raw-options=\"{options}\"", raw(256, 1000));
        let mut disk = disk(256, &old());
        let error = patch(&settings, "2,raw_write,8192", &delta(), &mut disk).unwrap_err();
        assert!(!error.contains("00010203"), "the secret is not told: {error}");
        error
    };
    let both = "Both a cipher and secret are required if one is supplied";
    assert_eq!(refused("cipher=aes-cbc-plain,secret="), both);
    assert_eq!(refused("cipher=rot13,secret=1"), "Unsupported disk encryption: rot13");
    assert_eq!(refused("cipher"), "Expecting '=' for in parameter 'cipher'");
    assert!(refused(CBC).starts_with("xdelta3 error: target window checksum mismatch"));
}

#[test]
fn the_result_is_held_to_the_manifest() {
    let part = Window { ops: window().ops[..3].to_vec(), ..window() };
    let short = [HEADER.as_slice(), &encode(&part, &old())].concat();
    let made = model(&part, &old()).len();
    let wanted = new().len();
    let mut one = disk(256, &old());
    let error = patch(&raw(256, 1000), "2,raw_write,8192", &short, &mut one).unwrap_err();
    assert_eq!(error, format!("raw_write wrote {made} bytes for 'r', but should have written {wanted}"));

    let long = [delta(), encode(&window(), &old())].concat();
    let mut two = disk(256, &old());
    let error = patch(&raw(256, 1000), "2,raw_write,8192", &long, &mut two).unwrap_err();
    let whole = format!("the window makes {wanted} bytes, but only 0 bytes of the resource are left to make");
    assert!(error.contains(&whole), "{error}");
    assert_eq!(two.bytes(0, 2), [2, 2]);

    // Nothing announces this change but the digest.
    let mut other = Window { checksum: false, ..window() };
    other.ops[3] = Op::Run(b's', 700);
    let spoilt = [HEADER.as_slice(), &encode(&other, &old())].concat();
    let mut three = disk(256, &old());
    let error = patch(&raw(256, 1000), "2,raw_write,8192", &spoilt, &mut three).unwrap_err();
    assert_eq!(error, "raw_write detected blake2b mismatch on 'r'");
}

#[test]
fn a_sparse_resource_is_no_delta() {
    let manifest =
        resource("r", &new()).replace("length=", "length={1000,1000,").replacen("\nblake", "}\nblake", 1)
            + &task("go", &raw(256, 1000), "2,raw_write,8192");
    let error =
        apply(unsigned("go"), &archive(&manifest, &[("r", &delta())]), disk(256, &old())).unwrap_err();
    assert!(error.to_string().starts_with("raw_write wrote "), "{error}");
}

/// With the smallest cache, and with copies that jump about in more than it holds.
#[test]
fn a_source_larger_than_the_cache_is_read_again() {
    let old = data(3, 3 << 20);
    let places = (0..200_u64).map(|at| at * 977_777 % (3 << 20) / 2);
    let ops = places.map(|at| Op::Copy(at, 10_000)).collect();
    let window = Window { source: Some((0, old.len())), ops, checksum: true, choice: 3 };
    let new = model(&window, &old);
    let delta = [HEADER.as_slice(), &encode(&window, &old)].concat();
    let manifest = "block-cache-size-mb=1\n".to_owned()
        + &resource("r", &new)
        + &task("go", &raw(256, 8192), "2,raw_write,16384");
    let mut disk = disk(256, &old);
    apply(unsigned("go"), &archive(&manifest, &[("r", &delta)]), &mut disk).unwrap();
    assert!(disk.bytes(16384 * 512, new.len()) == new);
}

#[test]
fn a_file_on_fat_is_a_source_while_another_is_written() {
    let fat = |name: &str| format!("3,fat_write,256,\"{name}\"");
    let base = resource("r", &old())
        + &task("go", "", &fat("a")).replacen(
            "on-resource",
            "on-init {\nfunlist={3,fat_mkfs,256,6000}\n}\non-resource",
            1,
        );
    let mut disk = MemoryTarget::new();
    apply(unsigned("go"), &archive(&base, &[("r", &old())]), &mut disk).unwrap();
    let settings = "delta-source-fat-offset=256\ndelta-source-fat-path=a";
    patch(settings, &fat("b"), &delta(), &mut disk).unwrap();
    // The file is the source of what is written raw, so it is what it should be.
    let back = Window {
        source: Some((0, new().len())),
        ops: vec![Op::Copy(0, new().len())],
        checksum: true,
        choice: 0,
    };
    let back = [HEADER.as_slice(), &encode(&back, &new())].concat();
    let settings = "delta-source-fat-offset=256\ndelta-source-fat-path=b";
    patch(settings, "2,raw_write,8192", &back, &mut disk).unwrap();
    assert!(disk.bytes(8192 * 512, new().len()) == new());
}

#[test]
fn an_archive_with_a_delta_may_come_byte_by_byte() {
    let manifest = resource("r", &new()) + &task("go", &raw(256, 1000), "2,raw_write,8192");
    let archive = archive(&manifest, &[("r", &delta())]);
    let mut disk = disk(256, &old());
    let mut applier = Applier::new(unsigned("go"), &mut disk).unwrap();
    for byte in archive {
        applier.push(&[byte]).unwrap();
    }
    applier.finish().unwrap();
    assert!(disk.bytes(8192 * 512, new().len()) == new());
}

#[test]
fn verifying_looks_through_a_delta_without_its_source() {
    let manifest = resource("r", &new()) + &task("go", &raw(256, 1000), "2,raw_write,8192");
    let archive = |delta: &[u8]| archive(&manifest, &[("r", delta)]);
    let verify = |delta: &[u8]| {
        let mut verifier = Verifier::new(Vec::new(), Verifier::no_variables(), None);
        verifier.push(&archive(delta))?;
        verifier.finish().map(drop)
    };
    verify(&delta()).unwrap();
    let spoilt = [&delta()[..30], &[0; 100]].concat();
    for (delta, reason) in [
        (&spoilt[..], "the delta of 'r' can't be applied"),
        (&delta()[..delta().len() - 1], "the delta broke off (in window 1"),
        (&[], "the delta broke off (in the header"),
        (&HEADER[..4], "the delta broke off (in the header"),
        (&HEADER[..], "makes 0 bytes instead of"),
        (&b"x"[..], "not a VCDIFF input"),
        (&[0xd6, 0xc3, 0xc4, 0, 1, 2], "unavailable secondary compressor: LZMA"),
        (&[0xd6, 0xc3, 0xc4, 0, 2], "a code table of its own"),
    ] {
        let error = verify(delta).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        // Who wants fwup's verdict hears of those whose headers are sound.
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hear = Arc::clone(&heard);
        let mut verifier = Verifier::new(Vec::new(), Verifier::no_variables(), None)
            .tell_broken_deltas(move |error| hear.lock().unwrap().push(error.to_string()));
        let outcome = verifier.push(&archive(delta)).and_then(|()| verifier.finish());
        let headless = error.contains("no delta that can be used");
        assert_eq!((outcome.is_err(), heard.lock().unwrap().len()), (headless, usize::from(!headless)));
        assert!(headless || heard.lock().unwrap()[0] == error);
    }
}

/// Why the update to [`new`] fails, with what is in the archive in place of the resource.
fn refusal(settings: &str, content: &[u8], target: impl Target) -> fwup_stream::Error {
    let manifest = resource("r", &new()) + &task("go", settings, "2,raw_write,8192");
    apply(unsigned("go"), &archive(&manifest, &[("r", content)]), target).unwrap_err()
}

#[test]
fn failures_that_a_full_image_would_cure_are_told_from_others() {
    let mut changed = old();
    changed[150_000] ^= 1;
    let settings = raw(256, i64::try_from(LENGTH.div_ceil(512)).unwrap());
    let error = refusal(&settings, &delta(), disk(256, &changed));
    assert!(error.is_delta() && error.to_string().contains("checksum mismatch"), "{error}");
    // Without a checksum in the delta it is the digest of the resource that finds it.
    let unchecked = Window { checksum: false, ..window() };
    let unchecked = [HEADER.as_slice(), &encode(&unchecked, &old())].concat();
    let error = refusal(&settings, &unchecked, disk(256, &changed));
    assert!(error.is_delta() && error.to_string().contains("blake2b mismatch"), "{error}");
    assert_eq!(refused_none(&settings, &unchecked), 0, "the delta fits its own source");
    // The source ends too early, or the task names none.
    let error = refusal(&raw(256, 256), &delta(), disk(256, &old()));
    assert!(error.is_delta(), "{error}");
    let error = refusal("", &delta(), disk(256, &old()));
    assert!(error.is_delta() && error.to_string().contains("isn't expected size"), "{error}");
    // The delta makes something shorter.
    let short = Window { ops: vec![Op::Copy(0, 1000)], ..window() };
    let short = [HEADER.as_slice(), &encode(&short, &old())].concat();
    let error = refusal(&settings, &short, disk(256, &old()));
    assert!(error.is_delta(), "{error}");
    // A full image that is damaged stays what it is.
    let mut damaged = new();
    damaged[7] ^= 1;
    let error = refusal(&settings, &damaged, disk(256, &old()));
    assert!(!error.is_delta() && error.to_string().contains("blake2b mismatch"), "{error}");
}

fn refused_none(settings: &str, delta: &[u8]) -> usize {
    usize::from(patch(settings, "2,raw_write,8192", delta, disk(256, &old())).is_err())
}
