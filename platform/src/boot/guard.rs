//! An installer that looks at what runs before it begins.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{BootCheck, BootState};
use crate::install::{
    Install, InstallError, InstallEvent, InstallReport, InstallRequest, Installer, SignedFirmware,
};
use crate::kv::{KeyValueStore, KvError};

/// An installer that notes what runs before it writes; see [`BootCheck::guard`].
#[derive(Debug)]
pub struct GuardedInstaller<I, S> {
    check: BootCheck,
    installer: I,
    /// Shared with the install under way, which writes its note only when the firmware may be written.
    store: Arc<Mutex<S>>,
}

/// An install whose note of what runs is not written yet.
struct Guarded<S> {
    install: Box<dyn Install>,
    check: BootCheck,
    store: Arc<Mutex<S>>,
    /// Why the note could not be written, until somebody can be told.
    warn: Box<dyn FnMut(InstallEvent) + Send>,
}

impl<I, S> GuardedInstaller<I, S> {
    pub(super) fn new(check: BootCheck, installer: I, store: S) -> Self {
        Self { check, installer, store: Arc::new(Mutex::new(store)) }
    }
}

impl<I: Installer, S: KeyValueStore + 'static> Installer for GuardedInstaller<I, S> {
    fn begin(&mut self, mut request: InstallRequest) -> Result<Box<dyn Install>, InstallError> {
        self.refuse_to_overwrite()?;
        if !(request.hold && self.installer.holds()) {
            note(&self.check, &self.store, &mut request.progress);
            return self.installer.begin(request);
        }
        let progress = Arc::new(Mutex::new(request.progress));
        let tell = |progress: &Arc<Mutex<Box<dyn FnMut(InstallEvent) + Send>>>| {
            let progress = Arc::clone(progress);
            Box::new(move |event| (progress.lock().unwrap_or_else(PoisonError::into_inner))(event))
        };
        request.progress = tell(&progress);
        let warn = tell(&progress);
        let install = self.installer.begin(request)?;
        let (check, store) = (self.check.clone(), Arc::clone(&self.store));
        Ok(Box::new(Guarded { install, check, store, warn }))
    }

    fn holds(&self) -> bool {
        self.installer.holds()
    }

    fn check(&self) -> Result<(), InstallError> {
        self.refuse_to_overwrite()?;
        self.installer.check()
    }
}

impl<S: KeyValueStore> Install for Guarded<S> {
    fn write(&mut self, chunk: &[u8]) -> Result<(), InstallError> {
        self.install.write(chunk)
    }

    fn held(&self) -> Option<SignedFirmware> {
        self.install.held()
    }

    fn proceed(&mut self) -> Result<(), InstallError> {
        note(&self.check, &self.store, &mut self.warn);
        self.install.proceed()
    }

    fn finish(self: Box<Self>) -> Result<InstallReport, InstallError> {
        self.install.finish()
    }
}

impl<I, S: KeyValueStore> GuardedInstaller<I, S> {
    /// Updates go to the slot that the environment does not name. Where that is the one that runs, they must wait.
    fn refuse_to_overwrite(&self) -> Result<(), InstallError> {
        // Without an environment the archive's own requirements decide.
        let Ok(pairs) = lock(&self.store).load() else { return Ok(()) };
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
