//! Disks of simulated devices: caches that are lost, faults, and images that are shared.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use fwup_stream::disk::{Extent, Target};
use nerves_hub_link_testkit::disk::{Cut, Fault, FaultTarget, Image, Medium, PowerLossDisk, SimDisk};
use proptest::prelude::*;

fn disk(seed: u64) -> PowerLossDisk<Image> {
    PowerLossDisk::new(Image::new(), 1 << 20, seed)
}

#[test]
fn clones_of_an_image_share_what_they_have_in_common() {
    let mut image = Image::new();
    image.write_at(5000, &vec![1; 100_000]).unwrap();
    assert!(image.own_bytes() >= 100_000);
    image.settle();
    assert_eq!(image.own_bytes(), 0);
    let mut clone = image.clone();
    clone.write_at(50_000, &[2]).unwrap();
    assert_eq!((clone.own_bytes(), image.own_bytes()), (4096, 0));
    assert_eq!((image.bytes(49_999, 3), clone.bytes(49_999, 3)), (vec![1; 3], vec![1, 2, 1]));
    assert!(image.same(&clone, 0, 50_000) && image.same(&clone, 50_001, 1 << 20));
    assert!(!image.same(&clone, 0, 1 << 20) && !image.same(&clone, 50_000, 1));
    // A write to a page that two clones share goes to one of them.
    let before = clone.clone();
    clone.write_at(50_001, &[3]).unwrap();
    assert_eq!((before.bytes(50_000, 2), clone.bytes(50_000, 2)), (vec![2, 1], vec![2, 3]));
    // What was settled later is still each one's own.
    clone.settle();
    assert_eq!(image.bytes(50_000, 1), [1]);
}

#[test]
fn power_goes_during_the_write_or_the_sync_that_was_named() {
    let mut disk = disk(1);
    disk.cut(Cut::Sync(2));
    disk.write_at(0, &[1; 512]).unwrap();
    disk.sync().unwrap();
    disk.write_at(512, &[2; 512]).unwrap();
    assert!(disk.sync().is_err() && disk.is_dark());
    assert!(disk.read_at(0, &mut [0; 1]).is_err() && disk.write_at(0, &[9]).is_err() && disk.sync().is_err());
    assert!(disk.trim(0, 512).is_err());
    disk.power_on().unwrap();
    assert!(!disk.is_dark());
    let mut first = [0; 512];
    disk.read_at(0, &mut first).unwrap();
    assert_eq!(first, [1; 512], "synced");
    // Counts go on.
    assert_eq!((disk.writes(), disk.syncs()), (2, 2));
    disk.cut(Cut::Write(4));
    disk.write_at(0, &[3; 512]).unwrap();
    assert!(disk.write_at(0, &[4; 512]).is_err() && disk.is_dark());
}

#[test]
fn a_clone_is_a_snapshot_with_its_cache_and_its_future() {
    for seed in 0..20 {
        let mut disk = disk(seed);
        disk.write_at(0, &[1; 8192]).unwrap();
        let copy = disk.clone();
        disk.write_at(8192, &[2; 512]).unwrap();
        let [one, other] = [copy.clone(), copy].map(|disk| disk.survivor().unwrap());
        assert!(one.same(&other, 0, 1 << 20), "the same seed loses the same");
        assert_eq!(one.bytes(8192, 1), [0]);
    }
}

/// Over many seeds, everything that can come of two unsynced writes to one sector comes, whatever their order.
#[test]
fn unsynced_writes_keep_no_order() {
    let outcomes: BTreeSet<(u8, u8)> = (0..300)
        .map(|seed| {
            let mut disk = disk(seed);
            disk.write_at(0, &[1; 512]).unwrap();
            disk.write_at(0, &[2; 512]).unwrap();
            disk.write_at(4096, &[3; 512]).unwrap();
            let image = disk.survivor().unwrap();
            (image.bytes(0, 1)[0], image.bytes(4096, 1)[0])
        })
        .collect();
    assert_eq!(outcomes.len(), 6, "{outcomes:?}");
}

