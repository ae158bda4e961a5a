//! Downloads on disk.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nerves_hub_link_platform::limits::{MANIFEST_MAX, OPEN_PARTS_MAX, SPACE_CHECK_EVERY, STORE_NAME_MAX};
use nerves_hub_link_platform::store::{DownloadStore, Reserve, Space, StoreError, StoreRequest, StoredFile};
use tempfile::TempDir;

struct Bench {
    dir: TempDir,
    store: DownloadStore,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = DownloadStore::new(dir.path().join("a/downloads"));
        Self { dir, store }
    }

    fn open(&mut self, request: &StoreRequest) -> StoredFile {
        self.store.open(request).unwrap()
    }

    fn fails(&mut self, request: &StoreRequest) -> String {
        self.store.open(request).unwrap_err().to_string()
    }

    fn path(&self, below: &str) -> PathBuf {
        self.store.dir().join(below)
    }
}

fn request() -> StoreRequest {
    StoreRequest::new("uuid_1", "size=10 parts=3x4").size(10).parts(4, 3)
}

fn all(file: &mut StoredFile, size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 3];
    while (bytes.len() as u64) < size {
        let count = file.read(bytes.len() as u64, &mut buffer).unwrap();
        assert!(count > 0, "{bytes:?}");
        bytes.extend_from_slice(&buffer[..count]);
    }
    bytes
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn bytes_go_into_parts_and_are_there_after_a_restart() {
    let mut bench = Bench::new();
    let mut file = bench.open(&request());
    assert_eq!(file.lengths(), []);
    for (at, byte) in b"0123456789".iter().enumerate() {
        file.write(at as u64, &[*byte]).unwrap();
    }
    for part in 0..3 {
        file.commit(part).unwrap();
    }
    assert_eq!(all(&mut file, 10), b"0123456789");
    drop(file);
    assert_eq!(names(&bench.path("uuid_1")), ["manifest", "part-00000", "part-00001", "part-00002"]);
    let mut file = bench.open(&request());
    assert_eq!(file.lengths(), [(0, 4), (1, 4), (2, 2)]);
    assert_eq!(all(&mut file, 10), b"0123456789");
    assert_eq!(file.read(10, &mut [0; 4]).unwrap(), 0, "the end");
    let mode = |name: &str| fs::metadata(bench.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("uuid_1"), mode("uuid_1/part-00000")), (0o700, 0o700, 0o600));
}

#[test]
fn a_part_begins_anew_goes_on_or_is_refused() {
    let mut bench = Bench::new();
    let mut file = bench.open(&request());
    file.write(0, b"abcdef").unwrap();
    file.write(4, b"X").unwrap();
    drop(file);
    let mut file = bench.open(&request());
    assert_eq!(file.lengths(), [(0, 4), (1, 1)]);
    // What was there beyond is cut off.
    file.write(2, b"yz12").unwrap();
    assert_eq!(all(&mut file, 6), b"abyz12");
    let error = file.write(9, b"!").unwrap_err();
    assert!(matches!(error, StoreError::Length { length: 0, wanted: 1, .. }), "{error}");
    file.drop_part(0).unwrap();
    file.drop_part(0).unwrap();
    assert!(file.read(0, &mut [0; 4]).unwrap_err().to_string().contains("part-00000"));
}

#[test]
fn more_parts_than_are_held_open_can_be_written_in_turns() {
    let mut bench = Bench::new();
    let parts = u32::try_from(OPEN_PARTS_MAX).unwrap() + 1;
    let mut file = bench.open(&StoreRequest::new("x", "m").parts(4, parts));
    for byte in 0..4 {
        for part in 0..parts {
            file.write(u64::from(part) * 4 + byte, b"a").unwrap();
        }
    }
    for part in 0..parts {
        file.commit(part).unwrap();
    }
    assert_eq!(all(&mut file, u64::from(parts) * 4).len(), 4 * parts as usize);
}

