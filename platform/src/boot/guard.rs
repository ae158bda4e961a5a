//! An installer that looks at what runs before it begins.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{BootCheck, BootState};
use crate::install::{Install, InstallError, InstallEvent, InstallRequest, Installer};
use crate::kv::{KeyValueStore, KvError};

/// An installer that notes what runs before it writes; see [`BootCheck::guard`].
#[derive(Debug)]
pub struct GuardedInstaller<I, S> {
    check: BootCheck,
    installer: I,
    store: Mutex<S>,
}

impl<I, S> GuardedInstaller<I, S> {
    pub(super) fn new(check: BootCheck, installer: I, store: S) -> Self {
        Self { check, installer, store: Mutex::new(store) }
    }
}

impl<I: Installer, S: KeyValueStore> Installer for GuardedInstaller<I, S> {
    fn begin(&mut self, mut request: InstallRequest) -> Result<Box<dyn Install>, InstallError> {
        self.refuse_to_overwrite()?;
        // Before the installer opens the disk: from then on it holds the lock that a change of the environment wants.
        note(&self.check, &self.store, &mut request.progress);
        self.installer.begin(request)
    }

    fn holds(&self) -> bool {
        self.installer.holds()
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
        let pairs = match lock(&self.store).load() {
            Ok(pairs) => pairs,
            // An update could not switch the slots on such a disk, whatever is on it.
            Err(error @ KvError::TooShort { .. }) => return Err(InstallError::Environment(error)),
            Err(_) => return Ok(()),
        };
        match self.check.state(&pairs) {
            state @ (BootState::RestartDue { .. } | BootState::OtherRuns { .. }) => {
                Err(InstallError::WouldOverwrite { state })
            }
            BootState::AsNamed | BootState::Unknown { .. } => Ok(()),
        }
    }
}

/// Notes what runs. The notes elsewhere remain, and the update is worth more than this one.
fn note<S: KeyValueStore>(check: &BootCheck, store: &Mutex<S>, tell: &mut dyn FnMut(InstallEvent)) {
    let noted: Result<(), KvError> = check.note_install(&mut *lock(store));
    if let Err(error) = noted {
        let text =
            format!("the boot environment gets no note of which firmware runs: {error}; the update goes on");
        tell(InstallEvent::Warning(text));
    }
}

fn lock<S>(store: &Mutex<S>) -> MutexGuard<'_, S> {
    // A store holds no state that a panic could leave half changed: it reads before each change.
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
