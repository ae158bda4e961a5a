//! Whether the firmware that the store names is the one that runs (linux-agent §2).
//!
//! `nerves_fw_active` names the slot that runs next. Between the end of an update and the restart of the system that is
//! not the slot that runs now. A program that is started again in between must not take the new firmware for the
//! running one: it would tell the server so, and could mark good what has never run.

use std::io;
use std::path::Path;

use crate::identity::Identity;
use crate::kv::{KeyValueStore, KvError};
use crate::limits::BOOT_ID_MAX;
use crate::read::read_limited;

/// Where Linux keeps a text that is another after every start of the system (random(4)).
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What runs, as far as that can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootState {
    /// What the store names was named already when this was first asked after the start of the system.
    AsNamed,
    /// Other firmware was selected since. It has not run yet: the system must be restarted first.
    RestartDue {
        /// The slot that runs.
        running: String,
        /// The slot that runs next.
        next: String,
    },
}

/// Notes what the store names at the first call after a start of the system, and compares at every later one.
///
/// `state` is a file of the program's own that outlives it; `boot_id` is what [`read_boot_id`] returned.
///
/// # Errors
///
/// What keeps the state from being read or written. Then nothing is known, and nothing should be marked good.
pub fn boot_state(
    state: &mut dyn KeyValueStore,
    boot_id: &str,
    identity: &Identity,
) -> Result<BootState, KvError> {
    let noted = state.load()?;
    let known = |key: &str| noted.get(key).map(String::as_str).unwrap_or_default();
    let (slot, uuid) = (identity.active_slot.as_str(), identity.firmware.uuid.as_str());
    if known("boot_id") != boot_id {
        state.update(&[("boot_id", Some(boot_id)), ("boot_slot", Some(slot)), ("boot_uuid", Some(uuid))])?;
        return Ok(BootState::AsNamed);
    }
    if known("boot_slot") == slot && known("boot_uuid") == uuid {
        return Ok(BootState::AsNamed);
    }
    Ok(BootState::RestartDue { running: known("boot_slot").to_owned(), next: slot.to_owned() })
}

/// Reads the text that is another after every start of the system, from [`BOOT_ID`] or a file like it.
///
/// # Errors
///
/// What keeps it from being read; [`io::ErrorKind::InvalidData`] if it is empty or not a short line of text.
pub fn read_boot_id(path: &Path) -> io::Result<String> {
    let bytes = read_limited(path, BOOT_ID_MAX)?;
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let id = text.as_deref().map(str::trim).unwrap_or_default();
    if id.is_empty() || id.chars().any(|letter| letter.is_control() || letter == '=') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no short line of text"));
    }
    Ok(id.to_owned())
}