#[test]
fn other_downloads_go_and_what_is_not_ours_stays() {
    let mut bench = Bench::new();
    bench.open(&StoreRequest::new("old", "m")).write(0, b"x").unwrap();
    fs::create_dir_all(bench.path("photos/2026")).unwrap();
    fs::create_dir(bench.path("old.new")).unwrap();
    fs::write(bench.path("notes.txt"), "mine").unwrap();
    fs::write(bench.path("photos/manifest"), "of another program\n").unwrap();
    symlink(bench.path("photos"), bench.path("link")).unwrap();
    bench.open(&request());
    assert_eq!(names(bench.store.dir()), ["link", "notes.txt", "photos", "uuid_1"]);
    assert_eq!(names(&bench.path("photos")), ["2026", "manifest"]);
}

#[test]
fn another_manifest_begins_anew_and_foreign_entries_are_removed() {
    let mut bench = Bench::new();
    bench.open(&request()).write(0, b"0123456789").unwrap();
    for name in ["part-00003", "part-1", "part-000001", "part-x", "other"] {
        fs::write(bench.path("uuid_1").join(name), "x").unwrap();
    }
    fs::create_dir(bench.path("uuid_1/folder")).unwrap();
    fs::remove_file(bench.path("uuid_1/part-00001")).unwrap();
    let elsewhere = bench.dir.path().join("precious");
    fs::write(&elsewhere, "precious").unwrap();
    symlink(&elsewhere, bench.path("uuid_1/part-00001")).unwrap();
    assert_eq!(bench.open(&request()).lengths(), [(0, 4), (2, 2)]);
    assert_eq!(names(&bench.path("uuid_1")), ["manifest", "part-00000", "part-00002"]);
    assert_eq!(fs::read(elsewhere).unwrap(), b"precious");
    let mut other = request();
    other.manifest.push('!');
    assert_eq!(bench.open(&other).lengths(), []);
    // A manifest that was damaged, or is longer than ours ever are, is none: begun anew too.
    let length = usize::try_from(MANIFEST_MAX).unwrap();
    for damaged in [String::new(), "x".repeat(length + 1)] {
        bench.open(&other).write(0, b"0123").unwrap();
        fs::write(bench.path("uuid_1/manifest"), damaged).unwrap();
        assert_eq!(bench.open(&other).lengths(), []);
    }
}

#[test]
fn names_lead_nowhere_else() {
    let mut bench = Bench::new();
    let long = "x".repeat(STORE_NAME_MAX);
    bench.open(&StoreRequest::new(&long, "m"));
    for name in ["", ".", "..", "../x", "/etc", "a/b", "a.b", "a\0b", "ä", &format!("{long}x")] {
        assert!(bench.fails(&StoreRequest::new(name, "m")).contains("is no name for a download"), "{name}");
    }
}

fn fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn what_has_the_name_of_a_download_is_set_aside_and_the_download_starts_over() {
    type Damage = fn(&Path);
    let damage: [(&str, Damage); 8] = [
        ("a file", |path| fs::write(path, "a file").unwrap()),
        ("a pipe", |path| fifo(path)),
        ("a link to a folder", |path| {
            let elsewhere = path.with_file_name("elsewhere");
            fs::create_dir(&elsewhere).unwrap();
            symlink(elsewhere, path).unwrap();
        }),
        ("a link to nothing", |path| symlink("/nowhere", path).unwrap()),
        ("a link to itself", |path| symlink(path, path).unwrap()),
        ("a folder of others", |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("photo"), "whose?").unwrap();
        }),
        ("a foreign manifest", |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("manifest"), "of another program").unwrap();
            fs::create_dir(path.join("photos")).unwrap();
        }),
        ("a device", |path| symlink("/dev/null", path).unwrap()),
    ];
    for (name, damage) in damage {
        for place in ["uuid_1", "uuid_1.new"] {
            let mut bench = Bench::new();
            fs::create_dir_all(bench.path("")).unwrap();
            damage(&bench.path(place));
            let before = fs::symlink_metadata(bench.path(place)).unwrap().file_type();
            let mut file = bench.open(&request());
            file.write(0, b"0123456789").unwrap();
            assert_eq!(all(&mut file, 10), b"0123456789", "{name} as {place}");
            let aside = bench.path(&format!("{place}.damaged"));
            assert_eq!(fs::symlink_metadata(&aside).unwrap().file_type(), before, "{name} as {place}");
            drop(file);
            // What was set aside is not in the way of the next one.
            assert_eq!(bench.open(&request()).lengths(), [(0, 4), (1, 4), (2, 2)], "{name} as {place}");
            assert!(fs::symlink_metadata(&aside).is_ok(), "{name} as {place}");
        }
    }
}

