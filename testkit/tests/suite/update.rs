//! Updates from offer to reboot, and everything that can go wrong in between.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::bench::{Adapter as _, Bench, Device, Gate, LIMIT};
use nerves_hub_link_platform::install::{
    DiskPolicy, FwupStreamInstaller, Install, InstallError, InstallReport, InstallRequest, Installer,
};
use nerves_hub_link_protocol::{Decision, Event, UpdateState};
use nerves_hub_link_runtime::limits::HANDOVER_MAX;
use nerves_hub_link_runtime::{Exit, Options};
use nerves_hub_link_testkit::firmware::{SigningKey, Tamper, tamper};
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::{Firmware, Mischief, Times};

impl Bench {
    fn image(&self) -> Vec<u8> {
        std::fs::read(self.disk.path()).unwrap()
    }

    /// The update failed for a reason, the hub heard of it, and the device runs on with the old firmware.
    fn assert_failed(&self, device: &Device, word: &str) {
        self.assert_failed_while_running(device, word);
        device.stop();
    }
}

#[test]
fn an_update_streams_to_the_disk_reboots_and_is_confirmed() {
    let bench = Bench::new();
    let device = bench.start();
    device.until_joined();
    bench.deploy("1.1.0");
    bench.assert_updated(&device);
    for status in ["received", "started", "completed"] {
        bench.hub_saw_status(status);
    }
    // The next boot.
    let device = bench.start();
    bench.hub_saw("success", |event| matches!(event, HubEvent::UpdateSucceeded { .. }));
    let joined = |event: &HubEvent| matches!(event, HubEvent::Joined { version, validated: Some(false), .. } if version == "1.1.0");
    bench.hub_saw("the new firmware, not yet validated", joined);
    device.handle.firmware_validated().unwrap();
    bench.hub_saw("validation", |event| matches!(event, HubEvent::Validated { .. }));
    device.stop();
}

#[test]
fn keys_from_the_hub_are_enough() {
    let bench = Bench::new();
    let mut config = bench.config();
    config.public_keys.clear();
    bench.deploy("1.1.0");
    let device = bench.start_with(config, bench.installer());
    bench.assert_updated(&device);
}

#[test]
fn a_download_that_breaks_again_and_again_is_resumed() {
    let bench = Bench::new();
    bench.hub.mischief(Mischief::CutDownload { after: 100_000 }, Times::Count(3));
    bench.deploy("1.1.0");
    let device = bench.start();
    bench.assert_updated(&device);
    let downloads = bench.downloads();
    assert_eq!(downloads.len(), 4, "{downloads:?}");
    assert!(downloads.windows(2).all(|pair| pair[0].1 < pair[1].1), "each goes on further: {downloads:?}");
    assert!(downloads[1..].iter().all(|(status, _)| *status == 206), "{downloads:?}");
}

#[test]
fn a_server_that_ignores_ranges_costs_time_and_nothing_else() {
    let bench = Bench::new();
    bench.hub.mischief(Mischief::CutDownload { after: 200_000 }, Times::Once);
    bench.hub.mischief(Mischief::IgnoreRange, Times::UntilCleared);
    bench.deploy("1.1.0");
    let device = bench.start();
    bench.assert_updated(&device);
}

#[test]
fn a_wrong_range_is_not_written() {
    let bench = Bench::new();
    bench.hub.mischief(Mischief::CutDownload { after: 200_000 }, Times::Once);
    bench.hub.mischief(Mischief::WrongContentRange { by: 10 }, Times::Once);
    bench.deploy("1.1.0");
    let device = bench.start();
    bench.assert_updated(&device);
}

#[test]
fn redirects_and_busy_storage_are_followed_and_waited_for() {
    let bench = Bench::new();
    bench.hub.mischief(Mischief::RedirectDownload { location: None }, Times::Once);
    bench.hub.mischief(Mischief::RefuseDownload { status: 503, retry_after: None }, Times::Once);
    bench.deploy("1.1.0");
    let device = bench.start();
    bench.assert_updated(&device);
}

#[test]
fn a_download_may_take_longer_than_its_connection() {
    let bench = Bench::new();
    bench.hub.mischief(Mischief::SlowBody { bytes: 4096, every_ms: 10 }, Times::Once);
    let mut config = bench.config();
    // Enough for a busy machine.
    config.download.connect_timeout = Duration::from_secs(1);
    bench.deploy("1.1.0");
    let before = Instant::now();
    let device = bench.start_with(config, bench.installer());
    bench.assert_updated(&device);
    assert!(before.elapsed() > Duration::from_millis(1200), "too quick to show anything");
    assert_eq!(bench.downloads().len(), 1);
}

