//! The calls on what is there: files that refuse them, and a loop device that discards.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;

use fwup_stream_ioctl::{begin_volume_update, discard};

/// `ENOTTY`.
const NO_SUCH_CALL: i32 = 25;

#[test]
fn files_and_other_devices_refuse_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "content").unwrap();
    for path in [path.as_path(), "/dev/null".as_ref()] {
        let file = File::options().read(true).write(true).open(path).unwrap();
        assert_eq!(discard(&file, 0, 512).unwrap_err().raw_os_error(), Some(NO_SUCH_CALL));
        assert_eq!(begin_volume_update(&file, 512).unwrap_err().raw_os_error(), Some(NO_SUCH_CALL));
    }
    assert_eq!(std::fs::read(path).unwrap(), b"content");
}

#[test]
fn more_bytes_than_the_kernel_counts_are_refused() {
    let file = File::open("/dev/null").unwrap();
    let refused = begin_volume_update(&file, u64::MAX).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn a_loop_device_discards_the_range_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    std::fs::write(&path, vec![0x5A; 1 << 20]).unwrap();
    let made = Command::new("losetup").args(["--show", "-f"]).arg(&path).output();
    let Some(device) = made.ok().filter(|made| made.status.success()) else {
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: no loop devices here (losetup, and the right to use it)");
        return;
    };
    let device = String::from_utf8(device.stdout).unwrap().trim().to_owned();
    let outcome = File::options().read(true).write(true).open(&device).and_then(|file| {
        discard(&file, 131_072, 262_144)?;
        let mut image = vec![0; 1 << 20];
        file.read_exact_at(&mut image, 0)?;
        Ok(image)
    });
    let removed = Command::new("losetup").args(["-d", &device]).status().unwrap();
    assert!(removed.success());
    let image = outcome.unwrap();
    let zeros = |range: std::ops::Range<usize>| image[range].iter().all(|byte| *byte == 0);
    assert!(zeros(131_072..393_216));
    assert!(image[..131_072].iter().chain(&image[393_216..]).all(|byte| *byte == 0x5A));
}
