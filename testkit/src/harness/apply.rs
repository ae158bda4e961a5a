//! Applying an archive to a small disk.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use fwup_stream::archive::SignatureState;
use fwup_stream::disk::{BLOCK_BYTES, Extent, MemoryTarget, SEGMENT, Target};
use fwup_stream::trust::PublicKey;
use fwup_stream::{Applier, ApplyEvent, ApplyOptions, ApplyReport, Error};

use super::container;
use super::input::{Cuts, Source};
use crate::disk::DiskLayout;
use crate::firmware::FirmwareBuilder;

/// Bytes of archive, or of a manifest to make one of: a few calls of the largest kind, not thousands.
const ARCHIVE_MAX: usize = 64 * 1024;
const MANIFEST_MAX: usize = 4096;
/// Bytes of a made resource: more than two segments.
const RESOURCE_MAX: u32 = 300_000;
/// Bytes of a disk: whole segments, a broken one at the end, none at all.
const SIZES: [u64; 4] = [8 << 20, 4 << 20, 1_050_112, 0];

/// Applies an archive whole and cut.
///
/// The input says the kind of archive (as it stands; a good one with some bytes changed; made of a manifest
/// and two resources, with or without a signature), the task, the options and the disk.
///
/// # Panics
/// When the cuts show: in the outcome, in what is told or on the disk (of work that breaks off in the middle,
/// only in whether it does); when accesses are no whole segments;
/// when something was written before the manifest was accepted, or without the signature asked for.
pub fn apply(data: &[u8]) {
    let mut source = Source::new(data);
    let kind = source.byte();
    let task = source.pick(&["complete", "upgrade", "", "t"]);
    let options = source.byte();
    let plan = Plan {
        task,
        options,
        granularity: 512 << (options >> 4).min(8),
        size: source.pick(&SIZES),
        installed: kind & 8 != 0,
        keyed: kind & 16 != 0,
    };
    let cuts = source.cuts();
    let archive = match kind & 3 {
        0 => source.rest(ARCHIVE_MAX).to_vec(),
        1 => spoilt(&mut source, plan.keyed),
        _ => made(&mut source, kind & 1 == 1),
    };
    let whole = plan.run(&archive, Cuts::whole());
    let cut = plan.run(&archive, cuts);
    if whole.broke_off() && cut.broke_off() {
        return;
    }
    assert_eq!(whole.outcome, cut.outcome, "cuts show in the outcome");
    assert_eq!(whole.told, cut.told, "cuts show in what is told");
    for segment in whole.disk.written.union(&cut.disk.written) {
        let same = whole.disk.segment(*segment) == cut.disk.segment(*segment);
        assert!(same, "cuts show in segment {segment}; the outcome was {:?}", whole.outcome);
    }
}

/// How to apply.
struct Plan {
    task: &'static str,
    options: u8,
    size: u64,
    /// Bytes the disk reads and writes together.
    granularity: usize,
    /// Whether the disk holds an older firmware.
    installed: bool,
    /// Whether a signature is asked for.
    keyed: bool,
}

/// What came of it.
struct Run {
    outcome: Result<ApplyReport, String>,
    /// Whether a task was begun.
    started: bool,
    told: Vec<ApplyEvent>,
    disk: Watched,
}

impl Run {
    /// Whether the work ended in the middle. How far it came by then, and which of several faults is met
    /// first, may depend on the size of the pieces.
    fn broke_off(&self) -> bool {
        self.started && self.outcome.is_err()
    }
}

impl Plan {
    fn run(&self, archive: &[u8], cuts: Cuts) -> Run {
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut disk = self.disk();
        let outcome = self.push(archive, cuts, &mut disk, &told);
        let started = !matches!(outcome, Err(Error::Start(_) | Error::NoTask(_) | Error::NoKey));
        assert!(started || disk.written.is_empty(), "written in spite of {outcome:?}");
        if let (Ok(report), true) = (&outcome, self.keyed) {
            assert_eq!(report.signature, SignatureState::Good, "applied without a signature");
        }
        let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
        Run { outcome: outcome.map_err(|error| error.to_string()), started, told, disk }
    }

