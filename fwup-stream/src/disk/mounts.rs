//! Unmounting what is on the destination before it is overwritten (fw-format §9.1).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

/// The kernel's list of mounts of this process.
const MOUNTS: &str = "/proc/mounts";

/// A mounted file system on the destination could not be unmounted.
#[derive(Debug, thiserror::Error)]
#[error("cannot unmount '{}' from the destination: {reason}. Unmount it, or say -U to leave it mounted.", place.display())]
pub struct UnmountError {
    place: PathBuf,
    reason: String,
}

/// Unmounts every file system whose device's name begins with `device` (so a disk's partitions too), the
/// latest mounted first. The disk of the running system is refused before anything is unmounted.
pub fn unmount_all(device: &Path) -> Result<(), UnmountError> {
    // Without /proc, as in a small sandbox, nobody can tell what is mounted; fwup goes on, too.
    let Ok(list) = std::fs::read(MOUNTS) else { return Ok(()) };
    for place in removable_places(&list, device)?.into_iter().rev() {
        unmount(&place, UnmountFlags::empty())
            .map_err(|error| UnmountError { place, reason: super::reason(&error.into()) })?;
    }
    Ok(())
}

/// Where file systems of the device are mounted; an error if the system itself is among them.
fn removable_places(list: &[u8], device: &Path) -> Result<Vec<PathBuf>, UnmountError> {
    let places = places(list, device);
    match places.iter().find(|place| *place == Path::new("/")) {
        Some(place) => {
            Err(UnmountError { place: place.clone(), reason: "the running system is there".to_owned() })
        }
        None => Ok(places),
    }
}

/// Where file systems of the device are mounted, in the order of the list.
fn places(list: &[u8], device: &Path) -> Vec<PathBuf> {
    list.split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut words = line.split(|byte| *byte == b' ');
            let (from, place) = (words.next()?, words.next()?);
            from.starts_with(device.as_os_str().as_bytes()).then(|| unescape(place))
        })
        .collect()
}

/// Undoes the octal escapes the kernel writes for blanks, tabs, line ends and backslashes.
fn unescape(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let escape = (*byte == b'\\').then(|| after.get(..3)).flatten();
        let code = escape.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => {
                out.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            None => out.push(*byte),
        }
    }
    OsString::from_vec(out).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may.
mod tests {
    use super::*;

    #[test]
    fn finds_a_disk_and_its_partitions_and_nothing_else() {
        let list = b"/dev/sda1 / ext4 rw 0 0\n/dev/sdb1 /mnt/a\\040b vfat rw 0 0\n\
            /dev/sdb2 /mnt/c ext4 rw 0 0\nproc /proc proc rw 0 0\n";
        assert_eq!(places(list, Path::new("/dev/sdb")), [PathBuf::from("/mnt/a b"), "/mnt/c".into()]);
        assert!(places(list, Path::new("/dev/sdc")).is_empty());
    }

    #[test]
    fn the_disk_of_the_running_system_is_refused_as_a_whole() {
        let list = b"/dev/sda2 / ext4 rw 0 0\n/dev/sda1 /boot vfat rw 0 0\n/dev/sdb1 /mnt vfat rw 0 0\n";
        let refused = removable_places(list, Path::new("/dev/sda")).unwrap_err().to_string();
        assert!(
            refused.starts_with("cannot unmount '/' from the destination: the running system"),
            "{refused}"
        );
        // A partition beside it, and another disk, may be written.
        assert_eq!(removable_places(list, Path::new("/dev/sda1")).unwrap(), [PathBuf::from("/boot")]);
        assert_eq!(removable_places(list, Path::new("/dev/sdb")).unwrap(), [PathBuf::from("/mnt")]);
    }
}
