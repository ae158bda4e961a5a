//! Whether the firmware that the boot environment names is the firmware that runs (boot-control §9, linux-agent §2).
//!
//! `nerves_fw_active` names the slot that boots next. Between an update and the reboot that is not the slot that runs,
//! and after a boot loader fell back by itself it may not be either. A [`BootCheck`] finds out, so that firmware that
//! never booted is neither reported to the server nor marked good.
//!
//! | evidence | what it shows |
//! | --- | --- |
//! | a note in `/run`, in the state file and in this process | what the environment named when this boot was first looked at |
//! | a note in the environment itself, written before each install | what ran when the install began, and in which boot |
//! | `nerves_fw_slot=` and the like on the kernel command line | the boot loader's own word |
//! | the partition mounted at `/`, if it is on the disk that updates go to | its name, whether the partition table changed since, whether it is still the old root |
//!
//! Contradictions win: one of them is enough, and nothing is marked good. Without a note of this boot the environment
//! is believed if the command line or the partition's name agrees, if the last install began in an earlier boot, or if
//! the boot is younger than [`FIRST_LOOK_MAX`]. Otherwise the answer is [`BootState::Unknown`].

mod evidence;
mod guard;
mod note;
mod system;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::identity::{FirmwareInfo, active_slot};
use crate::install::Installer;
use crate::kv::{KeyValueStore, KvError, OwnedChange, Pairs};
#[cfg(doc)]
use crate::limits::FIRST_LOOK_MAX;
use crate::limits::NOTE_RESERVE;
use note::{Mark, MarkKind, Note};
use system::System;

pub use guard::GuardedInstaller;
pub use system::read_boot_id;

/// A file whose content changes at every boot (random(4)).
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The variable of the boot environment in which the last install is noted.
pub const MARK: &str = "nhl_boot";

/// Which firmware runs, as far as that can be known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BootState {
    /// This boot started the firmware that the environment names.
    AsNamed,
    /// The environment was changed in this boot: other firmware boots next.
    RestartDue {
        /// The slot that runs.
        running: String,
        /// The slot that boots next.
        next: String,
    },
    /// Something else runs than the environment names, although nobody was seen to change it in this boot. The boot
    /// loader fell back by itself, or another program selected the slot.
    OtherRuns {
        /// The slot that runs, if known.
        running: Option<String>,
        /// The slot that the environment names.
        named: String,
        /// What shows it, for a person.
        why: String,
    },
    /// It cannot be known.
    Unknown {
        /// Why, and what would help, for a person.
        why: String,
    },
}

impl std::fmt::Display for BootState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AsNamed => f.write_str("the firmware that the boot environment names runs"),
            Self::RestartDue { running, next } if running == next => {
                write!(f, "slot {next} was written and the firmware it held before still runs")
            }
            Self::RestartDue { running, next } => {
                write!(f, "slot {next} was written and slot {running} still runs")
            }
            Self::OtherRuns { running: Some(running), named, why } => {
                write!(f, "the boot environment names slot {named} and slot {running} runs: {why}")
            }
            Self::OtherRuns { running: None, named, why } => {
                write!(f, "the boot environment names slot {named}, which does not run: {why}")
            }
            Self::Unknown { why } => {
                write!(f, "it is not known whether the firmware that the boot environment names runs: {why}")
            }
        }
    }
}

/// Finds out which firmware runs. Clones share what they know.
///
/// ```
/// use nerves_hub_link_platform::boot::{BootCheck, BootState};
/// use nerves_hub_link_platform::kv::{KeyValueStore, MemoryStore};
///
/// // On a device: BootCheck::of_system("/dev/mmcblk0"), or `for_disk`.
/// let check = BootCheck::of_process();
/// let mut environment = MemoryStore::new([("nerves_fw_active", "a"), ("a.nerves_fw_uuid", "1")]);
/// assert_eq!(check.state(&environment.load()?), BootState::AsNamed);
/// environment.put("nerves_fw_active", "b")?;
/// assert!(matches!(check.state(&environment.load()?), BootState::RestartDue { .. }));
/// # Ok::<(), nerves_hub_link_platform::kv::KvError>(())
/// ```
#[derive(Clone, Debug)]
pub struct BootCheck {
    /// `None` where the process is the device: every start of it counts as a boot.
    system: Option<Arc<System>>,
    remembered: Arc<Mutex<Option<Note>>>,
}

/// What [`mark_validated`](crate::identity::mark_validated) did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Marked {
    /// The environment calls the running firmware good, now or already before.
    Good,
    /// The environment was written and still does not call it good.
    StillNot,
    /// Nothing was written: this boot is not known to have started the firmware that would be marked.
    NotThisBoot(BootState),
}

impl BootCheck {
    /// Builds a check for a disk image or a simulated device: every start of this process counts as a boot.
    pub fn of_process() -> Self {
        Self { system: None, remembered: Arc::default() }
    }

