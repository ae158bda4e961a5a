//! `ubi_volume_write(PATH)`: a resource into a volume on raw flash (fw-format §8).
//!
//! The kernel begins the update of a volume with an ioctl that takes a pointer, which safe Rust cannot make.
//! `ubiupdatevol`, which systems with UBI have (mtd-utils, BusyBox), makes it and writes what it is fed.
//! That the path is a volume is found out first, in sysfs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::context::Context;
use super::data::Sink;
use super::error::ActionError;
use super::feed::Feed;
use crate::manifest::Call;

const NAME: &str = "ubi_volume_write";
/// What fwup's ioctl says of anything that is no volume (`ENOTTY`).
const NO_VOLUME: &str = "Inappropriate ioctl for device";

/// What the system has for volumes.
struct System {
    /// The folder with one entry for each volume.
    class: PathBuf,
    /// The program that updates a volume, with its first arguments.
    updater: Vec<OsString>,
}

impl Default for System {
    fn default() -> Self {
        Self { class: "/sys/class/ubi".into(), updater: vec!["ubiupdatevol".into()] }
    }
}

pub(super) fn begin(_: &mut Context<'_>, call: &Call<'_>) -> Result<Box<dyn Sink>, ActionError> {
    let path = call.args.first().map_or("", String::as_str);
    Ok(Box::new(UbiSink::new(path, System::default())?))
}

/// A volume being updated.
struct UbiSink {
    path: String,
    system: System,
    feed: Option<Feed>,
}

impl UbiSink {
    /// Makes sure that there is a volume that can be written.
    fn new(path: &str, system: System) -> Result<Self, ActionError> {
        let path = path.to_owned();
        // Closed again at once: a volume has one writer only.
        let opened = File::options().write(true).open(&path).and_then(|file| file.metadata());
        match opened {
            Err(error) => Err(ActionError::UbiOpen { path, reason: crate::disk::reason(&error) }),
            Ok(metadata) if metadata.file_type().is_char_device() && system.has_volume(metadata.rdev()) => {
                Ok(Self { path, system, feed: None })
            }
            Ok(_) => Err(ActionError::UbiVolume { path, reason: NO_VOLUME.to_owned() }),
        }
    }

    fn start(&mut self, length: u64) -> Result<(), ActionError> {
        let mut words = self.system.updater.iter();
        let mut command = Command::new(words.next().map_or_else(Default::default, Clone::clone));
        command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
        // A name that begins with a dash is no option.
        let path = if self.path.starts_with('-') { format!("./{}", self.path) } else { self.path.clone() };
        if length == 0 {
            command.args(["-t", &path]);
        } else {
            command.args(["-s", &length.to_string(), &path, "-"]);
        }
        let started = Feed::start(&mut command);
        self.feed = Some(started.map_err(|error| ActionError::UbiProgram {
            path: self.path.clone(),
            reason: crate::disk::reason(&error),
        })?);
        Ok(())
    }

    fn put(&mut self, offset: u64, data: &[u8]) -> Result<(), ActionError> {
        let written = self.feed.as_mut().map(|feed| feed.write(offset, data));
        match written {
            Some(Err(error)) => Err(self.failed(crate::disk::reason(&error))),
            _ => Ok(()),
        }
    }

    fn end(&mut self, length: u64) -> Result<(), ActionError> {
        let ended = self.feed.as_mut().map(|feed| feed.finish(length));
        match ended {
            Some(Err(error)) => Err(self.failed(crate::disk::reason(&error))),
            Some(Ok(status)) if !status.success() => {
                Err(self.failed(format!("ubiupdatevol ended with {status}")))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, reason: String) -> ActionError {
        ActionError::HostWrite { function: NAME, to: self.path.clone(), reason }
    }
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
    fn has_volume(&self, device: u64) -> bool {
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
    use std::path::Path;

    /// A system where /dev/null (1:3) is a volume, whose updater notes its arguments and what it is fed.
    fn system(folder: &Path, exit: u8) -> System {
        let class = folder.join("class");
        fs::create_dir_all(class.join("ubi0_0")).unwrap();
        fs::write(class.join("ubi0_0/dev"), "1:3\n").unwrap();
        let script = format!("echo \"$@\" > {0}/args; cat > {0}/data; exit {exit}", folder.display());
        let updater = ["/bin/sh", "-c", &script, "ubiupdatevol"].map(OsString::from).to_vec();
        System { class, updater }
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
}
