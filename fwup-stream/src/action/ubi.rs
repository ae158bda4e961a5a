//! `ubi_volume_write(PATH)`: a resource into a volume on raw flash (fw-format §8).
//!
//! The kernel begins the update of a volume with a call, after which the volume takes the data. Where the call is not
//! allowed, as in some sandboxes, `ubiupdatevol` (mtd-utils, BusyBox) makes it and writes what it is fed. That the path
//! is a volume is found out first, in sysfs if there is one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::io::Errno;

use super::context::Context;
use super::data::Sink;
use super::error::ActionError;
use super::feed::Feed;
use crate::lengths::smaller;
use crate::manifest::Call;

const NAME: &str = "ubi_volume_write";
/// Zeros for holes are written in pieces of this many bytes.
const ZEROS: usize = 16 * 1024;

/// What the system has for volumes.
struct System {
    /// The folder with one entry for each volume.
    class: PathBuf,
    /// The call that begins the update of a volume.
    update: fn(&File, u64) -> io::Result<()>,
    /// The program that updates a volume, with its first arguments.
    updater: Vec<OsString>,
}

impl Default for System {
    fn default() -> Self {
        Self {
            class: "/sys/class/ubi".into(),
            update: fwup_stream_ioctl::begin_volume_update,
            updater: vec!["ubiupdatevol".into()],
        }
    }
}

pub(super) fn begin(_: &mut Context<'_>, call: &Call<'_>) -> Result<Box<dyn Sink>, ActionError> {
    // The plan has counted the arguments.
    let path = call.args.first().map_or("", String::as_str);
    Ok(Box::new(UbiSink::new(path, System::default())?))
}

/// A volume being updated.
struct UbiSink {
    path: String,
    system: System,
    way: Way,
}

/// How the data get there.
enum Way {
    /// The update has not begun.
    Waiting(Option<File>),
    /// The volume itself, which has this many bytes.
    Volume(File, u64),
    /// The program.
    Program(Feed),
}

impl UbiSink {
    /// Makes sure that there is a volume that can be written.
    fn new(path: &str, system: System) -> Result<Self, ActionError> {
        let path = path.to_owned();
        let opened = File::options().write(true).open(&path).and_then(|file| Ok((file.metadata()?, file)));
        match opened {
            Err(error) => Err(ActionError::UbiOpen { path, reason: crate::disk::reason(&error) }),
            Ok((metadata, file))
                if metadata.file_type().is_char_device() && system.has_volume(metadata.rdev()) =>
            {
                Ok(Self { path, system, way: Way::Waiting(Some(file)) })
            }
            // What the call says of anything that is no volume.
            Ok(_) => Err(Self::no_volume(path, &Errno::NOTTY.into())),
        }
    }

    fn no_volume(path: String, error: &io::Error) -> ActionError {
        ActionError::UbiVolume { path, reason: crate::disk::reason(error) }
    }

    fn start(&mut self, length: u64) -> Result<(), ActionError> {
        let volume = match &mut self.way {
            Way::Waiting(volume) => volume.take(),
            Way::Volume(..) | Way::Program(_) => None,
        };
        let Some(volume) = volume else {
            debug_assert!(false, "the update of a volume begins once");
            return Err(self.failed("its update has begun already".to_owned()));
        };
        match (self.system.update)(&volume, length) {
            Ok(()) => {
                self.way = Way::Volume(volume, 0);
                Ok(())
            }
            Err(error) if is_forbidden(&error) => {
                // A volume has one writer only.
                drop(volume);
                self.start_program(length)
            }
            Err(error) => Err(Self::no_volume(self.path.clone(), &error)),
        }
    }

    fn start_program(&mut self, length: u64) -> Result<(), ActionError> {
        let mut words = self.system.updater.iter();
        let mut command = crate::tool::command(&words.next().map_or_else(Default::default, Clone::clone));
        command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
        // A name that begins with a dash is no option.
        let path = if self.path.starts_with('-') { format!("./{}", self.path) } else { self.path.clone() };
        if length == 0 {
            command.args(["-t", &path]);
        } else {
            command.args(["-s", &length.to_string(), &path, "-"]);
        }
        let started = Feed::start(&mut command);
        self.way = Way::Program(started.map_err(|error| ActionError::UbiProgram {
            path: self.path.clone(),
            reason: crate::disk::reason(&error),
        })?);
        Ok(())
    }