#[test]
fn storage_that_never_answers_is_given_up_and_tried_again() {
    let bench = Bench::new();
    let device = bench.start_with(
        {
            let mut config = bench.config();
            config.download.connect_timeout = Duration::from_millis(300);
            config
        },
        bench.installer(),
    );
    device.until_joined();
    bench.hub.mischief(Mischief::Silent, Times::Once);
    bench.deploy("1.1.0");
    let event = device.until("interrupted", |event| matches!(event, Event::DownloadInterrupted { .. }));
    assert!(
        matches!(&event, Event::DownloadInterrupted { reason, .. } if reason.contains("too long")),
        "{event:?}"
    );
    bench.assert_updated(&device);
}

#[test]
fn a_hub_that_restarts_in_the_middle_of_a_download_stops_nothing() {
    let mut bench = Bench::new();
    bench.hub.mischief(Mischief::SlowBody { bytes: 4096, every_ms: 5 }, Times::Once);
    bench.deploy("1.1.0");
    let device = bench.start();
    device.until("half way", |event| matches!(event, Event::UpdateProgress { percent: 20.., .. }));
    bench.hub.restart().unwrap();
    bench.assert_updated(&device);
    let resumed = |event: &HubEvent| matches!(event, HubEvent::Joined { currently_downloading: Some(_), .. });
    bench.hub_saw("a device that still downloads", resumed);
    let downloads = bench.downloads();
    assert!(downloads.last().unwrap().1 > 0, "the download was resumed, not repeated: {downloads:?}");
}

#[test]
fn firmware_that_was_tampered_with_is_refused_by_name() {
    for (how, word) in [
        (Tamper::Resource { name: "rootfs.img".to_owned(), offset: 300_000 }, "rootfs.img"),
        (Tamper::MetaConf, "signature"),
        (Tamper::Signature, "signature"),
        (Tamper::Unsigned, "signed"),
        // A bit flipped in the compressed data: the inflater, the ZIP checksum or the digest notices.
        (Tamper::Compressed { name: "rootfs.img".to_owned() }, "rootfs.img"),
        // Cut within the first entry, in the manifest, and in the file system.
        (Tamper::Truncated(50), "ZIP"),
        (Tamper::Truncated(400), "meta.conf"),
        (Tamper::Truncated(100_000), "rootfs.img"),
    ] {
        println!("{how:?}");
        let bench = Bench::new();
        bench.deploy_bytes("1.1.0", |bytes| tamper(bytes, &how).unwrap());
        let device = bench.start();
        bench.assert_failed(&device, word);
    }
}

#[test]
fn a_task_the_archive_does_not_have_is_named() {
    let bench = Bench::new();
    let config = bench.config();
    bench.deploy("1.1.0");
    let device = bench.start_with(config, bench.installer().task("no-such-task"));
    bench.assert_failed(&device, "no-such-task");
}

#[test]
fn firmware_of_a_stranger_changes_no_byte() {
    let bench = Bench::new();
    let mut config = bench.config();
    config.public_keys = vec![SigningKey::from_seed(2).public_key()];
    config.accept_server_keys = false;
    bench.deploy("1.1.0");
    let before = bench.image();
    let device = bench.start_with(config, bench.installer());
    bench.assert_failed(&device, "signature");
    assert_eq!(bench.image()[BENCH_SLOT_B..], before[BENCH_SLOT_B..]);
}

/// Behind everything that a boot writes.
const BENCH_SLOT_B: usize = 2 << 20;

#[test]
fn without_a_key_an_update_is_refused() {
    let bench = Bench::new();
    let mut config = bench.config();
    config.public_keys.clear();
    let firmware = Firmware::from_archive(&bench.firmware("1.1.0")).unwrap().without_public_keys();
    bench.hub.deploy(firmware);
    let device = bench.start_with(config, bench.installer());
    bench.assert_failed(&device, "key");
}

#[test]
fn a_disk_that_is_too_small_is_said_in_words() {
    let bench = Bench::new();
    let length = (bench.layout.slot_b + 100) * 512;
    std::fs::OpenOptions::new().write(true).open(bench.disk.path()).unwrap().set_len(length).unwrap();
    bench.deploy("1.1.0");
    let device = bench.start();
    bench.assert_failed(&device, "Check media size");
}

