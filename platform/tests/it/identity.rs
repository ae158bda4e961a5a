//! Who the device is, from what its store says.

use nerves_hub_link_platform::boot::{BootCheck, Marked};
use nerves_hub_link_platform::identity::{Identity, is_placeholder_serial, mark_validated};
use nerves_hub_link_platform::kv::{KeyValueStore, MemoryStore};

fn store(pairs: &[(&str, &str)]) -> MemoryStore {
    MemoryStore::new(pairs.iter().copied())
}

fn identity(pairs: &[(&str, &str)]) -> Identity {
    Identity::load(&store(pairs)).unwrap()
}

#[test]
fn the_active_slot_decides_which_firmware_runs() {
    let all = [
        ("nerves_fw_active", "b"),
        ("nerves_fw_devpath", "/dev/mmcblk0"),
        ("nerves_serial_number", ""),
        ("serial_number", "77"),
        ("a.nerves_fw_version", "1.0.0"),
        ("b.nerves_fw_uuid", "u"),
        ("b.nerves_fw_version", "1.1.0"),
        ("b.nerves_fw_product", "p"),
        ("b.nerves_fw_platform", "rpi4"),
        ("b.nerves_fw_architecture", "arm"),
        ("b.nerves_fw_author", "me"),
        ("b.nerves_fw_description", ""),
    ];
    let identity = identity(&all);
    assert_eq!(identity.active_slot, "b");
    assert_eq!(identity.firmware.version, "1.1.0");
    assert_eq!((identity.firmware.uuid.as_str(), identity.firmware.product.as_str()), ("u", "p"));
    assert_eq!(identity.firmware.author.as_deref(), Some("me"));
    assert_eq!(identity.firmware.description, None);
    assert_eq!(identity.devpath.as_deref(), Some("/dev/mmcblk0"));
    assert_eq!(identity.serial_number.as_deref(), Some("77"), "an empty serial number falls through");
}

#[test]
fn without_an_active_key_slot_a_runs() {
    assert_eq!(identity(&[]).active_slot, "a");
    assert_eq!(identity(&[("nerves_fw_active", "")]).active_slot, "a");
    assert_eq!(identity(&[("a.nerves_fw_version", "1")]).firmware.version, "1");
}

#[test]
fn validation_has_three_states_and_an_order_of_precedence() {
    for (pairs, expected) in [
        (&[][..], None),
        (&[("nerves_fw_validated", "1")], Some(true)),
        (&[("nerves_fw_validated", "0")], Some(false)),
        (&[("nerves_fw_validated", "yes")], None),
        (&[("nerves_fw_validated", "1"), ("a.nerves_fw_validated", "0")], Some(false)),
        (&[("nerves_fw_validated", "0"), ("b.nerves_fw_validated", "1")], Some(false)),
        (&[("upgrade_available", "1"), ("a.nerves_fw_validated", "1")], Some(false)),
        (&[("upgrade_available", "0"), ("a.nerves_fw_validated", "0")], Some(true)),
        (&[("upgrade_available", ""), ("a.nerves_fw_validated", "0")], Some(false)),
    ] {
        assert_eq!(identity(pairs).validated, expected, "{pairs:?}");
    }
}

#[test]
fn a_tried_and_unvalidated_other_slot_is_a_revert() {
    let tried =
        [("b.nerves_fw_validated", "0"), ("b.nerves_fw_platform", "x"), ("b.nerves_fw_architecture", "y")];
    assert!(identity(&tried).auto_revert_detected);
    for missing in 0..3 {
        let mut pairs = tried.to_vec();
        pairs.remove(missing);
        assert!(!identity(&pairs).auto_revert_detected, "without {:?}", tried[missing]);
    }
    let mut active = tried.to_vec();
    active.push(("nerves_fw_active", "b"));
    assert!(!identity(&active).auto_revert_detected, "the slot that runs is no revert");
    let validated = [("b.nerves_fw_validated", "1"), tried[1], tried[2]];
    assert!(!identity(&validated).auto_revert_detected);
}

#[test]
fn marking_good_works_for_each_way_a_system_keeps_the_flag() {
    for pairs in [
        &[][..],
        &[("nerves_fw_validated", "0")],
        &[("a.nerves_fw_validated", "0")],
        &[("upgrade_available", "1"), ("bootcount", "2")],
        &[("upgrade_available", "1"), ("nerves_fw_active", "b"), ("b.nerves_fw_validated", "0")],
    ] {
        let mut store = store(pairs);
        assert_eq!(mark_validated(&mut store, &BootCheck::of_process()).unwrap(), Marked::Good, "{pairs:?}");
        assert_eq!(Identity::load(&store).unwrap().validated, Some(true));
    }
    let mut counted = store(&[("upgrade_available", "1"), ("bootcount", "2")]);
    mark_validated(&mut counted, &BootCheck::of_process()).unwrap();
    assert_eq!(counted.get("bootcount").unwrap().as_deref(), Some("0"));
}

#[test]
fn serial_numbers_that_many_devices_share_are_no_identity() {
    for bad in [
        "",
        " ",
        "0",
        "00000000",
        "unconfigured",
        "To Be Filled By O.E.M.",
        " None ",
        "Default string",
        "UNKNOWN\n",
        "FFFFFFFF",
        "ff:ff:ff:ff:ff:ff",
        "00000000-0000-0000-0000-000000000000",
        "0123456789",
        "N/A",
        "Not Specified",
        "System Serial Number",
        "to be filled by o.e.m",
        "None\0",
        "xxxxxxxx",
        "null",
        "---",
    ] {
        assert!(is_placeholder_serial(bad), "{bad:?}");
    }
    for good in ["1", "00000001", "0000000019f2f468", "fff1", "f", "none-of-7", "unknown7"] {
        assert!(!is_placeholder_serial(good), "{good:?}");
    }
    assert_eq!(
        identity(&[("nerves_serial_number", "0000"), ("serial_number", "ab")]).serial_number.unwrap(),
        "ab"
    );
}
