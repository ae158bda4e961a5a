//! Downloads on disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nerves_hub_link_platform::limits::{MANIFEST_MAX, OPEN_PARTS_MAX, STORE_NAME_MAX};
use nerves_hub_link_platform::store::{DownloadStore, StoreError, StoreRequest, StoredFile};
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

#[test]
fn what_is_in_the_way_is_named_and_not_touched() {
    let mut bench = Bench::new();
    bench.open(&request());
    fs::remove_dir_all(bench.path("uuid_1")).unwrap();
    fs::write(bench.path("uuid_1"), "a file").unwrap();
    assert!(bench.fails(&request()).contains("uuid_1 is in the way"));
    fs::remove_file(bench.path("uuid_1")).unwrap();
    let elsewhere = bench.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, bench.path("uuid_1")).unwrap();
    assert!(bench.fails(&request()).contains("uuid_1 is in the way"));
    fs::remove_file(bench.path("uuid_1")).unwrap();
    fs::create_dir(bench.path("uuid_1")).unwrap();
    fs::write(bench.path("uuid_1/photo"), "whose?").unwrap();
    assert!(bench.fails(&request()).contains("uuid_1 is in the way"));
    assert!(bench.path("uuid_1/photo").exists());
    let file = bench.dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = DownloadStore::new(&file).open(&request()).unwrap_err().to_string();
    assert!(error.contains("cannot create") && error.contains("file"), "{error}");
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
        let path = file.keep_as("fw").unwrap();
        assert_eq!(path, bench.path("uuid_1.fw"));
        assert_eq!(fs::read(&path).unwrap(), round);
        assert_eq!(names(bench.store.dir()), ["uuid_1.fw"]);
    }
}
