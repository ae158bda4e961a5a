//! What is wrong on the device itself: the device connects all the same, says so, and nothing is lost or marked good by it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::common::{PATIENCE, Setting, builder, command, refusal};
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::Firmware;

const UUID: &str = "11111111-2222-3333-4444-555555555555";

fn joined(event: &HubEvent) -> bool {
    matches!(event, HubEvent::Joined { .. })
}

fn status<'a>(wanted: &'a str, reason: &'a str) -> impl FnMut(&HubEvent) -> bool + 'a {
    move |event| {
        matches!(event, HubEvent::Status { status, reason: Some(why), .. }
            if status == wanted && why.contains(reason))
    }
}

fn deploy(setting: &Setting) {
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    setting.hub.deploy(Firmware::from_archive(&update).unwrap());
}

fn fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_bad_state_file_costs_what_it_held_and_nothing_else() {
    type Spoil = fn(&Path);
    // What is done to it, what is said, and whether it is ours to set aside.
    let cases: [(&str, Spoil, &str, bool); 9] = [
        ("not UTF-8", |path| std::fs::write(path, b"a=\xff\xfe\n").unwrap(), "set aside", true),
        ("zeros", |path| std::fs::write(path, [0; 4096]).unwrap(), "set aside", true),
        ("too large", |path| std::fs::write(path, vec![b'a'; (1 << 20) + 1]).unwrap(), "set aside", true),
        ("a folder", |path| std::fs::create_dir(path).unwrap(), "no regular file", false),
        ("a pipe", |path| fifo(path), "no regular file", false),
        ("a device", |path| std::os::unix::fs::symlink("/dev/null", path).unwrap(), "no regular file", false),
        (
            "a full disk",
            |path| std::os::unix::fs::symlink("/dev/full", path).unwrap(),
            "no regular file",
            false,
        ),
        ("a loop", |path| std::os::unix::fs::symlink(path, path).unwrap(), "can't be read", false),
        (
            "no folder",
            |path| std::fs::write(path.parent().unwrap(), "in the way").unwrap(),
            "can't create the folder",
            false,
        ),
    ];
    for (name, spoil, words, aside) in cases {
        let setting = Setting::new();
        let folder = setting.dir.path().join("data");
        let state = folder.join("state");
        if name != "no folder" {
            std::fs::create_dir(&folder).unwrap();
        }
        spoil(&state);
        let before = std::fs::symlink_metadata(&state).ok().map(|found| found.file_type());
        let device = setting.device(&["--state", state.to_str().unwrap(), "--validate-when-joined"]);
        setting.saw(name, joined);
        deploy(&setting);
        let text = device.said();
        assert!(text.contains("--state") && text.contains(words), "{name}: {text}");
        assert_eq!(setting.disk.boot().unwrap().meta.version, "1.1.0", "{name}");
        assert_eq!(folder.join("state.damaged").exists(), aside, "{name}");
        if aside {
            assert!(std::fs::read_to_string(&state).unwrap().contains("attempts"), "{name}");
        } else {
            assert_eq!(
                std::fs::symlink_metadata(&state).ok().map(|found| found.file_type()),
                before,
                "{name}"
            );
        }
    }
}

#[test]
fn the_folder_of_the_state_file_is_made() {
    let setting = Setting::new();
    let state = setting.dir.path().join("not/there/state");
    let device = setting.device(&["--state", state.to_str().unwrap()]);
    setting.saw("join", joined);
    deploy(&setting);
    device.said();
    assert!(state.exists());
}

#[test]
fn nothing_is_marked_good_because_of_a_state_file_that_was_set_aside() {
    let setting = Setting::new();
    let path = |name: &str| setting.dir.path().join(name).display().to_string();
    let (state, boot) = (path("state"), path("boot"));
    std::fs::write(&boot, "first").unwrap();
    let args = ["--state", &state, "--boot-id", &boot, "--validate-when-joined"];
    let device = setting.device(&args);
    setting.saw("join", joined);
    deploy(&setting);
    device.said();
    // Started again before the reboot, with a state file that no longer tells what ran; and once more.
    std::fs::write(&state, [0xff; 100]).unwrap();
    for _ in 0..2 {
        let text = setting.device(&args).said();
        assert!(text.contains("slot a") && text.contains("restarting"), "{text}");
        assert!(!text.contains("marked it good"), "{text}");
    }
    assert_eq!(setting.disk.boot().unwrap().validated, Some(false));
    // The next boot tells.
    std::fs::write(&boot, "second").unwrap();
    let _device = setting.device(&args);
    setting.saw("validation", |event| matches!(event, HubEvent::Validated { .. }));
}

