//! Folders with many names: the index leads to what a walk from the folder's start leads to, byte for byte and error
//! for error, and the work grows with the names and not with their square.

use crate::fat_support::Disk;
use fwup_stream::action::fat::{FatError, Mounts};
use fwup_stream::disk::DiskIo;
use proptest::prelude::*;

/// One of each kind: FAT12, FAT16 and FAT32.
const SIZES: [u64; 3] = [3000, 4153, 66600];

#[derive(Clone, Debug)]
enum Op {
    Touch(String),
    Write(String, usize),
    Mkdir(String),
    Remove(String),
    Move(String, String),
    Copy(String, String),
    Label(&'static str),
    Exists(String),
    /// Bytes of the disk are changed past the file system, as by `raw_write`.
    Change(usize, u8),
    Forget,
}

/// Names that get each other's short names, need one to five entries, or differ in case only.
fn any_name() -> impl Strategy<Value = String> {
    let number = 0_u32..14;
    prop_oneof![
        3 => number.clone().prop_map(|number| format!("N{number}.TXT")),
        2 => number.clone().prop_map(|number| format!("n{number}.txt")),
        3 => number.clone().prop_map(|number| format!("a long name {number}.text")),
        1 => number.clone().prop_map(|number| format!("A LONG NAME {number}.TEXT")),
        2 => number.clone().prop_map(|number| format!("ALONGN~{number}.TEX")),
        1 => number.clone().prop_map(|number| format!("{}{number}", "x".repeat(13 * (number as usize % 4 + 1) - 1))),
        1 => number.prop_map(|number| format!("l\u{e4}ngs {number}")),
        1 => prop::sample::select(&["d1", "d2", "a folder of folders"][..]).prop_map(str::to_owned),
    ]
}

fn any_path() -> impl Strategy<Value = String> {
    let folder = prop::sample::select(&["", "", "d1/", "d2/", "d1/d2/", "a folder of folders/"][..]);
    (folder, any_name()).prop_map(|(folder, name)| format!("{folder}{name}"))
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => any_path().prop_map(Op::Touch),
        3 => (any_path(), 0_usize..6000).prop_map(|(path, length)| Op::Write(path, length)),
        3 => any_path().prop_map(Op::Mkdir),
        2 => prop::sample::select(&["d1", "d2", "d1/d2", "a folder of folders"][..]).prop_map(|path| Op::Mkdir(path.to_owned())),
        6 => any_path().prop_map(Op::Remove),
        5 => (any_path(), any_path()).prop_map(|(from, to)| Op::Move(from, to)),
        2 => (any_path(), any_path()).prop_map(|(from, to)| Op::Copy(from, to)),
        1 => prop::sample::select(&["", "LABEL", "OTHER"][..]).prop_map(Op::Label),
        3 => any_path().prop_map(Op::Exists),
        1 => Just(Op::Forget),
    ]
}

fn any_change() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => any_op(),
        1 => (512_usize..40_960, any::<u8>()).prop_map(|(at, byte)| Op::Change(at, byte)),
    ]
}

fn perform(mounts: &mut Mounts, disk: &mut Disk, op: &Op) -> Result<bool, FatError> {
    match op {
        Op::Touch(path) => mounts.touch(disk, 0, path)?,
        Op::Write(path, length) => {
            mounts.truncate(disk, 0, path)?;
            mounts.write_at(disk, 0, path, 0, &vec![b'd'; *length])?;
        }
        Op::Mkdir(path) => mounts.mkdir(disk, 0, path)?,
        Op::Remove(path) => mounts.remove(disk, 0, path, true)?,
        Op::Move(from, to) => mounts.rename(disk, 0, from, to, false)?,
        Op::Copy(from, to) => mounts.copy(disk, 0, from, 0, to)?,
        Op::Label(label) => mounts.set_label(disk, 0, label)?,
        Op::Exists(path) => return Ok(mounts.exists(disk, 0, path)),
        Op::Change(at, byte) => {
            let block = (at - at % 512) as u64;
            let mut sector = [0; 512];
            disk.read(block, &mut sector)?;
            sector[at % 512] = *byte;
            disk.write(block, &sector, false)?;
        }
        Op::Forget => mounts.close(disk)?,
    }
    Ok(true)
}

/// Runs the operations with and without index and compares each outcome and the whole disk.
fn compare(image: &[u8], ops: &[Op]) -> Result<(), TestCaseError> {
    let mut with = (Mounts::new(), Disk::new(image.to_vec()));
    let mut without = (Mounts::new(), Disk::new(image.to_vec()));
    without.1.uncounted = true;
    for op in ops {
        let here = perform(&mut with.0, &mut with.1, op).map_err(|error| error.to_string());
        let there = perform(&mut without.0, &mut without.1, op).map_err(|error| error.to_string());
        prop_assert_eq!(here, there, "{:?}", op);
    }
    with.0.close(&mut with.1).unwrap();
    without.0.close(&mut without.1).unwrap();
    prop_assert!(with.1.finish() == without.1.finish(), "the disks differ");
    Ok(())
}

