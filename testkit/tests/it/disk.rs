//! The A/B disk: what boots, what does not, and what the boot loader does about it.

use std::io::Read;

use nerves_hub_link_testkit::disk::{
    AbDisk, BLOCK, BootError, DiskLayout, EnvironmentError, Medium, Rootfs, RootfsError, Slot, Variables,
    boot, boot_variable, boot_with_watchdog, encode_environment, format_disk, read_environment, validate,
    write_environment,
};
use nerves_hub_link_testkit::meta::FirmwareMeta;

const LENGTH: u64 = 300_000;

fn meta(version: &str) -> FirmwareMeta {
    FirmwareMeta {
        version: version.to_owned(),
        product: "gadget".to_owned(),
        uuid: format!("uuid-of-{version}"),
        platform: "testkit".to_owned(),
        architecture: "generic".to_owned(),
        ..FirmwareMeta::default()
    }
}

fn layouts() -> [DiskLayout; 2] {
    [DiskLayout::with_slots_of(1), DiskLayout::with_slots_of(1).redundant()]
}

fn factory(layout: &DiskLayout) -> Vec<u8> {
    let mut disk = vec![0; usize::try_from(layout.disk_len()).unwrap()];
    format_disk(&mut disk, layout, &meta("1.0.0"), LENGTH, 1).unwrap();
    disk
}

/// Does what an upgrade to slot B does.
fn upgrade(disk: &mut Vec<u8>, layout: &DiskLayout) {
    let mut content = Vec::new();
    Rootfs::new("1.1.0", LENGTH, 2).content().reader().read_to_end(&mut content).unwrap();
    disk.write_at(layout.slot_b * BLOCK, &content).unwrap();
    change(disk, layout, |variables| {
        for (name, value) in [
            ("version", "1.1.0"),
            ("uuid", "uuid-of-1.1.0"),
            ("platform", "testkit"),
            ("product", "gadget"),
            ("architecture", "generic"),
        ] {
            variables.insert(format!("b.nerves_fw_{name}"), value.to_owned());
        }
        for (name, value) in [("active", "b"), ("validated", "0"), ("booted", "0")] {
            variables.insert(format!("nerves_fw_{name}"), value.to_owned());
        }
    });
}

fn change(disk: &mut Vec<u8>, layout: &DiskLayout, act: impl FnOnce(&mut Variables)) {
    let mut variables = read_environment(disk, layout).unwrap();
    act(&mut variables);
    write_environment(disk, layout, &variables).unwrap();
}

#[test]
fn a_new_disk_boots_what_was_put_on_it() {
    for layout in layouts() {
        let mut disk = factory(&layout);
        let before = disk.clone();
        let booted = boot(&mut disk, &layout).unwrap();
        assert_eq!(booted.slot, Slot::A);
        assert_eq!(booted.meta, meta("1.0.0"));
        assert_eq!((booted.validated, booted.reverted), (Some(true), false));
        assert_eq!((booted.rootfs.version.as_str(), booted.rootfs.length), ("1.0.0", LENGTH));
        assert_eq!(disk, before, "booting a validated firmware writes nothing");
    }
}

#[test]
fn a_validated_upgrade_stays() {
    for layout in layouts() {
        let mut disk = factory(&layout);
        upgrade(&mut disk, &layout);
        let booted = boot(&mut disk, &layout).unwrap();
        assert_eq!((booted.slot, booted.validated, booted.reverted), (Slot::B, Some(false), false));
        assert_eq!(booted.meta.uuid, "uuid-of-1.1.0");
        validate(&mut disk, &layout).unwrap();
        for _ in 0..3 {
            let booted = boot(&mut disk, &layout).unwrap();
            assert_eq!((booted.slot, booted.validated, booted.reverted), (Slot::B, Some(true), false));
        }
    }
}

#[test]
fn an_upgrade_nobody_validates_is_reverted_at_its_second_boot() {
    for layout in layouts() {
        let mut disk = factory(&layout);
        upgrade(&mut disk, &layout);
        assert_eq!(boot(&mut disk, &layout).unwrap().slot, Slot::B);
        let booted = boot(&mut disk, &layout).unwrap();
        assert_eq!((booted.slot, booted.validated, booted.reverted), (Slot::A, Some(true), true));
        let booted = boot(&mut disk, &layout).unwrap();
        assert_eq!((booted.slot, booted.reverted), (Slot::A, false));
    }
}

#[test]
fn a_torn_root_file_system_is_seen_at_every_byte_that_matters() {
    let layout = DiskLayout::with_slots_of(1);
    let start = usize::try_from(layout.slot_b * BLOCK).unwrap();
    let mut good = factory(&layout);
    upgrade(&mut good, &layout);
    let length = usize::try_from(LENGTH).unwrap();
    for at in [0, 7, 8, 17, 48, 51, 512, 70_000, length - 1] {
        let mut disk = good.clone();
        disk[start + at] ^= 0x40;
        let error = boot(&mut disk, &layout).unwrap_err();
        assert!(matches!(error, BootError::Rootfs { slot: Slot::B, .. }), "byte {at}: {error}");
        // The watchdog resets the device, and the boot loader goes back.
        let booted = boot_with_watchdog(&mut disk, &layout).unwrap();
        assert_eq!((booted.slot, booted.reverted), (Slot::A, true), "byte {at}");
    }
    let mut disk = good.clone();
    disk[start + length] ^= 0x40;
    assert!(boot(&mut disk, &layout).is_ok(), "what is behind the file system does not matter");
}

