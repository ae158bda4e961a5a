//! Applying `.fw` archives with `fwup-stream`, in this process.

use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};

use fwup_stream::disk::{Extent, Target, sector_size};
use fwup_stream::trust::PublicKey;
use fwup_stream::{Applier, ApplyEvent, ApplyOptions};
use rustix::fs::{FallocateFlags, fallocate};

use crate::install::cause::Cause;
use crate::install::{
    DiskPolicy, DiskRefused, Install, InstallError, InstallEvent, InstallReport, InstallRequest, Installer,
    LockedDisk, SignedFirmware,
};

/// Applies archives to one disk as they stream in.
///
/// The disk is opened, checked and locked anew for each update. A signature by one of the request's
/// keys is always wanted.
#[derive(Clone, Debug)]
pub struct FwupStreamInstaller {
    disk: DiskPolicy,
    options: ApplyOptions,
}

impl FwupStreamInstaller {
    /// Builds an installer that runs the task `upgrade` (the first `upgrade…` whose requirements hold).
    pub fn new(disk: DiskPolicy) -> Self {
        Self { disk, options: ApplyOptions::default() }
    }

    /// Sets the task, or the beginning of its name.
    #[must_use]
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.options.task = task.into();
        self
    }

    /// Changes how archives are applied. Keys and the need for them are not open to change.
    #[must_use]
    pub fn options(mut self, change: impl FnOnce(&mut ApplyOptions)) -> Self {
        change(&mut self.options);
        self
    }
}

impl Installer for FwupStreamInstaller {
    fn begin(&mut self, request: InstallRequest) -> Result<Box<dyn Install>, InstallError> {
        let InstallRequest { public_keys, hold, mut progress, .. } = request;
        if public_keys.is_empty() {
            return Err(InstallError::NoKeys);
        }
        let mut options = self.options.clone();
        options.require_signature = true;
        options.public_keys = Vec::new();
        options.hold = hold;
        for key in &public_keys {
            match PublicKey::from_text(key) {
                Ok(key) => options.public_keys.push(key),
                Err(error) => progress(InstallEvent::Warning(format!("a firmware key is ignored: {error}"))),
            }
        }
        if options.public_keys.is_empty() {
            return Err(InstallError::BadKeys { count: public_keys.len() });
        }
        let target = DiskTarget::open(&self.disk)?;
        let cause = target.cause.clone();
        let observer = move |event| match event {
            ApplyEvent::Progress(report) => {
                // Always a number of two or three digits then.
                progress(InstallEvent::Progress(u8::try_from(report.value.clamp(0, 100)).unwrap_or(0)));
            }
            ApplyEvent::Info(text) => progress(InstallEvent::Info(text)),
            ApplyEvent::Warning(text) => progress(InstallEvent::Warning(text)),
            // Other kinds of events are for other programs.
            _ => {}
        };
        let applier = Applier::with_observer(options, target, observer).map_err(|error| failed(&error))?;
        Ok(Box::new(Applying { applier, cause }))
    }

    fn holds(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), InstallError> {
        Ok(self.disk.check()?)
    }
}

struct Applying {
    applier: Applier<DiskTarget>,
    cause: Cause,
}

impl Install for Applying {
    fn write(&mut self, chunk: &[u8]) -> Result<(), InstallError> {
        self.applier.push(chunk).map_err(|error| self.cause.explain(failed(&error)))
    }

    fn held(&self) -> Option<SignedFirmware> {
        self.applier.held().map(SignedFirmware::of_archive)
    }

    fn proceed(&mut self) -> Result<(), InstallError> {
        self.applier.proceed().map_err(|error| failed(&error))
    }

    fn finish(self: Box<Self>) -> Result<InstallReport, InstallError> {
        let report = self.applier.finish().map_err(|error| self.cause.explain(failed(&error)))?;
        Ok(InstallReport { task: Some(report.task) })
    }
}

fn failed(error: &fwup_stream::Error) -> InstallError {
    if error.is_delta() {
        return InstallError::Delta(error.to_string());
    }
    if error.is_of_the_file() {
        return InstallError::File(error.to_string());
    }
    InstallError::Failed(error.to_string())
}

/// The disk of a policy, held open and locked for the whole update, so that what was checked is what
/// is written.
#[derive(Debug)]
struct DiskTarget {
    file: LockedDisk,
    extent: Extent,
    device: bool,
    granularity: usize,
    cause: Cause,
}

impl DiskTarget {
    fn open(policy: &DiskPolicy) -> Result<Self, DiskRefused> {
        let path = policy.path().to_owned();
        let mut file = policy.open()?;
        let device = file.metadata().map(|metadata| metadata.file_type().is_block_device());
        let size = file.seek(SeekFrom::End(0));
        let (device, size) = match (device, size) {
            (Ok(device), Ok(size)) => (device, size),
            (Err(source), _) | (_, Err(source)) => return Err(DiskRefused::Open { path, source }),
        };
        let extent = if device || policy.is_fixed_size() { Extent::Hard(size) } else { Extent::Soft(size) };
        let granularity = sector_size(&file);
        Ok(Self { file, extent, device, granularity, cause: Cause::default() })
    }
}

impl Target for DiskTarget {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => return self.cause.note(outcome),
            }
        }
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.cause.note(self.file.write_all_at(data, offset))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.cause.note(self.file.sync_data())
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        if !self.device {
            return Ok(());
        }
        // The kernel turns a hole into a discard where the device then reads zeros.
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&*self.file, flags, offset, length)?)
    }

    fn extent(&self) -> Extent {
        self.extent
    }

    fn granularity(&self) -> usize {
        self.granularity
    }
}
