//! Deltas made by the real `xdelta3`, where it is installed.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::delta_support::decode;
use fwup_stream::delta::{DecodeError, DeltaFault};

/// Content with words, noise and runs, the same for the same seed.
fn content(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut out = Vec::new();
    while out.len() < length {
        match next() % 4 {
            0 => out.extend((0..next() % 5000).map(|_| next().to_be_bytes()[2])),
            1 => out.extend(vec![next().to_be_bytes()[2]; next() as usize % 3000]),
            _ => {
                for _ in 0..next() % 300 {
                    out.extend(format!("word{} ", next() % 500).bytes());
                }
            }
        }
    }
    out.truncate(length);
    out
}

/// Content with parts moved, changed and added.
fn changed(old: &[u8], seed: u32) -> Vec<u8> {
    let mut new = old.to_vec();
    let extra = content(seed, 40_000);
    let third = new.len() / 3;
    new[third..third + 1000].copy_from_slice(&extra[..1000]);
    new.splice(2 * third..2 * third, extra[1000..].iter().copied());
    let moved: Vec<u8> = new.drain(..50_000).collect();
    new.extend(moved);
    new.extend(vec![0; 10_000]);
    new
}

fn encode(folder: &Path, options: &[&str], old: Option<&[u8]>, new: &[u8]) -> Option<Vec<u8>> {
    std::fs::write(folder.join("new"), new).unwrap();
    let mut command = Command::new("xdelta3");
    command.current_dir(folder).args(["-e", "-f"]).args(options);
    if let Some(old) = old {
        std::fs::write(folder.join("old"), old).unwrap();
        command.args(["-s", "old"]);
    }
    let output = command.args(["new", "delta"]).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(std::fs::read(folder.join("delta")).unwrap())
}

#[test]
fn what_xdelta3_writes_is_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let old = content(1, 700_000);
    let new = changed(&old, 2);
    let noise = content(77, 300_000);
    let mut tried = 0;
    for options in [
        &["-S", "none"][..],
        &["-S", "none", "-n"],
        &["-S", "none", "-A", "made for a test"],
        &["-S", "none", "-0"],
        &["-S", "none", "-1"],
        &["-S", "none", "-9"],
        &["-S", "none", "-W", "16384"],
        &["-S", "none", "-W", "100000", "-n"],
        &["-S", "none", "-B", "524288", "-W", "65536"],
        &["-S", "none", "-9", "-W", "16777216", "-N"],
    ] {
        for (old, new) in [
            (Some(&old), &new),
            (Some(&new), &old),
            (Some(&old), &old),
            (Some(&noise), &new),
            (None, &new),
            (Some(&old), &Vec::new()),
        ] {
            let Some(delta) = encode(folder.path(), options, old.map(Vec::as_slice), new) else {
                // Past the test harness, which hides the output of tests that pass.
                std::io::stderr().write_all(b"SKIPPED: xdelta3 is not installed\n").unwrap();
                return;
            };
            let mut source = old.map_or(&[][..], |old| old.as_slice());
            for size in [usize::MAX, 1000, 7] {
                let got = decode(&delta, &mut source, std::iter::repeat(size));
                let got = got.unwrap_or_else(|error| panic!("{options:?}, {} source: {error}", source.len()));
                assert!(got == *new, "{options:?} in pieces of {size}");
            }
            tried += 1;
        }
    }
    std::io::stderr().write_all(format!("xdelta3: {tried} deltas decoded\n").as_bytes()).unwrap();
}

#[test]
fn secondary_compression_and_wrong_sources_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let old = content(3, 300_000);
    let new = changed(&old, 4);
    for (options, name) in [(&["-S", "djw"][..], "DJW"), (&["-S", "lzma"], "LZMA")] {
        let Some(delta) = encode(folder.path(), options, Some(&old), &new) else {
            std::io::stderr().write_all(b"SKIPPED: xdelta3 is not installed\n").unwrap();
            return;
        };
        let error = decode(&delta, &mut old.as_slice(), std::iter::empty()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    let delta = encode(folder.path(), &["-S", "none"], Some(&old), &new).unwrap();
    let mut wrong = old.clone();
    for byte in &mut wrong {
        *byte ^= 1;
    }
    let fault = |source: &[u8]| match decode(&delta, &mut &*source, std::iter::empty()) {
        Err(DecodeError::Delta(error)) => error.fault().clone(),
        Ok(_) => panic!("the source is wrong"),
    };
    assert_eq!(fault(&wrong), DeltaFault::Checksum);
    assert!(matches!(fault(&old[..100_000]), DeltaFault::SourceEnd(_)));
}
