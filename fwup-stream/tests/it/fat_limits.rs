//! Limits of the FAT code at and one past, circles in chains, and what the recorded runs do not show.

use crate::fat_support::Disk;
use crate::fat_support::check::contents;
use fwup_stream::action::fat::limits::{FILE_BYTES, PATH_BYTES, PATTERN_BYTES, SHORT_NAME_TRIES};
use fwup_stream::action::fat::{FatError, Fault, Mounts};

/// Where the first table of a FAT16 file system of 4153 blocks is, and where cluster 2 is.
const TABLE: usize = 512;
const DATA: usize = (1 + 2 * 17 + 32) * 512;

fn made(size: u64) -> (Disk, Mounts) {
    let mut disk = Disk::default();
    let mut mounts = Mounts::new();
    mounts.mkfs(&mut disk, 0, size).unwrap();
    (disk, mounts)
}

fn write(mounts: &mut Mounts, disk: &mut Disk, block: u64, name: &str, data: &[u8]) {
    mounts.truncate(disk, block, name).unwrap();
    mounts.write_at(disk, block, name, 0, data).unwrap();
}

fn read(mounts: &mut Mounts, disk: &mut Disk, block: u64, name: &str) -> Vec<u8> {
    let mut buffer = vec![0; 100_000];
    let count = mounts.read_at(disk, block, name, 0, &mut buffer).unwrap();
    buffer.truncate(count);
    buffer
}

/// Sets a table entry in both tables of a FAT16 file system of 4153 blocks.
fn link(image: &mut [u8], cluster: usize, next: u16) {
    for table in [TABLE, TABLE + 17 * 512] {
        image[table + cluster * 2..][..2].copy_from_slice(&next.to_le_bytes());
    }
}