#[test]
fn a_damaged_list_of_archives_is_set_aside() {
    for content in [b"\xff\xff".to_vec(), vec![b'x'; 70_000], vec![0; 10]] {
        let setting = Setting::new();
        let folder = setting.dir.path().join("archives");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("known-archives"), &content).unwrap();
        let text = setting.device(&["--archive-dir", folder.to_str().unwrap()]).ends_after("accepted");
        assert!(text.contains("known-archives.damaged"), "{text}");
        assert_eq!(std::fs::read(folder.join("known-archives.damaged")).unwrap(), content);
    }
    // What is no file stays where it is, and is not waited for.
    let setting = Setting::new();
    fifo(&setting.dir.path().join("known-archives"));
    let device = setting.device(&["--archive-dir", setting.dir.path().to_str().unwrap()]);
    assert!(device.ends_after("accepted").contains("no regular file"));
}

#[test]
fn without_its_disk_a_device_connects_and_puts_updates_off_until_it_is_there() {
    let setting = Setting::new();
    let later = setting.dir.path().join("later.img");
    std::fs::rename(setting.disk.path(), &later).unwrap();
    deploy(&setting);
    let mut args = vec!["--check-interval", "0.1"];
    // Without these the hub knows of nothing to offer.
    args.extend(["--firmware-product", "agent", "--firmware-version", "0.9.0"]);
    args.extend(["--firmware-platform", "board", "--firmware-architecture", "any"]);
    let device = setting.device(&[&args[..], &["--firmware-uuid", UUID]].concat());
    setting.saw("report", status("rescheduled", "does not exist"));
    assert!(!setting.disk.path().exists(), "an update never creates its disk");
    std::fs::rename(&later, setting.disk.path()).unwrap();
    // It reads who it is from the disk that came back, and is updated.
    setting.saw("join", |event| matches!(event, HubEvent::Joined { version, .. } if version == "1.0.0"));
    setting.hub.with_hub(|hub, _| hub.clear_penalty("agent-test-1"));
    deploy(&setting);
    let text = device.said();
    assert!(text.contains("updates are put off, as they can't be installed: the disk"), "{text}");
    assert_eq!(setting.disk.boot().unwrap().meta.version, "1.1.0");
}

#[test]
fn what_can_never_be_a_disk_is_refused() {
    let setting = Setting::new();
    let pipe = setting.dir.path().join("pipe");
    fifo(&pipe);
    for disk in [pipe.as_path(), setting.dir.path(), Path::new("/dev/null")] {
        let text = refusal(&command(disk).output().unwrap());
        assert!(text.contains("firmware goes to a regular file or a block device"), "{text}");
    }
}

#[test]
fn a_folder_for_updates_that_cannot_be_made_puts_updates_off() {
    let setting = Setting::new();
    let file = setting.dir.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    deploy(&setting);
    let folder = file.join("cache");
    let device = setting.device(&["--strategy", "caching", "--cache-dir", folder.to_str().unwrap()]);
    setting.saw("report", status("rescheduled", "cache"));
    device.ends_after("accepted");
}

#[test]
fn what_would_fail_later_is_said_at_the_start() {
    let setting = Setting::new();
    let path = |name: &str| setting.dir.path().join(name).display().to_string();
    let (cert, key) = setting.hub.device_certificate("agent-test-1").unwrap();
    std::fs::write(path("cert.pem"), cert).unwrap();
    std::fs::write(path("key.pem"), key).unwrap();
    let mode =
        |mode| std::fs::set_permissions(path("key.pem"), std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::write(path("file"), "in the way").unwrap();
    let (shell, folder) = (path("no-such-shell"), path("file/folder"));
    let files = [path("cert.pem"), path("key.pem")];
    let mut args = vec!["--cert", &files[0], "--key", &files[1], "--console", "--shell", &shell];
    args.extend(["--data-path", &folder, "--archive-dir", &folder]);
    let said = |args: &[&str]| setting.device(args).ends_after("accepted");
    mode(0o644);
    let text = said(&args);
    for words in ["chmod 600", "no-such-shell can't be run", "--data-path", "--archive-dir"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    mode(0o600);
    assert!(!said(&args[..4]).contains("chmod"));
}

#[test]
fn the_state_file_and_the_disk_must_be_two() {
    let setting = Setting::new();
    let disk = setting.disk.path().to_str().unwrap();
    let text = refusal(&command(setting.disk.path()).args(["--state", disk]).output().unwrap());
    assert!(text.contains("--state and --disk are the same file"), "{text}");
    assert!(setting.hub.wait_for(PATIENCE / 1000, joined).is_none());
}