fn made(size: u64) -> Vec<u8> {
    let mut disk = Disk::default();
    Mounts::new().mkfs(&mut disk, 0, size).unwrap();
    disk.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_index_changes_nothing(size in prop::sample::select(&SIZES[..]), ops in prop::collection::vec(any_op(), 1..120)) {
        compare(&made(size), &ops)?;
    }

    #[test]
    fn an_index_changes_nothing_on_disks_that_are_damaged_or_written_past_it(
        size in prop::sample::select(&SIZES[..2]),
        before in prop::collection::vec(any_op(), 20..60),
        ops in prop::collection::vec(any_change(), 1..60),
    ) {
        let ops: Vec<_> = before.into_iter().chain(ops).collect();
        compare(&made(size), &ops)?;
    }

    #[test]
    fn an_index_changes_nothing_where_folders_share_clusters_or_have_torn_names(
        size in prop::sample::select(&SIZES[..2]),
        before in prop::collection::vec(any_op(), 20..60),
        damage in prop::collection::vec((512_usize..40_960, any::<u8>()), 1..20),
        cross in prop::collection::vec((0_usize..1024, 2_u16..30), 0..10),
        ops in prop::collection::vec(any_op(), 1..60),
    ) {
        let mut disk = Disk::new(made(size));
        let mut mounts = Mounts::new();
        for op in &before {
            let _ = perform(&mut mounts, &mut disk, op);
        }
        mounts.close(&mut disk).unwrap();
        let mut image = disk.finish();
        for (at, byte) in damage {
            image[at] = byte;
        }
        // Entries that lead to the clusters of others.
        let entries: Vec<_> = (0..image.len()).step_by(32).filter(|at| image[at + 11] & 0x30 != 0 && image[at + 11] != 0x0F).collect();
        for (number, cluster) in cross {
            if let Some(at) = entries.get(number % entries.len().max(1)) {
                image[at + 26..at + 28].copy_from_slice(&cluster.to_le_bytes());
            }
        }
        compare(&image, &ops)?;
    }
}

/// Fills a folder and returns how often the disk was read and written for that.
fn work_for(names: u32, name: impl Fn(u32) -> String) -> usize {
    let mut disk = Disk::default();
    let mut mounts = Mounts::new();
    mounts.mkfs(&mut disk, 0, 400_000).unwrap();
    mounts.mkdir(&mut disk, 0, "d").unwrap();
    let before = disk.calls;
    for number in 0..names {
        mounts.touch(&mut disk, 0, &format!("d/{}", name(number))).unwrap();
    }
    disk.calls - before
}

#[test]
fn work_grows_with_the_names_and_not_with_their_square() {
    let short = |number: u32| format!("F{number}.BIN");
    let long = |number: u32| format!("{number:05} is the number of this file");
    for (kind, few, many) in [
        ("short", work_for(500, short), work_for(5000, short)),
        ("long", work_for(300, long), work_for(3000, long)),
    ] {
        assert!(many < few * 15, "{kind} names: {few} calls for a tenth of the names, {many} for all");
    }
}

#[test]
fn a_folder_is_read_again_once_something_else_wrote_to_it() {
    let mut disk = Disk::default();
    let mut mounts = Mounts::new();
    mounts.mkfs(&mut disk, 0, 4153).unwrap();
    for number in 0..40 {
        mounts.touch(&mut disk, 0, &format!("F{number}")).unwrap();
    }
    // The file system holds one sector, which is another one.
    assert!(mounts.exists(&mut disk, 0, "F1") && mounts.exists(&mut disk, 0, "F39"));
    let mut sector = [0; 512];
    let begins = |disk: &mut Disk, block: u64, sector: &mut [u8; 512]| {
        disk.read(block * 512, sector).unwrap();
        sector.starts_with(b"F0 ")
    };
    let root = (0..400).find(|block| begins(&mut disk, *block, &mut sector)).unwrap();
    sector[32..35].copy_from_slice(b"NEW");
    disk.write(root * 512, &sector, false).unwrap();
    assert!(!mounts.exists(&mut disk, 0, "F1"));
    assert!(mounts.exists(&mut disk, 0, "NEW"));
    // Now it is that very sector: as in fwup, the old one is seen, but not remembered.
    sector[32..35].copy_from_slice(b"OLD");
    disk.write(root * 512, &sector, false).unwrap();
    assert!(mounts.exists(&mut disk, 0, "NEW"));
    assert!(mounts.exists(&mut disk, 0, "F39"));
    assert!(!mounts.exists(&mut disk, 0, "NEW"));
    assert!(mounts.exists(&mut disk, 0, "OLD"));
}

#[test]
fn a_disk_and_its_partition_are_one_file_system_seen_twice() {
    let outcomes = [false, true].map(|uncounted| {
        let mut disk = Disk::default();
        disk.uncounted = uncounted;
        let mut mounts = Mounts::new();
        mounts.mkfs(&mut disk, 63, 4153).unwrap();
        // A partition table whose first partition begins there.
        let mut table = [0; 512];
        table[446 + 4] = 0x0E;
        table[454..458].copy_from_slice(&63_u32.to_le_bytes());
        table[510..].copy_from_slice(&[0x55, 0xAA]);
        disk.write(0, &table, false).unwrap();
        let mut found = Vec::new();
        for number in 0..100 {
            let (one, other) = if number % 20 < 10 { (0, 63) } else { (63, 0) };
            mounts.touch(&mut disk, one, &format!("F{number}")).unwrap();
            for seen in 0..=number {
                found.push(mounts.exists(&mut disk, other, &format!("F{seen}")));
            }
            found.push(mounts.remove(&mut disk, other, &format!("F{}", number / 2), true).is_ok());
        }
        mounts.close(&mut disk).unwrap();
        (found, disk.finish())
    });
    assert!(outcomes[0].0 == outcomes[1].0, "names");
    assert!(outcomes[0].1 == outcomes[1].1, "disks");
}
