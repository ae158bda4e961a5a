//! Which firmware runs on a disk: the boot loader's decision, acted out.

use super::environment::{EnvironmentError, Variables, read_environment, write_environment};
use super::layout::{BLOCK, DiskLayout, Slot};
use super::medium::{Medium, MediumReader};
use super::rootfs::{self, RootfsError, RootfsInfo};
use crate::meta::FirmwareMeta;

/// What came up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booted {
    /// The slot it runs from.
    pub slot: Slot,
    /// What the environment says about that slot.
    pub meta: FirmwareMeta,
    /// Whether it is validated; `None` when the environment does not say.
    pub validated: Option<bool>,
    /// The boot loader gave up on the other slot in this very boot.
    pub reverted: bool,
    /// What is really in the slot.
    pub rootfs: RootfsInfo,
}

/// Why nothing came up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// The boot record's signature is missing.
    #[error("the disk has no boot record: block 0 does not end in 55 AA")]
    NoBootRecord,
    /// The environment cannot be read.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The environment names no slot.
    #[error("the boot environment does not say which slot is active: nerves_fw_active is {0:?}")]
    NoActiveSlot(Option<String>),
    /// The slot's root file system is not whole. A real device hangs here until its watchdog resets it.
    #[error("slot {} cannot run: {reason}", .slot.letter())]
    Rootfs {
        /// The slot.
        slot: Slot,
        /// What is wrong with it.
        reason: RootfsError,
    },
    /// The environment describes another firmware than the slot holds.
    #[error("slot {} holds version {found} but the boot environment says {said}", .slot.letter())]
    Identity {
        /// The slot.
        slot: Slot,
        /// The version in the root file system.
        found: String,
        /// The version in the environment.
        said: String,
    },
}

/// Boots a disk once, as the U-Boot script of Nerves systems does: a firmware not yet validated runs
/// once; if it is still not validated at the next boot, the other slot is made active again
/// (device-identity §2). Writes the environment where that script does.
pub fn boot(medium: &mut dyn Medium, layout: &DiskLayout) -> Result<Booted, BootError> {
    let mut record = [0; 512];
    medium.read_at(0, &mut record).map_err(|error| EnvironmentError::Io(error.to_string()))?;
    if !record.ends_with(&[0x55, 0xaa]) {
        return Err(BootError::NoBootRecord);
    }
    let mut variables = read_environment(medium, layout)?;
    let mut slot = active(&variables)?;
    let mut reverted = false;
    if get(&variables, "nerves_fw_validated") == Some("0") {
        if get(&variables, "nerves_fw_booted") == Some("1") {
            reverted = true;
            slot = slot.other();
            variables.insert("nerves_fw_active".to_owned(), slot.letter().to_owned());
            variables.insert("nerves_fw_validated".to_owned(), "1".to_owned());
        } else {
            variables.insert("nerves_fw_booted".to_owned(), "1".to_owned());
        }
        write_environment(medium, layout, &variables)?;
    }
    let mut reader = MediumReader { medium, position: layout.slot(slot) * BLOCK };
    let rootfs = rootfs::check(&mut reader, layout.slot_blocks * BLOCK)
        .map_err(|reason| BootError::Rootfs { slot, reason })?;
    let meta = slot_meta(&variables, slot);
    if meta.version != rootfs.version {
        return Err(BootError::Identity { slot, found: rootfs.version, said: meta.version });
    }
    let validated = match get(&variables, "nerves_fw_validated") {
        Some("1") => Some(true),
        Some("0") => Some(false),
        _ => None,
    };
    Ok(Booted { slot, meta, validated, reverted, rootfs })
}

/// Boots until something comes up, as a watchdog would make it: at most three times, since the second
/// boot already reverts.
pub fn boot_with_watchdog(medium: &mut dyn Medium, layout: &DiskLayout) -> Result<Booted, BootError> {
    let mut answer = boot(medium, layout);
    for _ in 0..2 {
        match answer {
            Err(BootError::Rootfs { .. }) => answer = boot(medium, layout),
            _ => return answer,
        }
    }
    answer
}

/// Marks the running firmware as good, as the `validate` task of a device's `ops.fw` does.
pub fn validate(medium: &mut dyn Medium, layout: &DiskLayout) -> Result<(), EnvironmentError> {
    let mut variables = read_environment(medium, layout)?;
    variables.insert("nerves_fw_validated".to_owned(), "1".to_owned());
    write_environment(medium, layout, &variables)
}

/// The first of these variables that the environment has, for archives of other makes whose slot is
/// named by another variable (for example `active`).
pub fn boot_variable(
    medium: &dyn Medium,
    layout: &DiskLayout,
    names: &[&str],
) -> Result<Option<String>, EnvironmentError> {
    let variables = read_environment(medium, layout)?;
    Ok(names.iter().find_map(|name| variables.get(*name).cloned()))
}

/// What the environment says about a slot.
pub fn slot_meta(variables: &Variables, slot: Slot) -> FirmwareMeta {
    let text = |name: &str| {
        get(variables, &format!("{}.nerves_fw_{name}", slot.letter())).unwrap_or_default().to_owned()
    };
    let optional = |name: &str| Some(text(name)).filter(|value| !value.is_empty());
    FirmwareMeta {
        version: text("version"),
        description: optional("description"),
        product: text("product"),
        author: optional("author"),
        uuid: text("uuid"),
        misc: optional("misc"),
        architecture: text("architecture"),
        platform: text("platform"),
        vcs_identifier: optional("vcs_identifier"),
    }
}

fn active(variables: &Variables) -> Result<Slot, BootError> {
    let letter = get(variables, "nerves_fw_active");
    letter.and_then(Slot::from_letter).ok_or_else(|| BootError::NoActiveSlot(letter.map(str::to_owned)))
}

fn get<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
    variables.get(name).map(String::as_str)
}