    fn put(&mut self, offset: u64, data: &[u8]) -> Result<(), ActionError> {
        let written = match &mut self.way {
            Way::Waiting(_) => return self.not_begun(),
            Way::Volume(volume, end) => {
                fill_up_to(volume, end, offset).and_then(|()| volume.write_all(data)).inspect(|()| {
                    *end = end.saturating_add(data.len() as u64);
                })
            }
            Way::Program(feed) => feed.write(offset, data),
        };
        written.map_err(|error| self.failed(crate::disk::reason(&error)))
    }

    fn end(&mut self, length: u64) -> Result<(), ActionError> {
        let ended = match &mut self.way {
            Way::Waiting(_) => return self.not_begun(),
            Way::Volume(volume, end) => fill_up_to(volume, end, length).map(|()| None),
            Way::Program(feed) => {
                feed.finish(length).map(|status| Some(status).filter(|status| !status.success()))
            }
        };
        match ended {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failed(format!("ubiupdatevol ended with {status}"))),
            Err(error) => Err(self.failed(crate::disk::reason(&error))),
        }
    }

    fn not_begun(&self) -> Result<(), ActionError> {
        debug_assert!(false, "the update of a volume begins before its data");
        Err(self.failed("its update has not begun".to_owned()))
    }

    fn failed(&self, reason: String) -> ActionError {
        ActionError::HostWrite { function: NAME, to: self.path.clone(), reason }
    }
}

