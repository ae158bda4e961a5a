//! What goes wrong is told clearly, and the old firmware stays.

use crate::apply_support::{
    Recorder, SLOT_B, apply, apply_telling, archive, boots, data, device, installed, options, resource,
    signed, unsigned,
};
use fwup_stream::disk::MemoryTarget;
use fwup_stream::{Applier, ApplyEvent, ApplyOptions, Error, Verifier};

fn fails(options: ApplyOptions, archive: &[u8], target: &mut Recorder) -> String {
    apply(options, archive, target).unwrap_err().to_string()
}

#[test]
fn a_full_disk() {
    let mut target = Recorder::new(installed());
    target.full_at = SLOT_B * 512 + 300_000;
    let text = fails(options("upgrade"), &device(2), &mut target);
    assert_eq!(text, "write failed at offset 2359296. Check media size.");
    assert_eq!(boots(&target.disk), Some(('a', 1)));
}

#[test]
fn a_disk_that_is_too_small() {
    let small = MemoryTarget::with_hard_size(1 << 20);
    let mut target = Recorder::new(small);
    let text = fails(options("complete"), &device(1), &mut target);
    let begin = "write failed at offset 1048576. Check media size: ";
    assert!(text.starts_with(begin) && text.contains("the destination at byte 1048576"), "{text}");
    assert_eq!(boots(&target.disk), None);
}

#[test]
fn a_task_that_is_not_there_writes_nothing() {
    let mut target = Recorder::new(installed());
    let text = fails(options("nosuch"), &device(2), &mut target);
    assert!(text.starts_with("Couldn't find applicable task 'nosuch'."), "{text}");
    assert!(target.log.is_empty());
}

#[test]
fn nothing_is_written_before_the_signature_holds() {
    let mut tampered = device(2);
    let at = tampered.windows(7).position(|part| part == b"upgrade").unwrap();
    tampered[at] = b'U';
    let mut crc_too = tampered.clone();
    // With the checksum of the container right as well, only the signature can tell.
    let start = crc_too.windows(9).rposition(|part| part == b"meta.conf").unwrap() + 9;
    let size = u32::from_le_bytes(crc_too[start - 21..start - 17].try_into().unwrap()) as usize;
    let crc = crc32fast::hash(&crc_too[start..start + size]).to_le_bytes();
    crc_too[start - 25..start - 21].copy_from_slice(&crc);
    let mut unsigned_archive = device(2);
    unsigned_archive.drain(..30 + 17 + 64);
    let texts = ["Unexpected meta.conf size: 0", "fails digital signature verification", "Expecting signed"];
    for (archive, want) in [tampered, crc_too, unsigned_archive].iter().zip(texts) {
        let mut target = Recorder::new(installed());
        let text = fails(options("upgrade"), archive, &mut target);
        assert!(text.contains(want), "{text}");
        assert!(target.log.is_empty());
    }
}

#[test]
fn without_a_key_nothing_begins_unless_asked_for() {
    let mut options = ApplyOptions::default();
    assert!(matches!(Applier::new(options.clone(), MemoryTarget::new()), Err(Error::NoKey)));
    options.require_signature = false;
    assert!(Applier::new(options, MemoryTarget::new()).is_ok());
}

#[test]
fn changed_data_stop_before_the_switch_and_clean_up() {
    let mut tampered = device(2);
    let at = tampered.len() - 1000;
    tampered[at] ^= 1;
    let mut target = Recorder::new(installed());
    let text = fails(options("upgrade"), &tampered, &mut target);
    assert!(text.starts_with("ZIP bad CRC"), "{text}");
    assert_eq!(boots(&target.disk), Some(('a', 1)));
    assert_eq!(target.disk.bytes(SLOT_B * 512, 512), [0xee; 512], "on-error has run");

    // With the container's checksum right, the digest in the signed manifest tells.
    let image = data(9, 5000);
    let manifest =
        resource("x", &image) + "task \"t\" {\non-resource \"x\" {\nfunlist={2,raw_write,1}\n}\n}\n";
    let mut other = image.clone();
    other[17] ^= 1;
    let text = fails(options("t"), &signed(&manifest, &[("x", &other)]), &mut target);
    assert_eq!(text, "raw_write detected blake2b mismatch on 'x'");
}

#[test]
fn data_beyond_the_length_are_not_written() {
    let short = data(1, 512);
    let manifest =
        resource("x", &short) + "task \"t\" {\non-resource \"x\" {\nfunlist={2,raw_write,0}\n}\n}\n";
    let long = [short, vec![0xbb; 200_000]].concat();
    let text =
        fails(unsigned("t"), &archive(&manifest, &[("x", &long)]), &mut Recorder::new(MemoryTarget::new()));
    assert!(text.starts_with("File 'x' isn't expected size (200512 vs 512)"), "{text}");

    // A header that leaves the size to a descriptor behind the data: only counting can tell.
    let mut firmware = archive(&manifest, &[("x", b"")]);
    firmware.truncate(firmware.len() - 46 - 36);
    let (crc, size) = (crc32fast::hash(&long).to_le_bytes(), 200_512_u32.to_le_bytes());
    firmware.extend(b"PK\x03\x04\x0a\0\x08\0\0\0\0\0\x21\0");
    firmware.extend([0; 12]);
    firmware.extend(b"\x06\0\0\0data/x");
    firmware.extend([long.as_slice(), b"PK\x07\x08", &crc, &size, &size, b"PK\x01\x02", &[0; 42]].concat());
    let mut target = Recorder::new(MemoryTarget::new());
    let text = fails(unsigned("t"), &firmware, &mut target);
    assert!(text.starts_with("raw_write wrote") && text.ends_with("should have written 512"), "{text}");
    assert!(target.log.is_empty());
}

