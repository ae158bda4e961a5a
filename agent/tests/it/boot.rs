//! What `run` reports and marks good between an update and the reboot.

use std::process::Command;

use crate::common::{Setting, builder, command_of, refusal};
use nerves_hub_link_platform::install::DiskPolicy;
use nerves_hub_link_platform::kv::fw_env_config::{FwEnvConfig, Location};
use nerves_hub_link_platform::kv::{KeyValueStore as _, UbootStore};
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::Firmware;

#[test]
fn firmware_that_was_written_and_not_booted_is_neither_told_nor_marked_good() {
    let setting = Setting::new();
    let path = |name: &str| setting.dir.path().join(name).display().to_string();
    let (state, boot, flag) = (path("state"), path("boot"), path("rebooted"));
    std::fs::write(&boot, "first").unwrap();
    let reboot = format!("touch {flag}");
    let args = ["--state", &state, "--boot-id", &boot, "--validate-when-joined"];
    // It ends without a reboot.
    let device = setting.device(&args);
    setting.saw("join", |event| matches!(event, HubEvent::Joined { .. }));
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    setting.hub.deploy(Firmware::from_archive(&update).unwrap());
    device.said();

    let said = setting.device(&[&args[..], &["--reboot-command", &reboot]].concat()).said();
    assert!(said.contains("slot b was written and slot a still runs"), "{said}");
    assert!(std::path::Path::new(&flag).exists());
    assert!(!said.contains("accepted"), "{said}");
    assert_eq!(setting.disk.boot().unwrap().validated, Some(false));

    // The state file is lost: the boot environment still knows.
    std::fs::remove_file(&state).unwrap();
    let said = setting.device(&args).said();
    assert!(said.contains("slot b was written and slot a still runs"), "{said}");

    std::fs::write(&boot, "second").unwrap();
    let _device = setting.device(&args);
    setting.saw("validation", |event| matches!(event, HubEvent::Validated { .. }));
    assert_eq!(setting.disk.boot().unwrap().validated, Some(true));
}

#[test]
fn a_device_that_cannot_restart_stays_connected_with_the_firmware_that_runs() {
    // With notes of this boot, and where only the process knows what ran.
    for remembers in [true, false] {
        let setting = Setting::new();
        let boot = setting.dir.path().join("boot").display().to_string();
        std::fs::write(&boot, "first").unwrap();
        let state = setting.dir.path().join("state").display().to_string();
        let mut args = vec!["--validate-when-joined", "--reboot-command", "echo no power; exit 3"];
        if remembers {
            args.extend(["--state", &state, "--boot-id", &boot]);
        }
        let device = setting.device(&args);
        let runs_old =
            |event: &HubEvent| matches!(event, HubEvent::Joined { version, .. } if version == "1.0.0");
        setting.saw("join", runs_old);
        let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
        setting.hub.deploy(Firmware::from_archive(&update).unwrap());
        let said = device.ends_after_times("the server accepted this device", 2);
        assert!(said.contains("no power") && said.contains("exit status: 3"), "{said}");
        assert!(said.contains("stays connected") && said.contains("again in 60 min"), "{said}");
        assert!(said.contains("slot b was written and slot a still runs"), "{said}");
        let joins = setting.hub.log().into_iter().filter(runs_old).count();
        assert_eq!(joins, 2, "{:?}", setting.hub.log());
        assert_eq!(setting.disk.boot().unwrap().validated, Some(false));
    }
}

/// An update, another program of ours, or a disk that is full for a moment: what keeps the firmware from being marked good goes
/// away, and then it is marked, without another join.
#[test]
fn marking_firmware_good_is_tried_until_it_is_done() {
    let setting = Setting::new();
    another_program_sets(&setting, "0");
    let boot = setting.dir.path().join("boot").display().to_string();
    std::fs::write(&boot, "first").unwrap();
    let held = DiskPolicy::new(setting.disk.path()).open().unwrap();
    // Other looks at the environment come long after the end of this test.
    let args = ["--boot-id", &boot, "--validate-when-joined", "--validation-interval", "3600"];
    let mut device = setting.device(&args);
    let said = device.says("can't mark this firmware good");
    assert!(said.contains("tried again until it is done"), "{said}");
    assert_eq!(flag(&setting), "0");
    drop(held);
    setting.saw("validation", |event| matches!(event, HubEvent::Validated { .. }));
    assert_eq!(setting.disk.boot().unwrap().validated, Some(true));
    let joins = setting.hub.log().iter().filter(|event| matches!(event, HubEvent::Joined { .. })).count();
    assert_eq!(joins, 1, "it needs no other join");
}

/// Everybody who can read a disk can lock it, for ever.
#[test]
fn a_reader_that_locks_the_disk_does_not_keep_firmware_from_being_marked_good() {
    let setting = Setting::new();
    another_program_sets(&setting, "0");
    let boot = setting.dir.path().join("boot").display().to_string();
    std::fs::write(&boot, "first").unwrap();
    if !std::path::Path::new("/run/nerves-hub-link-lock").exists() {
        return println!("SKIPPED: this user has no folder in /run");
    }
    let reader = std::fs::File::open(setting.disk.path()).unwrap();
    rustix::fs::flock(&reader, rustix::fs::FlockOperation::LockShared).unwrap();
    let _device = setting.device(&["--boot-id", &boot, "--validate-when-joined"]);
    setting.saw("validation", |event| matches!(event, HubEvent::Validated { .. }));
    assert_eq!(setting.disk.boot().unwrap().validated, Some(true));
    drop(reader);
}

