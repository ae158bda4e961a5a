//! Firmware streamed onto a disk, and everything that keeps the old firmware running when it can't be.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use nerves_hub_link_platform::boot::{BootCheck, Marked};
use nerves_hub_link_platform::identity::{Identity, mark_validated};
use nerves_hub_link_platform::install::{
    DiskPolicy, FwupStreamInstaller, InstallError, InstallEvent, InstallReport, InstallRequest, Installer,
    SignedFirmware,
};
use nerves_hub_link_platform::kv::fw_env_config::{FwEnvConfig, Location};
use nerves_hub_link_platform::kv::{KeyValueStore, UbootStore};
use nerves_hub_link_testkit::disk::{AbDisk, BLOCK, DiskLayout};
use nerves_hub_link_testkit::firmware::{FirmwareBuilder, SigningKey, Tamper, tamper};
use tempfile::TempDir;

const ROOTFS: u64 = 700_000;

struct Bench {
    _dir: TempDir,
    disk: AbDisk,
    key: SigningKey,
    firmware: Arc<[u8]>,
    events: Arc<Mutex<Vec<InstallEvent>>>,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let layout = DiskLayout::with_slots_of(1).redundant();
        let key = SigningKey::from_seed(1);
        let build = |version| {
            FirmwareBuilder::new("lift", version).ab_layout(&layout).rootfs(ROOTFS, 7).build(&key).unwrap()
        };
        let (old, new) = (build("1.0.0"), build("1.1.0"));
        let disk = AbDisk::create(&dir.path().join("disk.img"), &layout, &old.meta, ROOTFS, 7).unwrap();
        Self { _dir: dir, disk, key, firmware: new.bytes().unwrap(), events: Arc::default() }
    }

    fn store(&self) -> UbootStore {
        let layout = self.disk.layout();
        let at = |block: u64| Location {
            path: self.disk.path().to_owned(),
            offset: block * BLOCK,
            size: usize::try_from(layout.environment_blocks * BLOCK).unwrap(),
        };
        let second = layout.environment_redundant.map(at);
        UbootStore::new(FwEnvConfig::new(at(layout.environment), second).unwrap())
    }

    fn identity(&self) -> Identity {
        Identity::load(&self.store()).unwrap()
    }

    fn installer(&self) -> FwupStreamInstaller {
        FwupStreamInstaller::new(DiskPolicy::new(self.disk.path()).fixed_size(true))
    }

    fn request(&self, keys: &[String]) -> InstallRequest {
        let events = Arc::clone(&self.events);
        InstallRequest::new(keys.to_vec(), move |event| events.lock().unwrap().push(event))
    }

    fn install(&self, archive: &[u8], cut: usize) -> Result<InstallReport, InstallError> {
        let mut install = self.installer().begin(self.request(&[self.key.public_key()]))?;
        for chunk in archive.chunks(cut) {
            install.write(chunk)?;
        }
        install.finish()
    }

    fn image(&self) -> Vec<u8> {
        fs::read(self.disk.path()).unwrap()
    }
}

#[test]
fn an_update_boots_into_the_other_slot_and_the_identity_follows() {
    for cut in [1, 4096, usize::MAX] {
        let bench = Bench::new();
        let before = bench.identity();
        assert_eq!((before.active_slot.as_str(), before.firmware.version.as_str()), ("a", "1.0.0"));
        assert_eq!(before.validated, Some(true));
        let report = bench.install(&bench.firmware, cut).unwrap();
        assert_eq!(report.task.as_deref(), Some("upgrade.b"), "cut {cut}");
        let booted = bench.disk.boot().unwrap();
        assert_eq!(booted.meta.version, "1.1.0");
        let after = bench.identity();
        assert_eq!((after.active_slot.as_str(), after.firmware.version.as_str()), ("b", "1.1.0"));
        assert_eq!(after.firmware.uuid, booted.meta.uuid);
        assert_eq!(after.validated, Some(false));
        let boot = BootCheck::of_process();
        assert_eq!(mark_validated(&mut bench.store(), &boot).unwrap(), Marked::Good);
        assert_eq!(bench.disk.boot().unwrap().validated, Some(true), "the boot loader agrees");
        let events = bench.events.lock().unwrap();
        assert_eq!(events.first(), Some(&InstallEvent::Progress(0)));
        assert_eq!(events.last(), Some(&InstallEvent::Progress(100)));
    }
}

