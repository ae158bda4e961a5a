//! Built archives applied by fwup-stream to disks that keep or lose what is written to them: whatever
//! happens, something boots.

use std::sync::Arc;

use fwup_stream::disk::Target;
use fwup_stream::trust::PublicKey;
use fwup_stream::{Applier, ApplyOptions, Error, Verifier};
use nerves_hub_link_testkit::disk::{
    BLOCK, Booted, DiskLayout, Fault, FaultTarget, Medium, PowerLossDisk, Slot, boot, boot_with_watchdog,
    format_disk, read_environment, validate,
};
use nerves_hub_link_testkit::firmware::{FirmwareBuilder, SigningKey, Tamper, tamper};
use nerves_hub_link_testkit::meta::FirmwareMeta;

const LENGTH: u64 = 700_000;

fn layouts() -> [DiskLayout; 2] {
    [DiskLayout::with_slots_of(1), DiskLayout::with_slots_of(1).redundant()]
}

fn factory(layout: &DiskLayout) -> Vec<u8> {
    let meta = FirmwareMeta {
        version: "1.0.0".to_owned(),
        product: "gadget".to_owned(),
        uuid: "00000000-0000-5000-0000-000000000001".to_owned(),
        platform: "testkit".to_owned(),
        architecture: "generic".to_owned(),
        ..FirmwareMeta::default()
    };
    let mut disk = vec![0; usize::try_from(layout.disk_len()).unwrap()];
    format_disk(&mut disk, layout, &meta, LENGTH, 1).unwrap();
    disk
}

fn archive(layout: &DiskLayout, version: &str) -> (Arc<[u8]>, String) {
    let builder = FirmwareBuilder::new("gadget", version).rootfs(LENGTH, 2).ab_layout(layout).level(1);
    let archive = builder.build(&SigningKey::from_seed(1)).unwrap();
    (archive.bytes().unwrap(), archive.meta.uuid)
}

fn options(task: &str) -> ApplyOptions {
    let mut options = ApplyOptions::default();
    task.clone_into(&mut options.task);
    options.public_keys = vec![PublicKey::from_text(&SigningKey::from_seed(1).public_key()).unwrap()];
    options
}

fn apply(bytes: &[u8], task: &str, target: impl Target) -> Result<String, Error> {
    let mut applier = Applier::new(options(task), target)?;
    for chunk in bytes.chunks(10_000) {
        applier.push(chunk)?;
    }
    applier.finish().map(|report| report.task)
}

fn power_disk(disk: Vec<u8>, layout: &DiskLayout, seed: u64) -> PowerLossDisk<Vec<u8>> {
    PowerLossDisk::new(disk, layout.disk_len(), seed)
}

fn booted(mut disk: Vec<u8>, layout: &DiskLayout) -> Booted {
    boot_with_watchdog(&mut disk, layout).unwrap_or_else(|error| panic!("the device is bricked: {error}"))
}

#[test]
fn built_archives_verify() {
    let (bytes, _) = archive(&layouts()[0], "1.1.0");
    let key = |seed| PublicKey::from_text(&SigningKey::from_seed(seed).public_key()).unwrap();
    let verify = |bytes: &[u8], seed| {
        let mut verifier = Verifier::new(vec![key(seed)], Arc::new(|_| None), None);
        verifier.push(bytes)?;
        verifier.finish()
    };
    assert!(verify(&bytes, 1).is_ok());
    assert!(verify(&bytes, 2).is_err());
    for how in [
        Tamper::Resource { name: "rootfs.img".to_owned(), offset: 5 },
        Tamper::Compressed { name: "rootfs.img".to_owned() },
        Tamper::MetaConf,
        Tamper::Signature,
        Tamper::Unsigned,
        Tamper::Truncated(bytes.len() / 2),
    ] {
        assert!(verify(&tamper(&bytes, &how).unwrap(), 1).is_err(), "{how:?}");
    }
}

#[test]
fn a_complete_task_makes_a_disk_that_boots() {
    for layout in layouts() {
        let (bytes, uuid) = archive(&layout, "1.0.0");
        let mut target = power_disk(Vec::new(), &layout, 0);
        assert_eq!(apply(&bytes, "complete", &mut target).unwrap(), "complete");
        let booted = booted(target.survivor().unwrap(), &layout);
        assert_eq!((booted.slot, booted.validated, booted.meta.uuid), (Slot::A, Some(true), uuid));
    }
}

#[test]
fn upgrades_go_there_and_back() {
    for layout in layouts() {
        let mut disk = factory(&layout);
        for (version, slot) in [("1.1.0", Slot::B), ("1.2.0", Slot::A), ("1.3.0", Slot::B)] {
            let (bytes, uuid) = archive(&layout, version);
            let mut target = power_disk(disk, &layout, 0);
            let task = apply(&bytes, "upgrade", &mut target).unwrap();
            assert_eq!(task, format!("upgrade.{}", slot.letter()));
            // Not shut down: what the applier calls done has to survive.
            disk = target.survivor().unwrap();
            let up = boot_with_watchdog(&mut disk, &layout).unwrap();
            assert_eq!((up.slot, up.validated, up.meta.uuid), (slot, Some(false), uuid));
            let mut again = power_disk(disk, &layout, 0);
            let error = apply(&bytes, "upgrade", &mut again).unwrap_err();
            assert!(error.to_string().contains("not validated"), "{error}");
            disk = again.shut_down().unwrap();
            validate(&mut disk, &layout).unwrap();
        }
    }
}

