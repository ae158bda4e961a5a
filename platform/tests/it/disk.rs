//! Which disks an update may be written to.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use nerves_hub_link_platform::install::{DiskPolicy, DiskRefused};
use tempfile::TempDir;

#[test]
fn an_image_file_is_a_disk_even_behind_a_link() {
    let dir = TempDir::new().unwrap();
    let (disk, link) = (dir.path().join("disk.img"), dir.path().join("link"));
    fs::write(&disk, [0; 512]).unwrap();
    std::os::unix::fs::symlink(&disk, &link).unwrap();
    for path in [&disk, &link] {
        DiskPolicy::new(path).check().unwrap();
        assert_eq!(DiskPolicy::new(path).open().unwrap().metadata().unwrap().len(), 512);
    }
}

#[test]
fn a_missing_disk_is_refused_and_not_created() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("disk.img");
    for error in [DiskPolicy::new(&path).check().unwrap_err(), DiskPolicy::new(&path).open().unwrap_err()] {
        assert!(matches!(error, DiskRefused::Missing { .. }));
        assert!(error.to_string().contains("disk.img does not exist"), "{error}");
    }
    assert!(!path.exists());
}

#[test]
fn what_is_no_disk_is_refused() {
    let dir = TempDir::new().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    for (path, word) in
        [(dir.path(), "a directory"), ("/dev/null".as_ref(), "a character device"), (&pipe, "a pipe")]
    {
        let error = DiskPolicy::new(path).allow_block_device(true).open().unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_block_device_is_refused_unless_allowed_in_as_many_words() {
    // Only looked at, never opened: any block device of this machine will do.
    let is_block =
        |entry: &fs::DirEntry| fs::metadata(entry.path()).is_ok_and(|m| m.file_type().is_block_device());
    let Some(device) = fs::read_dir("/dev").unwrap().flatten().find(is_block) else {
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: this machine has no block device to be refused\n"),
        ));
        return;
    };
    let policy = DiskPolicy::new(device.path());
    let error = policy.open().unwrap_err();
    assert!(matches!(error, DiskRefused::BlockDevice { .. }) && !error.is_retryable());
    assert!(error.to_string().contains("allow_block_device"), "{error}");
    // This machine may have none but read-only ones.
    let checked = policy.allow_block_device(true).check();
    assert!(matches!(checked, Ok(()) | Err(DiskRefused::Open { .. })), "{checked:?}");
}

#[test]
fn two_updates_never_hold_one_disk() {
    let dir = TempDir::new().unwrap();
    let disk = dir.path().join("disk.img");
    fs::write(&disk, [0; 512]).unwrap();
    let policy = DiskPolicy::new(&disk);
    let first = policy.open().unwrap();
    let error = policy.open().unwrap_err();
    assert!(matches!(error, DiskRefused::Locked { .. }) && error.is_retryable());
    drop(first);
    policy.open().unwrap();
}
