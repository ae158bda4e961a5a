//! Updates that are kept on disk before they are applied, over real sockets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bench::{Adapter as _, Bench, Device, LIMIT};
use nerves_hub_link_platform::limits::ASIDE_MAX;
use nerves_hub_link_platform::store::DownloadStore;
use nerves_hub_link_protocol::{Config, Decision, Event, PartsConfig, UpdateStrategy};
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::{Mischief, Times};

/// Bytes of the root file system, so that a firmware has four parts.
const ROOTFS: u64 = 3_500_000;
const MIB: u64 = 1 << 20;

fn parts(max_concurrent_parts: u32) -> UpdateStrategy {
    UpdateStrategy::Parts(PartsConfig { max_concurrent_parts, ..PartsConfig::default() })
}

trait Storing {
    fn folder(&self) -> PathBuf;
    fn storing(&self, strategy: UpdateStrategy, change: impl FnOnce(&mut Config)) -> Device;
    fn kept(&self) -> Vec<String>;
    fn offer_again(&self);
}

impl Storing for Bench {
    fn folder(&self) -> PathBuf {
        self.path("downloads")
    }

    fn storing(&self, strategy: UpdateStrategy, change: impl FnOnce(&mut Config)) -> Device {
        let mut config = self.config();
        config.strategy = strategy;
        change(&mut config);
        let store = DownloadStore::new(self.folder());
        Device::start_as(
            config,
            self.tls(),
            self.installer(),
            |_| Decision::Apply,
            |options| options.firmware_store(store).install_checks(Duration::from_millis(100)),
        )
    }

    /// The names of all that is kept.
    fn kept(&self) -> Vec<String> {
        let Ok(folders) = std::fs::read_dir(self.folder()) else { return Vec::new() };
        let files =
            |folder: std::io::Result<std::fs::DirEntry>| std::fs::read_dir(folder.unwrap().path()).unwrap();
        let name =
            |file: std::io::Result<std::fs::DirEntry>| file.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = folders.flat_map(files).map(name).collect();
        names.sort();
        names
    }

    /// Lifts the block that a failure earned, and offers what is deployed.
    fn offer_again(&self) {
        self.hub.with_hub(|hub, _| hub.clear_penalty(crate::bench::SERIAL));
        self.deploy("1.1.0");
    }
}

#[test]
fn a_cached_update_is_downloaded_then_applied_and_stays() {
    let bench = Bench::with_rootfs(ROOTFS);
    bench.deploy("1.1.0");
    let device = bench.storing(UpdateStrategy::Caching, |_| {});
    bench.assert_updated(&device);
    assert_eq!(bench.kept(), ["manifest", "part-00000"]);
    assert_eq!(bench.downloads(), [(200, 0)]);
    for status in ["received", "started", "completed"] {
        bench.hub_saw_status(status);
    }
}

#[test]
fn parts_are_downloaded_over_several_connections() {
    let bench = Bench::with_rootfs(ROOTFS);
    bench.deploy("1.1.0");
    let device = bench.storing(parts(3), |_| {});
    bench.assert_updated(&device);
    let mut downloads = bench.downloads();
    downloads.sort_unstable();
    assert_eq!(downloads, [(206, 0), (206, MIB), (206, 2 * MIB)]);
    assert_eq!(bench.kept(), ["manifest", "part-00000", "part-00001", "part-00002", "part-00003"]);
    let started = |event: &HubEvent| matches!(event, HubEvent::Status { status, .. } if status == "started");
    assert_eq!(bench.hub.log().iter().filter(|event| started(event)).count(), 1);
}

#[test]
fn a_device_that_is_killed_goes_on_after_the_last_verified_part() {
    for strategy in [UpdateStrategy::Caching, parts(1)] {
        let bench = Bench::with_rootfs(ROOTFS);
        bench.hub.mischief(Mischief::CutDownload { after: 2_500_000 }, Times::Once);
        bench.deploy("1.1.0");
        let device =
            bench.storing(strategy, |config| config.download.retry_delay = Duration::from_secs(3600));
        device.until("cut", |event| matches!(event, Event::DownloadInterrupted { .. }));
        device.stop();
        let kept = bench.kept();
        let device = bench.storing(strategy, |_| {});
        bench.assert_updated(&device);
        let (status, from) = bench.downloads()[1];
        assert!(status == 206 && from >= MIB, "{strategy:?}: from {from} with {kept:?}");
        assert_eq!(bench.downloads().len(), 2);
    }
}

