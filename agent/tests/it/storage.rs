//! Folders and partitions that are damaged, full or read-only: the device connects, an update arrives or is put off with the
//! reason, and everything works again once the cause is gone.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{Device, Setting, builder, refusal};
use nerves_hub_link_testkit::firmware::FirmwareBuilder;
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::Firmware;
use tempfile::TempDir;

fn joined(event: &HubEvent) -> bool {
    matches!(event, HubEvent::Joined { .. })
}

fn failed(event: &HubEvent) -> bool {
    matches!(event, HubEvent::Status { status, .. } if status == "failed")
}

fn rescheduled(setting: &Setting) -> String {
    let event = setting
        .saw("report", |event| matches!(event, HubEvent::Status { status, .. } if status == "rescheduled"));
    match event {
        HubEvent::Status { reason, .. } => reason.unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

fn deploy(setting: &Setting) {
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    setting.hub.deploy(Firmware::from_archive(&update).unwrap());
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn skip(why: &str) {
    drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("SKIPPED: {why}\n")));
}

/// What is done to a file system.
type Break = fn(&Mounted);

/// A small file system. Dropping it unmounts it.
struct Mounted(TempDir);

impl Mounted {
    /// Returns `None` if this user can't mount one.
    fn new(options: &str) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path());
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        skip("this user cannot mount a tmpfs");
        None
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn remount(&self, options: &str) {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,{options}")]).arg(self.0.path());
        assert!(command.status().unwrap().success());
    }

    /// Takes all the space there is.
    fn fill(&self) {
        let mut file = fs::File::create(self.path("ballast")).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.path("ballast")).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_folder_for_updates_that_is_none_puts_them_off_until_it_is_gone() {
    type Damage = fn(&Path);
    let damage: [(&str, Damage); 4] = [
        ("a file", |path| fs::write(path, "in the way").unwrap()),
        ("a pipe", |path| fifo(path)),
        ("a link to nothing", |path| symlink("/nowhere/at/all", path).unwrap()),
        ("a link to itself", |path| symlink(path, path).unwrap()),
    ];
    for (name, damage) in damage {
        let setting = Setting::new();
        let folder = setting.dir.path().join("cache");
        damage(&folder);
        deploy(&setting);
        let more = ["--strategy", "caching", "--check-interval", "0.1", "--cache-dir"];
        let mut device = setting.device(&[&more[..], &[folder.to_str().unwrap()]].concat());
        let reason = rescheduled(&setting);
        assert!(reason.contains("no folder") && reason.contains("cache"), "{name}: {reason}");
        fs::remove_file(&folder).unwrap();
        let text = device.says("updates can be installed again");
        assert!(!setting.hub.log().iter().any(failed), "{name}: {text}");
        setting.hub.with_hub(|hub, _| hub.clear_penalty("agent-test-1"));
        deploy(&setting);
        assert!(device.0.wait().unwrap().success(), "{name}");
        assert_eq!(setting.disk.boot().unwrap().meta.version, "1.1.0", "{name}");
    }
}

#[test]
fn a_folder_for_updates_on_a_full_or_read_only_disk_puts_them_off_until_there_is_space() {
    let Some(mounted) = Mounted::new("size=16m") else { return };
    let cases: [(Break, Break, &str); 2] = [
        (Mounted::fill, Mounted::empty, "bytes left"),
        (|mounted| mounted.remount("ro"), |mounted| mounted.remount("rw"), "Read-only"),
    ];
    for (damage, mend, words) in cases {
        let setting = Setting::new();
        let folder = mounted.path("cache");
        fs::create_dir_all(&folder).unwrap();
        damage(&mounted);
        deploy(&setting);
        let more = ["--strategy", "caching", "--check-interval", "0.1", "--cache-dir"];
        let mut device = setting.device(&[&more[..], &[folder.to_str().unwrap()]].concat());
        let reason = rescheduled(&setting);
        assert!(reason.contains(words), "{reason}");
        mend(&mounted);
        device.says("updates can be installed again");
        assert!(!setting.hub.log().iter().any(failed), "{words}");
        setting.hub.with_hub(|hub, _| hub.clear_penalty("agent-test-1"));
        deploy(&setting);
        assert!(device.0.wait().unwrap().success(), "{words}");
        assert_eq!(setting.disk.boot().unwrap().meta.version, "1.1.0", "{words}");
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn a_state_file_on_a_full_or_read_only_disk_costs_the_memory_and_no_update() {
    let Some(mounted) = Mounted::new("size=128k") else { return };
    let cases: [(Break, Break); 2] =
        [(Mounted::fill, Mounted::empty), (|mounted| mounted.remount("ro"), |mounted| mounted.remount("rw"))];
    for (damage, mend) in cases {
        for before in [None, Some("operator=note\n")] {
            let setting = Setting::new();
            let state = mounted.path("state");
            let _ = fs::remove_file(&state);
            if let Some(before) = before {
                fs::write(&state, before).unwrap();
            }
            damage(&mounted);
            let more = ["--state", state.to_str().unwrap()];
            let device = setting.device(&more);
            setting.saw("join", joined);
            deploy(&setting);
            let text = device.said();
            assert!(text.contains("No space left") || text.contains("Read-only"), "{text}");
            assert_eq!(setting.disk.boot().unwrap().meta.version, "1.1.0", "{text}");
            // What the file held is there still, whole.
            assert_eq!(fs::read_to_string(&state).ok().as_deref(), before, "{text}");
            mend(&mounted);
            // It remembers again once it can.
            let text = setting.device(&more).ends_after("accepted");
            assert!(!text.contains("can't be written"), "{text}");
        }
    }
}

#[test]
fn what_was_left_beside_the_state_file_is_no_obstacle() {
    type Damage = fn(&Path);
    let damage: [(&str, Damage); 4] = [
        ("a pipe", |path| fifo(path)),
        ("a link to nothing", |path| symlink("/nowhere/at/all", path).unwrap()),
        ("a file", |path| fs::write(path, "half a li").unwrap()),
        ("a link to another file", |path| {
            fs::write(path.with_file_name("precious"), "precious").unwrap();
            symlink("precious", path).unwrap();
        }),
    ];
    for (name, damage) in damage {
        let setting = Setting::new();
        let state = setting.dir.path().join("state");
        damage(&setting.dir.path().join("state.new"));
        let device = setting.device(&["--state", state.to_str().unwrap()]);
        setting.saw(name, joined);
        deploy(&setting);
        device.said();
        assert_eq!(setting.disk.boot().unwrap().meta.version, "1.1.0", "{name}");
        assert!(fs::read_to_string(&state).unwrap().contains("attempts"), "{name}");
        if let Ok(precious) = fs::read(setting.dir.path().join("precious")) {
            assert_eq!(precious, b"precious");
        }
    }
}

#[test]
fn a_damaged_folder_for_archives_stops_neither_the_connection_nor_updates() {
    type Damage = fn(&Path);
    let damage: [(&str, Damage); 6] = [
        ("a file", |path| fs::write(path, "in the way").unwrap()),
        ("a pipe", |path| fifo(path)),
        ("a link to nothing", |path| symlink("/nowhere/at/all", path).unwrap()),
        ("a link to itself", |path| symlink(path, path).unwrap()),
        ("a folder as the list", |path| fs::create_dir_all(path.join("known-archives/photos")).unwrap()),
        ("a loop as the list", |path| {
            fs::create_dir(path).unwrap();
            symlink("known-archives", path.join("known-archives")).unwrap();
        }),
    ];
    for (name, damage) in damage {
        let setting = Setting::new();
        let folder = setting.dir.path().join("archives");
        damage(&folder);
        let archive = FirmwareBuilder::new("archive", "0.9.0").rootfs(100_000, 5).build(&setting.key);
        setting.hub.offer_archive(Firmware::from_archive(&archive.unwrap()).unwrap());
        let device = setting.device(&["--archive-dir", folder.to_str().unwrap()]);
        setting.saw(name, joined);
        deploy(&setting);
        let text = device.said();
        assert!(text.contains("archives"), "{name}: {text}");
        assert_eq!(setting.disk.boot().unwrap().meta.version, "1.1.0", "{name}");
    }
}

#[test]
fn pipes_in_place_of_keys_are_refused_and_not_waited_for() {
    let setting = Setting::new();
    let pipe = setting.dir.path().join("pipe");
    fifo(&pipe);
    let pipe = pipe.to_str().unwrap();
    let (cert, key) = setting.hub.device_certificate("agent-test-1").unwrap();
    let path = |name: &str| setting.dir.path().join(name).display().to_string();
    fs::write(path("cert.pem"), cert).unwrap();
    fs::write(path("key.pem"), key).unwrap();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    for more in [
        &["--public-key", pipe][..],
        &["--cert", pipe, "--key", &key],
        &["--cert", &cert, "--key", pipe],
        &["--cert", &cert, "--key", setting.dir.path().to_str().unwrap()],
    ] {
        let text = refusal(&setting.command(more).output().unwrap());
        assert!(text.contains("no regular file"), "{more:?}: {text}");
    }
}

#[test]
fn folders_and_files_that_this_user_cannot_read_are_set_aside_or_named() {
    let setting = Setting::new();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(setting.dir.path(), 0o777);
    open(setting.disk.path(), 0o666);
    let [cache, state] = ["cache", "state"].map(|name| setting.dir.path().join(name));
    fs::create_dir(&cache).unwrap();
    fs::write(&state, "a=b\n").unwrap();
    // Another user's, in a folder that everybody may write to.
    fs::create_dir(cache.join("lost+found")).unwrap();
    open(&cache.join("lost+found"), 0o000);
    open(&cache, 0o777);
    open(&state, 0o000);
    let more = ["--strategy", "caching", "--check-interval", "0.1"];
    let files = ["--cache-dir", cache.to_str().unwrap(), "--state", state.to_str().unwrap()];
    let mut command = setting.command(&[&more[..], &files].concat());
    // The superuser can read everything.
    let root = fs::metadata("/proc/self").is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0);
    if root {
        command.uid(65_534).gid(65_534);
    }
    let Ok(child) = command.stdout(Stdio::piped()).spawn() else {
        return skip("another user cannot run the program from here");
    };
    let device = Device(child);
    setting.saw("join", joined);
    deploy(&setting);
    let text = device.said();
    assert!(text.contains("--state") && text.contains("Permission denied"), "{text}");
    assert_eq!(setting.disk.boot().unwrap().meta.version, "1.1.0", "{text}");
    assert!(cache.join("lost+found").exists());
    open(&cache.join("lost+found"), 0o700);
}
