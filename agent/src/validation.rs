//! Marking the running firmware good, and noticing that another program did.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use nerves_hub_link_blocking::Handle;
use nerves_hub_link_platform::boot::{BootCheck, BootState, Marked};
use nerves_hub_link_platform::identity::{Identity, mark_validated};
use nerves_hub_link_platform::kv::{KeyValueStore as _, KvError, UbootStore};

use crate::limits::{MARK_PAUSE, MARK_PAUSE_MAX};
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

/// What became of an attempt to mark the firmware good.
enum Outcome {
    Good,
    /// It did not boot, or not from where the environment says. Stays so in this boot.
    Never(String),
    /// Tried again: another program holds the disk for a moment, a disk is full, or a boot can't be told from another yet.
    NotNow(String),
}

impl Validation {
    /// Looks at the environment after every join and now and then until it calls the firmware good, and reports that to
    /// the server. Marking it good is tried again until it is done. Reading may hang with the disk, so this needs a thread of
    /// its own.
    pub fn watch(mut self, joins: &Receiver<()>, recorder: &Recorder) {
        // How long to wait for the next attempt, once the server accepted the device.
        let mut again: Option<Duration> = None;
        let mut said = String::new();
        loop {
            let due = match joins.recv_timeout(again.unwrap_or(self.every)) {
                Ok(()) => self.mark,
                Err(RecvTimeoutError::Timeout) => again.is_some(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let good = if due { self.attempt(&mut again, &mut said, recorder) } else { self.look(recorder) };
            if good {
                // Fails only when the device is stopping; the environment already says so for the next join.
                let _ = self.handle.firmware_validated();
                return;
            }
        }
    }

    fn attempt(&mut self, again: &mut Option<Duration>, said: &mut String, recorder: &Recorder) -> bool {
        let text = match self.validate() {
            Outcome::Good => {
                recorder.note("validated", "this firmware reached the server: marked it good");
                return true;
            }
            Outcome::Never(text) => {
                (self.mark, *again) = (false, None);
                text
            }
            Outcome::NotNow(text) => {
                let pause = again.map_or(MARK_PAUSE, |pause| (pause * 2).min(MARK_PAUSE_MAX));
                *again = Some(pause);
                format!(
                    "{text}; tried again until it is done. A restart before that may bring the old firmware back"
                )
            }
        };
        // One attempt a minute would fill a log.
        if *said != text {
            recorder.note("not-validated", text.clone());
            *said = text;
        }
        false
    }

    fn validate(&mut self) -> Outcome {
        match mark_validated(&mut self.store, &self.boot) {
            Ok(Marked::Good) => Outcome::Good,
            Ok(Marked::NotThisBoot(state @ BootState::Unknown { .. })) => {
                Outcome::NotNow(format!("nothing is marked good yet: {state}"))
            }
            Ok(Marked::NotThisBoot(state)) => Outcome::Never(format!("nothing is marked good: {state}")),
            Ok(_) => {
                Outcome::NotNow("the U-Boot environment still doesn't call this firmware good".to_owned())
            }
            Err(error) => Outcome::NotNow(format!("can't mark this firmware good: {error}")),
        }
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
