//! Marking the running firmware good, and noticing that another program did.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use nerves_hub_link_blocking::Handle;
use nerves_hub_link_platform::boot::{BootCheck, BootState, Marked};
use nerves_hub_link_platform::identity::{Identity, mark_validated};
use nerves_hub_link_platform::kv::{KeyValueStore as _, KvError, UbootStore};

use crate::record::Recorder;

/// Firmware that is not validated yet.
pub struct Validation {
    /// The boot environment.
    pub store: UbootStore,
    /// Finds out what runs.
    pub boot: BootCheck,
    /// The device.
    pub handle: Handle,
    /// Time between looks at the environment.
    pub every: Duration,
    /// Whether to mark the firmware good once the server accepted the device.
    pub mark: bool,
}

impl Validation {
    /// Looks at the environment after every join and now and then until it calls the firmware good, and reports that to
    /// the server. Reading may hang with the disk, so this needs a thread of its own.
    pub fn watch(mut self, joins: &Receiver<()>, recorder: &Recorder) {
        loop {
            let good = match joins.recv_timeout(self.every) {
                Ok(()) if self.mark => self.validate(recorder),
                Ok(()) | Err(RecvTimeoutError::Timeout) => self.look(recorder),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if good {
                // Fails only when the device is stopping; the environment already says so for the next join.
                let _ = self.handle.firmware_validated();
                return;
            }
        }
    }

    fn validate(&mut self, recorder: &Recorder) -> bool {
        let (kind, text) = match mark_validated(&mut self.store, &self.boot) {
            Ok(Marked::Good) => ("validated", "this firmware reached the server: marked it good".to_owned()),
            Ok(Marked::NotThisBoot(state)) => {
                // It stays so in this boot.
                self.mark = false;
                ("not-validated", format!("nothing is marked good: {state}"))
            }
            Ok(_) => {
                self.mark = false;
                ("not-validated", "the U-Boot environment still doesn't call this firmware good".to_owned())
            }
            Err(error) => (
                "not-validated",
                format!("can't mark this firmware good: {error}; tried again after the next join"),
            ),
        };
        recorder.note(kind, text);
        kind == "validated"
    }

    fn look(&self, recorder: &Recorder) -> bool {
        // An environment that can't be read now is read again.
        let good = self.validated().is_ok_and(|validated| validated == Some(true));
        if good {
            recorder.note("validated", "another program marked this firmware good");
        }
        good
    }

    fn validated(&self) -> Result<Option<bool>, KvError> {
        let pairs = self.store.load()?;
        Ok(match self.boot.state(&pairs) {
            BootState::OtherRuns { running: Some(running), .. } => {
                Identity::of_slot(&pairs, &running).validated
            }
            // The flags describe firmware that does not run.
            BootState::RestartDue { .. } | BootState::OtherRuns { .. } => None,
            _ => Identity::from_pairs(&pairs).validated,
        })
    }
}
