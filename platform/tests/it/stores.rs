//! Stores on disk: what is written is found again, and a crash or a mistake loses nothing.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nerves_hub_link_platform::install::DiskPolicy;
use nerves_hub_link_platform::kv::fw_env_config::{FwEnvConfig, Location};
use nerves_hub_link_platform::kv::{FileStore, KeyValueStore, KvError, Pairs, UbootStore};
use tempfile::TempDir;

const FIRST: u64 = 512;
const SECOND: u64 = 2048;
const SIZE: usize = 1024;

fn pairs(pairs: &[(&str, &str)]) -> Pairs {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn uboot(dir: &TempDir, redundant: bool) -> (std::path::PathBuf, UbootStore) {
    let disk = dir.path().join("disk.img");
    fs::write(&disk, vec![0xAA; 4096]).unwrap();
    // Hexadecimal, which every reader of such files understands.
    let mut config = format!("{} {FIRST:#x} {SIZE:#x}\n", disk.display());
    if redundant {
        config = format!("{config}{} {SECOND:#x} {SIZE:#x}\n", disk.display());
    }
    let path = dir.path().join("fw_env.config");
    fs::write(&path, config).unwrap();
    (disk, UbootStore::new(FwEnvConfig::read(&path).unwrap()))
}

fn damage(disk: &Path, at: u64) {
    let file = OpenOptions::new().write(true).open(disk).unwrap();
    file.write_all_at(b"torn", at + 100).unwrap();
}

#[test]
fn a_plain_environment_keeps_what_is_written_and_touches_nothing_else() {
    let dir = TempDir::new().unwrap();
    let (disk, mut store) = uboot(&dir, false);
    store.format(&pairs(&[("a", "1"), ("b", "2")])).unwrap();
    store.update(&[("a", None), ("b", Some("two\nlines=")), ("c", Some(""))]).unwrap();
    assert_eq!(store.load().unwrap(), pairs(&[("b", "two\nlines="), ("c", "")]));
    let bytes = fs::read(disk).unwrap();
    assert!(bytes[..512].iter().chain(&bytes[512 + SIZE..]).all(|byte| *byte == 0xAA));
}

#[test]
fn a_redundant_environment_alternates_and_survives_a_torn_write() {
    let dir = TempDir::new().unwrap();
    let (disk, mut store) = uboot(&dir, true);
    store.format(&pairs(&[("n", "0")])).unwrap();
    // More writes than the generation byte has values.
    for n in 1..=300 {
        let before = fs::read(&disk).unwrap();
        let new = n.to_string();
        store.put("n", &new).unwrap();
        assert_eq!(store.get("n").unwrap().unwrap(), new);
        let after = fs::read(&disk).unwrap();
        let changed = |at: u64| {
            let range = usize::try_from(at).unwrap()..usize::try_from(at).unwrap() + SIZE;
            before[range.clone()] != after[range]
        };
        assert_eq!((changed(FIRST), changed(SECOND)), (n % 2 == 0, n % 2 == 1), "write {n}");
    }
    // 300 went to the first copy; tearing it brings 299 back, and the next write repairs the first.
    damage(&disk, FIRST);
    assert_eq!(store.get("n").unwrap().unwrap(), "299");
    store.put("n", "301").unwrap();
    damage(&disk, SECOND);
    assert_eq!(store.get("n").unwrap().unwrap(), "301");
}

#[test]
fn formatting_writes_the_copy_in_use_last_and_makes_both_newer() {
    let dir = TempDir::new().unwrap();
    let (disk, mut store) = uboot(&dir, true);
    store.format(&pairs(&[("n", "0")])).unwrap();
    let generations = || [FIRST, SECOND].map(|at| fs::read(&disk).unwrap()[usize::try_from(at).unwrap() + 4]);
    assert_eq!(generations(), [1, 1]);
    for n in 1..=5 {
        store.put("n", &n.to_string()).unwrap();
    }
    store.format(&pairs(&[("n", "formatted")])).unwrap();
    assert_eq!(generations(), [7, 7]);
    for copy in [FIRST, SECOND] {
        damage(&disk, copy);
        assert_eq!(store.load().unwrap(), pairs(&[("n", "formatted")]));
        store.format(&pairs(&[("n", "formatted")])).unwrap();
    }
    // A second copy that takes nothing: the first, which is in use, must not have been touched by then.
    let config = format!("{} {FIRST:#x} {SIZE:#x}\n/dev/full 0 {SIZE:#x}", disk.display());
    let mut store = UbootStore::new(FwEnvConfig::parse(&config).unwrap());
    store.format(&pairs(&[("n", "again")])).unwrap_err();
    assert_eq!(store.load().unwrap(), pairs(&[("n", "formatted")]));
}

#[test]
fn formatting_waits_for_an_update_too() {
    let dir = TempDir::new().unwrap();
    let (disk, mut store) = uboot(&dir, false);
    let holder = DiskPolicy::new(&disk).open().unwrap();
    assert!(matches!(store.format(&pairs(&[("a", "1")])), Err(KvError::Busy { .. })));
    drop(holder);
    store.format(&pairs(&[("a", "1")])).unwrap();
}

#[test]
fn a_lost_environment_is_named_and_never_overwritten_by_a_change() {
    let dir = TempDir::new().unwrap();
    for redundant in [false, true] {
        let (disk, mut store) = uboot(&dir, redundant);
        let before = fs::read(&disk).unwrap();
        for error in [store.load().unwrap_err(), store.put("a", "1").unwrap_err()] {
            let text = error.to_string();
            assert!(matches!(error, KvError::NoEnvironment { .. }), "{text}");
            assert!(
                text.contains("disk.img at 0x200, 0x400 bytes: CRC32 mismatch (stored 0xaaaaaaaa"),
                "{text}"
            );
            assert_eq!(text.contains("at 0x800"), redundant, "{text}");
        }
        assert_eq!(fs::read(&disk).unwrap(), before);
    }
}

#[test]
fn an_environment_that_is_too_small_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let (disk, mut store) = uboot(&dir, true);
    store.format(&pairs(&[("a", "1")])).unwrap();
    let before = fs::read(&disk).unwrap();
    let error = store.update(&[("a", Some("2")), ("x", Some(&"v".repeat(SIZE)))]).unwrap_err().to_string();
    assert!(error.starts_with("environment too small: "), "{error}");
    assert_eq!(fs::read(&disk).unwrap(), before);
}