#[test]
fn everything_a_server_does_wrong_costs_time_and_nothing_else() {
    for strategy in [UpdateStrategy::Caching, parts(4)] {
        for mischief in [
            Mischief::CutDownload { after: 700_000 },
            Mischief::WrongContentRange { by: 10 },
            Mischief::CorruptByte { offset: MIB + 5 },
            Mischief::RedirectDownload { location: None },
            Mischief::RefuseDownload { status: 503, retry_after: None },
        ] {
            println!("{strategy:?} {mischief:?}");
            let bench = Bench::with_rootfs(ROOTFS);
            bench.hub.mischief(mischief, Times::Once);
            bench.deploy("1.1.0");
            let device = bench.storing(strategy, |_| {});
            bench.assert_updated(&device);
        }
    }
}

#[test]
fn a_server_that_never_heard_of_ranges_serves_parts_too() {
    let bench = Bench::with_rootfs(ROOTFS);
    bench.hub.mischief(Mischief::IgnoreRange, Times::UntilCleared);
    bench.hub.mischief(Mischief::CutDownload { after: 1_500_000 }, Times::Count(2));
    bench.deploy("1.1.0");
    let device = bench.storing(parts(2), |_| {});
    bench.assert_updated(&device);
}

#[test]
fn a_part_that_is_always_wrong_fails_the_update_by_name() {
    let bench = Bench::with_rootfs(ROOTFS);
    bench.hub.mischief(Mischief::CorruptByte { offset: MIB + 5 }, Times::UntilCleared);
    bench.deploy("1.1.0");
    let device = bench.storing(parts(1), |_| {});
    bench.assert_failed_while_running(&device, "part 1 of 4");
    assert_eq!(bench.kept(), ["manifest", "part-00000"]);
    // What is good is kept for the next offer, which works.
    bench.hub.clear_mischief();
    bench.offer_again();
    bench.assert_updated(&device);
    assert_eq!(bench.downloads().last(), Some(&(206, MIB)));
}

#[test]
fn a_file_that_changes_on_the_server_is_noticed_and_the_new_one_fetched() {
    let bench = Bench::with_rootfs(ROOTFS);
    // The same firmware, packed anew.
    let other = bench.packed_anew("1.1.0");
    bench.hub.mischief(Mischief::CutDownload { after: 2_000_000 }, Times::Once);
    bench.deploy("1.1.0");
    let device = bench.storing(parts(1), |config| {
        config.download.retry_delay = Duration::from_secs(2);
    });
    device.until("cut", |event| matches!(event, Event::DownloadInterrupted { .. }));
    bench.hub.deploy(other.clone());
    bench.assert_failed_while_running(&device, "file");
    bench.hub.with_hub(|hub, _| hub.clear_penalty(crate::bench::SERIAL));
    bench.hub.deploy(other);
    bench.assert_updated(&device);
    assert_eq!(bench.downloads().last(), Some(&(200, 0)), "nothing of the old file was used");
}

#[test]
fn a_file_that_is_gone_is_forgotten() {
    let bench = Bench::with_rootfs(ROOTFS);
    bench.hub.mischief(Mischief::CutDownload { after: 2_000_000 }, Times::Once);
    bench.hub.mischief(Mischief::RefuseDownload { status: 404, retry_after: None }, Times::UntilCleared);
    bench.deploy("1.1.0");
    let device = bench.storing(UpdateStrategy::Caching, |_| {});
    bench.assert_failed_while_running(&device, "HTTP 404");
    device.stop();
    // What refuses the rest may still have the whole.
    assert_eq!(bench.downloads(), [(200, 0), (404, 0), (404, 0)], "some of it was kept by then");
    assert_eq!(bench.kept(), [""; 0]);
}

