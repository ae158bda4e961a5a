//! Where a system shows what it booted: its kernel, its disk, and notes of earlier looks.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::evidence::{Evidence, Opinion};
use super::note::{self, Mark, MarkKind, Note};
use super::{BOOT_ID, BootState, MARK};
use crate::identity::known_slots;
use crate::kv::Pairs;
use crate::limits::{BOOT_ID_MAX, FIRST_LOOK_MAX};
use crate::small_file::read_limited;

/// Where to look.
#[derive(Clone, Debug)]
pub(super) struct System {
    pub(super) disk: PathBuf,
    /// In front of `/proc`, `/sys`, `/run` and `/dev/shm`.
    pub(super) root: PathBuf,
    pub(super) boot_id: Option<PathBuf>,
    pub(super) state: Option<PathBuf>,
    /// Whether `/proc` and `/sys` speak of the system that boots from the disk.
    pub(super) own: bool,
}

impl System {
    pub(super) fn read_boot_id(&self) -> io::Result<String> {
        read_boot_id(&self.boot_id.clone().unwrap_or_else(|| self.under(BOOT_ID)))
    }

    fn under(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn evidence(&self) -> Evidence {
        if self.own { Evidence::gather(&self.root, &self.disk) } else { Evidence::default() }
    }

    pub(super) fn look(&self, pairs: &Pairs, named: &Note, remembered: Option<&Note>) -> (BootState, Note) {
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

    /// Returns whether the mark in the environment would show nothing that other evidence does not show, too: in this
    /// boot, and in the next one if the boot loader falls back.
    pub(super) fn knows_without_mark(&self, pairs: &Pairs, started: &Note) -> bool {
        // Nothing can be kept of a boot that is not known.
        let Ok(boot) = self.read_boot_id() else { return false };
        let kept =
            |place: &note::Place| place.read(&boot).is_some_and(|note| note.trusted && note.same(started));
        let evidence = self.evidence();
        let opinion = evidence.opinion(&started.slot, &known_slots(pairs), None, None);
        // Without its slot the mounted root is only recognized with the mark. Folders in memory are lost with a container.
        started.trusted
            && match opinion {
                Opinion::For => self.places().iter().any(kept),
                // The state file can be lost, so a second place must know it, too.
                Opinion::None if evidence.fingerprint().is_none() => {
                    self.durable_place().iter().any(kept)
                        && self.places().iter().filter(|place| kept(place)).count() > 1
                }
                Opinion::None | Opinion::Against { .. } => false,
            }
    }

    /// Returns the state file as a place for notes.
    fn durable_place(&self) -> Option<note::Place> {
        self.state.as_ref().map(|file| note::Place::durable(file.clone(), &self.disk_name()))
    }

    /// Returns the places for notes of this boot.
    fn places(&self) -> Vec<note::Place> {
        let disk = self.disk_name();
        let volatile = (self.own || self.state.is_none())
            .then(|| ["/run", "/dev/shm"].map(|folder| note::Place::volatile(&self.under(folder), &disk)));
        volatile.into_iter().flatten().chain(self.durable_place()).collect()
    }

    /// Returns a name for the medium: another card in the same reader has another.
    fn disk_name(&self) -> String {
        // A disk that is missing is named as it was given.
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
