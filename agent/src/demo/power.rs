//! A disk that loses power: what was not synced is lost in part, and the process with it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use fwup_stream::disk::{Extent, Target};
use fwup_stream::trust::PublicKey;
use fwup_stream::{Applier, ApplyEvent, ApplyOptions};
use nerves_hub_link_platform::install::{
    DiskPolicy, Install, InstallError, InstallEvent, InstallReport, InstallRequest, Installer,
};

use crate::limits::FLUSH_MAX;
use crate::output::Lines;

/// The exit status of a process whose power failed.
const POWER_FAILED: i32 = 99;

/// Applies an update until so many bytes were written, then ends the process as a power cut would.
pub struct FailingInstaller {
    disk: DiskPolicy,
    task: String,
    after: u64,
    lines: Lines,
}

impl FailingInstaller {
    /// Builds an installer that fails after writing `after` bytes, and says so in a line of output.
    pub fn new(disk: DiskPolicy, task: &str, after: u64, lines: Lines) -> Self {
        Self { disk, task: task.to_owned(), after, lines }
    }
}

impl Installer for FailingInstaller {
    fn begin(&mut self, request: InstallRequest) -> Result<Box<dyn Install>, InstallError> {
        let failed = |error: &dyn std::fmt::Display| InstallError::Failed(error.to_string());
        let InstallRequest { public_keys, mut progress, .. } = request;
        let mut options = ApplyOptions::default();
        options.task.clone_from(&self.task);
        options.require_signature = true;
        for key in &public_keys {
            options.public_keys.push(PublicKey::from_text(key).map_err(|error| failed(&error))?);
        }
        self.disk.check()?;
        let target = FailingDisk::open(self.disk.path(), self.after, self.lines.clone())
            .map_err(|error| failed(&error))?;
        let observer = move |event| {
            if let ApplyEvent::Progress(report) = event {
                let percent = u8::try_from(report.value.clamp(0, 100));
                debug_assert!(percent.is_ok(), "0 to 100 fits");
                progress(InstallEvent::Progress(percent.unwrap_or(100)));
            }
        };
        let applier = Applier::with_observer(options, target, observer).map_err(|error| failed(&error))?;
        Ok(Box::new(Failing { applier }))
    }
}

struct Failing {
    applier: Applier<FailingDisk>,
}

impl Install for Failing {
    fn write(&mut self, chunk: &[u8]) -> Result<(), InstallError> {
        self.applier.push(chunk).map_err(|error| InstallError::Failed(error.to_string()))
    }

    fn finish(self: Box<Self>) -> Result<InstallReport, InstallError> {
        self.applier.finish().map_err(|error| InstallError::Failed(error.to_string()))?;
        Ok(InstallReport::default())
    }
}

/// An image file in front of which writes wait until they are synced, as in a disk's own cache.
struct FailingDisk {
    file: File,
    waiting: Vec<(u64, Vec<u8>)>,
    written: u64,
    after: u64,
    lines: Lines,
}

impl FailingDisk {
    fn open(path: &std::path::Path, after: u64, lines: Lines) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file, waiting: Vec::new(), written: 0, after, lines })
    }

    /// Every other waiting write is lost, and the newest reaches the disk only in part.
    fn fail(&mut self) -> ! {
        let torn = self.waiting.pop();
        for (offset, data) in self.waiting.iter().step_by(2) {
            // What can't be written now is lost too, which is what a power cut is about.
            let _ = self.file.write_all_at(data, *offset);
        }
        if let Some((offset, data)) = torn {
            let (half, _) = data.split_at(data.len() / 2);
            let _ = self.file.write_all_at(half, offset);
        }
        let lost = self.waiting.len() / 2;
        self.lines.line(format!(
            "power fails after {} written bytes: {lost} writes are lost and one is torn",
            self.written
        ));
        self.lines.flush(FLUSH_MAX);
        std::process::exit(POWER_FAILED)
    }
}

impl Target for FailingDisk {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut length = self.file.read_at(buffer, offset)?;
        for (at, data) in &self.waiting {
            // The part of `data` that lies inside the buffer.
            // What does not fit into an address lies outside.
            let skip = usize::try_from(offset.saturating_sub(*at)).unwrap_or(usize::MAX);
            let place = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
            let (Some(source), Some(room)) = (data.get(skip..), buffer.get_mut(place..)) else { continue };
            let count = source.len().min(room.len());
            if let (Some(room), Some(source)) = (room.get_mut(..count), source.get(..count)) {
                room.copy_from_slice(source);
                length = length.max(place + count);
            }
        }
        Ok(length)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.waiting.push((offset, data.to_vec()));
        self.written += data.len() as u64;
        if self.written >= self.after {
            self.fail();
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        for (offset, data) in self.waiting.drain(..) {
            self.file.write_all_at(&data, offset)?;
        }
        self.file.sync_data()
    }

    fn trim(&mut self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn extent(&self) -> Extent {
        self.file.metadata().map_or(Extent::Unknown, |metadata| Extent::Soft(metadata.len()))
    }
}
