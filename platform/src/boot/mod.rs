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
mod note;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::identity::{FirmwareInfo, active_slot, known_slots};
use crate::install::{Install, InstallError, InstallEvent, InstallRequest, Installer};
use crate::kv::{KeyValueStore, KvError, OwnedChange, Pairs};
use crate::limits::{BOOT_ID_MAX, FIRST_LOOK_MAX};
use crate::read::read_limited;
use evidence::{Evidence, Opinion};
use note::{Mark, MarkKind, Note};

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

/// Where to look.
#[derive(Clone, Debug)]
struct System {
    disk: PathBuf,
    /// In front of `/proc`, `/sys`, `/run` and `/dev/shm`.
    root: PathBuf,
    boot_id: Option<PathBuf>,
    state: Option<PathBuf>,
    /// Whether `/proc` and `/sys` speak of the system that boots from the disk.
    own: bool,
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
    /// # Errors
    ///
    /// What kept the environment from being changed.
    pub fn note_install(&self, store: &mut dyn KeyValueStore) -> Result<(), KvError> {
        store.change(&mut |pairs| {
            let (_, started) = self.look(pairs);
            self.mark(pairs, MarkKind::Install, started).into_iter().collect()
        })
    }

    /// Wraps an installer: [`note_install`](Self::note_install) runs before each update.
    pub fn guard<I: Installer, S: KeyValueStore>(&self, installer: I, store: S) -> GuardedInstaller<I, S> {
        GuardedInstaller { check: self.clone(), installer, store }
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

impl System {
    fn read_boot_id(&self) -> io::Result<String> {
        read_boot_id(&self.boot_id.clone().unwrap_or_else(|| self.under(BOOT_ID)))
    }

    fn under(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn evidence(&self) -> Evidence {
        if self.own { Evidence::gather(&self.root, &self.disk) } else { Evidence::default() }
    }

    fn look(&self, pairs: &Pairs, named: &Note, remembered: Option<&Note>) -> (BootState, Note) {
        let doubtful = Note { trusted: false, ..named.clone() };
        let evidence = self.evidence();
        let boot = self.read_boot_id();
        let mark = pairs.get(MARK).and_then(|text| Mark::parse(text));
        let places = self.places();
        // 1. Did the environment change since this boot was first looked at?
        let mut noted: Vec<Note> = remembered.into_iter().cloned().collect();
        if let Ok(boot) = &boot {
            noted.extend(places.iter().filter_map(|place| place.read(boot)));
            noted.extend(mark.iter().filter(|mark| mark.is_of(boot)).map(|mark| mark.note.clone()));
        }
        if let Some(other) = noted.iter().find(|note| !note.same(named)) {
            return (other.verdict(named), other.clone());
        }
        // 2. Does anything contradict it?
        let slots = known_slots(pairs);
        let opinion = evidence.opinion(&named.slot, &slots, mark.as_ref(), boot.as_deref().ok());
        if let Opinion::Against { running, why } = opinion {
            return (BootState::OtherRuns { running, named: named.slot.clone(), why }, doubtful);
        }
        let agreed = matches!(opinion, Opinion::For);
        if !pairs.contains_key("nerves_fw_active") && slots.len() > 1 && !agreed {
            return (unknown(NO_ACTIVE), doubtful);
        }
        let boot = match boot {
            Ok(boot) => boot,
            Err(_) if agreed => return (BootState::AsNamed, named.clone()),
            Err(error) => {
                let file = self.boot_id.clone().unwrap_or_else(|| self.under(BOOT_ID));
                return (unknown(format!("cannot read {}: {error}", file.display())), doubtful);
            }
        };
        // 3. Is it noted for this boot? 4. Or is this the first look?
        let trusted = if noted.is_empty() {
            // A reboot came after an install, or after the environment already named the same.
            let rebooted = mark.is_some_and(|mark| mark.kind == MarkKind::Install || mark.note.same(named));
            let proven = agreed || rebooted;
            let young = self.boot_id.is_some() || evidence.uptime.is_some_and(|age| age <= FIRST_LOOK_MAX);
            let note = Note { trusted: proven || young, ..named.clone() };
            let kept: Vec<String> =
                places.iter().filter_map(|place| place.write(&boot, &note).err()).collect();
            if kept.len() == places.len() && !proven {
                let why = format!("{NOWHERE} ({})", kept.join("; "));
                return (unknown(why), doubtful);
            }
            note.trusted
        } else {
            agreed || noted.iter().all(|note| note.trusted)
        };
        if trusted { (BootState::AsNamed, named.clone()) } else { (unknown(late()), doubtful) }
    }

    /// Returns the places for notes of this boot.
    fn places(&self) -> Vec<note::Place> {
        let disk = self.disk_name();
        let volatile = (self.own || self.state.is_none())
            .then(|| ["/run", "/dev/shm"].map(|folder| note::Place::volatile(&self.under(folder), &disk)));
        let state = self.state.iter().map(|file| note::Place::durable(file.clone(), &disk));
        volatile.into_iter().flatten().chain(state).collect()
    }

    /// Returns a name for the medium: another card in the same reader has another.
    fn disk_name(&self) -> String {
        let path = fs::canonicalize(&self.disk).unwrap_or_else(|_| self.disk.clone());
        let Ok(found) = fs::metadata(&path) else { return path.display().to_string() };
        if found.file_type().is_block_device() {
            let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
            let file = self.under(&format!("/sys/dev/block/{major}:{minor}/diskseq"));
            // Kernels before 5.15 have none.
            let number = fs::read_to_string(file).unwrap_or_default();
            return format!("{} {}", path.display(), number.trim());
        }
        // Some file systems don't keep the time of creation.
        let born = found.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        format!("{} {}:{} {:?}", path.display(), found.dev(), found.ino(), born)
    }
}

/// Why nothing is known without `nerves_fw_active`.
const NO_ACTIVE: &str = "the boot environment has no nerves_fw_active although it describes several slots; the \
                         kernel command line can name the running one (nerves_fw_slot=)";

/// Why nothing is known without a place for notes.
const NOWHERE: &str = "what the boot environment names at boot can be noted nowhere; use a state file on a writable \
                       partition";

/// Why a late first look is not believed.
fn late() -> String {
    format!(
        "this program first looked at the boot environment more than {} minutes after the boot, when another program \
         may already have written new firmware; start it at boot, or name the slot on the kernel command line \
         (nerves_fw_slot=)",
        FIRST_LOOK_MAX.as_secs() / 60
    )
}

fn unknown(why: impl Into<String>) -> BootState {
    BootState::Unknown { why: why.into() }
}

/// An installer that notes what runs before it begins; see [`BootCheck::guard`].
#[derive(Debug)]
pub struct GuardedInstaller<I, S> {
    check: BootCheck,
    installer: I,
    store: S,
}

impl<I: Installer, S: KeyValueStore> Installer for GuardedInstaller<I, S> {
    fn begin(&mut self, mut request: InstallRequest) -> Result<Box<dyn Install>, InstallError> {
        self.refuse_to_overwrite()?;
        if let Err(error) = self.check.note_install(&mut self.store) {
            // The notes elsewhere remain, and the update is worth more than this one.
            let text = format!("cannot note which firmware runs: {error}");
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

/// Reads the identity of this boot, from [`BOOT_ID`] or a file like it.
///
/// # Errors
///
/// What keeps it from being read; [`io::ErrorKind::InvalidData`] if it is empty or not a short line of text.
pub fn read_boot_id(path: &Path) -> io::Result<String> {
    let bytes = read_limited(path, BOOT_ID_MAX)?;
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let id = text.as_deref().map(str::trim).filter(|id| !id.is_empty());
    match id {
        Some(id) if !id.chars().any(|letter| letter.is_control() || letter == '=') => Ok(id.to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no short line of text")),
    }
}

impl Note {
    /// Returns what the environment names, believed.
    fn of(pairs: &Pairs) -> Self {
        let slot = active_slot(pairs);
        Self::new(slot, &FirmwareInfo::of_slot(pairs, slot).uuid)
    }
}