#[test]
fn a_missing_disk_is_an_error_and_is_not_created() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("nothing");
    let config = FwEnvConfig::parse(&format!("{} 0 1024", path.display())).unwrap();
    let mut store = UbootStore::new(config);
    assert!(store.load().unwrap_err().to_string().contains("nothing"));
    assert!(store.put("a", "1").is_err());
    assert!(!path.exists());
}

#[test]
fn a_disk_that_an_update_holds_is_busy_not_overwritten() {
    let dir = TempDir::new().unwrap();
    let (disk, mut store) = uboot(&dir, true);
    store.format(&pairs(&[("a", "1")])).unwrap();
    let holder = DiskPolicy::new(&disk).open().unwrap();
    let error = store.put("a", "2").unwrap_err();
    assert!(matches!(error, KvError::Busy { .. }) && error.is_retryable());
    assert_eq!(store.get("a").unwrap().unwrap(), "1", "reading is always possible");
    drop(holder);
    store.put("a", "2").unwrap();
}

/// Everybody who can read a disk can lock it for ever.
#[test]
fn a_reader_that_locks_the_disk_prevents_no_change_of_the_environment() {
    let dir = TempDir::new().unwrap();
    for redundant in [false, true] {
        let (disk, mut store) = uboot(&dir, redundant);
        let reader = fs::File::open(&disk).unwrap();
        rustix::fs::flock(&reader, rustix::fs::FlockOperation::LockShared).unwrap();
        match store.format(&pairs(&[("a", "1")])) {
            Err(KvError::Busy { .. }) if !std::path::Path::new("/run/nerves-hub-link-lock").exists() => {
                return println!("SKIPPED: this user has no folder in /run");
            }
            done => done.unwrap(),
        }
        store.put("a", "2").unwrap();
        drop(reader);
        let other = fs::File::open(&disk).unwrap();
        rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
        store.put("a", "3").unwrap();
        assert_eq!(store.get("a").unwrap().unwrap(), "3");
    }
}