#[test]
fn without_a_key_nothing_is_applied() {
    let bench = Bench::new();
    let before = bench.image();
    let none = bench.installer().begin(bench.request(&[])).map(drop).unwrap_err();
    assert!(matches!(none, InstallError::NoKeys), "{none}");
    let bad =
        bench.installer().begin(bench.request(&["no key".into(), String::new()])).map(drop).unwrap_err();
    assert!(matches!(bad, InstallError::BadKeys { count: 2 }), "{bad}");
    // Not even an installer told not to ask for one goes without.
    let mut lax = bench.installer().options(|options| options.require_signature = false);
    assert!(lax.begin(bench.request(&[])).is_err());
    assert_eq!(bench.image(), before);
}

#[test]
fn one_good_key_among_bad_ones_is_enough() {
    let bench = Bench::new();
    let keys = ["junk".to_owned(), SigningKey::from_seed(2).public_key(), bench.key.public_key()];
    let mut install = bench.installer().begin(bench.request(&keys)).unwrap();
    install.write(&bench.firmware).unwrap();
    install.finish().unwrap();
    let warned = |event: &InstallEvent| matches!(event, InstallEvent::Warning(text) if text.contains("key"));
    assert_eq!(bench.events.lock().unwrap().iter().filter(|event| warned(event)).count(), 1);
}

#[test]
fn an_untrusted_archive_changes_no_byte() {
    let bench = Bench::new();
    let before = bench.image();
    for how in [Tamper::Signature, Tamper::Unsigned, Tamper::MetaConf] {
        let bad = tamper(&bench.firmware, &how).unwrap();
        let error = bench.install(&bad, 4096).unwrap_err();
        assert!(matches!(error, InstallError::File(_)) && !error.to_string().is_empty(), "{how:?}: {error}");
        assert_eq!(bench.image(), before, "{how:?}");
    }
    let stranger = bench.request(&[SigningKey::from_seed(2).public_key()]);
    let mut install = bench.installer().begin(stranger).unwrap();
    assert!(install.write(&bench.firmware).is_err());
    drop(install);
    assert_eq!(bench.image(), before);
}

#[test]
fn a_damaged_or_cut_archive_leaves_the_old_firmware_booting() {
    let bench = Bench::new();
    let name = "rootfs.img".to_owned();
    let tampered = [
        Tamper::Resource { name: name.clone(), offset: 300_000 },
        Tamper::Compressed { name },
        Tamper::Truncated(bench.firmware.len() / 2),
    ];
    for how in tampered {
        let bad = tamper(&bench.firmware, &how).unwrap();
        let error = bench.install(&bad, 4096).unwrap_err();
        assert!(!error.to_string().is_empty(), "{how:?}");
        assert_eq!(bench.disk.boot().unwrap().meta.version, "1.0.0", "{how:?}: {error}");
    }
}

#[test]
fn dropping_an_install_half_way_cancels_it_and_frees_the_disk() {
    let bench = Bench::new();
    let mut install = bench.installer().begin(bench.request(&[bench.key.public_key()])).unwrap();
    install.write(&bench.firmware[..bench.firmware.len() / 2]).unwrap();
    let busy = bench.installer().begin(bench.request(&[bench.key.public_key()])).map(drop).unwrap_err();
    assert!(matches!(busy, InstallError::Disk(_)), "{busy}");
    assert!(bench.store().put("x", "y").unwrap_err().is_retryable(), "the environment is the update's now");
    drop(install);
    assert_eq!(bench.disk.boot().unwrap().meta.version, "1.0.0");
    bench.install(&bench.firmware, 4096).unwrap();
    assert_eq!(bench.disk.boot().unwrap().meta.version, "1.1.0");
}

