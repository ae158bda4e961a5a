//! The program against a hub that attacks it: with a pinned key and over TLS, nothing that the hub sends runs, is kept or is
//! reported unless the vendor signed it for this device, and no limit is passed.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::builder;
use nerves_hub_link_testkit::disk::{AbDisk, DiskLayout};
use nerves_hub_link_testkit::firmware::SigningKey;
use nerves_hub_link_testkit::hostile::{Attack, HostileHub, Victim};
use nerves_hub_link_testkit::hub::HubEvent;
use tempfile::TempDir;

/// Blows of each attack.
const ROUNDS: u32 = 12;
/// How long an attack may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);
/// Reboots that an attack may cause: the bound of an hour.
const REBOOTS: usize = 6;
/// Times that an attack may begin to write the spare slot: the bound of a day.
const WRITES: usize = 10;
/// Bytes above idle that the program may take.
const MEMORY: u64 = 24 << 20;
/// Bytes of log that an attack may cause.
const LOG: usize = 256 << 10;
/// Bytes of files that an attack may leave: eight archives and some bookkeeping.
const FILES: u64 = 4 << 20;

struct Device {
    hub: HostileHub,
    disk: AbDisk,
    dir: TempDir,
    log: Arc<Mutex<Vec<u8>>>,
    child: Child,
    starts: usize,
    /// Bytes that the program took once it had joined, and at most.
    idle: u64,
    peak: u64,
    spare_before: Vec<u8>,
}

impl Device {
    fn under(attack: Attack, format: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let vendor = SigningKey::from_seed(11);
        let layout = DiskLayout::with_slots_of(4);
        let old = builder("1.0.0", &layout).build(&vendor).unwrap();
        let disk = AbDisk::create(&dir.path().join("disk.img"), &layout, &old.meta, 1 << 20, 1).unwrap();
        let victim = Victim {
            identifier: "victim-1".to_owned(),
            product: old.meta.product.clone(),
            platform: old.meta.platform.clone(),
            architecture: old.meta.architecture.clone(),
            layout,
            vendor: vendor.clone(),
        };
        let hub = HostileHub::start(attack, victim, ROUNDS).unwrap();
        std::fs::write(dir.path().join("ca.pem"), hub.hub().ca_pem()).unwrap();
        let log = Arc::default();
        let child = start(&hub, &disk, dir.path(), &vendor, format, &log, attack);
        let mut device =
            Self { hub, disk, dir, log, child, starts: 1, idle: 0, peak: 0, spare_before: Vec::new() };
        device.spare_before = device.spare();
        let joined = |event: &HubEvent| matches!(event, HubEvent::Joined { .. });
        device.hub.hub().wait_for(PATIENCE, joined).unwrap_or_else(|| panic!("no join: {}", device.text()));
        device.idle = peak(device.child.id()).unwrap();
        let until = Instant::now() + PATIENCE;
        while device.hub.wait_for_rounds(ROUNDS, Duration::from_millis(50)) < ROUNDS {
            assert!(Instant::now() < until, "{attack:?} came to nothing: {}", device.text());
            device.peak = device.peak.max(peak(device.child.id()).unwrap_or_default());
            if let Some(status) = device.child.try_wait().unwrap() {
                assert!(status.success(), "{attack:?}: {status}: {}", device.text());
                device.starts += 1;
                device.child =
                    start(&device.hub, &device.disk, device.dir.path(), &vendor, format, &device.log, attack);
            }
        }
        device
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }

    /// What the slot holds that does not run.
    fn spare(&self) -> Vec<u8> {
        let layout = self.disk.layout();
        let mut file = std::fs::File::open(self.disk.path()).unwrap();
        file.seek(SeekFrom::Start(layout.slot_b * 512)).unwrap();
        let mut content = vec![0; usize::try_from(layout.slot_blocks * 512).unwrap()];
        file.read_exact(&mut content).unwrap();
        content
    }

