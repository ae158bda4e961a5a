//! Firmware that was only written is not the firmware that runs.

use std::fs;

use nerves_hub_link_platform::boot::{BootCheck, BootState};
use nerves_hub_link_platform::identity::{FirmwareInfo, Identity};
use nerves_hub_link_platform::kv::Pairs;

use crate::cli::RunArgs;
use crate::record::Recorder;

/// Builds the check that fits the disk: an image file is booted whenever this program starts, unless a file tells
/// its boots apart.
pub fn check(args: &RunArgs) -> BootCheck {
    let image = fs::metadata(&args.disk).is_ok_and(|found| found.is_file());
    let check = match &args.boot_id {
        Some(file) if image => BootCheck::of_image(&args.disk, file),
        Some(file) => BootCheck::of_system(&args.disk).boot_id(file),
        None => BootCheck::for_disk(&args.disk),
    };
    match &args.state {
        Some(file) => check.state_file(file),
        None => check,
    }
}

/// Returns who the device is by what its environment says and what runs. `stuck`: a restart was tried and failed, so the
/// device reports what still runs.
///
/// # Errors
///
/// Why the system must be restarted before this program may report its firmware, for a person.
pub fn identity(
    check: &BootCheck,
    pairs: &Pairs,
    stuck: bool,
    recorder: &Recorder,
) -> Result<Identity, String> {
    let state = check.state(pairs);
    let named = Identity::from_pairs(pairs);
    match &state {
        BootState::AsNamed => Ok(named),
        BootState::RestartDue { running, next } if stuck => {
            recorder
                .note("restart-due", format!("{state}; nothing is updated or marked good until a restart"));
            let mut identity = Identity::of_slot(pairs, running);
            if running == next {
                // What the environment says about this slot is what was written over it.
                identity.firmware = FirmwareInfo::default();
                identity.validated = None;
            }
            Ok(identity)
        }
        BootState::RestartDue { .. } => Err(state.to_string()),
        BootState::OtherRuns { running: Some(running), .. } => {
            recorder.note("other-runs", format!("{state}; it is reported, and nothing is marked good"));
            Ok(Identity::of_slot(pairs, running))
        }
        _ if named.validated == Some(true) => Ok(named),
        _ => {
            recorder.note("boot-unknown", format!("nothing is marked good: {state}"));
            Ok(named)
        }
    }
}
