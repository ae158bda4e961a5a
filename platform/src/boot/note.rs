//! Notes of what a boot started with: beside the environment, and in it.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::BootState;
use crate::kv::{FileStore, KeyValueStore as _};
use crate::limits::NOTE_WORD_MAX;

/// The folder of notes in `/run` or `/dev/shm`. Not `nerves-hub-link`, which systemd empties with
/// `RuntimeDirectory=nerves-hub-link` whenever the program ends.
const FOLDER: &str = "nerves-hub-link-boot";

/// What the environment named at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub slot: String,
    /// A digest of the firmware's UUID.
    pub firmware: String,
    /// Whether this is known to be what the boot started with.
    pub trusted: bool,
}

impl Note {
    pub(super) fn new(slot: &str, uuid: &str) -> Self {
        Self { slot: word(slot), firmware: digest(uuid), trusted: true }
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        self.slot == other.slot && self.firmware == other.firmware
    }

    /// Returns what it means that the environment names `named` by now.
    pub(super) fn verdict(&self, named: &Self) -> BootState {
        if self.same(named) {
            return BootState::AsNamed;
        }
        BootState::RestartDue { running: self.slot.clone(), next: named.slot.clone() }
    }
}

/// A file that holds a note.
#[derive(Debug)]
pub(super) struct Place {
    file: PathBuf,
    /// The folder to be made for it, if its file system forgets it at a reboot.
    folder: Option<PathBuf>,
    disk: String,
}

impl Place {
    pub(super) fn volatile(parent: &Path, disk: &str) -> Self {
        let folder = parent.join(FOLDER);
        Self { file: folder.join(digest(disk)), folder: Some(folder), disk: digest(disk) }
    }

    pub(super) fn durable(file: PathBuf, disk: &str) -> Self {
        Self { file, folder: None, disk: digest(disk) }
    }

    /// Reads the note, if it is of this boot and disk.
    pub(super) fn read(&self, boot: &str) -> Option<Note> {
        if self.folder.as_deref().is_some_and(|folder| check_folder(folder).is_err()) {
            return None;
        }
        // A damaged file says nothing about this boot.
        let pairs = FileStore::new(&self.file).load().ok()?;
        let value = |key: &str| pairs.get(key).map(String::as_str);
        if value("boot_id") != Some(boot) || value("boot_disk") != Some(&self.disk) {
            return None;
        }
        let (slot, firmware) = (value("boot_slot")?.to_owned(), value("boot_firmware")?.to_owned());
        Some(Note { slot, firmware, trusted: value("boot_trusted") == Some("1") })
    }

    /// Writes the note; returns why it can't be, for a person.
    pub(super) fn write(&self, boot: &str, note: &Note) -> Result<(), String> {
        if let Some(folder) = &self.folder {
            // It may be there; whether it is ours is looked at next.
            let _ = DirBuilder::new().mode(0o700).create(folder);
            check_folder(folder)?;
        }
        let changes = [
            ("boot_id", Some(boot)),
            ("boot_disk", Some(&*self.disk)),
            ("boot_slot", Some(&*note.slot)),
            ("boot_firmware", Some(&*note.firmware)),
            ("boot_trusted", Some(if note.trusted { "1" } else { "0" })),
        ];
        FileStore::new(&self.file).update(&changes).map_err(|error| error.to_string())
    }
}

/// Other users may create names in `/dev/shm`: only a folder of ours counts.
fn check_folder(folder: &Path) -> Result<(), String> {
    let found = fs::symlink_metadata(folder);
    let found = found.map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let ours = [rustix::process::geteuid().as_raw(), 0].contains(&found.uid());
    if !found.is_dir() || !ours || found.mode() & 0o022 != 0 {
        return Err(format!("{} is not a folder that only this user can write", folder.display()));
    }
    Ok(())
}

/// When a note in the environment was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarkKind {
    /// Before an update was written.
    Install,
    /// When the firmware was marked good.
    Good,
}

/// The note in the environment: `1 KIND BOOT TRUSTED SLOT FIRMWARE ROOT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub kind: MarkKind,
    pub boot: String,
    pub note: Note,
    /// What was mounted at `/`, and which kernel ran; `-` if unknown.
    pub root: String,
}

impl Mark {
    pub(super) fn new(kind: MarkKind, boot: &str, note: Note, root: Option<String>) -> Self {
        Self { kind, boot: digest(boot), note, root: root.unwrap_or_else(|| "-".to_owned()) }
    }

    /// Reads a note. One in an unknown form says nothing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let ["1", kind, boot, trusted, slot, firmware, root] = words[..] else { return None };
        let kind = match kind {
            "install" => MarkKind::Install,
            "good" => MarkKind::Good,
            _ => return None,
        };
        let note = Note { slot: slot.to_owned(), firmware: firmware.to_owned(), trusted: trusted == "1" };
        Some(Self { kind, boot: boot.to_owned(), note, root: root.to_owned() })
    }

    pub(super) fn is_of(&self, boot: &str) -> bool {
        self.boot == digest(boot)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            MarkKind::Install => "install",
            MarkKind::Good => "good",
        };
        let trusted = u8::from(self.note.trusted);
        write!(f, "1 {kind} {} {trusted} {} {} {}", self.boot, self.note.slot, self.note.firmware, self.root)
    }
}

/// Makes one word of a name, which comes from the environment.
fn word(name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_graphic() { letter } else { '_' };
    let word: String = name.chars().take(NOTE_WORD_MAX).map(plain).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

/// Shortens a text that only has to be recognized: an environment is small.
fn digest(text: &str) -> String {
    format!("{:08x}", crc32fast::hash(text.as_bytes()))
}