#[test]
fn a_damaged_manifest_or_part_costs_what_it_held() {
    type Damage = fn(&Path);
    let manifest: [(&str, Damage); 6] = [
        ("garbage", |path| fs::write(path, b"\xff\0").unwrap()),
        ("empty", |path| fs::write(path, "").unwrap()),
        ("a pipe", |path| fifo(path)),
        ("a link to nothing", |path| symlink("/nowhere", path).unwrap()),
        ("a link to itself", |path| symlink(path, path).unwrap()),
        ("an endless device", |path| symlink("/dev/zero", path).unwrap()),
    ];
    for (name, damage) in manifest {
        let mut bench = Bench::new();
        bench.open(&request()).write(0, b"0123456789").unwrap();
        fs::remove_file(bench.path("uuid_1/manifest")).unwrap();
        damage(&bench.path("uuid_1/manifest"));
        assert_eq!(bench.open(&request()).lengths(), [], "manifest: {name}");
    }
    // A part that is something else is deleted, and what it leads to stays.
    let part: [(&str, Damage); 4] = [
        ("a folder", |path| fs::create_dir_all(path.join("deep/er")).unwrap()),
        ("a pipe", |path| fifo(path)),
        ("a link to nothing", |path| symlink("/nowhere", path).unwrap()),
        ("a device", |path| symlink("/dev/null", path).unwrap()),
    ];
    for (name, damage) in part {
        let mut bench = Bench::new();
        bench.open(&request()).write(0, b"0123456789").unwrap();
        fs::remove_file(bench.path("uuid_1/part-00001")).unwrap();
        damage(&bench.path("uuid_1/part-00001"));
        let mut file = bench.open(&request());
        assert_eq!(file.lengths(), [(0, 4), (2, 2)], "part: {name}");
        file.write(4, b"4567").unwrap();
        assert_eq!(all(&mut file, 10), b"0123456789", "part: {name}");
    }
}

#[test]
fn other_downloads_that_are_damaged_are_in_nobodys_way() {
    let mut bench = Bench::new();
    bench.open(&request()).write(0, b"0123456789").unwrap();
    for name in ["pipe", "zero", "loop"] {
        fs::create_dir(bench.path(name)).unwrap();
    }
    fifo(&bench.path("pipe/manifest"));
    symlink("/dev/zero", bench.path("zero/manifest")).unwrap();
    symlink("manifest", bench.path("loop/manifest")).unwrap();
    assert_eq!(bench.open(&request()).lengths().len(), 3);
}

#[test]
fn a_folder_for_downloads_that_is_none_is_named_and_works_once_it_is_gone() {
    type Damage = fn(&Path);
    let damage: [(Damage, &str); 4] = [
        (|path| fs::write(path, "").unwrap(), "no folder"),
        (|path| fifo(path), "no folder"),
        (|path| symlink("/nowhere/at/all", path).unwrap(), "leads to no folder"),
        (|path| symlink(path, path).unwrap(), "leads to no folder"),
    ];
    for (damage, words) in damage {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("downloads");
        damage(&path);
        let mut store = DownloadStore::new(&path);
        for error in [store.check().unwrap_err(), store.open(&request()).unwrap_err()] {
            assert!(error.to_string().contains(words), "{error}");
        }
        fs::remove_file(&path).unwrap();
        store.check().unwrap();
        store.open(&request()).unwrap();
    }
}