#[test]
fn a_disk_that_is_too_small_is_said_in_words_and_never_grows() {
    let bench = Bench::new();
    // The disk ends within slot B.
    let length = (bench.disk.layout().slot_b * BLOCK) + ROOTFS / 2;
    fs::OpenOptions::new().write(true).open(bench.disk.path()).unwrap().set_len(length).unwrap();
    let error = bench.install(&bench.firmware, 4096).unwrap_err().to_string();
    assert!(error.contains("Check media size"), "{error}");
    assert_eq!(fs::metadata(bench.disk.path()).unwrap().len(), length);
    assert_eq!(bench.disk.boot().unwrap().meta.version, "1.0.0");
}

#[test]
fn a_missing_disk_is_refused_before_anything_else() {
    let mut installer = FwupStreamInstaller::new(DiskPolicy::new(Path::new("/nonexistent/disk")));
    let request = InstallRequest::new(vec![SigningKey::from_seed(1).public_key()], drop);
    let error = installer.begin(request).map(drop).unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

/// A block device made of a file, detached when dropped.
struct Loop(String);

impl Loop {
    fn attach(image: &Path) -> Option<Self> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(image).output().ok()?;
        let device = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        output.status.success().then_some(Self(device))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn a_block_device_is_written_once_that_is_allowed() {
    let bench = Bench::new();
    let Some(device) = Loop::attach(bench.disk.path()) else {
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: this user cannot make loop devices\n"),
        ));
        return;
    };
    let policy = DiskPolicy::new(&device.0);
    let request = || bench.request(&[bench.key.public_key()]);
    let refused = FwupStreamInstaller::new(policy.clone()).begin(request()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("allow_block_device"), "{refused}");
    let mut installer = FwupStreamInstaller::new(policy.allow_block_device(true));
    let mut install = installer.begin(request()).unwrap();
    for chunk in bench.firmware.chunks(1000) {
        install.write(chunk).unwrap();
    }
    install.finish().unwrap();
    drop(device);
    assert_eq!(bench.disk.boot().unwrap().meta.version, "1.1.0");
}

/// The firmware of a bench as its archive describes it.
fn described(bench: &Bench) -> SignedFirmware {
    let meta = nerves_hub_link_testkit::firmware::describe(std::io::Cursor::new(&bench.firmware)).unwrap();
    let mut signed = SignedFirmware::default();
    (signed.uuid, signed.product, signed.version) = (meta.uuid, meta.product, meta.version);
    (signed.platform, signed.architecture) = (meta.platform, meta.architecture);
    signed
}

#[test]
fn firmware_is_held_at_its_signed_metadata_before_any_write() {
    for cut in [1, 100, 4096, usize::MAX] {
        let bench = Bench::new();
        let before = bench.image();
        let boot = BootCheck::of_process();
        let mut guarded = boot.guard(bench.installer(), bench.store());
        assert!(guarded.holds());
        let mut install = guarded.begin(bench.request(&[bench.key.public_key()]).hold(true)).unwrap();
        let mut rest = bench.firmware.chunks(cut);
        while install.held().is_none() {
            install.write(rest.next().expect("never held")).unwrap();
        }
        let (signed, expected) = (install.held().unwrap(), described(&bench));
        assert_eq!(
            (&signed.uuid, &signed.version, &signed.product, &signed.platform, &signed.architecture),
            (
                &expected.uuid,
                &expected.version,
                &expected.product,
                &expected.platform,
                &expected.architecture
            ),
            "cut {cut}"
        );
        assert_eq!(bench.image(), before, "cut {cut}");
        // Bytes and the end are refused until somebody allows it.
        assert!(install.write(&[0; 16]).unwrap_err().to_string().contains("permission"));
        drop(install);
        assert_eq!(bench.image(), before, "cut {cut}: given up");

        let mut install = guarded.begin(bench.request(&[bench.key.public_key()]).hold(true)).unwrap();
        for chunk in bench.firmware.chunks(cut) {
            install.write(chunk).unwrap();
            if install.held().is_some() {
                assert_eq!(bench.image(), before, "cut {cut}");
                install.proceed().unwrap();
                assert!(install.held().is_none());
            }
        }
        // Once is enough, and twice does no harm.
        install.proceed().unwrap();
        install.finish().unwrap();
        assert_eq!(bench.disk.boot().unwrap().meta.version, "1.1.0", "cut {cut}");
    }
}