    /// Bytes of all files but the disk's.
    fn files(&self) -> u64 {
        fn sum(folder: &Path) -> u64 {
            let entries = std::fs::read_dir(folder).unwrap().flatten();
            entries
                .map(|entry| {
                    entry.metadata().map_or(0, |m| if m.is_dir() { sum(&entry.path()) } else { m.len() })
                })
                .sum()
        }
        sum(self.dir.path()) - std::fs::metadata(self.disk.path()).unwrap().len()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(
    hub: &HostileHub,
    disk: &AbDisk,
    dir: &Path,
    vendor: &SigningKey,
    format: &str,
    log: &Arc<Mutex<Vec<u8>>>,
    attack: Attack,
) -> Child {
    // The pause after an update that fails would keep most attacks from a second try. Those that write meet it.
    let none = ["--failure-pause", "0", "--overwrites-per-day", "0"];
    let bounds: &[&str] = if attack.may_write() { &[] } else { &none };
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let product = hub.hub().product();
    let mut child = Command::new(env!("CARGO_BIN_EXE_nerves-hub-link"))
        .args(["run", "--host", &hub.hub().url(), "--serial", "victim-1", "--product-key", &product.key])
        .env("NERVES_HUB_PRODUCT_SECRET", &product.secret)
        .args(["--disk", disk.path().to_str().unwrap(), "--public-key", &vendor.public_key()])
        .args(["--ca", &path("ca.pem"), "--state", &path("state"), "--log", format])
        .args(["--archive-dir", &path("archives")])
        .args(["--reboot-command", &format!("echo reboot >> {}", path("reboots"))])
        .args(bounds)
        .args(["--retry-delay", "0.05", "--heartbeat-interval", "0.2"])
        .env("no_proxy", "*")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, log) = (child.stdout.take().unwrap(), Arc::clone(log));
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = out.read(&mut chunk) {
            log.lock().unwrap().extend(&chunk[..n]);
        }
    });
    child
}

/// The most memory that a process has had, in bytes.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

fn status(event: &HubEvent, wanted: &str) -> bool {
    matches!(event, HubEvent::Status { status, .. } if status == wanted)
}

/// What has to hold whatever the hub does.
fn survives(attack: Attack, format: &str) {
    let device = Device::under(attack, format);
    let idle = device.idle;
    let text = device.text();
    let booted = device.disk.boot().unwrap();
    assert_eq!(booted.meta.version, "1.0.0", "{attack:?} changed what boots: {text}");
    let reboots =
        std::fs::read_to_string(device.dir.path().join("reboots")).unwrap_or_default().lines().count();
    assert!(reboots <= REBOOTS, "{attack:?} caused {reboots} reboots: {text}");
    let log = device.hub.hub().log();
    let writes = log.iter().filter(|event| status(event, "updating")).count();
    if attack.may_write() {
        assert!(writes <= WRITES, "{attack:?} caused {writes} writes of the spare slot: {text}");
    } else {
        assert!(device.spare() == device.spare_before, "{attack:?} wrote the spare slot: {text}");
    }
    assert!(text.len() <= LOG, "{attack:?} caused {} bytes of log", text.len());
    assert!(device.files() <= FILES, "{attack:?} left {} bytes of files: {text}", device.files());
    assert!(device.peak <= idle + MEMORY, "{attack:?} took {} bytes, idle takes {idle}", device.peak);
    let control = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!text.contains(control), "{attack:?} put control characters into the log: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("2026")), "{attack:?} forged a line: {text:?}");
}

#[test]
fn an_old_archive_as_a_new_version() {
    survives(Attack::Rollback, "plain");
}

#[test]
fn an_old_archive_padded_to_the_announced_size() {
    survives(Attack::PaddedRollback, "plain");
}

#[test]
fn an_archive_of_another_product() {
    survives(Attack::OtherProduct, "plain");
}

#[test]
fn an_archive_of_another_platform() {
    survives(Attack::OtherPlatform, "plain");
}

#[test]
fn an_archive_of_another_architecture() {
    survives(Attack::OtherArchitecture, "plain");
}

#[test]
fn an_archive_of_another_platform_pushed_by_hand() {
    survives(Attack::PushedOtherPlatform, "plain");
}

#[test]
fn one_broken_archive_under_many_uuids() {
    survives(Attack::NewUuids, "plain");
}

#[test]
fn one_broken_archive_after_another() {
    survives(Attack::BrokenArchives, "json");
}

#[test]
fn a_reboot_at_every_join() {
    survives(Attack::Reboots, "plain");
}

#[test]
fn a_firmware_without_end() {
    survives(Attack::EndlessFirmware, "plain");
}

#[test]
fn an_archive_without_end() {
    survives(Attack::EndlessArchive, "plain");
}

#[test]
fn sizes_that_no_file_has() {
    survives(Attack::Sizes, "plain");
}

#[test]
fn one_archive_after_another() {
    survives(Attack::ManyArchives, "plain");
}

#[test]
fn messages_that_no_device_understands() {
    survives(Attack::LogFlood, "plain");
}

#[test]
fn messages_that_no_device_understands_in_json() {
    survives(Attack::LogFlood, "json");
}

#[test]
fn control_characters_everywhere() {
    survives(Attack::Controls, "plain");
}

#[test]
fn control_characters_everywhere_in_json() {
    survives(Attack::Controls, "json");
}

#[test]
fn addresses_inside_the_network() {
    survives(Attack::InsideAddresses, "plain");
}

#[test]
fn every_attack_is_tried() {
    let source = include_str!("hostile.rs");
    for attack in Attack::ALL {
        assert!(source.contains(&format!("survives(Attack::{attack:?}, ")), "{attack:?}");
    }
}
