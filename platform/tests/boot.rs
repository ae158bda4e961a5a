//! Whether the firmware that the store names has run.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;

use nerves_hub_link_platform::boot::{BOOT_ID, BootState, boot_state, read_boot_id};
use nerves_hub_link_platform::identity::Identity;
use nerves_hub_link_platform::kv::{FileStore, KeyValueStore, MemoryStore};
use nerves_hub_link_platform::limits::BOOT_ID_MAX;

fn named(slot: &str, uuid: &str) -> Identity {
    let key = format!("{slot}.nerves_fw_uuid");
    Identity::load(&MemoryStore::new([("nerves_fw_active", slot), (key.as_str(), uuid)])).unwrap()
}

#[test]
fn firmware_selected_since_the_start_of_the_system_does_not_run_yet() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let mut state = FileStore::new(&file);
    state.put("attempts", "kept").unwrap();
    let (old, new) = (named("a", "one"), named("b", "two"));
    assert_eq!(boot_state(&mut state, "first", &old).unwrap(), BootState::AsNamed);
    assert_eq!(boot_state(&mut state, "first", &old).unwrap(), BootState::AsNamed);
    // The program ended after the switch and before the restart.
    let due = BootState::RestartDue { running: "a".to_owned(), next: "b".to_owned() };
    let again = || boot_state(&mut FileStore::new(&file), "first", &new).unwrap();
    assert_eq!((again(), again()), (due.clone(), due));
    // The system was restarted, and fell back by itself later.
    assert_eq!(boot_state(&mut state, "second", &new).unwrap(), BootState::AsNamed);
    assert_eq!(boot_state(&mut state, "third", &old).unwrap(), BootState::AsNamed);
    assert_eq!(state.get("attempts").unwrap().as_deref(), Some("kept"));
}

#[test]
fn other_firmware_in_the_same_slot_does_not_run_yet_either() {
    let mut state = MemoryStore::default();
    boot_state(&mut state, "first", &named("a", "one")).unwrap();
    let due = boot_state(&mut state, "first", &named("a", "two")).unwrap();
    assert!(matches!(due, BootState::RestartDue { .. }), "{due:?}");
}

#[test]
fn a_state_that_cannot_be_kept_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = FileStore::new(folder.path().join("missing/state"));
    assert!(boot_state(&mut state, "first", &named("a", "one")).is_err());
}

#[test]
fn the_kernel_s_text_is_read_and_nothing_else_is_taken_for_one() {
    let here = read_boot_id(BOOT_ID.as_ref()).unwrap();
    assert_eq!(here.len(), 36, "{here}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("id");
    let most = usize::try_from(BOOT_ID_MAX).unwrap();
    for (text, good) in [
        ("a".repeat(most), true),
        ("a".repeat(most + 1), false),
        (String::new(), false),
        ("\n".to_owned(), false),
        ("two\nlines".to_owned(), false),
        ("a=b".to_owned(), false),
    ] {
        fs::write(&file, &text).unwrap();
        assert_eq!(read_boot_id(&file).is_ok(), good, "{text:?}");
    }
    assert!(read_boot_id(&folder.path().join("missing")).is_err());
}