    /// Builds a check for the disk that this system boots from.
    pub fn of_system(disk: impl Into<PathBuf>) -> Self {
        let (disk, root) = (disk.into(), PathBuf::from("/"));
        let system = System { disk, root, boot_id: None, state: None, own: true };
        Self { system: Some(Arc::new(system)), remembered: Arc::default() }
    }

    /// Builds the check that fits a disk: [`of_system`](Self::of_system) unless it is a regular file.
    pub fn for_disk(disk: impl Into<PathBuf>) -> Self {
        let disk = disk.into();
        // What cannot be looked at may be a device that comes later.
        if fs::metadata(&disk).is_ok_and(|found| found.is_file()) {
            Self::of_process()
        } else {
            Self::of_system(disk)
        }
    }

    /// Also keeps notes in this file, which may outlive the boot. For systems without a writable `/run`.
    #[must_use]
    pub fn state_file(self, file: impl Into<PathBuf>) -> Self {
        self.with(|system| system.state = Some(file.into()))
    }

    /// Reads the boot's identity from this file instead of [`BOOT_ID`]. The time since the boot is then not looked at.
    #[must_use]
    pub fn boot_id(self, file: impl Into<PathBuf>) -> Self {
        self.with(|system| system.boot_id = Some(file.into()))
    }

    /// Looks for `/proc`, `/sys`, `/run` and `/dev/shm` in this folder, for tests.
    #[must_use]
    pub fn root(self, folder: impl Into<PathBuf>) -> Self {
        self.with(|system| system.root = folder.into())
    }

    /// Builds a check for a disk image whose boots are told apart by a file, see [`boot_id`](Self::boot_id).
    pub fn of_image(disk: impl Into<PathBuf>, boot_id: impl Into<PathBuf>) -> Self {
        Self::of_system(disk).with(|system| {
            system.boot_id = Some(boot_id.into());
            system.own = false;
        })
    }

    fn with(mut self, change: impl FnOnce(&mut System)) -> Self {
        if let Some(system) = &mut self.system {
            change(Arc::make_mut(system));
        }
        self
    }

    /// Compares what the environment names with what runs. The first call in a boot notes what it names.
    pub fn state(&self, pairs: &Pairs) -> BootState {
        self.look(pairs).0
    }

    /// Returns the state, and what this boot started with.
    fn look(&self, pairs: &Pairs) -> (BootState, Note) {
        let named = Note::of(pairs);
        // What another thread left there is whole.
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(system) = &self.system else {
            let first = remembered.get_or_insert_with(|| named.clone()).clone();
            return (first.verdict(&named), first);
        };
        let (state, started) = system.look(pairs, &named, remembered.as_ref());
        if state == BootState::AsNamed && remembered.is_none() {
            *remembered = Some(named);
        }
        (state, started)
    }

    /// Notes in the environment, before an update is written, what runs and in which boot. A program that is started
    /// again before the reboot then knows it even if every other note was lost.
    ///
    /// Each write of an environment with one copy can lose it at a power cut. Nothing is written where other evidence
    /// shows the same: where the command line or the partition mounted at `/` names the slot and a note of this boot is
    /// kept elsewhere, and where both the state file and a folder in memory keep one and the mounted root is unknown
    /// anyway. Nothing is written either if fewer than [`NOTE_RESERVE`] bytes would be left for the update's own
    /// variables.
    ///
    /// # Errors
    ///
    /// What kept the environment from being changed. It is as it was, and the update can begin.
    pub fn note_install(&self, store: &mut dyn KeyValueStore) -> Result<(), KvError> {
        store.change_leaving(NOTE_RESERVE, &mut |pairs| {
            let (_, started) = self.look(pairs);
            let known = self.system.as_ref().is_some_and(|system| system.knows_without_mark(pairs, &started));
            if known {
                Vec::new()
            } else {
                self.mark(pairs, MarkKind::Install, started).into_iter().collect()
            }
        })
    }

    /// Wraps an installer: [`note_install`](Self::note_install) runs before each update.
    pub fn guard<I: Installer, S: KeyValueStore>(&self, installer: I, store: S) -> GuardedInstaller<I, S> {
        GuardedInstaller::new(self.clone(), installer, store)
    }

    /// Decides about marking good what the environment names: returns the state, and the change that notes it there.
    pub(crate) fn judge(&self, pairs: &Pairs) -> (BootState, Option<OwnedChange>) {
        let (state, started) = self.look(pairs);
        (state, self.mark(pairs, MarkKind::Good, started))
    }

    fn mark(&self, pairs: &Pairs, kind: MarkKind, started: Note) -> Option<OwnedChange> {
        let system = self.system.as_ref()?;
        let boot = system.read_boot_id().ok()?;
        let text = Mark::new(kind, &boot, started, system.evidence().fingerprint()).to_string();
        (pairs.get(MARK) != Some(&text)).then(|| (MARK.to_owned(), Some(text)))
    }
}

impl Note {
    /// Returns what the environment names, believed.
    fn of(pairs: &Pairs) -> Self {
        let slot = active_slot(pairs);
        Self::new(slot, &FirmwareInfo::of_slot(pairs, slot).uuid)
    }
}
