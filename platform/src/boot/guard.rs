//! An installer that looks at what runs before it begins.

use super::{BootCheck, BootState};
use crate::install::{Install, InstallError, InstallEvent, InstallRequest, Installer};
use crate::kv::KeyValueStore;

/// An installer that notes what runs before it begins; see [`BootCheck::guard`].
#[derive(Debug)]
pub struct GuardedInstaller<I, S> {
    pub(super) check: BootCheck,
    pub(super) installer: I,
    pub(super) store: S,
}

impl<I: Installer, S: KeyValueStore> Installer for GuardedInstaller<I, S> {
    fn begin(&mut self, mut request: InstallRequest) -> Result<Box<dyn Install>, InstallError> {
        self.refuse_to_overwrite()?;
        if let Err(error) = self.check.note_install(&mut self.store) {
            // The notes elsewhere remain, and the update is worth more than this one.
            let text = format!(
                "the boot environment gets no note of which firmware runs: {error}; the update goes on"
            );
            (request.progress)(InstallEvent::Warning(text));
        }
        self.installer.begin(request)
    }

    fn check(&self) -> Result<(), InstallError> {
        self.refuse_to_overwrite()?;
        self.installer.check()
    }
}

impl<I, S: KeyValueStore> GuardedInstaller<I, S> {
    /// Updates go to the slot that the environment does not name. Where that is the one that runs, they must wait.
    fn refuse_to_overwrite(&self) -> Result<(), InstallError> {
        // Without an environment the archive's own requirements decide.
        let Ok(pairs) = self.store.load() else { return Ok(()) };
        match self.check.state(&pairs) {
            state @ (BootState::RestartDue { .. } | BootState::OtherRuns { .. }) => {
                Err(InstallError::WouldOverwrite { state })
            }
            BootState::AsNamed | BootState::Unknown { .. } => Ok(()),
        }
    }
}
