//! The examples work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use nerves_hub_link_testkit::disk::{AbDisk, DiskLayout};
use nerves_hub_link_testkit::firmware::{FirmwareBuilder, SigningKey};
use nerves_hub_link_testkit::server::{Firmware, HubOptions, HubServer};

/// The program of an example, which `cargo test` builds unless it is told to build one test alone.
fn example(name: &str) -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    if !path.exists() {
        println!("SKIPPED: {} was not built", path.display());
    }
    path.exists().then_some(path)
}

#[test]
fn the_device_updates_its_disk_and_asks_for_the_reboot() {
    let Some(program) = example("device") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (layout, key) = (DiskLayout::with_slots_of(1), SigningKey::from_seed(1));
    let build = |version: &str| {
        FirmwareBuilder::new("lift", version).ab_layout(&layout).rootfs(500_000, 7).build(&key).unwrap()
    };
    let path = |name: &str| folder.path().join(name);
    let disk = AbDisk::create(&path("disk.img"), &layout, &build("1.0.0").meta, 500_000, 7).unwrap();
    let hub = HubServer::start(HubOptions::default()).unwrap();
    std::fs::write(path("ca.pem"), hub.ca_pem()).unwrap();
    std::fs::write(path("key.pub"), key.public_key()).unwrap();
    hub.deploy(Firmware::from_archive(&build("1.1.0")).unwrap());
    let product = hub.product();
    let output = Command::new(program)
        .args([&hub.url(), "device-1", &*product.key, &*product.secret])
        .args([path("disk.img"), path("key.pub"), path("ca.pem")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for words in ["offered: lift 1.1.0", "Downloading: ", "restart the device now"] {
        assert!(said.contains(words), "{words} not in {said}");
    }
    assert!(!said.contains(&*product.secret));
    assert_eq!(disk.boot().unwrap().meta.version, "1.1.0");
}

#[test]
fn the_fleet_gets_online_and_leaves() {
    let Some(program) = example("fleet") else { return };
    let output = Command::new(program).args(["20", "0"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("20 devices joined") && said.contains("all stopped"), "{said}");
}
