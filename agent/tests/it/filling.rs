//! Bodies without an end, disks and files that may not grow, and archives without number: nothing fills a partition beyond
//! its reserve, and nothing untrusted stays.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Device, Setting, builder};
use nerves_hub_link_protocol::UNTOLD_FAILURE;
use nerves_hub_link_testkit::firmware::{FirmwareBuilder, SigningKey};
use nerves_hub_link_testkit::hub::{HubConfig, HubEvent, UpdateFields};
use nerves_hub_link_testkit::server::{Firmware, Mischief, Times};
use tempfile::TempDir;

/// A hub that announces neither sizes nor checksums.
fn silent() -> Setting {
    let fields = UpdateFields { size: false, checksum: false, partials: false };
    Setting::with(HubConfig { update_fields: fields, ..HubConfig::default() })
}

fn status(setting: &Setting, wanted: &str) -> String {
    let event =
        setting.saw(wanted, |event| matches!(event, HubEvent::Status { status, .. } if status == wanted));
    match event {
        HubEvent::Status { reason, .. } => reason.unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

fn deploy(setting: &Setting, key: &SigningKey) {
    let update = builder("1.1.0", setting.disk.layout()).build(key).unwrap();
    setting.hub.deploy(Firmware::from_archive(&update).unwrap().without_public_keys());
}

/// Bytes of all files in a folder and below.
fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes(&entry.path()),
        _ => entry.metadata().map_or(0, |found| found.len()),
    };
    entries.map(size).sum()
}

/// The device is still there: it answers the next join.
fn comes_back(setting: &Setting) {
    let joins = |setting: &Setting| {
        setting.hub.log().iter().filter(|event| matches!(event, HubEvent::Joined { .. })).count()
    };
    let before = joins(setting);
    setting.hub.close_all(1001, "gone");
    let mut seen = 0;
    setting.saw("another join", |event| {
        seen += usize::from(matches!(event, HubEvent::Joined { .. }));
        seen > before
    });
}

#[test]
fn what_is_not_signed_is_refused_in_its_first_kilobytes() {
    let setting = silent();
    let cache = setting.dir.path().join("cache");
    setting.hub.mischief(Mischief::EndlessBody, Times::UntilCleared);
    deploy(&setting, &SigningKey::from_seed(99));
    let mut device = setting.device(&["--strategy", "caching", "--cache-dir", cache.to_str().unwrap()]);
    device.says("fails digital signature verification");
    assert_eq!(status(&setting, "failed"), UNTOLD_FAILURE);
    assert_eq!(bytes(&cache), 0, "what is not to be trusted was deleted");
    comes_back(&setting);
}

#[test]
fn a_body_without_an_end_ends_at_the_greatest_size_and_is_deleted() {
    let setting = silent();
    let cache = setting.dir.path().join("cache");
    setting.hub.mischief(Mischief::EndlessBody, Times::UntilCleared);
    deploy(&setting, &setting.key);
    let more = ["--strategy", "caching", "--max-firmware-size", "3000000", "--cache-dir"];
    let mut device = setting.device(&[&more[..], &[cache.to_str().unwrap()]].concat());
    device.says("bigger than the 3000000 bytes allowed");
    assert_eq!(status(&setting, "failed"), UNTOLD_FAILURE);
    comes_back(&setting);
    assert_eq!(bytes(&cache), 0);
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_body_without_an_end_leaves_the_reserve_free() {
    let dir = TempDir::new().unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=40m", "tmpfs"]).arg(dir.path());
    if !mount.output().is_ok_and(|output| output.status.success()) {
        let text = format_args!("SKIPPED: this user cannot mount a tmpfs\n");
        return drop(std::io::Write::write_fmt(&mut std::io::stderr(), text));
    }
    let _unmount = Unmount(dir.path());
    let setting = silent();
    let (cache, state) = (dir.path().join("cache"), dir.path().join("state"));
    setting.hub.mischief(Mischief::EndlessBody, Times::UntilCleared);
    deploy(&setting, &setting.key);
    let more = ["--strategy", "caching", "--state", state.to_str().unwrap(), "--cache-dir"];
    let _device = setting.device(&[&more[..], &[cache.to_str().unwrap()]].concat());
    let reason = status(&setting, "rescheduled");
    // A quarter of 40 MiB.
    assert!(reason.contains("of which 10485760 stay free"), "{reason}");
    assert_eq!(bytes(&cache), 0, "the partition is not left full");
    comes_back(&setting);
}

#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk_and_no_end_of_the_program() {
    let setting = Setting::new();
    let cache = setting.dir.path().join("cache");
    deploy(&setting, &setting.key);
    let agent = setting.command(&["--strategy", "caching", "--cache-dir", cache.to_str().unwrap()]);
    // 32 KiB in blocks of 512 bytes; no program of the shell stands between.
    let mut limited = Command::new("/bin/sh");
    limited
        .args(["-c", "ulimit -f 64 && exec \"$0\" \"$@\""])
        .arg(agent.get_program())
        .args(agent.get_args());
    for (name, value) in agent.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    let mut device = Device(limited.stdout(Stdio::piped()).spawn().unwrap());
    let reason = status(&setting, "rescheduled");
    assert!(reason.contains("File too large"), "{reason}");
    assert_eq!(bytes(&cache), 0);
    comes_back(&setting);
    assert!(device.0.try_wait().unwrap().is_none(), "SIGXFSZ ended it");
}

#[test]
fn the_oldest_archive_goes_when_there_are_more_than_the_limit() {
    let setting = Setting::new();
    let folder = setting.dir.path().join("archives");
    let more = ["--archives-max", "2", "--archive-dir", folder.to_str().unwrap()];
    let archives: Vec<_> = ["1.0.0", "2.0.0", "3.0.0"]
        .map(|version| {
            FirmwareBuilder::new("archive", version).rootfs(50_000, 3).build(&setting.key).unwrap()
        })
        .into();
    let offer = |number: usize| {
        let archive: &nerves_hub_link_testkit::firmware::FirmwareArchive = &archives[number];
        setting.hub.offer_archive(Firmware::from_archive(archive).unwrap());
    };
    let files = || {
        let names = fs::read_dir(&folder).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().into_string().unwrap());
        names
            .filter(|name| Path::new(name).extension().is_some_and(|end| end == "fw"))
            .collect::<Vec<String>>()
    };
    let has = |number: usize| files().iter().any(|name| name.starts_with(&archives[number].meta.uuid));
    let mut device = setting.device(&more);
    for number in 0..3 {
        offer(number);
        wait_for(|| has(number));
    }
    wait_for(|| !has(0));
    assert!(has(1));
    // The device knows that it is gone: it is wanted again as soon as the server offers it.
    offer(0);
    wait_for(|| has(0) && !has(1));
    assert!(has(2));
    device.says("was deleted to make room");
}

/// Waits until something is so.
fn wait_for(mut what: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + crate::common::PATIENCE;
    while !what() {
        assert!(std::time::Instant::now() < end, "it never happens");
        std::thread::yield_now();
    }
}
