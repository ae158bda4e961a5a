//! Upgrades that the reference tool was recorded with.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use fwup_stream::ApplyOptions;
use fwup_stream::trust::PublicKey;

use super::super::environment::{EnvironmentError, read_environment};
use super::super::image::Image;
use super::super::layout::{BLOCK, DiskLayout};
use super::built::blocks;
use super::case::{Case, Judge, State};
use super::run::applied;

/// The recorded upgrades that switch slots, from a folder of golden archives; and what of it is not there.
///
/// These are `ab-upgrade` to slot B and back, every usable delta of `delta-raw` and those of `delta-encrypted`.
/// `delta-fat` is none: it changes the one file system that holds old and new, which no order of writes
/// protects.
pub fn golden_cases(folder: &Path) -> io::Result<(Vec<Case>, Vec<String>)> {
    let (mut cases, mut missing) = (Vec::new(), Vec::new());
    for name in ["ab-upgrade", "delta-raw", "delta-encrypted"] {
        let place = folder.join(name);
        match name {
            _ if !place.exists() => missing.push(name.to_owned()),
            "ab-upgrade" => cases.extend(ab_upgrade(&place)?),
            "delta-raw" => cases.extend(delta_raw(&place)?),
            _ => cases.extend(delta_encrypted(&place)?),
        }
    }
    Ok((cases, missing))
}

fn unsigned(task: &str) -> ApplyOptions {
    let mut options = ApplyOptions::default();
    task.clone_into(&mut options.task);
    options.require_signature = false;
    options
}

fn same(one: &Image, other: &Image, ranges: &[Range<u64>]) -> bool {
    ranges.iter().all(|range| one.same(other, range.start, range.end - range.start))
}

