//! Discarding blocks by a program, for devices of which the kernel makes no holes.
//!
//! The kernel makes a hole in a device only when it reads as zeros afterwards. SD cards and older eMMC discard but
//! promise nothing about what they read; for them there is an ioctl that takes a pointer, which safe Rust cannot
//! make. `blkdiscard` (util-linux, BusyBox, Toybox) makes it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::process::{Command, Stdio};

/// Where the program may be. Services often run without the folders for the superuser in their path.
const PROGRAMS: [&str; 3] = ["blkdiscard", "/usr/sbin/blkdiscard", "/sbin/blkdiscard"];
/// The device, which the program gets as its standard input: whatever happens to names meanwhile, no other.
const DEVICE: &str = "/proc/self/fd/0";
/// Characters of the program's words that are told.
const WORDS: usize = 200;

/// Discards `length` bytes of a block device from `offset`.
pub(super) fn discard(device: &File, offset: u64, length: u64) -> io::Result<()> {
    discard_by(&PROGRAMS.map(|program| vec![program.into()]), device, offset, length)
}

/// Tries the programs, given with their first arguments, up to one that is there.
fn discard_by(programs: &[Vec<OsString>], device: &File, offset: u64, length: u64) -> io::Result<()> {
    for program in programs {
        // Partitions in use make the device busy for a program that wants it for itself, which only `-f` prevents;
        // BusyBox does not know it.
        let forced = run(program, &["-f"], device, offset, length);
        match forced {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        return match run(program, &[], device, offset, length)? {
            None => Ok(()),
            Some(words) => Err(io::Error::other(words)),
        };
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "the kernel makes no hole there, and there is no blkdiscard"))
}

/// Runs a program; returns its words when it fails.
fn run(
    program: &[OsString],
    options: &[&str],
    device: &File,
    offset: u64,
    length: u64,
) -> io::Result<Option<String>> {
    let mut words = program.iter();
    let output = Command::new(words.next().map_or(OsStr::new(""), OsString::as_os_str))
        .args(words)
        .args(options)
        .args(["-o", &offset.to_string(), "-l", &length.to_string(), DEVICE])
        .stdin(Stdio::from(device.try_clone()?))
        .stdout(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(None);
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let told: String = told.lines().next().unwrap_or_default().chars().take(WORDS).collect();
    Ok(Some(format!("blkdiscard ended with {}: {told}", output.status)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // A test may.
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// A program that notes its arguments and what it was given as a device, then runs `end`.
    fn program(folder: &Path, end: &str) -> Vec<OsString> {
        let script = format!("echo \"$@\" >> {0}/calls; cat > {0}/device; {end}", folder.display());
        ["/bin/sh", "-c", &script, "blkdiscard"].map(OsString::from).to_vec()
    }

    fn device(folder: &Path) -> File {
        fs::write(folder.join("disk"), "the device").unwrap();
        File::open(folder.join("disk")).unwrap()
    }

    #[test]
    fn the_program_gets_the_range_and_the_device_itself() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let device = device(here);
        // Another file under the same name must not be what is discarded.
        fs::rename(here.join("disk"), here.join("was-disk")).unwrap();
        let programs = [vec!["/nonexistent/blkdiscard".into()], program(here, "exit 0")];
        discard_by(&programs, &device, 131_072, 1 << 40).unwrap();
        let calls = fs::read_to_string(here.join("calls")).unwrap();
        assert_eq!(calls, "-f -o 131072 -l 1099511627776 /proc/self/fd/0\n");
        assert_eq!(fs::read(here.join("device")).unwrap(), b"the device");
    }

    #[test]
    fn a_program_without_force_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let programs = [program(folder.path(), "test \"$1\" != -f")];
        discard_by(&programs, &device(folder.path()), 0, 131_072).unwrap();
        let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
        assert_eq!(calls, "-f -o 0 -l 131072 /proc/self/fd/0\n-o 0 -l 131072 /proc/self/fd/0\n");
    }

    #[test]
    fn a_program_that_fails_or_is_missing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let programs = [program(folder.path(), "echo not supported >&2; exit 1")];
        let told = discard_by(&programs, &device(folder.path()), 0, 131_072).unwrap_err().to_string();
        assert_eq!(told, "blkdiscard ended with exit status: 1: not supported");
        let none = [vec!["/nonexistent/blkdiscard".into()]];
        let told = discard_by(&none, &device(folder.path()), 0, 131_072).unwrap_err().to_string();
        assert!(told.contains("no blkdiscard"), "{told}");
    }
}