#[test]
fn a_folder_in_place_of_a_finished_file_is_set_aside() {
    let mut bench = Bench::new();
    let mut file = bench.open(&StoreRequest::new("uuid_1", "m"));
    file.write(0, b"abc").unwrap();
    fs::create_dir_all(bench.path("uuid_1.fw/photos")).unwrap();
    let kept = file.keep_as("fw").unwrap().path;
    assert_eq!(fs::read(kept).unwrap(), b"abc");
    assert!(bench.path("uuid_1.fw.damaged/photos").exists());
}

#[test]
fn a_byte_beyond_the_last_part_is_refused() {
    let mut bench = Bench::new();
    let mut file = bench.open(&StoreRequest::new("x", "m").parts(1, u32::MAX));
    let beyond = u64::from(u32::MAX) + 1;
    assert!(matches!(file.write(beyond, b"a"), Err(StoreError::Offset { offset, .. }) if offset == beyond));
    assert!(matches!(file.read(beyond, &mut [0]), Err(StoreError::Offset { .. })));
}

/// A file system of a few KiB, if this user can mount one. Dropping it unmounts it.
struct Mounted(TempDir);

impl Mounted {
    fn new(options: &str) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            let text = format_args!("SKIPPED: this user cannot mount a tmpfs\n");
            drop(std::io::Write::write_fmt(&mut std::io::stderr(), text));
        }
        mounted.then_some(Self(dir))
    }

    fn remount(&self, options: &str) {
        let mut command = std::process::Command::new("mount");
        command.args(["-o", &format!("remount,{options}")]).arg(self.0.path());
        assert!(command.status().unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_or_read_only_disk_is_named_and_works_once_there_is_space() {
    let Some(mounted) = Mounted::new("size=64k") else { return };
    let path = mounted.0.path().join("downloads");
    let mut store = DownloadStore::new(&path);
    let unsized_request = StoreRequest::new("uuid_1", "m");
    let ballast = mounted.0.path().join("ballast");
    store.check().unwrap();
    let mut file = fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    drop(file);
    assert!(matches!(store.check(), Err(StoreError::NoSpace { available: 0, .. })));
    assert!(store.open(&unsized_request).is_err());
    fs::remove_file(&ballast).unwrap();
    store.check().unwrap();
    let mut file = store.open(&unsized_request).unwrap();
    // It fills up while a download is written: what was committed stays.
    file.write(0, &[7; 4096]).unwrap();
    file.commit(0).unwrap();
    let error = file.write(4096, &vec![7; 65536]).unwrap_err();
    assert!(error.is_full(), "{error}");
    drop(file);
    mounted.remount("ro");
    assert!(store.check().unwrap_err().to_string().contains("Read-only"));
    assert!(store.open(&request()).is_err());
    mounted.remount("rw,size=256k");
    store.check().unwrap();
    assert!(store.open(&unsized_request).unwrap().lengths()[0].1 >= 4096);
}

#[test]
fn a_disk_that_is_too_full_is_said_before_anything_is_fetched() {
    let mut bench = Bench::new();
    let huge = StoreRequest::new("uuid_1", "m").size(u64::MAX);
    let error = bench.store.open(&huge).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { needed: u64::MAX, .. }), "{error}");
    assert!(error.to_string().contains("bytes left"), "{error}");
    // What is there already needs no space.
    bench.open(&StoreRequest::new("uuid_1", "m")).write(0, b"abc").unwrap();
    let StoreError::NoSpace { needed, .. } = bench.store.open(&huge).unwrap_err() else { panic!() };
    assert_eq!(needed, u64::MAX - 3);
    bench.open(&StoreRequest::new("uuid_1", "m").size(1000));
}