/// A slot of `ab-upgrade`: its name in the environment, and where its two file systems are.
type Slot = (&'static str, [Range<u64>; 2]);

/// A boot record and an environment both say which slot runs, the former written first: boot loaders that go by
/// either are tried.
fn ab_upgrade(place: &Path) -> io::Result<Vec<Case>> {
    const LENGTH: u64 = 32_768 * BLOCK;
    let slot_a: Slot = ("a", [blocks(2048, 5000), blocks(16_384, 4096)]);
    let slot_b: Slot = ("b", [blocks(8192, 5000), blocks(20_480, 4096)]);
    let archive: Arc<[u8]> = std::fs::read(place.join("input.fw"))?.into();
    let mut fresh = applied(&Image::new(), LENGTH, &archive, &unsigned("complete"))?;
    fresh.settle();
    let mut upgraded = applied(&fresh, LENGTH, &archive, &unsigned("upgrade"))?;
    upgraded.settle();
    let mut cases = Vec::new();
    for (before, runs, next) in [(&fresh, &slot_a, &slot_b), (&upgraded, &slot_b, &slot_a)] {
        let after = applied(before, LENGTH, &archive, &unsigned("upgrade"))?;
        for by_record in [false, true] {
            let by = if by_record { "boot record" } else { "environment" };
            cases.push(Case {
                name: format!("ab-upgrade, to slot {}, by {by}", next.0),
                before: before.clone(),
                length: LENGTH,
                archive: Arc::clone(&archive),
                options: unsigned("upgrade"),
                judge: ab_judge(before.clone(), after.clone(), runs.clone(), next.clone(), by_record),
                is_sound: true,
                may_be_damaged: !by_record,
                protected: runs.1.to_vec(),
            });
        }
    }
    // Recorded with the first three quarters of the archive: what on-error does is cut, too.
    let cut: Arc<[u8]> = archive.get(..archive.len() / 4 * 3).unwrap_or_default().into();
    let broken = cases.first().cloned().map(|case| Case {
        name: "ab-upgrade, cut off".to_owned(),
        archive: cut,
        is_sound: false,
        may_be_damaged: false,
        ..case
    });
    cases.extend(broken);
    Ok(cases)
}

fn ab_judge(before: Image, after: Image, runs: Slot, next: Slot, by_record: bool) -> Judge {
    // The record is one sector, so it is the one or the other.
    let record = 0..BLOCK;
    let layout = DiskLayout { environment: 64, ..DiskLayout::with_slots_of(1) };
    Arc::new(move |disk| {
        let selected = if by_record {
            let record_is = |image: &Image| same(disk, image, std::slice::from_ref(&record));
            match (record_is(&before), record_is(&after)) {
                (true, _) => runs.0.to_owned(),
                (false, true) => next.0.to_owned(),
                (false, false) => return State::Bricked("the boot record is neither old nor new".to_owned()),
            }
        } else {
            match read_environment(disk, &layout) {
                Err(error @ EnvironmentError::Checksum { .. }) => return State::Damaged(error.to_string()),
                Err(error) => return State::Bricked(error.to_string()),
                Ok(mut variables) => variables.remove("active").unwrap_or_default(),
            }
        };
        if selected == runs.0 && same(disk, &before, &runs.1) {
            State::Old
        } else if selected == next.0 && same(disk, &after, &next.1) {
            State::New
        } else {
            State::Bricked(format!("slot {selected:?} is selected and not whole"))
        }
    })
}

/// Block 0 says whether what was rebuilt at block 2048 from what is at block 256 runs.
fn delta_raw(place: &Path) -> io::Result<Vec<Case>> {
    let deltas = [
        "delta-plain",
        "delta-level-1",
        "delta-no-checksum",
        "delta-no-source-used",
        "delta-small-source-buffer",
        "delta-small-windows",
        "delta-with-app-header",
        "delta-zip-program",
        "delta-signed",
        "dd-with-local-size",
        "full",
    ];
    let base = std::fs::read(place.join("base.fw"))?;
    let mut cases = Vec::new();
    for delta in deltas {
        let Ok(archive) = std::fs::read(place.join(format!("{delta}.fw"))) else { continue };
        let mut options = unsigned("upgrade");
        if delta == "delta-signed" {
            let key = PublicKey::from_file_bytes(&std::fs::read(place.join("k1.pub"))?);
            options.public_keys = vec![key.map_err(io::Error::other)?];
            options.require_signature = true;
        }
        let name = format!("delta-raw, {delta}");
        cases.push(by_mark(name, &base, "complete", archive, options, (256, 1024))?);
    }
    Ok(cases)
}

/// The same with source and target encrypted.
fn delta_encrypted(place: &Path) -> io::Result<Vec<Case>> {
    let base = std::fs::read(place.join("base.fw"))?;
    let delta = std::fs::read(place.join("delta.fw"))?;
    let kinds = [("cbc", 256), ("xts", 256), ("unaligned", 100), ("env", 256)];
    kinds
        .into_iter()
        .map(|(kind, source)| {
            let mut options = unsigned(&format!("{kind}-upgrade"));
            // The key that the recording had in its environment.
            let secret = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
            options.variables = Arc::new(move |name| (name == "SECRET").then(|| secret.to_owned()));
            let name = format!("delta-encrypted, {kind}");
            by_mark(name, &base, &format!("{kind}-complete"), delta.clone(), options, (source, 1000))
        })
        .collect()
}

/// A case whose task sets block 0 to ones at its end, and to twos after an error.
fn by_mark(
    name: String,
    base: &[u8],
    complete: &str,
    archive: Vec<u8>,
    options: ApplyOptions,
    (source, count): (u64, u64),
) -> io::Result<Case> {
    const LENGTH: u64 = 8192 * BLOCK;
    let mut factory = unsigned(complete);
    factory.variables = Arc::clone(&options.variables);
    let mut before = applied(&Image::new(), LENGTH, base, &factory)?;
    before.settle();
    let after = applied(&before, LENGTH, &archive, &options)?;
    let (old, new) = (blocks(source, count), blocks(1500, 4096));
    let (was, will) = (before.clone(), after);
    let judge: Judge = Arc::new(move |disk| {
        let whole = |image: &Image, range: &Range<u64>| same(disk, image, std::slice::from_ref(range));
        let mark = disk.bytes(0, 512);
        match mark.first() {
            Some(0 | 2) if mark.iter().all(|byte| Some(byte) == mark.first()) && whole(&was, &old) => {
                State::Old
            }
            Some(1) if mark.iter().all(|byte| *byte == 1) && whole(&will, &new) => State::New,
            mark => State::Bricked(format!("the mark is {mark:?}, and what it stands for is not whole")),
        }
    });
    Ok(Case {
        name,
        before,
        length: LENGTH,
        archive: archive.into(),
        options,
        judge,
        is_sound: true,
        may_be_damaged: false,
        protected: vec![blocks(source, count)],
    })
}