    fn push(
        &self,
        archive: &[u8],
        mut cuts: Cuts,
        disk: &mut Watched,
        told: &Arc<Mutex<Vec<ApplyEvent>>>,
    ) -> Result<ApplyReport, Error> {
        let teller = Arc::clone(told);
        let observer = move |event| {
            // Progress carries the bytes taken so far, which depend on the cuts.
            if !matches!(event, ApplyEvent::Progress(_)) {
                teller.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        };
        let mut applier = Applier::with_observer(self.options(), disk, observer)?;
        let mut input = archive;
        while let Some(piece) = cuts.next(&mut input) {
            applier.push(piece)?;
        }
        applier.finish()
    }

    fn options(&self) -> ApplyOptions {
        let mut options = ApplyOptions::default();
        self.task.clone_into(&mut options.task);
        options.require_signature = self.keyed;
        if self.keyed {
            options.public_keys = PublicKey::from_text(&container::key().public_key()).into_iter().collect();
        }
        options.verify_writes = self.options & 1 != 0;
        options.minimize_writes = self.options & 2 != 0;
        options.enable_trim = self.options & 4 != 0;
        options.variables = Arc::new(|name| (name.len() < 4).then(|| "1".to_owned()));
        // No file of this system is touched: nothing can be created here.
        options.reboot_param_path = Some(PathBuf::from("/dev/null/nothing"));
        options
    }

    fn disk(&self) -> Watched {
        let disk = if self.installed { installed() } else { MemoryTarget::with_hard_size(self.size) };
        Watched { disk, written: BTreeSet::new(), granularity: self.granularity }
    }
}

/// An archive with an A/B layout, without a root file system worth the name: its tasks are the point.
fn good(version: &str, signed: bool) -> Vec<u8> {
    let layout = DiskLayout::with_slots_of(1);
    let builder = FirmwareBuilder::new("gadget", version).level(1).rootfs(20_000, 3).ab_layout(&layout);
    let built = if signed { builder.build(&container::key()) } else { builder.build_unsigned() };
    built.ok().and_then(|archive| archive.bytes().ok()).map(|bytes| bytes.to_vec()).unwrap_or_default()
}

/// A disk that runs version 1 from slot A.
fn installed() -> MemoryTarget {
    static DISK: OnceLock<MemoryTarget> = OnceLock::new();
    let make = || {
        let mut disk = MemoryTarget::with_hard_size(8 << 20);
        let mut options = ApplyOptions::default();
        "complete".clone_into(&mut options.task);
        options.require_signature = false;
        let applied = Applier::new(options, &mut disk).and_then(|mut applier| {
            applier.push(&good("1", false))?;
            applier.finish()
        });
        assert!(applied.is_ok(), "the disk to begin with: {applied:?}");
        disk
    };
    DISK.get_or_init(make).clone()
}

/// A good archive with changes: each a place, a way and up to 255 bytes.
fn spoilt(source: &mut Source<'_>, signed: bool) -> Vec<u8> {
    static GOOD: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let [plain, with_signature] = GOOD.get_or_init(|| [good("2", false), good("2", true)]);
    let mut archive = if signed { with_signature.clone() } else { plain.clone() };
    while !source.is_empty() && archive.len() < ARCHIVE_MAX {
        let at = usize::from(source.short()).min(archive.len());
        let way = source.byte();
        let bytes = source.block();
        let end = (at + bytes.len()).min(archive.len());
        match way % 4 {
            0 => drop(archive.splice(at..end, bytes.iter().copied())),
            1 => drop(archive.splice(at..at, bytes.iter().copied())),
            2 => drop(archive.drain(at..end)),
            _ => archive.truncate(at),
        }
    }
    archive
}

/// An archive whose manifest is the rest of the input, behind the descriptions of resources "a" and "b".
fn made(source: &mut Source<'_>, signed: bool) -> Vec<u8> {
    let mut resource = || {
        let length = usize::try_from(source.word() % RESOURCE_MAX).unwrap_or_default();
        let seed = source.byte();
        let content: Vec<u8> = (0_u8..=250).map(|at| at ^ seed).cycle().take(length).collect();
        content
    };
    let (a, b) = (resource(), resource());
    let mut manifest = (container::section("a", &a) + &container::section("b", &b)).into_bytes();
    manifest.extend_from_slice(source.rest(MANIFEST_MAX));
    container::archive(&manifest, &[("a", &a), ("b", &b)], signed)
}

/// A disk that knows which segments were written.
struct Watched {
    disk: MemoryTarget,
    written: BTreeSet<u64>,
    granularity: usize,
}

impl Watched {
    fn segment(&self, number: u64) -> Vec<u8> {
        self.disk.bytes(number * SEGMENT as u64, SEGMENT)
    }

    /// Accesses are what the disk asks for, within one segment, cut only at the end of the disk.
    fn check(&self, offset: u64, length: usize) {
        let (size, grain) = (self.disk.length(), self.granularity as u64);
        assert!(offset.is_multiple_of(grain) && offset < size, "access at {offset} of {size}");
        let end = offset + length as u64;
        assert!(end.is_multiple_of(grain) || end == size, "{length} bytes at {offset} of {size}");
        let segment = SEGMENT as u64;
        assert!(length > 0 && offset / segment == (end - 1) / segment, "{length} bytes at {offset}");
    }
}

impl Target for Watched {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(buffer.len() <= SEGMENT && offset.is_multiple_of(BLOCK_BYTES), "a read at {offset}");
        self.disk.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check(offset, data.len());
        self.written.insert(offset / SEGMENT as u64);
        self.disk.write_at(offset, data)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn trim(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn extent(&self) -> Extent {
        Extent::Hard(self.disk.length())
    }

    fn granularity(&self) -> usize {
        self.granularity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What inputs are made of must be good to begin with, or fuzzing stays at the surface.
    #[test]
    fn the_archives_to_begin_with_apply() {
        for (task, installed, keyed) in
            [("complete", false, false), ("upgrade", true, false), ("upgrade", true, true)]
        {
            let plan = Plan { task, options: 7, granularity: 4096, size: SIZES[0], installed, keyed };
            let run = plan.run(&spoilt(&mut Source::new(&[]), keyed), Cuts::whole());
            assert!(run.outcome.is_ok() && !run.disk.written.is_empty(), "{task}: {:?}", run.outcome);
            let broken = spoilt(&mut Source::new(&[0x00, 0x10, 0, 1, 0xff]), keyed);
            assert!(plan.run(&broken, Cuts::whole()).broke_off(), "{task} with a byte changed");
        }
    }

    #[test]
    fn a_manifest_makes_an_archive_that_applies() {
        let task = b"task \"t\" {\non-resource \"a\" {\nfunlist={2,raw_write,1}\n}\n}\n";
        let input = [&[0x10, 0x27, 0, 0, 1, 8, 0, 0, 0, 1][..], task].concat();
        let archive = made(&mut Source::new(&input), true);
        let (granularity, size) = (SEGMENT, SIZES[0]);
        let plan = Plan { task: "t", options: 0, granularity, size, installed: false, keyed: true };
        let run = plan.run(&archive, Cuts::whole());
        assert!(run.outcome.is_ok(), "{:?}", run.outcome);
        assert_eq!(run.disk.disk.bytes(512, 4), [1, 0, 3, 2]);
    }
}
