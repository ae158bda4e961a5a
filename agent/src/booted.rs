//! Not to take firmware that was only written for the one that runs.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use nerves_hub_link_platform::boot::{BOOT_ID, BootState, boot_state, read_boot_id};
use nerves_hub_link_platform::identity::Identity;
use nerves_hub_link_platform::kv::FileStore;

use crate::cli::RunArgs;
use crate::record::Recorder;

/// Returns why the system must be restarted before this program may speak for its firmware, if so.
///
/// # Errors
///
/// Why that can't be told, for a person.
pub fn due_restart(
    args: &RunArgs,
    identity: &Identity,
    recorder: &Recorder,
) -> Result<Option<String>, String> {
    let Some(boot_id) = boot_id_file(args) else { return Ok(None) };
    let Some(state) = &args.state else {
        recorder.note(
            "no-state",
            "no --state given: a restart of this program between an update and the reboot goes unnoticed",
        );
        return Ok(None);
    };
    let id = read_boot_id(&boot_id).map_err(|error| format!("can't read {}: {error}", boot_id.display()))?;
    let found = boot_state(&mut FileStore::new(state), &id, identity);
    match found.map_err(|error| format!("--state {}: {error}", state.display()))? {
        BootState::AsNamed => Ok(None),
        BootState::RestartDue { running, next } => {
            Ok(Some(format!("slot {next} was written and slot {running} still runs")))
        }
    }
}

/// The disk of the system this program runs on tells of this system's starts; an image file tells of none, unless
/// the caller knows better.
fn boot_id_file(args: &RunArgs) -> Option<PathBuf> {
    let is_device = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device());
    args.boot_id.clone().or_else(|| is_device(&args.disk).then(|| PathBuf::from(BOOT_ID)))
}