#[test]
fn functions_are_checked_before_anything_is_written() {
    let cases = [
        ("4,raw_memset,0,1,1,2,nosuch,1", "Unknown function"),
        (
            "4,raw_memset,0,1,1,2,raw_memset,0",
            "raw_memset requires a block offset, count, and value, but the firmware gives it 1 of at least 3 arguments",
        ),
        ("4,raw_memset,0,1,1,4,raw_memset,0,1,256", "raw_memset: '256' is not a byte value from 0 to 255"),
        ("4,raw_memset,0,1,1,2,raw_write,0", "raw_write only usable in on-resource"),
        ("4,raw_memset,0,1,1,12,info", "Unexpected argc value in funlist"),
        ("4,raw_memset,0,1,1,3,info,x", "Unexpected error with funlist"),
        (
            "4,raw_memset,0,1,1,3,uboot_clearenv,nosuch,1",
            "uboot_clearenv can't find uboot-environment reference nosuch",
        ),
    ];
    for (list, want) in cases {
        let manifest = format!("task \"t\" {{\non-init {{\nfunlist={{{list}}}\n}}\n}}\n");
        let mut target = Recorder::new(MemoryTarget::new());
        assert_eq!(fails(unsigned("t"), &archive(&manifest, &[]), &mut target), want);
        assert!(target.log.is_empty());
    }
}

#[test]
fn dropping_an_applier_writes_nothing_more() {
    let firmware = device(2);
    let mut target = Recorder::new(installed());
    let mut applier = Applier::new(options("upgrade"), &mut target).unwrap();
    applier.push(&firmware[..firmware.len() - 100]).unwrap();
    drop(applier);
    // Only whole segments of data that streamed by are there.
    assert!(target.log.len() >= 4);
    assert_eq!(boots(&target.disk), Some(('a', 1)));
}

#[test]
fn after_an_error_nothing_more_is_taken() {
    let mut applier = Applier::new(options("nosuch"), MemoryTarget::new()).unwrap();
    applier.push(&device(1)).unwrap_err();
    assert!(!applier.wants_more());
    assert!(matches!(applier.push(b"x"), Err(Error::Ended)));
    assert!(matches!(applier.finish(), Err(Error::Ended)));
}

#[test]
fn breaking_off_cleans_up() {
    let firmware = device(2);
    let mut target = Recorder::new(installed());
    let mut applier = Applier::new(options("upgrade"), &mut target).unwrap();
    applier.push(&firmware[..firmware.len() / 2]).unwrap();
    let error = applier.abort();
    assert!(matches!(error, Error::Archive(_)), "{error}");
    assert_eq!(target.disk.bytes(SLOT_B * 512, 512), [0xee; 512]);
    assert_eq!(boots(&target.disk), Some(('a', 1)));
}

#[test]
fn progress_and_messages_come_in_order() {
    let (outcome, events) = apply_telling(options("upgrade"), &device(2), installed());
    let report = outcome.unwrap();
    assert_eq!((report.task.as_str(), report.bytes_in), ("upgrade.b", device(2).len() as u64));
    let values: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            ApplyEvent::Progress(report) => Some(report.value),
            _ => None,
        })
        .collect();
    assert!(values.is_sorted() && values.first() == Some(&0) && values.last() == Some(&100), "{values:?}");
    assert!(events.contains(&ApplyEvent::Info("to b".to_owned())));
}

#[test]
fn verifying_needs_every_resource_and_each_once() {
    let (one, two) = (data(1, 3000), data(2, 100));
    let manifest = resource("one", &one) + &resource("two", &two);
    let verify = |files: &[(&str, &[u8])]| {
        let mut verifier = Verifier::new(Vec::new(), Verifier::no_variables(), None);
        for byte in archive(&manifest, files) {
            verifier.push(&[byte])?;
        }
        verifier.finish()
    };
    let text =
        |files: &[(&str, &[u8])]| verify(files).map_or_else(|error| error.to_string(), |v| v.to_string());
    assert_eq!(text(&[("one", &one), ("two", &two)]), "Valid archive without a signature");
    assert_eq!(text(&[("one", &one)]), "Resource two not found in archive");
    let twice: &[(&str, &[u8])] = &[("one", &one), ("one", &one), ("two", &two)];
    assert_eq!(text(twice), "Processing one twice. Archive is corrupt.");
    assert_eq!(text(&[("three", &one)]), "Can't find file-resource for three");
    let mut other = one.clone();
    other[0] ^= 1;
    assert_eq!(text(&[("one", &other), ("two", &two)]), "Detected blake2b digest mismatch for one");
}

/// fwup does not look at the checksum of what is only stored once it has all of the data.
#[test]
fn a_wrong_checksum_in_a_local_header_is_an_error() {
    let image = data(1, 1000);
    let manifest =
        resource("x", &image) + "task \"t\" {\non-resource \"x\" {\nfunlist={2,raw_write,0}\n}\n}\n";
    for entry in 0..2 {
        let mut archive = archive(&manifest, &[("x", &image)]);
        let headers: Vec<_> =
            (0..archive.len()).filter(|at| archive[*at..].starts_with(b"PK\x03\x04")).collect();
        archive[headers[entry] + 14] ^= 1;
        let mut target = Recorder::new(MemoryTarget::new());
        let text = fails(unsigned("t"), &archive, &mut target);
        let want = ["Unexpected meta.conf size: 0", "ZIP bad CRC"][entry];
        assert!(text.starts_with(want), "{text}");
        assert!(target.log.is_empty());
    }
}
