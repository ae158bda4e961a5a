//! Discarding blocks of devices of which the kernel makes no holes.
//!
//! The kernel makes a hole in a device only when it reads as zeros afterwards. SD cards and older eMMC discard but
//! promise nothing about what they read; for them there is a call of its own. Where that is not allowed, as in some
//! sandboxes, the program `blkdiscard` (util-linux, BusyBox, Toybox) may be.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// Where the program may be. Services often run without the folders for the superuser in their path.
const PROGRAMS: [&str; 3] = ["blkdiscard", "/usr/sbin/blkdiscard", "/sbin/blkdiscard"];
/// The device, which the program gets as its standard input: whatever happens to names meanwhile, no other.
const DEVICE: &str = "/proc/self/fd/0";
/// Characters of the program's words that are told.
const WORDS: u64 = 200;
/// Bytes discarded in one call, so that a slow card can be given up in between. Nothing can stop a call.
const PIECE: u64 = 1 << 30;
/// A trim is a hint: after so long the rest of it is left out.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a program is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Discards `length` bytes of a block device from `offset`.
pub(super) fn discard(device: &File, offset: u64, length: u64) -> io::Result<()> {
    match discard_by_call(fwup_stream_ioctl::discard, PATIENCE, device, offset, length) {
        Err(error) if is_forbidden(&error) => {
            let programs = PROGRAMS.map(|program| vec![program.into()]);
            discard_by(&programs, PATIENCE, device, offset, length)
        }
        outcome => outcome,
    }
}

/// Whether the call is not to be had in this process, and another program might have it.
fn is_forbidden(error: &io::Error) -> bool {
    [Errno::PERM, Errno::ACCESS, Errno::NOSYS, Errno::NOTTY]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Makes the call piece by piece.
fn discard_by_call(
    call: impl Fn(&File, u64, u64) -> io::Result<()>,
    patience: Duration,
    device: &File,
    offset: u64,
    length: u64,
) -> io::Result<()> {
    let start = Instant::now();
    let mut done = 0;
    while done < length {
        if done > 0 && start.elapsed() >= patience {
            let text = format!("the device took {} s for {done} bytes", start.elapsed().as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        let piece = PIECE.min(length - done);
        call(device, offset.saturating_add(done), piece)?;
        done += piece;
    }
    Ok(())
}

/// Tries the programs, given with their first arguments, up to one that is there.
fn discard_by(
    programs: &[Vec<OsString>],
    patience: Duration,
    device: &File,
    offset: u64,
    length: u64,
) -> io::Result<()> {
    for program in programs {
        // Partitions in use make the device busy for a program that wants it for itself, which only `-f` prevents;
        // BusyBox does not know it.
        let forced = run(program, &["-f"], patience, device, offset, length);
        match forced {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        return match run(program, &[], patience, device, offset, length)? {
            None => Ok(()),
            Some(words) => Err(io::Error::other(words)),
        };
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "discarding is not allowed here, and there is no blkdiscard"))
}

/// Runs a program; returns its words when it fails.
fn run(
    program: &[OsString],
    options: &[&str],
    patience: Duration,
    device: &File,
    offset: u64,
    length: u64,
) -> io::Result<Option<String>> {
    let mut words = program.iter();
    let mut child = crate::tool::command(words.next().map_or(OsStr::new(""), OsString::as_os_str))
        .args(words)
        .args(options)
        .args(["-o", &offset.to_string(), "-l", &length.to_string(), DEVICE])
        .stdin(Stdio::from(device.try_clone()?))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() >= patience {
            child.kill()?;
            child.wait()?;
            let text = format!("blkdiscard was stopped after {} s", start.elapsed().as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        std::thread::sleep(LOOK);
    };
    if status.success() {
        return Ok(None);
    }
    let mut told = Vec::new();
    if let Some(words) = child.stderr.take() {
        // That it ended so is told all the same.
        let _ = words.take(WORDS).read_to_end(&mut told);
    }
    let told = String::from_utf8_lossy(&told);
    Ok(Some(format!("blkdiscard ended with {status}: {}", told.lines().next().unwrap_or_default())))
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
        discard_by(&programs, PATIENCE, &device, 131_072, 1 << 40).unwrap();
        let calls = fs::read_to_string(here.join("calls")).unwrap();
        assert_eq!(calls, "-f -o 131072 -l 1099511627776 /proc/self/fd/0\n");
        assert_eq!(fs::read(here.join("device")).unwrap(), b"the device");
    }

    #[test]
    fn a_program_without_force_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let programs = [program(folder.path(), "test \"$1\" != -f")];
        discard_by(&programs, PATIENCE, &device(folder.path()), 0, 131_072).unwrap();
        let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
        assert_eq!(calls, "-f -o 0 -l 131072 /proc/self/fd/0\n-o 0 -l 131072 /proc/self/fd/0\n");
    }

    #[test]
    fn a_program_that_fails_or_is_missing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let programs = [program(folder.path(), "echo not supported >&2; exit 1")];
        let told =
            discard_by(&programs, PATIENCE, &device(folder.path()), 0, 131_072).unwrap_err().to_string();
        assert_eq!(told, "blkdiscard ended with exit status: 1: not supported");
        let none = [vec!["/nonexistent/blkdiscard".into()]];
        let told = discard_by(&none, PATIENCE, &device(folder.path()), 0, 131_072).unwrap_err().to_string();
        assert!(told.contains("no blkdiscard"), "{told}");
    }

    #[test]
    fn a_large_range_is_discarded_in_pieces_until_patience_ends() {
        let folder = tempfile::tempdir().unwrap();
        let device = device(folder.path());
        let calls = std::cell::RefCell::new(Vec::new());
        let call = |_: &File, offset, length| {
            calls.borrow_mut().push((offset, length));
            Ok(())
        };
        discard_by_call(call, PATIENCE, &device, 512, 2 * PIECE + 512).unwrap();
        assert_eq!(calls.take(), [(512, PIECE), (512 + PIECE, PIECE), (512 + 2 * PIECE, 512)]);
        let ended = discard_by_call(call, Duration::ZERO, &device, 0, 2 * PIECE).unwrap_err();
        assert_eq!((ended.kind(), calls.take().len()), (io::ErrorKind::TimedOut, 1));
    }

    #[test]
    fn a_program_that_hangs_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let programs = [program(folder.path(), "exec sleep 1000")];
        let ended =
            discard_by(&programs, Duration::from_millis(20), &device(folder.path()), 0, 131_072).unwrap_err();
        assert_eq!(ended.to_string(), "blkdiscard was stopped after 0 s");
    }

    #[test]
    fn what_a_device_cannot_do_is_not_tried_by_a_program() {
        let errors = [Errno::PERM, Errno::OPNOTSUPP, Errno::IO].map(io::Error::from);
        assert_eq!(errors.each_ref().map(is_forbidden), [true, false, false]);
    }
}