#[test]
fn a_sector_is_whole_or_not_there() {
    for (bytes, sector) in [(512, 512), (4096, 4096), (4097, 8192)] {
        let mut torn = 0;
        for seed in 0..60 {
            let mut disk = PowerLossDisk::new(Image::new(), 1 << 20, seed).sectors_of(bytes);
            assert_eq!(disk.granularity(), sector);
            disk.write_at(0, &vec![7; 32_768]).unwrap();
            let image = disk.survivor().unwrap().bytes(0, 32_768);
            assert!(image.chunks(sector).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            torn += usize::from(image.contains(&0) && image.contains(&7));
        }
        assert!(torn > 10, "{torn} of 60");
    }
}

#[test]
fn a_device_ends_where_it_ends() {
    let mut disk = disk(1).hard_end(4096);
    assert_eq!(disk.extent(), Extent::Hard(4096));
    disk.write_at(3584, &[1; 512]).unwrap();
    assert_eq!(disk.write_at(3585, &[1; 512]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(disk.read_at(4000, &mut [0; 512]).unwrap(), 96);
}

#[test]
fn faults_come_go_and_are_counted() {
    let mut disk: SimDisk = FaultTarget::sound(disk(1));
    disk.add(Fault::Slow { read: 1, write: 10, sync: 100 });
    disk.add(Fault::BadWrite(2));
    disk.add(Fault::BadRead(2));
    disk.add(Fault::BadSync(1));
    disk.write_at(0, &[1; 2048]).unwrap();
    // Half of it is there: nobody knows what a disk has done that reports an error.
    assert!(disk.write_at(0, &[2; 2048]).is_err());
    let mut now = [0; 2048];
    disk.read_at(0, &mut now).unwrap();
    assert_eq!((now[1023], now[1024]), (2, 1));
    assert!(disk.read_at(0, &mut now).is_err() && disk.sync().is_err());
    assert!(disk.read_at(0, &mut now).is_ok() && disk.sync().is_ok() && disk.write_at(0, &[3; 512]).is_ok());
    assert_eq!((disk.calls(), disk.ticks()), ([3, 3, 2], 3 + 30 + 200));
    disk.heal();
    disk.sync().unwrap();
    assert_eq!((disk.calls(), disk.ticks()), ([3, 3, 3], 233), "healed");
}

#[test]
fn bad_sectors_fail_until_they_are_written() {
    let mut disk = FaultTarget::new(disk(1), Fault::Unreadable(1024, 2048));
    let bad = |disk: &mut SimDisk, from: u64| disk.read_at(from, &mut [0; 512]).is_err();
    let all = [512, 1024, 1536, 2048];
    assert_eq!(all.map(|at| bad(&mut disk, at)), [false, true, true, false]);
    disk.write_at(512, &[1; 1024]).unwrap();
    assert_eq!(all.map(|at| bad(&mut disk, at)), [false, false, true, false]);
    disk.write_at(1536, &[1; 4096]).unwrap();
    assert_eq!(all.map(|at| bad(&mut disk, at)), [false; 4]);
    assert!(disk.read_at(0, &mut [0; 8192]).is_ok());
}

#[derive(Clone, Debug)]
enum Step {
    Write(u16, u16, u8),
    Trim(u16, u16),
    Sync,
    Read(u16, u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..12_000_u16, 1..3000_u16, 1..=255_u8).prop_map(|(at, length, byte)| Step::Write(at, length, byte)),
        1 => (0..12_000_u16, 1..3000_u16).prop_map(|(at, length)| Step::Trim(at, length)),
        1 => Just(Step::Sync),
        2 => (0..12_000_u16, 1..3000_u16).prop_map(|(at, length)| Step::Read(at, length)),
    ];
    proptest::collection::vec(step, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A simple model runs beside: reads give what was written; after a loss of power each sector is what it was
    /// at the last sync or at some moment since.
    #[test]
    fn a_disk_does_what_a_simple_model_says(steps in steps(), seed in any::<u64>()) {
        const LENGTH: usize = 16_384;
        let mut disk = PowerLossDisk::new(Image::new(), LENGTH as u64, seed);
        let mut model = vec![0_u8; LENGTH];
        let mut since_sync = vec![model.clone()];
        for step in steps {
            match step {
                Step::Write(at, length, byte) => {
                    disk.write_at(at.into(), &vec![byte; length.into()]).unwrap();
                    model[at.into()..usize::from(at + length)].fill(byte);
                    since_sync.push(model.clone());
                }
                Step::Trim(at, length) => {
                    disk.trim(at.into(), length.into()).unwrap();
                    model[at.into()..usize::from(at + length)].fill(0);
                    since_sync.push(model.clone());
                }
                Step::Sync => {
                    disk.sync().unwrap();
                    since_sync = vec![model.clone()];
                }
                Step::Read(at, length) => {
                    let mut got = vec![0; length.into()];
                    prop_assert_eq!(disk.read_at(at.into(), &mut got).unwrap(), usize::from(length));
                    prop_assert_eq!(&got[..], &model[at.into()..usize::from(at + length)]);
                }
            }
        }
        let shut = disk.clone().shut_down().unwrap();
        prop_assert_eq!(shut.bytes(0, LENGTH), model);
        let survivor = disk.survivor().unwrap().bytes(0, LENGTH);
        for (at, sector) in survivor.chunks(512).enumerate() {
            let was = |moment: &Vec<u8>| &moment[at * 512..(at + 1) * 512] == sector;
            prop_assert!(since_sync.iter().any(was), "sector {} was never so", at);
        }
    }
}