#[test]
fn a_folder_that_cannot_be_used_puts_updates_off_until_it_can() {
    let bench = Bench::with_rootfs(ROOTFS);
    std::fs::write(bench.folder(), "in the way").unwrap();
    bench.deploy("1.1.0");
    let device = bench.storing(parts(2), |_| {});
    let reason = bench.hub_saw_status("rescheduled").unwrap();
    assert!(reason.contains("downloads"), "{reason}");
    std::fs::remove_file(bench.folder()).unwrap();
    let (_, gone) = device.handle.wait_until(LIMIT, |status| status.link.install_obstacle.is_none());
    assert!(gone);
    bench.offer_again();
    bench.assert_updated(&device);
}

/// Returns where an update is kept that a device began to download, and leaves nothing there.
fn begun(bench: &Bench) -> PathBuf {
    bench.hub.mischief(Mischief::CutDownload { after: 1_500_000 }, Times::Once);
    bench.deploy("1.1.0");
    let device = bench.storing(UpdateStrategy::Caching, |config| {
        config.download.retry_delay = Duration::from_secs(3600);
    });
    device.until("cut", |event| matches!(event, Event::DownloadInterrupted { .. }));
    device.stop();
    let mut entries = std::fs::read_dir(bench.folder()).unwrap();
    let path = entries.next().unwrap().unwrap().path();
    std::fs::remove_dir_all(&path).unwrap();
    path
}

fn aside(path: &Path, number: u32) -> PathBuf {
    let end = if number == 1 { String::new() } else { format!("-{number}") };
    path.with_extension(format!("damaged{end}"))
}

#[test]
fn what_no_check_finds_in_the_folder_puts_the_update_off_too() {
    let bench = Bench::with_rootfs(ROOTFS);
    let path = begun(&bench);
    // Something that no download left there, and no name free to set it aside.
    let names = (1..=ASIDE_MAX).map(|number| aside(&path, number)).chain([path.clone()]);
    for name in names {
        std::fs::create_dir_all(name.join("photos")).unwrap();
    }
    let device = bench.storing(UpdateStrategy::Caching, |_| {});
    let reason = bench.hub_saw_status("rescheduled").unwrap();
    assert!(reason.contains("in the way"), "{reason}");
    let failed = |event: &HubEvent| matches!(event, HubEvent::Status { status, .. } if status == "failed");
    assert!(!bench.hub.log().iter().any(failed), "{:?}", bench.hub.log());
    std::fs::remove_dir_all(aside(&path, 1)).unwrap();
    let (_, gone) = device.handle.wait_until(LIMIT, |status| status.link.install_obstacle.is_none());
    assert!(gone);
    bench.offer_again();
    bench.assert_updated(&device);
    assert!(aside(&path, 1).join("photos").exists(), "set aside");
}

#[test]
fn a_file_in_place_of_a_download_is_set_aside_and_the_update_arrives() {
    let bench = Bench::with_rootfs(ROOTFS);
    let path = begun(&bench);
    std::fs::write(&path, "a file").unwrap();
    let device = bench.storing(UpdateStrategy::Caching, |_| {});
    bench.assert_updated(&device);
    assert!(aside(&path, 1).is_file());
}

#[test]
fn without_a_folder_the_update_fails_in_words() {
    let bench = Bench::new();
    let mut config = bench.config();
    config.strategy = UpdateStrategy::Caching;
    bench.deploy("1.1.0");
    let device = bench.start_with(config, bench.installer());
    bench.assert_failed_while_running(&device, "no folder for downloads is configured");
    device.stop();
}

#[test]
fn the_next_firmware_deletes_what_was_kept_of_the_last() {
    let bench = Bench::with_rootfs(ROOTFS);
    bench.deploy("1.1.0");
    let device = bench.storing(parts(1), |_| {});
    bench.assert_updated(&device);
    bench.deploy("1.2.0");
    let device = bench.storing(UpdateStrategy::Caching, |_| {});
    device.until_joined();
    bench.validate();
    device.handle.firmware_validated().unwrap();
    let exit = device.exit();
    assert_eq!(bench.disk.boot().unwrap().meta.version, "1.2.0", "{exit:?}");
    assert_eq!(bench.kept(), ["manifest", "part-00000"]);
}