/// Whether the call is not to be had in this process, and another program might have it.
fn is_forbidden(error: &io::Error) -> bool {
    [Errno::PERM, Errno::ACCESS, Errno::NOSYS]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Writes zeros up to `length`: a volume takes bytes in order only.
fn fill_up_to(volume: &mut File, end: &mut u64, length: u64) -> io::Result<()> {
    let zeros = [0; ZEROS];
    while *end < length {
        let (now, _) = zeros.split_at(smaller(length - *end, ZEROS));
        volume.write_all(now)?;
        *end += now.len() as u64;
    }
    Ok(())
}

impl Sink for UbiSink {
    fn expect(&mut self, length: u64) -> Result<(), ActionError> {
        self.start(length)
    }

    fn write(&mut self, _: &mut Context<'_>, offset: u64, data: &[u8]) -> Result<(), ActionError> {
        self.put(offset, data)
    }

    fn finish(&mut self, _: &mut Context<'_>, length: u64, _: u64) -> Result<(), ActionError> {
        self.end(length)
    }

    fn writes_holes(&self) -> bool {
        true
    }
}

impl System {
    /// Whether the device is a volume, as far as this system can tell.
    fn has_volume(&self, device: u64) -> bool {
        if !self.class.parent().is_some_and(Path::exists) {
            // Without sysfs, the call itself will tell.
            return true;
        }
        let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let entries = fs::read_dir(&self.class).into_iter().flatten().flatten();
        // ubi0 is a device, ubi0_1 a volume on it.
        entries.filter(|entry| entry.file_name().to_string_lossy().contains('_')).any(|entry| {
            fs::read_to_string(entry.path().join("dev")).is_ok_and(|text| text.trim_end() == number)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // A test may.
mod tests {
    use super::*;

    /// A system where /dev/null (1:3) is a volume, which may be updated by the updater only; that notes its arguments
    /// and what it is fed.
    fn system(folder: &Path, exit: u8) -> System {
        let class = folder.join("class");
        fs::create_dir_all(class.join("ubi0_0")).unwrap();
        fs::write(class.join("ubi0_0/dev"), "1:3\n").unwrap();
        let script = format!("echo \"$@\" > {0}/args; cat > {0}/data; exit {exit}", folder.display());
        let updater = ["/bin/sh", "-c", &script, "ubiupdatevol"].map(OsString::from).to_vec();
        System { class, update: |_, _| Err(Errno::PERM.into()), updater }
    }

    fn read(folder: &Path, name: &str) -> Vec<u8> {
        fs::read(folder.join(name)).unwrap()
    }

    #[test]
    fn feeds_the_volume_with_zeros_for_holes() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = UbiSink::new("/dev/null", system(folder.path(), 0)).unwrap();
        sink.start(9).unwrap();
        sink.put(0, b"ab").unwrap();
        sink.put(5, b"c").unwrap();
        sink.end(9).unwrap();
        assert_eq!(read(folder.path(), "args"), b"-s 9 /dev/null -\n");
        assert_eq!(read(folder.path(), "data"), b"ab\0\0\0c\0\0\0");
    }

    #[test]
    fn an_empty_resource_empties_the_volume() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = UbiSink::new("/dev/null", system(folder.path(), 0)).unwrap();
        sink.start(0).unwrap();
        sink.end(0).unwrap();
        assert_eq!(read(folder.path(), "args"), b"-t /dev/null\n");
    }

    #[test]
    fn an_updater_that_fails_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = UbiSink::new("/dev/null", system(folder.path(), 3)).unwrap();
        sink.start(1).unwrap();
        sink.put(0, b"x").unwrap();
        let text = sink.end(1).unwrap_err().to_string();
        assert_eq!(
            text,
            "ubi_volume_write failed to write '/dev/null': ubiupdatevol ended with exit status: 3"
        );
    }

    #[test]
    fn a_missing_updater_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let absent = System { updater: vec!["/nonexistent/ubiupdatevol".into()], ..system(folder.path(), 0) };
        let mut sink = UbiSink::new("/dev/null", absent).unwrap();
        let text = sink.start(1).unwrap_err().to_string();
        assert!(text.contains("'/dev/null'") && text.contains("mtd-utils"), "{text}");
    }

    #[test]
    fn what_is_no_volume_is_refused_as_fwup_does() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for path in ["/dev/zero", file.to_str().unwrap()] {
            let text = UbiSink::new(path, system(folder.path(), 0)).err().unwrap().to_string();
            let reason = "Inappropriate ioctl for device. Check that it's a UBI volume (see /sys/class/ubi)";
            assert_eq!(text, format!("UBI_IOCVOLUP failed on '{path}': {reason}"));
        }
        let text = UbiSink::new("/nonexistent/ubi", system(folder.path(), 0)).err().unwrap().to_string();
        assert_eq!(text, "ubi_volume_write can't open '/nonexistent/ubi': No such file or directory");
    }

    #[test]
    fn the_volume_itself_takes_the_data_with_zeros_for_holes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        let update = |mut volume: &File, length: u64| volume.write_all(&[u8::try_from(length).unwrap()]);
        let system = System { update, ..system(folder.path(), 0) };
        let file = File::create(&path).unwrap();
        let mut sink = UbiSink { path: "v".to_owned(), system, way: Way::Waiting(Some(file)) };
        sink.start(9).unwrap();
        sink.put(0, b"ab").unwrap();
        sink.put(5, b"c").unwrap();
        sink.end(9).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"\x09ab\0\0\0c\0\0\0");
        assert!(!folder.path().join("args").exists(), "no program ran");
    }

    #[test]
    fn a_volume_that_is_busy_or_full_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let busy = System { update: |_, _| Err(Errno::BUSY.into()), ..system(folder.path(), 0) };
        let text = UbiSink::new("/dev/null", busy).unwrap().start(1).unwrap_err().to_string();
        assert!(text.starts_with("UBI_IOCVOLUP failed on '/dev/null': Device or resource busy"), "{text}");
        let full = System { update: |_, _| Ok(()), ..system(folder.path(), 0) };
        let way = Way::Waiting(Some(File::options().write(true).open("/dev/full").unwrap()));
        let mut sink = UbiSink { path: "v".to_owned(), system: full, way };
        sink.start(1).unwrap();
        let text = sink.put(0, b"x").unwrap_err().to_string();
        assert_eq!(text, "ubi_volume_write failed to write 'v': No space left on device");
    }

    #[test]
    fn the_kernel_says_itself_that_a_device_is_no_volume() {
        let folder = tempfile::tempdir().unwrap();
        let real = System { update: System::default().update, ..system(folder.path(), 0) };
        let text = UbiSink::new("/dev/null", real).unwrap().start(1).unwrap_err().to_string();
        assert!(text.starts_with("UBI_IOCVOLUP failed on '/dev/null': Inappropriate ioctl"), "{text}");
    }
}