#[test]
fn an_install_that_is_held_can_not_be_finished() {
    let bench = Bench::new();
    let before = bench.image();
    let mut install = bench.installer().begin(bench.request(&[bench.key.public_key()]).hold(true)).unwrap();
    install.write(&bench.firmware).unwrap();
    assert!(install.held().is_some());
    let error = install.finish().unwrap_err();
    assert!(error.to_string().contains("permission"), "{error}");
    assert_eq!(bench.image(), before);
}

#[test]
fn what_no_trusted_key_signed_is_never_held() {
    let bench = Bench::new();
    for how in [Tamper::Signature, Tamper::Unsigned, Tamper::MetaConf] {
        let bad = tamper(&bench.firmware, &how).unwrap();
        let mut install =
            bench.installer().begin(bench.request(&[bench.key.public_key()]).hold(true)).unwrap();
        let failed = bad.chunks(64).any(|chunk| {
            let failed = install.write(chunk).is_err();
            assert!(install.held().is_none(), "{how:?}");
            failed
        });
        assert!(failed, "{how:?}");
    }
}

#[test]
fn a_request_says_what_is_to_be_installed() {
    let request = InstallRequest::new(vec!["key".into()], |_| ());
    assert_eq!((request.uuid.as_str(), request.version.as_str(), request.size), ("", "", None));
    assert!(!request.hold);
    let request = request.firmware("e75a88c1", "1.1.0", Some(700_000)).hold(true);
    assert_eq!(
        (request.uuid.as_str(), request.version.as_str(), request.size),
        ("e75a88c1", "1.1.0", Some(700_000))
    );
    assert!(request.hold && request.public_keys == ["key"]);
    let text = format!("{request:?}");
    for part in ["e75a88c1", "1.1.0", "700000", "hold: true"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_disk_that_ends_before_the_environment_is_an_obstacle_and_no_fault_of_the_firmware() {
    for redundant in [false, true] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("disk.img");
        let at = |offset| Location { path: path.clone(), offset, size: 0x2000 };
        let store = || UbootStore::new(FwEnvConfig::new(at(0x2000), redundant.then(|| at(0x4000))).unwrap());
        let boot = BootCheck::of_process();
        let mut guarded = boot.guard(FwupStreamInstaller::new(DiskPolicy::new(&path)), store());
        for length in [0, 1, 0x2000, 0x2001, 0x3fff] {
            fs::write(&path, vec![0xff; length]).unwrap();
            for error in [
                guarded.check().unwrap_err(),
                guarded.begin(InstallRequest::new(vec!["key".into()], |_| ())).map(drop).unwrap_err(),
            ] {
                assert!(matches!(error, InstallError::Environment(_)), "{length}: {error}");
                assert!(error.to_string().contains("ends"), "{error}");
            }
            assert_eq!(fs::read(&path).unwrap().len(), length);
        }
        // Long enough, but never written: there are devices without an environment, and their archives decide.
        fs::write(&path, vec![0xff; 0x6000]).unwrap();
        guarded.check().unwrap();
    }
}