#[test]
fn a_missing_disk_puts_updates_off_until_it_is_there() {
    let bench = Bench::new();
    let disk = bench.path("later.img");
    let installer = FwupStreamInstaller::new(DiskPolicy::new(&disk));
    bench.deploy("1.1.0");
    let often = |options: Options| options.install_checks(Duration::from_millis(100));
    let device = Device::start_as(bench.config(), bench.tls(), installer, |_| Decision::Apply, often);
    let reason = bench.hub_saw_status("rescheduled").unwrap();
    assert!(reason.contains("later.img does not exist"), "{reason}");
    assert!(device.handle.status().link.install_obstacle.unwrap().contains("later.img"));
    device.answers(&bench.hub);
    assert!(!disk.exists());
    std::fs::copy(bench.disk.path(), &disk).unwrap();
    let (_, gone) = device.handle.wait_until(LIMIT, |status| status.link.install_obstacle.is_none());
    assert!(gone);
    bench.hub.with_hub(|hub, _| hub.clear_penalty(crate::bench::SERIAL));
    bench.deploy("1.1.0");
    let exit = device.exit();
    assert!(matches!(exit, Exit::Reboot { .. }), "{exit:?}; the hub: {:#?}", bench.hub.log());
}

#[test]
fn a_disk_that_goes_away_meanwhile_is_no_failure_of_the_firmware() {
    let bench = Bench::new();
    let disk = bench.path("gone.img");
    std::fs::copy(bench.disk.path(), &disk).unwrap();
    let installer = FwupStreamInstaller::new(DiskPolicy::new(&disk));
    let device = bench.start_with(bench.config(), installer);
    device.until_joined();
    std::fs::remove_file(&disk).unwrap();
    bench.deploy("1.1.0");
    let reason = bench.hub_saw_status("rescheduled").unwrap();
    assert!(reason.contains("gone.img does not exist"), "{reason}");
    let failed = |event: &HubEvent| matches!(event, HubEvent::Status { status, .. } if status == "failed");
    assert!(!bench.hub.log().iter().any(failed));
    device.stop();
}

/// An installer that does what a test wants with every piece, and tells when an install is over.
struct Odd<F> {
    write: F,
    over: Sender<&'static str>,
}

struct OddInstall<F> {
    write: F,
    over: Sender<&'static str>,
}

fn odd<F>(write: F) -> (Odd<F>, Receiver<&'static str>) {
    let (over, told) = channel();
    (Odd { write, over }, told)
}

impl<F: Fn() -> Result<(), InstallError> + Clone + Send + 'static> Installer for Odd<F> {
    fn begin(&mut self, _: InstallRequest) -> Result<Box<dyn Install>, InstallError> {
        Ok(Box::new(OddInstall { write: self.write.clone(), over: self.over.clone() }))
    }
}

impl<F: Fn() -> Result<(), InstallError> + Send> Install for OddInstall<F> {
    fn write(&mut self, _: &[u8]) -> Result<(), InstallError> {
        (self.write)()
    }

    fn finish(self: Box<Self>) -> Result<InstallReport, InstallError> {
        let _ = self.over.send("finished");
        Ok(InstallReport::default())
    }
}

impl<F> Drop for OddInstall<F> {
    fn drop(&mut self) {
        let _ = self.over.send("dropped");
    }
}

#[test]
fn a_full_disk_is_said_in_words() {
    let bench = Bench::new();
    bench.deploy("1.1.0");
    let full = || Err(InstallError::Failed("write failed: no space left on device".to_owned()));
    let device = bench.start_with(bench.config(), odd(full).0);
    bench.assert_failed(&device, "no space left");
}

#[test]
fn an_installer_that_panics_fails_the_update_and_nothing_else() {
    let bench = Bench::new();
    bench.deploy("1.1.0");
    let device = bench.start_with(bench.config(), odd(|| panic!("flash driver bug")).0);
    bench.assert_failed(&device, "flash driver bug");
}

#[test]
fn a_slow_disk_slows_the_download_and_the_connection_lives() {
    let bench = Bench::with_rootfs(4 << 20);
    let gate = Gate::default();
    let waits = gate.clone();
    bench.deploy("1.1.0");
    let mut config = bench.config();
    config.heartbeat = Duration::from_millis(50);
    let (installer, _) = odd(move || {
        waits.pass();
        Ok(())
    });
    let device = bench.start_with(config, installer);
    device.until("started", |event| matches!(event, Event::DownloadStarted { .. }));
    // The applier stands still; messages and heartbeats still come and go.
    device.answers(&bench.hub);
    let mut events = bench.hub.events();
    while events.wait_for(Duration::ZERO, |_| true).is_some() {}
    for _ in 0..3 {
        let beat = events.wait_for(LIMIT, |event| matches!(event, HubEvent::Heartbeat { .. }));
        assert!(beat.is_some(), "a heartbeat");
    }
    // The network waits for the disk: no more was read than the hand-over holds.
    let UpdateState::Downloading { received, .. } = device.handle.status().link.update else {
        panic!("{:?}", device.handle.status());
    };
    assert!(bench.firmware("1.1.0").bytes().unwrap().len() > 4 * HANDOVER_MAX);
    assert!((1..=HANDOVER_MAX as u64).contains(&received), "{received} bytes were read ahead");
    assert!(
        !bench
            .hub
            .log()
            .iter()
            .any(|event| matches!(event, HubEvent::Status { status, .. } if status == "completed"))
    );
    gate.open();
    assert!(matches!(device.exit(), Exit::Reboot { .. }));
}

