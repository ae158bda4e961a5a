//! Received files stay in their folder and are whole or not there.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use nerves_hub_link_platform::files::{FileError, Inbox, Outgoing};
use nerves_hub_link_platform::limits::FILE_NAME_MAX;
use tempfile::TempDir;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_appears_when_it_is_complete() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("data/nerves-hub");
    let mut inbox = Inbox::open(&path).unwrap();
    fs::write(path.join("hello.bin"), "old").unwrap();
    let mut file = inbox.begin("hello.bin").unwrap();
    file.write(b"ne").unwrap();
    assert_eq!(fs::read(path.join("hello.bin")).unwrap(), b"old");
    file.write(b"w").unwrap();
    assert_eq!(file.finish().unwrap(), path.join("hello.bin"));
    assert_eq!(fs::read(path.join("hello.bin")).unwrap(), b"new");
    assert_eq!(names(&path), ["hello.bin"]);
}

#[test]
fn an_unfinished_file_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let mut inbox = Inbox::open(dir.path()).unwrap();
    let (mut one, two) = (inbox.begin("a").unwrap(), inbox.begin("a").unwrap());
    one.write(b"x").unwrap();
    assert_eq!(names(dir.path()).len(), 2);
    drop((one, two));
    assert_eq!(names(dir.path()), [""; 0]);
    // Nor does one that the power took, once the device runs again.
    std::mem::forget(inbox.begin("a").unwrap());
    fs::write(dir.path().join("kept"), "x").unwrap();
    assert_eq!(names(dir.path()).len(), 2);
    Inbox::open(dir.path()).unwrap();
    assert_eq!(names(dir.path()), ["kept"]);
}

#[test]
fn only_plain_names_are_taken() {
    let dir = TempDir::new().unwrap();
    let mut inbox = Inbox::open(dir.path().join("inbox")).unwrap();
    let long = "n".repeat(FILE_NAME_MAX);
    for good in ["a", ".profile", "größe", "with space", &long] {
        inbox.begin(good).unwrap().finish().unwrap();
    }
    let longer = "n".repeat(FILE_NAME_MAX + 1);
    let reserved = ".nerves-hub-link-receiving-1-1";
    for bad in ["", ".", "..", "/", "/etc/passwd", "../x", "a/b", "a/", "./a", "a\0b", &longer, reserved] {
        assert!(matches!(inbox.begin(bad), Err(FileError::Name(_))), "{bad:?}");
    }
    assert_eq!(names(dir.path()), ["inbox"]);
}

#[test]
fn links_are_replaced_and_not_followed() {
    let dir = TempDir::new().unwrap();
    let outside = dir.path().join("outside");
    fs::write(&outside, "untouched").unwrap();
    let path = dir.path().join("inbox");
    let mut inbox = Inbox::open(&path).unwrap();
    symlink(&outside, path.join("link")).unwrap();
    let mut file = inbox.begin("link").unwrap();
    file.write(b"new").unwrap();
    file.finish().unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"untouched");
    assert!(fs::symlink_metadata(path.join("link")).unwrap().is_file());
}

#[test]
fn a_folder_in_the_way_is_told_and_kept() {
    let dir = TempDir::new().unwrap();
    let mut inbox = Inbox::open(dir.path()).unwrap();
    fs::create_dir_all(dir.path().join("logs/old")).unwrap();
    let error = inbox.begin("logs").unwrap().finish().unwrap_err();
    assert!(error.to_string().contains("logs"), "{error}");
    assert_eq!(names(dir.path()), ["logs"]);
    assert!(dir.path().join("logs/old").is_dir());
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let error = Inbox::open(dir.path().join("file/inbox")).unwrap_err();
    assert!(error.to_string().contains("file/inbox"), "{error}");
}

#[test]
fn files_are_sent_by_their_name_and_in_exact_pieces() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("report.txt");
    fs::write(&path, "0123456789").unwrap();
    let mut file = Outgoing::open(&path).unwrap();
    assert_eq!((file.name(), file.size()), ("report.txt", 10));
    assert_eq!(file.read(4).unwrap(), b"0123");
    assert_eq!(file.read(6).unwrap(), b"456789");
    // One that shrinks is noticed.
    let mut file = Outgoing::open(&path).unwrap();
    fs::write(&path, "012").unwrap();
    assert!(file.read(10).unwrap_err().to_string().contains("report.txt"));
}

#[test]
fn what_is_no_file_is_not_sent() {
    let dir = TempDir::new().unwrap();
    assert!(matches!(Outgoing::open(dir.path()), Err(FileError::Kind(_))));
    assert!(matches!(Outgoing::open("/dev/zero"), Err(FileError::Kind(_))));
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    assert!(matches!(Outgoing::open(&pipe), Err(FileError::Kind(_))));
    assert!(matches!(Outgoing::open(dir.path().join("missing")), Err(FileError::System { .. })));
    let secret = dir.path().join("secret");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Outgoing::open(&secret).is_ok());
}