/// The boot loader's own tools must read what is written here, and the other way round.
#[test]
fn uboot_tools_agree() {
    let dir = TempDir::new().unwrap();
    for redundant in [false, true] {
        let (disk, mut store) = uboot(&dir, redundant);
        let config = dir.path().join("fw_env.config");
        let tool = |name: &str, arguments: &[&str]| {
            let mut command = Command::new(name);
            command.arg("-c").arg(&config).args(arguments);
            command.output().ok().filter(|output| output.status.success())
        };
        store.format(&pairs(&[("nerves_fw_active", "a"), ("x", "y=z")])).unwrap();
        let Some(printed) = tool("fw_printenv", &[]) else {
            drop(std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("SKIPPED: fw_printenv (Debian: libubootenv-tool) is not here or failed\n"),
            ));
            return;
        };
        let printed = String::from_utf8(printed.stdout).unwrap();
        assert!(printed.contains("nerves_fw_active=a\n") && printed.contains("x=y=z\n"), "{printed}");
        tool("fw_setenv", &["nerves_fw_active", "b"]).expect("fw_setenv");
        assert_eq!(store.get("nerves_fw_active").unwrap().unwrap(), "b", "redundant: {redundant}");
        store.put("later", "1").unwrap();
        assert_eq!(store.load().unwrap(), pairs(&[("later", "1"), ("nerves_fw_active", "b"), ("x", "y=z")]));
        drop(disk);
    }
}

#[test]
fn a_file_keeps_comments_quotes_and_order() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store");
    fs::write(&path, "# who\nb = two words \n\na=\"quoted = \"\nnonsense\n").unwrap();
    let mut store = FileStore::new(&path);
    assert_eq!(store.load().unwrap(), pairs(&[("a", "quoted = "), ("b", "two words")]));
    store.update(&[("b", None), ("c", Some(" x ")), ("d", Some("\"q\""))]).unwrap();
    assert_eq!(store.load().unwrap(), pairs(&[("a", "quoted = "), ("c", " x "), ("d", "\"q\"")]));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, "# who\n\na=\"quoted = \"\nnonsense\nc=\" x \"\nd=\"\"q\"\"\n");
}

#[test]
fn a_new_file_is_private_and_an_old_one_keeps_its_mode() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store");
    let mut store = FileStore::new(&path);
    assert_eq!(store.load().unwrap(), Pairs::new(), "a missing file is empty");
    store.put("secret", "1").unwrap();
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    store.put("secret", "2").unwrap();
    assert_eq!(mode(), 0o640);
}

#[test]
fn a_link_to_the_file_stays_a_link() {
    let dir = TempDir::new().unwrap();
    let (data, link, second) = (dir.path().join("data"), dir.path().join("link"), dir.path().join("second"));
    std::fs::create_dir(&data).unwrap();
    std::os::unix::fs::symlink("data/state", &link).unwrap();
    std::os::unix::fs::symlink(&link, &second).unwrap();
    // The file need not be there yet.
    FileStore::new(&second).put("a", "1").unwrap();
    FileStore::new(&link).put("b", "2").unwrap();
    assert_eq!(std::fs::read_to_string(data.join("state")).unwrap(), "a=1\nb=2\n");
    assert!(link.is_symlink() && second.is_symlink());
    // Its partition is not mounted: nothing takes the link's place.
    std::fs::remove_dir_all(&data).unwrap();
    let error = FileStore::new(&link).put("a", "2").unwrap_err().to_string();
    assert!(error.contains("data/state"), "{error}");
    assert!(link.is_symlink());
}

#[test]
fn a_medium_that_ends_before_the_environment_is_named() {
    let dir = TempDir::new().unwrap();
    let disk = dir.path().join("disk");
    for (size, words) in
        [(0, "ends before this place"), (0x2000, "ends before this place"), (0x2010, "ends after 0x10")]
    {
        std::fs::write(&disk, vec![1; size]).unwrap();
        let at = Location { path: disk.clone(), offset: 0x2000, size: 0x2000 };
        let store = UbootStore::new(FwEnvConfig::new(at, None).unwrap());
        let error = store.load().unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("CRC32"), "{error}");
    }
}