/// A folder on a partition of 1000 bytes, of which what is in the folder is taken, and `taken` beside it.
fn small(dir: &Path, taken: &Arc<AtomicU64>) -> DownloadStore {
    let taken = Arc::clone(taken);
    let size = |path: &Path| -> u64 {
        let mut sum = 0;
        for entry in fs::read_dir(path).unwrap().flatten() {
            let inside = entry.path().join("part-00000");
            sum += fs::metadata(inside).map_or(0, |found| found.len());
        }
        sum
    };
    DownloadStore::new(dir).reserve(Reserve::Bytes(100)).ask_for_space(move |path| {
        let left = 1000_u64.saturating_sub(size(path) + taken.load(Ordering::SeqCst));
        Ok(Space { total: 1000, available: left })
    })
}

#[test]
fn a_reserve_stays_free_at_it_and_one_past() {
    let dir = TempDir::new().unwrap();
    let taken = Arc::default();
    let mut store = small(dir.path(), &taken);
    store.check().unwrap();
    store.open(&StoreRequest::new("uuid_1", "m").size(900)).unwrap().write(0, &[7; 900]).unwrap();
    // Nothing is missing, so nothing is needed.
    store.open(&StoreRequest::new("uuid_1", "m").size(900)).unwrap();
    let error = store.open(&StoreRequest::new("uuid_1", "m").size(901)).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { needed: 1, available: 100, reserve: 100, .. }), "{error}");
    assert!(error.is_full() && error.to_string().contains("of which 100 stay free"), "{error}");
    assert_eq!(names(dir.path()), [] as [&str; 0], "what can't be completed takes no space");
    // Of unknown size: asked for while it is written.
    let mut file = store.open(&StoreRequest::new("uuid_1", "m")).unwrap();
    let error = file.write(0, &[7; 901]).unwrap_err();
    assert!(
        matches!(error, StoreError::NoSpace { needed: 901, available: 1000, reserve: 100, .. }),
        "{error}"
    );
    file.write(0, &[7; 900]).unwrap();
    file.clear().unwrap();
    // Somebody else fills it.
    taken.store(900, Ordering::SeqCst);
    assert!(store.check().unwrap_err().is_full());
    assert!(store.open(&StoreRequest::new("uuid_1", "m")).unwrap_err().is_full());
    assert_eq!(names(dir.path()), [] as [&str; 0]);
    taken.store(899, Ordering::SeqCst);
    store.check().unwrap();
}

#[test]
fn space_is_asked_for_again_as_others_write_too() {
    let dir = TempDir::new().unwrap();
    let left = Arc::new(AtomicU64::new(u64::MAX));
    let shared = Arc::clone(&left);
    let mut store = DownloadStore::new(dir.path())
        .ask_for_space(move |_| Ok(Space { total: 0, available: shared.load(Ordering::SeqCst) }));
    let piece = vec![7; 64 * 1024];
    let mut file = store.open(&StoreRequest::new("uuid_1", "m")).unwrap();
    file.write(0, &piece).unwrap();
    left.store(0, Ordering::SeqCst);
    let mut at = piece.len() as u64;
    let error = loop {
        assert!(at <= SPACE_CHECK_EVERY + 2 * piece.len() as u64, "the space is asked for every MiB");
        match file.write(at, &piece) {
            Ok(()) => at += piece.len() as u64,
            Err(error) => break error,
        }
    };
    assert!(error.is_full(), "{error}");
}

#[test]
fn what_fills_the_partition_is_deleted_by_a_check() {
    let dir = TempDir::new().unwrap();
    let taken = Arc::default();
    small(dir.path(), &taken).open(&StoreRequest::new("uuid_1", "m")).unwrap().write(0, &[7; 900]).unwrap();
    fs::write(dir.path().join("photo"), "whose?").unwrap();
    taken.store(50, Ordering::SeqCst);
    let mut store = small(dir.path(), &taken);
    // Not what is being received, by another program for example.
    let complete = StoreRequest::new("uuid_1", "m").size(900);
    let held = small(dir.path(), &Arc::default()).open(&complete).unwrap();
    assert!(store.check().unwrap_err().is_full());
    assert_eq!(names(dir.path()), ["photo", "uuid_1"]);
    drop(held);
    store.check().unwrap();
    assert_eq!(names(dir.path()), ["photo"]);
    store.open(&StoreRequest::new("uuid_1", "m")).unwrap();
}