#[test]
fn power_lost_at_any_write_leaves_a_device_that_boots() {
    for layout in layouts() {
        let (bytes, uuid) = archive(&layout, "1.1.0");
        let disk = factory(&layout);
        let mut whole = power_disk(disk.clone(), &layout, 0);
        apply(&bytes, "upgrade", &mut whole).unwrap();
        let writes = whole.writes();
        assert!(writes >= 6, "{writes} writes");
        let (mut old, mut new, mut reverted, mut torn) = (0, 0, 0, 0);
        for cut in 0..=writes + 1 {
            for seed in 0..25 {
                let mut target = power_disk(disk.clone(), &layout, seed).cut_at(cut);
                let outcome = apply(&bytes, "upgrade", &mut target);
                assert_eq!(outcome.is_err(), cut <= writes, "write {cut}, seed {seed}");
                let mut disk = target.survivor().unwrap();
                // Only a redundant environment survives a torn write of itself: the last one.
                if layout.environment_redundant.is_none() && read_environment(&disk, &layout).is_err() {
                    assert_eq!(cut, writes);
                    torn += 1;
                    continue;
                }
                // Once, without a watchdog's help: a slot is never chosen before it is whole.
                let up = boot(&mut disk, &layout)
                    .unwrap_or_else(|error| panic!("bricked at write {cut}, seed {seed}: {error}"));
                match up.slot {
                    Slot::A => old += 1,
                    Slot::B => {
                        assert_eq!(up.meta.uuid, uuid);
                        new += 1;
                    }
                }
                reverted += usize::from(up.reverted);
            }
        }
        println!(
            "{writes} writes: {old} times the old firmware, {new} the new, {reverted} reverts, {torn} torn"
        );
        assert!(old > 0 && new > 0);
        assert!(layout.environment_redundant.is_some() || reverted == 0);
    }
}

#[test]
fn tampered_and_broken_firmware_leaves_the_old_one_running() {
    let layout = DiskLayout::with_slots_of(1);
    let (bytes, _) = archive(&layout, "1.1.0");
    for how in [
        Tamper::Resource { name: "rootfs.img".to_owned(), offset: 600_000 },
        Tamper::Compressed { name: "rootfs.img".to_owned() },
        Tamper::MetaConf,
        Tamper::Signature,
        Tamper::Unsigned,
        Tamper::Truncated(bytes.len() / 2),
    ] {
        let bad = tamper(&bytes, &how).unwrap();
        let mut target = power_disk(factory(&layout), &layout, 0);
        let error = apply(&bad, "upgrade", &mut target).unwrap_err();
        let up = booted(target.shut_down().unwrap(), &layout);
        assert_eq!((up.slot, up.meta.version.as_str()), (Slot::A, "1.0.0"), "{how:?}: {error}");
        if matches!(how, Tamper::MetaConf | Tamper::Signature | Tamper::Unsigned) {
            let mut target = power_disk(factory(&layout), &layout, 0);
            let _ = apply(&bad, "upgrade", &mut target);
            assert_eq!(target.writes(), 0, "{how:?}: nothing is written before the signature holds");
        }
    }
}

#[test]
fn full_and_bad_disks_fail_and_keep_the_old_firmware() {
    let layout = DiskLayout::with_slots_of(1);
    let (bytes, _) = archive(&layout, "1.1.0");
    for fault in [
        Fault::FullAt(layout.slot_b * BLOCK + 300_000),
        Fault::BadFromWrite(1),
        Fault::BadFromWrite(4),
        Fault::BadFromRead(1),
        Fault::BadFromSync(1),
    ] {
        let mut target = FaultTarget::new(power_disk(factory(&layout), &layout, 0), fault);
        let error = apply(&bytes, "upgrade", &mut target).unwrap_err();
        let up = booted(target.into_inner().shut_down().unwrap(), &layout);
        assert_eq!(up.slot, Slot::A, "{fault:?}: {error}");
    }
}

#[test]
fn a_power_loss_disk_reads_what_was_written_and_keeps_what_was_synced() {
    let mut disk = PowerLossDisk::new(vec![9; 4096], 4096, 3);
    disk.write_at(512, &[1; 512]).unwrap();
    disk.sync().unwrap();
    disk.write_at(1024, &[2; 1024]).unwrap();
    disk.write_at(1100, &[3; 100]).unwrap();
    disk.trim(3000, 50).unwrap();
    let mut buffer = vec![0; 8192];
    assert_eq!(disk.read_at(0, &mut buffer).unwrap(), 4096);
    let mut expected = vec![9; 4096];
    expected[512..1024].fill(1);
    expected[1024..2048].fill(2);
    expected[1100..1200].fill(3);
    expected[3000..3050].fill(0);
    assert_eq!(buffer[..4096], expected);
    assert_eq!(disk.read_at(1150, &mut buffer[..100]).unwrap(), 100);
    assert_eq!(buffer[..100], expected[1150..1250]);
    assert_eq!((disk.writes(), disk.syncs(), disk.is_dark()), (3, 1, false));
    let image = disk.survivor().unwrap();
    assert_eq!(image[..1024], expected[..1024], "synced");
    // Over many seeds, unsynced sectors are sometimes there and sometimes not.
    let outcomes: std::collections::BTreeSet<(u8, u8)> = (0..50)
        .map(|seed| {
            let mut disk = PowerLossDisk::new(vec![0_u8; 1024], 1024, seed).cut_at(1);
            assert!(disk.write_at(0, &[7; 1024]).is_err());
            assert!(disk.is_dark() && disk.sync().is_err() && disk.read_at(0, &mut [0; 4]).is_err());
            let image = disk.survivor().unwrap();
            (image[0], image[1023])
        })
        .collect();
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
    let mut byte = [0];
    vec![5_u8].read_at(0, &mut byte).unwrap();
    assert_eq!(byte, [5]);
}