#[test]
fn a_download_that_fails_for_good_cancels_the_applier() {
    let bench = Bench::new();
    // More than may wait for the applier: it has begun before the download can fail.
    bench.hub.mischief(Mischief::CutDownload { after: 2 * HANDOVER_MAX as u64 }, Times::Once);
    let gone = Mischief::RefuseDownload { status: 404, retry_after: None };
    bench.hub.mischief(gone, Times::UntilCleared);
    bench.deploy("1.1.0");
    let (installer, over) = odd(|| Ok(()));
    let device = bench.start_with(bench.config(), installer);
    bench.assert_failed_while_running(&device, "404");
    let statuses: Vec<u16> = bench.downloads().iter().map(|(status, _)| *status).collect();
    // What refuses the rest may still have the whole.
    assert_eq!(statuses, [200, 404, 404], "the first one brought what the applier began with");
    assert_eq!(over.recv_timeout(LIMIT), Ok("dropped"));
    device.stop();
}

#[test]
fn stopping_waits_for_the_piece_being_written() {
    let bench = Bench::new();
    let gate = Gate::default();
    let (waits, (inside, entered)) = (gate.clone(), channel());
    bench.deploy("1.1.0");
    let (installer, over) = odd(move || {
        let _ = inside.send(());
        waits.pass();
        Ok(())
    });
    let device = bench.start_with(bench.config(), installer);
    entered.recv_timeout(LIMIT).unwrap();
    let stopper = std::thread::spawn({
        let handle = device.handle.clone();
        move || handle.stop()
    });
    let (_, ended) = device.handle.wait_until(Duration::from_millis(300), |status| status.exit.is_some());
    assert!(!ended, "it said that it had stopped while a write was under way");
    gate.open();
    assert_eq!(stopper.join().unwrap(), Exit::Stopped);
    assert_eq!(over.try_recv(), Ok("dropped"), "over by the time that stop returns");
}

#[test]
fn stopping_in_the_middle_of_an_update_writes_nothing_more() {
    let bench = Bench::new();
    bench.hub.mischief(Mischief::SlowBody { bytes: 4096, every_ms: 5 }, Times::UntilCleared);
    bench.deploy("1.1.0");
    let device = bench.start();
    device.until("under way", |event| matches!(event, Event::UpdateProgress { percent: 10.., .. }));
    device.stop();
    // Nobody holds the disk any more.
    let disk = DiskPolicy::new(bench.disk.path()).open().unwrap();
    drop(disk);
    assert_eq!(bench.disk.boot().unwrap().meta.version, "1.0.0");
    // A new start begins anew and ends well.
    bench.hub.clear_mischief();
    let device = bench.start();
    bench.assert_updated(&device);
}

#[test]
fn an_update_that_the_application_does_not_want_is_not_fetched() {
    let bench = Bench::new();
    bench.deploy("1.1.0");
    let ignore = |_: &_| Decision::Ignore { reason: "the lift is moving".to_owned() };
    let device = Device::start(bench.config(), bench.tls(), bench.installer(), ignore);
    let reason = bench.hub_saw_status("ignored").unwrap_or_default();
    assert!(reason.contains("the lift is moving"), "{reason}");
    device.answers(&bench.hub);
    assert!(bench.downloads().is_empty());
    device.stop();
}

/// A redirect of the file into the device's network is not followed there, and the server learns nothing of it.
#[test]
fn a_file_on_the_device_s_link_is_refused_though_the_server_is_on_the_device() {
    let bench = Bench::new();
    for location in [
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:169.254.169.254]/",
        "https://0.0.0.0:1/",
    ] {
        bench.hub.mischief(Mischief::RedirectDownload { location: Some(location.to_owned()) }, Times::Once);
    }
    bench.deploy("1.1.0");
    let device = bench.start();
    for words in ["on the local link", "on the local link", "no address of one host"] {
        let event = device.until("interrupted", |event| matches!(event, Event::DownloadInterrupted { .. }));
        let Event::DownloadInterrupted { reason, .. } = event else { unreachable!() };
        assert!(reason.contains("refused") && reason.contains(words), "{reason}");
    }
    bench.assert_updated(&device);
}