#[test]
fn what_lines_cannot_hold_is_refused_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store");
    let mut store = FileStore::new(&path);
    store.put("a", "1").unwrap();
    let long = "v".repeat(1024 * 1024 - 4);
    for (key, value) in [("k", "two\nlines"), ("k=", "v"), ("", "v"), ("#k", "v"), (" k", "v"), ("k", &long)]
    {
        assert!(store.update(&[("a", Some("2")), (key, Some(value))]).is_err(), "{key:?}");
        assert_eq!(store.load().unwrap(), pairs(&[("a", "1")]));
    }
    // At the limit: "a=2\n" and "k=" + value + "\n" are 1 MiB together.
    let fits = "v".repeat(1024 * 1024 - 4 - 3);
    store.update(&[("a", Some("2")), ("k", Some(&fits))]).unwrap();
    assert_eq!(store.get("k").unwrap().unwrap(), fits);
    fs::write(&path, vec![b'x'; 1024 * 1024 + 1]).unwrap();
    assert!(matches!(store.load().unwrap_err(), KvError::TooLong { .. }));
}

#[test]
fn a_byte_order_mark_hides_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store");
    fs::write(&file, "\u{feff}first=1\nsecond=2\n").unwrap();
    let mut store = FileStore::new(&file);
    assert_eq!(store.get("first").unwrap().as_deref(), Some("1"));
    store.put("first", "3").unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "second=2\nfirst=3\n");
}

/// A redundant environment whose copies are in files of their own; a missing one is made by the caller.
fn two_files(folder: &Path, failing: [Option<&str>; 2]) -> UbootStore {
    let size = 64;
    let place = |index: usize| {
        let own = folder.join(format!("copy-{index}"));
        let path = failing[index].map_or(own.clone(), PathBuf::from);
        fs::write(&own, vec![0; size]).unwrap();
        Location { path, offset: 0, size }
    };
    UbootStore::new(FwEnvConfig::new(place(0), Some(place(1))).unwrap())
}

#[test]
fn a_copy_that_cannot_be_read_counts_as_one_with_a_bad_checksum() {
    // Reading its first page is an I/O error (EIO), writing it too; a missing device can't be opened.
    for failing in ["/proc/self/mem", "/dev/no-such-device"] {
        for bad in [0, 1] {
            let folder = tempfile::tempdir().unwrap();
            let mut whole = two_files(folder.path(), [None, None]);
            whole.format(&Pairs::from([("a".to_owned(), "1".to_owned())])).unwrap();
            let good = folder.path().join(format!("copy-{}", 1 - bad));
            let before = fs::read(&good).unwrap();
            assert_eq!(whole.damage().unwrap(), None);
            // Not made anew: the good copy stays.
            let place = |path: PathBuf| Location { path, offset: 0, size: 64 };
            let paths = [0, 1].map(|index| if index == bad { failing.into() } else { good.clone() });
            let [first, second] = paths.map(place);
            let mut store = UbootStore::new(FwEnvConfig::new(first, Some(second)).unwrap());
            assert_eq!(store.get("a").unwrap().as_deref(), Some("1"), "{failing} {bad}");
            let damage = store.damage().unwrap().unwrap();
            assert!(damage.contains(failing), "{damage}");
            // The good copy is the only one: it is not written.
            assert!(store.put("a", "2").is_err());
            assert_eq!(fs::read(&good).unwrap(), before);
        }
    }
}

#[test]
fn two_copies_that_cannot_be_read_are_both_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = |path: &str| Location { path: path.into(), offset: 0, size: 64 };
    let config = FwEnvConfig::new(place("/proc/self/mem"), Some(place("/dev/no-such-device"))).unwrap();
    let error = UbootStore::new(config).load().unwrap_err().to_string();
    assert!(error.contains("/proc/self/mem") && error.contains("/dev/no-such-device"), "{error}");
    drop(folder);
}
