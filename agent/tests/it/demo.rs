//! The demonstration as a user runs it: each story ends as it should, and says so with its exit status.
#![cfg(feature = "demo")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn demo(arguments: &[&str]) -> (Output, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_nerves-hub-link")).arg("demo").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

/// Runs a story of a small firmware that must end well, and returns its text.
fn ends_well(arguments: &[&str]) -> String {
    let (output, text) = demo(arguments);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().last().unwrap().starts_with("demo: as it should be"), "{text}");
    text
}

fn golden(case: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    ["../shared/golden/fw", "testkit/golden/fw"]
        .iter()
        .map(|folder| root.join(folder).join(case).join("input.fw"))
        .find(|path| path.exists())
        .inspect(|path| eprintln!("golden: {}", path.display()))
}

#[test]
fn an_update_goes_through() {
    let text = ends_well(&["--size", "2", "--fast"]);
    for part in ["boots 1.0.0 from slot a", "boots 1.1.0 from slot b", "told: the new firmware is good", "2."]
    {
        assert!(text.contains(part), "{part} is missing from:\n{text}");
    }
}

#[test]
fn a_broken_network_is_survived() {
    let text = ends_well(&["--size", "2", "--fast", "--fault", "cut"]);
    assert_eq!(text.matches("download broke").count(), 2, "{text}");
    assert!(text.contains("download resumed at"), "{text}");
}

#[test]
fn a_tampered_firmware_is_refused() {
    let text = ends_well(&["--size", "2", "--fast", "--fault", "tampered"]);
    assert!(text.contains("blake2b mismatch on 'rootfs.img'"), "{text}");
    assert!(text.contains("1.0.0 still boots from slot a"), "{text}");
}

#[test]
fn a_stranger_s_firmware_is_refused_before_the_first_write() {
    let text = ends_well(&["--size", "2", "--fast", "--fault", "wrong-key"]);
    assert!(text.contains("fails digital signature verification"), "{text}");
    assert!(text.contains("not a byte of the disk changed"), "{text}");
}

#[test]
fn a_power_cut_leaves_the_old_firmware_and_the_update_is_repeated() {
    let text = ends_well(&["--size", "2", "--fast", "--fault", "power-cut"]);
    let (first, second) = text.split_once("power is back").expect(&text);
    assert!(first.contains("power fails after"), "{text}");
    assert!(
        second.contains("boots 1.0.0 from slot a") && second.contains("boots 1.1.0 from slot b"),
        "{text}"
    );
}

#[test]
fn a_server_restart_is_survived() {
    // At full speed two MiB would be through before the server is down.
    let text = ends_well(&["--size", "4", "--fault", "server-restart"]);
    assert!(text.contains("download resumed at"), "{text}");
}

#[test]
fn an_archive_of_the_user_s_is_applied() {
    let Some(archive) = golden("ab-upgrade") else {
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: no golden archive ab-upgrade here\n"),
        ));
        return;
    };
    let text = ends_well(&["--fast", "--firmware", archive.to_str().unwrap()]);
    assert!(text.contains("upgrading b"), "{text}");
    assert!(text.contains("from slot b"), "{text}");
}

#[test]
fn an_unsigned_archive_with_a_key_is_refused_and_the_exit_status_says_so() {
    let Some(archive) = golden("ab-upgrade") else {
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: no golden archive ab-upgrade here\n"),
        ));
        return;
    };
    let key = "u1dJgAcnFUqREJB0shvP+bwDx8wOrVtoRlj7XsvF6Ds=";
    let (output, text) = demo(&["--fast", "--firmware", archive.to_str().unwrap(), "--public-key", key]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().last().unwrap().contains("Expecting signed firmware archive"), "{text}");
}

#[test]
fn what_is_no_archive_is_named() {
    let (output, text) = demo(&["--firmware", env!("CARGO_MANIFEST_DIR").to_owned().as_str()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains(env!("CARGO_MANIFEST_DIR")), "{text}");
}