#[test]
fn the_oldest_of_what_is_kept_goes_and_never_the_newest() {
    let dir = TempDir::new().unwrap();
    let mut store = DownloadStore::new(dir.path()).keep_at_most(3, 100);
    let strangers = ["own.fw", "my archive_1.fw", "uuid_1.txt"];
    for name in strangers {
        fs::write(dir.path().join(name), vec![0; 1000]).unwrap();
    }
    fs::create_dir(dir.path().join("folder_1.fw")).unwrap();
    let mut keep = |name: &str, size: usize, age: u64| {
        let mut file = store.open(&StoreRequest::new(name, "m")).unwrap();
        file.write(0, &vec![7; size]).unwrap();
        let part = fs::File::options().write(true).open(file.path(0)).unwrap();
        part.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age)).unwrap();
        let kept = file.keep_as("fw").unwrap();
        assert_eq!(kept.path, dir.path().join(format!("{name}.fw")));
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        kept.dropped.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(keep("a_1", 30, 5), [] as [&str; 0]);
    assert_eq!(keep("b_1", 30, 4), [] as [&str; 0]);
    assert_eq!(keep("c_1", 40, 6), [] as [&str; 0], "three files of 100 bytes: at the limit");
    assert_eq!(keep("d_1", 1, 1), ["b_1.fw"], "one file more, and a byte; the newest looks oldest and stays");
    assert_eq!(keep("a_1", 60, 7), ["d_1.fw"], "the same archive again, larger: 101 bytes");
    assert_eq!(keep("e_1", 500, 2), ["c_1.fw", "a_1.fw"], "larger than all may be together");
    for name in strangers.iter().chain(&["folder_1.fw", "e_1.fw"]) {
        assert!(dir.path().join(name).exists(), "{name}");
    }
}

#[test]
fn one_program_at_a_time() {
    let mut bench = Bench::new();
    let file = bench.open(&request());
    let mut other = DownloadStore::new(bench.store.dir());
    assert!(matches!(other.open(&request()).unwrap_err(), StoreError::Busy { .. }));
    drop(file);
    other.open(&request()).unwrap();
}

#[test]
fn a_download_is_cleared_or_kept_under_its_own_name() {
    let mut bench = Bench::new();
    let whole = StoreRequest::new("uuid_1", "m");
    let mut file = bench.open(&whole);
    file.write(0, b"abc").unwrap();
    file.clear().unwrap();
    assert_eq!(names(bench.store.dir()), Vec::<String>::new());
    for round in [b"abc", b"def"] {
        let mut file = bench.open(&whole);
        assert_eq!(file.lengths(), []);
        file.write(0, round).unwrap();
        let path = file.keep_as("fw").unwrap().path;
        assert_eq!(path, bench.path("uuid_1.fw"));
        assert_eq!(fs::read(&path).unwrap(), round);
        assert_eq!(names(bench.store.dir()), ["uuid_1.fw"]);
    }
}

/// A program that is being started has a copy of every descriptor, and so of the lock, for a moment.
#[test]
fn a_folder_that_is_locked_for_a_moment_is_waited_for() {
    for _ in 0..20 {
        let mut bench = Bench::new();
        let held = bench.open(&request());
        let (opening, opens) = std::sync::mpsc::channel();
        let holder = std::thread::spawn(move || {
            opens.recv().unwrap();
            drop(held);
        });
        opening.send(()).unwrap();
        bench.open(&request());
        holder.join().unwrap();
    }
}