#[test]
fn says_in_words_why_nothing_boots() {
    let layout = DiskLayout::with_slots_of(1);
    let mut disk = factory(&layout);
    disk[510] = 0;
    assert_eq!(boot(&mut disk, &layout), Err(BootError::NoBootRecord));

    let mut disk = factory(&layout);
    disk[usize::try_from(layout.environment * BLOCK).unwrap() + 100] ^= 1;
    let error = boot(&mut disk, &layout).unwrap_err();
    assert_eq!(error, BootError::Environment(EnvironmentError::Checksum { block: 16, copies: 1 }));
    assert_eq!(error.to_string(), "the boot environment at block 16 has a wrong checksum");

    let mut disk = factory(&layout);
    change(&mut disk, &layout, |variables| {
        variables.insert("nerves_fw_active".to_owned(), "c".to_owned());
    });
    assert_eq!(boot(&mut disk, &layout), Err(BootError::NoActiveSlot(Some("c".to_owned()))));

    let mut disk = factory(&layout);
    change(&mut disk, &layout, |variables| {
        variables.insert("nerves_fw_active".to_owned(), "b".to_owned());
    });
    let error = boot_with_watchdog(&mut disk, &layout).unwrap_err();
    assert_eq!(error, BootError::Rootfs { slot: Slot::B, reason: RootfsError::Missing });

    let mut disk = factory(&layout);
    change(&mut disk, &layout, |variables| {
        variables.insert("a.nerves_fw_version".to_owned(), "9.9.9".to_owned());
    });
    let error = boot(&mut disk, &layout).unwrap_err();
    assert_eq!(error.to_string(), "slot a holds version 1.0.0 but the boot environment says 9.9.9");
}

#[test]
fn a_torn_write_of_a_redundant_environment_loses_only_the_change() {
    let layout = DiskLayout::with_slots_of(1).redundant();
    let mut disk = factory(&layout);
    for round in 0..600 {
        let before = read_environment(&disk, &layout).unwrap();
        let untouched = disk.clone();
        change(&mut disk, &layout, |variables| {
            variables.insert("round".to_owned(), round.to_string());
        });
        assert_eq!(read_environment(&disk, &layout).unwrap()["round"], round.to_string());
        // Spoil the copy that was written: the old state is still there.
        let written = (0..disk.len()).find(|i| disk[*i] != untouched[*i]).unwrap();
        let mut torn = disk.clone();
        torn[written + 20] ^= 1;
        assert_eq!(read_environment(&torn, &layout).unwrap(), before, "round {round}");
    }
    for copy in [layout.environment, layout.environment_redundant.unwrap()] {
        disk[usize::try_from(copy * BLOCK).unwrap()] ^= 1;
    }
    let error = read_environment(&disk, &layout).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the boot environment at block 16 has a wrong checksum, and so has its copy"
    );
}

#[test]
fn an_environment_takes_what_fits_and_no_byte_more() {
    let variables = |length: usize| Variables::from([("n".to_owned(), "v".repeat(length))]);
    // Header, `n=`, the value, two terminators.
    assert!(encode_environment(&variables(64 - 4 - 2 - 2), 64, None).is_ok());
    assert!(encode_environment(&variables(64 - 4 - 2 - 1), 64, None).is_err());
}

#[test]
fn an_image_file_boots_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let layout = DiskLayout::with_slots_of(2);
    let disk = AbDisk::create(&path, &layout, &meta("1.0.0"), LENGTH, 1).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), layout.disk_len());
    assert_eq!(disk.boot().unwrap().meta.version, "1.0.0");
    let mut variables = disk.environment().unwrap();
    variables.insert("nerves_fw_validated".to_owned(), "0".to_owned());
    variables.insert("nerves_fw_booted".to_owned(), "0".to_owned());
    disk.set_environment(&variables).unwrap();
    assert_eq!(disk.boot().unwrap().validated, Some(false));
    disk.validate().unwrap();
    assert_eq!(AbDisk::open(&path, &layout).boot_with_watchdog().unwrap().validated, Some(true));
    let too_big = AbDisk::create(&path, &layout, &meta("1"), (2 << 20) + 1, 1);
    assert!(too_big.is_err());
    let gone = AbDisk::open(&folder.path().join("none"), &layout).boot().unwrap_err();
    assert!(gone.to_string().contains("none"), "{gone}");
}

#[test]
fn disks_of_other_makes_are_read_by_their_variable() {
    let layout = DiskLayout { environment: 64, ..DiskLayout::with_slots_of(1) };
    let mut disk = Vec::new();
    let block = encode_environment(&Variables::from([("active".to_owned(), "b".to_owned())]), 8192, None);
    disk.write_at(64 * BLOCK, &block.unwrap()).unwrap();
    let names = ["nerves_fw_active", "active"];
    assert_eq!(boot_variable(&disk, &layout, &names).unwrap().as_deref(), Some("b"));
    assert_eq!(boot_variable(&disk, &layout, &["other"]).unwrap(), None);
}
