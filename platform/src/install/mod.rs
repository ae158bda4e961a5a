//! How an update is applied: hands that every adapter drives the same way.
//!
//! An [`Installer`] is asked for an [`Install`] per update; bytes are pushed as they come from the
//! network. The adapter drives them on a thread of their own, so each call may take its time.

mod cause;
mod disk;
mod fwup_stream;

use crate::identity::FirmwareInfo;
use crate::kv::KvError;

pub use disk::{DiskPolicy, DiskRefused, LockedDisk};
pub use fwup_stream::FwupStreamInstaller;

/// Opens the way an update goes onto the device. One at a time is asked for.
pub trait Installer: Send {
    /// Gets ready for one update. Nothing may be written before the firmware proved to be trusted.
    fn begin(&mut self, request: InstallRequest) -> Result<Box<dyn Install>, InstallError>;

    /// Returns whether every install stops at the signed metadata if the request wants it
    /// ([`InstallRequest::hold`]), so that what runs before the first write may wait until then. The default is no.
    fn holds(&self) -> bool {
        false
    }

    /// Looks whether an update could be installed now, without changing anything. Asked at the start, from time to time, and
    /// after an update that failed; while the answer is no, updates are put off. The default sees nothing in the way.
    ///
    /// # Errors
    ///
    /// What is in the way.
    fn check(&self) -> Result<(), InstallError> {
        Ok(())
    }
}

impl<T: Installer + ?Sized> Installer for Box<T> {
    fn begin(&mut self, request: InstallRequest) -> Result<Box<dyn Install>, InstallError> {
        (**self).begin(request)
    }

    fn holds(&self) -> bool {
        (**self).holds()
    }

    fn check(&self) -> Result<(), InstallError> {
        (**self).check()
    }
}

/// An update being applied. Dropping it cancels: nothing more is written, and the running firmware
/// stays the one that boots.
pub trait Install: Send {
    /// Takes the next bytes of the archive, in any cut.
    fn write(&mut self, chunk: &[u8]) -> Result<(), InstallError>;

    /// Returns the signed metadata while the install waits for [`proceed`](Self::proceed): if the request wants it
    /// ([`InstallRequest::hold`]), from the moment the signature holds. Nothing has been written then, and bytes are
    /// refused. The default never waits, which is for firmware without metadata of its own.
    fn held(&self) -> Option<SignedFirmware> {
        None
    }

    /// Goes on with firmware that was [`held`](Self::held). The default has nothing to do.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), for the bytes that came with the metadata.
    fn proceed(&mut self) -> Result<(), InstallError> {
        Ok(())
    }

    /// Ends the update after the last byte: everything is on the disk, and the new firmware boots next.
    fn finish(self: Box<Self>) -> Result<InstallReport, InstallError>;
}

/// What the metadata under a trusted signature say. Missing texts are empty.
pub type SignedFirmware = FirmwareInfo;

/// What an installer needs to know about one update.
#[non_exhaustive]
pub struct InstallRequest {
    /// The Ed25519 public keys to trust, base64. An installer refuses an empty list.
    pub public_keys: Vec<String>,
    /// The firmware's UUID, as the server says; empty if it doesn't.
    pub uuid: String,
    /// The firmware's version, as the server says; empty if it doesn't.
    pub version: String,
    /// Bytes of the archive that will be written, if the server said; of a delta, the delta's own size.
    pub size: Option<u64>,
    /// Whether to wait for [`Install::proceed`] once the signature holds, before the first write.
    pub hold: bool,
    /// Told of progress and remarks, from the thread that drives the install.
    pub progress: Box<dyn FnMut(InstallEvent) + Send>,
}

impl InstallRequest {
    /// Builds a request for firmware of which nothing is known.
    pub fn new(public_keys: Vec<String>, progress: impl FnMut(InstallEvent) + Send + 'static) -> Self {
        let (uuid, version) = (String::new(), String::new());
        Self { public_keys, uuid, version, size: None, hold: false, progress: Box::new(progress) }
    }

    /// Says whether to stop at the signed metadata, before the first write, so that they can be judged: see
    /// [`Install::held`].
    #[must_use]
    pub const fn hold(mut self, hold: bool) -> Self {
        self.hold = hold;
        self
    }

    /// Says what is to be installed.
    #[must_use]
    pub fn firmware(
        mut self,
        uuid: impl Into<String>,
        version: impl Into<String>,
        size: Option<u64>,
    ) -> Self {
        (self.uuid, self.version, self.size) = (uuid.into(), version.into(), size);
        self
    }
}

impl std::fmt::Debug for InstallRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstallRequest")
            .field("public_keys", &self.public_keys)
            .field("uuid", &self.uuid)
            .field("version", &self.version)
            .field("size", &self.size)
            .field("hold", &self.hold)
            .finish_non_exhaustive()
    }
}

/// News from an install.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstallEvent {
    /// How far it is, 0 to 100.
    Progress(u8),
    /// A remark of the archive.
    Info(String),
    /// Something odd that does not stop it.
    Warning(String),
}

/// What a finished install did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstallReport {
    /// The task that was carried out, such as `upgrade.b`, if the installer knows tasks.
    pub task: Option<String>,
}

/// Why an update could not be applied. The running firmware still boots.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// There is no key to check the firmware with.
    #[error(
        "no firmware public key is known, so no firmware can be trusted; configure one or have the server send it"
    )]
    NoKeys,
    /// None of the keys can be read.
    #[error(
        "none of the {count} firmware public keys is an Ed25519 key in base64, so no firmware can be trusted"
    )]
    BadKeys {
        /// How many there are.
        count: usize,
    },
    /// It could go to the slot that runs.
    #[error(
        "an update could overwrite the firmware that runs: {state}; restart the system first, or correct nerves_fw_active"
    )]
    WouldOverwrite {
        /// What is known of it.
        state: crate::boot::BootState,
    },
    /// The disk has no place for the boot environment that an update changes.
    #[error(transparent)]
    Environment(KvError),
    /// The disk may not be written to.
    #[error(transparent)]
    Disk(#[from] DiskRefused),
    /// A delta can't be applied: the source it changes is not what it was made for. A full image would cure that.
    #[error("{0}")]
    Delta(String),
    /// The bytes are not those of a firmware that can be applied: damaged, not signed, not an archive. Another download
    /// may help.
    ///
    /// An installer that can't tell whether the bytes or the disk are at fault reports this one: only then does an update
    /// start over whose file changed on the server while it was received, twice at most. Where the file did not change,
    /// it counts as [`Failed`](Self::Failed).
    #[error("{0}")]
    File(String),
    /// The disk failed, or something else that another download does not cure.
    #[error("{0}")]
    Failed(String),
}