fn fault(error: FatError) -> Fault {
    match error {
        FatError::Operation { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn a_path_counts_up_to_252_bytes() {
    for (length, kept) in [(PATH_BYTES, PATH_BYTES), (PATH_BYTES + 1, PATH_BYTES)] {
        let (mut disk, mut mounts) = made(1024);
        mounts.touch(&mut disk, 0, &"n".repeat(length)).unwrap();
        mounts.close(&mut disk).unwrap();
        let names: Vec<_> = contents(&disk.finish()).0.into_keys().collect();
        assert_eq!(names, [format!("/{}", "N".repeat(kept))]);
    }
}

#[test]
fn short_names_run_out() {
    let (mut disk, mut mounts) = made(4153);
    let long = "the same long name.txt";
    for number in 1..=SHORT_NAME_TRIES {
        // Make the name, see which short name it got, and take that for good.
        mounts.touch(&mut disk, 0, long).unwrap();
        mounts.close(&mut disk).unwrap();
        let short = last_short_name(&mut disk);
        mounts.remove(&mut disk, 0, long, true).unwrap();
        mounts.touch(&mut disk, 0, &short).unwrap_or_else(|error| panic!("{number}: {short}: {error}"));
    }
    let error = mounts.touch(&mut disk, 0, long).unwrap_err();
    assert!(matches!(fault(error), Fault::Denied));
}

/// The last short name in the root folder of a FAT16 file system of 4153 blocks.
fn last_short_name(disk: &mut Disk) -> String {
    use fwup_stream::disk::DiskIo;
    let mut root = vec![0; 32 * 512];
    disk.read(35 * 512, &mut root).unwrap();
    let entry = root
        .chunks(32)
        .take_while(|entry| entry[0] != 0)
        .filter(|entry| entry[0] != 0xE5 && entry[11] != 0x0F && entry[..8].contains(&b'~'))
        .filter(|entry| entry[12] == 0)
        .last()
        .unwrap();
    let text = |part: &[u8]| String::from_utf8_lossy(part).trim_end().to_owned();
    format!("{}.{}", text(&entry[..8]), text(&entry[8..11]))
}

#[test]
fn patterns_from_4096_bytes_are_never_found() {
    let (mut disk, mut mounts) = made(1024);
    write(&mut mounts, &mut disk, 0, "file", &[5; PATTERN_BYTES + 100]);
    assert!(mounts.file_contains(&mut disk, 0, "file", &[5; PATTERN_BYTES]));
    assert!(!mounts.file_contains(&mut disk, 0, "file", &[5; PATTERN_BYTES + 1]));
    assert!(mounts.file_contains(&mut disk, 0, "file", b""));
    assert!(!mounts.file_contains(&mut disk, 0, "missing", b""));
}

#[test]
fn files_end_below_four_gib() {
    let (mut disk, mut mounts) = made(1024);
    mounts.truncate(&mut disk, 0, "file").unwrap();
    for offset in [u64::from(FILE_BYTES), u64::from(FILE_BYTES) + 1, u64::MAX] {
        let calls = disk.calls;
        let error = mounts.write_at(&mut disk, 0, "file", offset, b"x").unwrap_err();
        assert!(matches!(error, FatError::Full { expected: 1, written: 0, .. }));
        assert_eq!(disk.calls, calls, "no gap is filled for what cannot be");
    }
    // One below is a matter of space only.
    let error = mounts.write_at(&mut disk, 0, "file", u64::from(FILE_BYTES) - 1, b"x").unwrap_err();
    assert!(matches!(error, FatError::Full { .. }));
    assert!(disk.calls < 20_000);
}

#[test]
fn a_folder_in_a_circle_ends_at_65536_entries() {
    let (mut disk, mut mounts) = made(4153);
    mounts.mkdir(&mut disk, 0, "dir").unwrap();
    for number in 0..14 {
        mounts.touch(&mut disk, 0, &format!("dir/{number}")).unwrap();
    }
    mounts.close(&mut disk).unwrap();
    let mut image = disk.finish();
    link(&mut image, 2, 2);
    let mut disk = Disk::new(image);
    assert!(matches!(fault(mounts.touch(&mut disk, 0, "dir/new").unwrap_err()), Fault::Denied));
    assert!(!mounts.exists(&mut disk, 0, "dir/new"));
    assert!(mounts.exists(&mut disk, 0, "dir/7"));
    assert!(disk.calls < 200_000, "{}", disk.calls);
}

#[test]
fn a_file_in_a_circle_ends_with_an_error() {
    let (mut disk, mut mounts) = made(4153);
    write(&mut mounts, &mut disk, 0, "file", &[1; 1000]);
    mounts.close(&mut disk).unwrap();
    let mut image = disk.finish();
    link(&mut image, 3, 2);
    // The entry claims nearly 4 GiB.
    image[35 * 512 + 28..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut disk = Disk::new(image);
    assert!(!mounts.file_contains(&mut disk, 0, "file", b"needle"));
    let error = mounts.read_at(&mut disk, 0, "file", u64::from(u32::MAX) - 5, &mut [0; 5]).unwrap_err();
    assert!(matches!(fault(error), Fault::Corrupt));
    assert!(disk.calls < 50_000, "{}", disk.calls);
    // It can be deleted, which frees both clusters once.
    mounts.remove(&mut disk, 0, "file", true).unwrap();
    mounts.close(&mut disk).unwrap();
    assert!(contents(&disk.finish()).0.is_empty());
}

#[test]
fn chains_to_nowhere_are_errors() {
    for next in [0, 1] {
        let (mut disk, mut mounts) = made(4153);
        write(&mut mounts, &mut disk, 0, "file", &[1; 1000]);
        mounts.close(&mut disk).unwrap();
        let mut image = disk.finish();
        link(&mut image, 2, next);
        let mut disk = Disk::new(image);
        let error = mounts.read_at(&mut disk, 0, "file", 0, &mut [0; 1000]).unwrap_err();
        assert!(matches!(fault(error), Fault::Corrupt), "{next}");
    }
}

#[test]
fn a_disk_can_be_filled_to_the_last_cluster_and_not_further() {
    let (mut disk, mut mounts) = made(200);
    let clusters = 200 - 1 - 2 - 32;
    mounts.truncate(&mut disk, 0, "all").unwrap();
    mounts.write_at(&mut disk, 0, "all", 0, &vec![1; clusters * 512]).unwrap();
    let error = mounts.write_at(&mut disk, 0, "all", clusters as u64 * 512, b"x").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Error writing file to FAT: all, expected 1 bytes written, got 0 (maybe the disk is full?)"
    );
    let error = mounts.copy(&mut disk, 0, "all", 0, "again").unwrap_err();
    assert_eq!(error.to_string(), "Error copying file to FAT");
    assert!(matches!(fault(mounts.mkdir(&mut disk, 0, "dir").unwrap_err()), Fault::Denied));
}

#[test]
fn the_fixed_root_folder_holds_512_entries() {
    let (mut disk, mut mounts) = made(1024);
    for number in 0..512 {
        mounts.touch(&mut disk, 0, &number.to_string()).unwrap();
    }
    assert!(matches!(fault(mounts.touch(&mut disk, 0, "more").unwrap_err()), Fault::Denied));
    mounts.remove(&mut disk, 0, "300", true).unwrap();
    mounts.touch(&mut disk, 0, "more").unwrap();
}

#[test]
fn sectors_after_the_first_2049_are_streamed() {
    let (mut disk, mut mounts) = made(66_600);
    write(&mut mounts, &mut disk, 0, "file", &vec![1; 1_000_000]);
    let last = disk.streamed.iter().filter(|(sector, streamed)| *streamed && *sector != 66_599).count();
    assert!(last > 400, "{last}");
    for (sector, streamed) in &disk.streamed {
        assert_eq!(*streamed, *sector > 2048, "sector {sector}");
    }
}

#[test]
fn the_same_name_on_two_file_systems_is_two_files() {
    let (mut disk, mut mounts) = made(1000);
    mounts.mkfs(&mut disk, 1024, 1000).unwrap();
    write(&mut mounts, &mut disk, 0, "zImage", b"first");
    write(&mut mounts, &mut disk, 1024, "zImage", b"second");
    assert_eq!(read(&mut mounts, &mut disk, 0, "zImage"), b"first");
    assert_eq!(read(&mut mounts, &mut disk, 1024, "zImage"), b"second");
}

#[test]
fn a_copy_onto_itself_changes_nothing() {
    let (mut disk, mut mounts) = made(1000);
    let data: Vec<u8> = (0..5000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
    write(&mut mounts, &mut disk, 0, "Some file.bin", &data);
    mounts.copy(&mut disk, 0, "Some file.bin", 0, "/SOME FILE.BIN").unwrap();
    assert_eq!(read(&mut mounts, &mut disk, 0, "some file.bin"), data);
}

#[test]
fn a_file_system_made_anew_forgets_the_open_file() {
    let (mut disk, mut mounts) = made(1000);
    write(&mut mounts, &mut disk, 0, "file", b"old");
    mounts.mkfs(&mut disk, 0, 1000).unwrap();
    write(&mut mounts, &mut disk, 0, "file", b"new");
    mounts.close(&mut disk).unwrap();
    assert_eq!(contents(&disk.finish()).0["/FILE"], Some(b"new".to_vec()));
}

#[test]
fn pieces_can_come_in_any_order() {
    let (mut disk, mut mounts) = made(1000);
    mounts.truncate(&mut disk, 0, "file").unwrap();
    for (offset, data) in
        [(1500, &[2; 700][..]), (0, &[1; 600]), (599, &[3; 2]), (2200, &[]), (3000, &[4; 1])]
    {
        mounts.write_at(&mut disk, 0, "file", offset, data).unwrap();
    }
    let mut expected = vec![0; 3001];
    expected[1500..2200].fill(2);
    expected[..600].fill(1);
    expected[599..601].fill(3);
    expected[3000] = 4;
    assert_eq!(read(&mut mounts, &mut disk, 0, "file"), expected);
    mounts.close(&mut disk).unwrap();
    assert_eq!(contents(&disk.finish()).0["/FILE"], Some(expected));
}

#[test]
fn the_first_fat_partition_of_a_table_is_found() {
    let (mut disk, mut mounts) = made(1000);
    mounts.mkfs(&mut disk, 2000, 1000).unwrap();
    mounts.close(&mut disk).unwrap();
    let mut image = disk.finish();
    // A table whose first partition holds something else and whose second does not exist.
    image[..512].fill(0);
    for (entry, start) in [(0, 600_u32), (2, 2000)] {
        image[446 + 16 * entry + 8..][..4].copy_from_slice(&start.to_le_bytes());
    }
    image[510..512].copy_from_slice(&[0x55, 0xAA]);
    let mut disk = Disk::new(image);
    write(&mut mounts, &mut disk, 0, "file", b"through the table");
    mounts.close(&mut disk).unwrap();
    assert_eq!(read(&mut mounts, &mut disk, 2000, "file"), b"through the table");
}

#[test]
fn sizes_without_a_layout_change_nothing() {
    for (block, count) in [
        (0, 0),
        (0, 127),
        (0, 4086),
        (0, 4152),
        (0, 66_077),
        (0, 66_599),
        (0, 0x0FFF_FFF6),
        (0, u64::from(u32::MAX) + 1 + 8192),
        (0, u64::MAX),
        (u64::MAX, 8192),
        (u64::MAX / 512, 8192),
    ] {
        let mut disk = Disk::new(vec![9; 1000]);
        let error = Mounts::new().mkfs(&mut disk, block, count).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fat_mkfs(): FATFS: f_mkfs() aborted due to a parameter error. Try adjusting the partition size."
        );
        assert_eq!(disk.calls, 0);
        assert_eq!(disk.finish(), vec![9; 1000]);
    }
}

#[test]
fn a_block_beyond_all_offsets_is_an_error() {
    let mut disk = Disk::default();
    let mut mounts = Mounts::new();
    let error = mounts.touch(&mut disk, u64::MAX, "a").unwrap_err();
    assert!(matches!(fault(error), Fault::Disk(_)));
}

#[test]
fn a_fifth_file_system_pushes_out_the_oldest_without_loss() {
    let mut disk = Disk::default();
    let mut mounts = Mounts::new();
    for index in 0..5 {
        mounts.mkfs(&mut disk, index * 1024, 1000).unwrap();
        write(&mut mounts, &mut disk, index * 1024, "file", &[u8::try_from(index).unwrap(); 1000]);
    }
    for index in 0..5 {
        let expected = vec![u8::try_from(index).unwrap(); 1000];
        assert_eq!(read(&mut mounts, &mut disk, index * 1024, "file"), expected);
    }
    // Blocks 2048 and 3072 and two more are known; four can be copied between.
    mounts.close(&mut disk).unwrap();
    for index in 1..4 {
        mounts.copy(&mut disk, 0, "file", index * 1024, "copy").unwrap();
    }
    // The fifth takes the place of the source.
    let error = mounts.copy(&mut disk, 0, "file", 4 * 1024, "copy").unwrap_err();
    assert_eq!(error.to_string(), "fatfs_cp can't open file(file): FATFS: Could not find the file");
    assert_eq!(read(&mut mounts, &mut disk, 4 * 1024, "file"), [4; 1000]);
}

#[test]
fn names_are_told_apart_by_letters_and_not_by_case() {
    let (mut disk, mut mounts) = made(4153);
    mounts.touch(&mut disk, 0, "Größe.txt").unwrap();
    assert!(mounts.exists(&mut disk, 0, "größE.TXT"));
    assert!(!mounts.exists(&mut disk, 0, "GRÖßE.TXT"), "letters beyond ASCII are bytes of code page 850");
    mounts.touch(&mut disk, 0, "x.tar.gz").unwrap();
    assert!(mounts.exists(&mut disk, 0, "X.TAR.GZ"));
    assert!(mounts.exists(&mut disk, 0, "XTAR~1.GZ"), "the short name finds it as well");
    mounts.mkdir(&mut disk, 0, "dir/").unwrap();
    assert!(!mounts.exists(&mut disk, 0, "dir"), "a folder is no file");
}

#[test]
fn forbidden_names_are_refused() {
    let (mut disk, mut mounts) = made(4153);
    for bad in ["", ".", "..", "...", " ", "/", "a*b", "a:b", "a/b?/c", "a\\<b", "\u{1}", "\u{7f}"] {
        let error = fault(mounts.truncate(&mut disk, 0, bad).unwrap_err());
        assert!(matches!(error, Fault::InvalidName | Fault::NoPath), "{bad:?}: {error}");
    }
    for bad in ["a+b", "a.b", "TWELVE LETTERS", "a/b", "Ø"] {
        let error = mounts.set_label(&mut disk, 0, bad).unwrap_err();
        assert_eq!(error.to_string(), format!("fat_setlabel({bad}): FATFS: The path name format is invalid"));
    }
    mounts.close(&mut disk).unwrap();
    assert!(contents(&disk.finish()).0.is_empty());
}

/// Lets `fsck.fat` of dosfstools look at what was made, where it is installed.
#[test]
fn fsck_finds_nothing_wrong() {
    if std::process::Command::new("fsck.fat").arg("--help").output().is_err() {
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: fsck.fat (dosfstools) is not installed\n"),
        ));
        return;
    }
    for size in [200, 4153, 66_600] {
        let (mut disk, mut mounts) = made(size);
        mounts.mkdir(&mut disk, 0, "A folder").unwrap();
        mounts.mkdir(&mut disk, 0, "other").unwrap();
        write(&mut mounts, &mut disk, 0, "A folder/some long file name.bin", &[1; 5000]);
        mounts.rename(&mut disk, 0, "A folder", "other/moved", false).unwrap();
        mounts.copy(&mut disk, 0, "other/moved/some long file name.bin", 0, "copy").unwrap();
        mounts.remove(&mut disk, 0, "other/moved/some long file name.bin", true).unwrap();
        mounts.close(&mut disk).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, disk.finish()).unwrap();
        let output = std::process::Command::new("fsck.fat").args(["-n", "-v"]).arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{size}: {text}");
        assert!(!text.contains("differ") && !text.contains("wrong"), "{size}: {text}");
    }
}

#[test]
fn data_begin_where_the_layout_says() {
    let (mut disk, mut mounts) = made(4153);
    write(&mut mounts, &mut disk, 0, "file", b"here");
    mounts.close(&mut disk).unwrap();
    assert_eq!(&disk.finish()[DATA..DATA + 4], b"here");
}