#[test]
fn a_boot_id_that_cannot_be_read_is_named_with_what_it_costs() {
    let setting = Setting::new();
    let path = |name: &str| setting.dir.path().join(name).display().to_string();
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("binary"), [0xFF, 0, 1]).unwrap();
    std::fs::write(path("long"), "x".repeat(129)).unwrap();
    for (file, why) in [
        (path("pipe"), "no regular file"),
        (path(""), "no regular file"),
        (path("missing"), "No such file"),
        (path("no-such-folder/boot-id"), "No such file"),
        (path("empty"), "no short line of text"),
        (path("binary"), "no short line of text"),
        (path("long"), "no short line of text"),
    ] {
        let text = setting.device(&["--boot-id", &file]).ends_after("accepted");
        let line =
            text.lines().find(|line| line.contains("--boot-id")).unwrap_or_else(|| panic!("{file}: {text}"));
        for words in [&*file, why, "nothing is marked good", "Give a file"] {
            assert!(line.contains(words), "{words}: {line}");
        }
    }
    std::fs::write(path("good"), "x".repeat(128)).unwrap();
    let text = setting.device(&["--boot-id", &path("good")]).ends_after("accepted");
    assert!(!text.contains("--boot-id"), "{text}");
}

#[test]
fn firmware_is_marked_good_once_the_boot_id_is_there() {
    let setting = Setting::new();
    another_program_sets(&setting, "0");
    let folder = setting.dir.path().join("late");
    let file = folder.join("boot-id");
    let file = file.to_str().unwrap();
    let more = ["--validate-when-joined", "--boot-id", file];
    let mut device = setting.device(&more);
    device.says("nothing is marked good yet");
    assert_eq!(flag(&setting), "0");
    std::fs::create_dir(folder).unwrap();
    std::fs::write(file, "first").unwrap();
    setting.saw("validation", |event| matches!(event, HubEvent::Validated { .. }));
    assert_eq!(flag(&setting), "1");
}

fn environment(setting: &Setting) -> UbootStore {
    let place = Location { path: setting.disk.path().to_owned(), offset: 0x2000, size: 0x2000 };
    UbootStore::new(FwEnvConfig::new(place, None).unwrap())
}

fn flag(setting: &Setting) -> String {
    environment(setting).get("nerves_fw_validated").unwrap().unwrap()
}

/// Changes the flag as another program would.
fn another_program_sets(setting: &Setting, flag: &str) {
    environment(setting).put("nerves_fw_validated", flag).unwrap();
}

#[test]
fn firmware_that_another_program_marks_good_is_noticed_between_joins() {
    let setting = Setting::new();
    another_program_sets(&setting, "0");
    let mut device = setting.device(&["--validation-interval", "1"]);
    setting.saw("join", |event| matches!(event, HubEvent::Joined { .. }));
    another_program_sets(&setting, "1");
    setting.saw("validation", |event| matches!(event, HubEvent::Validated { .. }));
    device.says("another program marked this firmware good");
}

#[test]
fn firmware_that_another_program_marks_good_is_noticed_at_the_next_join() {
    let setting = Setting::new();
    another_program_sets(&setting, "0");
    // Long after the end of this test.
    let mut device = setting.device(&["--validation-interval", "3600"]);
    setting.saw("join", |event| matches!(event, HubEvent::Joined { .. }));
    another_program_sets(&setting, "1");
    setting.hub.close_all(1012, "restart");
    // The look after the first join may see it, too; then the second join says so.
    setting.saw("validation", |event| {
        matches!(event, HubEvent::Validated { .. } | HubEvent::Joined { validated: Some(true), .. })
    });
    device.says("another program marked this firmware good");
}

#[test]
fn a_block_device_needs_no_state_file_to_tell_what_was_only_written() {
    let setting = Setting::new();
    let disk = setting.disk.path();
    let attach = || Command::new("losetup").args(["--find", "--show"]).arg(disk).output();
    let Some(Ok(device)) =
        attach().ok().filter(|out| out.status.success()).map(|out| String::from_utf8(out.stdout))
    else {
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: this user cannot make loop devices\n"),
        ));
        return;
    };
    let detached = Detached(device.trim().to_owned());
    let args = ["--allow-block-device", "--validate-when-joined"];
    let running = setting.device_on(detached.0.as_ref(), &args);
    setting.saw("join", |event| matches!(event, HubEvent::Joined { .. }));
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    setting.hub.deploy(Firmware::from_archive(&update).unwrap());
    running.said();
    let said = setting.device_on(detached.0.as_ref(), &args).said();
    assert!(said.contains("slot b was written and slot a still runs"), "{said}");
    assert!(!said.contains("accepted"), "{said}");
    drop(detached);
    assert_eq!(setting.disk.boot().unwrap().validated, Some(false));
}

/// A loop device. Dropping it detaches it.
struct Detached(String);

impl Drop for Detached {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

#[test]
fn a_placeholder_is_no_serial_number() {
    for serial in ["00000000", "To Be Filled By O.E.M.", " unknown "] {
        let text = refusal(&command_of(serial, "disk.img".as_ref()).output().unwrap());
        assert!(text.contains("placeholder") && text.contains("--serial"), "{text}");
    }
}
