//! Archives over real sockets.

use std::path::PathBuf;
use std::time::Duration;

use crate::bench::{Bench, Device};
use nerves_hub_link_platform::store::DownloadStore;
use nerves_hub_link_protocol::{ArchiveEvent, Config, Decision, Event};
use nerves_hub_link_testkit::firmware::{FirmwareArchive, FirmwareBuilder, SigningKey};
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::{Firmware, Mischief, Times};

/// A signed archive of some hundred thousand bytes.
fn archive(version: &str, key: &SigningKey) -> FirmwareArchive {
    FirmwareBuilder::new("archive", version).level(1).rootfs(500_000, 3).build(key).unwrap()
}

trait Archiving {
    fn folder(&self) -> PathBuf;
    fn archiving(&self, change: impl FnOnce(&mut Config)) -> Device;
    fn offer(&self, archive: &FirmwareArchive);
    fn kept(&self) -> Vec<String>;
}

impl Archiving for Bench {
    fn folder(&self) -> PathBuf {
        self.path("archives")
    }

    fn archiving(&self, change: impl FnOnce(&mut Config)) -> Device {
        let mut config = self.config();
        change(&mut config);
        let store = DownloadStore::new(self.folder());
        Device::start_as(
            config,
            self.tls(),
            self.installer(),
            |_| Decision::Apply,
            |options| options.archive_store(store),
        )
    }

    fn offer(&self, archive: &FirmwareArchive) {
        self.hub.offer_archive(Firmware::from_archive(archive).unwrap().without_public_keys());
    }

    fn kept(&self) -> Vec<String> {
        let name =
            |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = std::fs::read_dir(self.folder()).unwrap().map(name).collect();
        names.sort();
        names
    }
}

/// Waits until an archive is ready, and checks that it is this one.
fn ready(device: &Device, wanted: &FirmwareArchive) -> PathBuf {
    let event = device.until("ready", |event| matches!(event, Event::Archive(ArchiveEvent::Ready { .. })));
    let Event::Archive(ArchiveEvent::Ready { info, path, .. }) = event else { unreachable!() };
    assert_eq!(info.uuid, wanted.meta.uuid);
    assert!(std::fs::read(&path).unwrap() == *wanted.bytes().unwrap());
    path.into()
}

fn failure(device: &Device) -> String {
    let event = device.until("failed", |event| matches!(event, Event::Archive(ArchiveEvent::Failed { .. })));
    let Event::Archive(ArchiveEvent::Failed { reason, .. }) = event else { unreachable!() };
    reason
}

#[test]
fn an_archive_arrives_and_the_server_hears_nothing_of_it() {
    let bench = Bench::new();
    let archive = archive("0.9.0", &bench.key);
    bench.offer(&archive);
    let device = bench.archiving(|_| {});
    let path = ready(&device, &archive);
    assert_eq!(bench.kept(), [path.file_name().unwrap().to_str().unwrap()], "and nothing else is left");
    // The server repeats it after every join.
    device.handle.reconnect().unwrap();
    device.until_joined();
    device.answers(&bench.hub);
    device.stop();
    let told = |event: &&HubEvent| matches!(event, HubEvent::Status { .. } | HubEvent::Progress { .. });
    assert_eq!(bench.hub.log().iter().filter(told).count(), 0);
    let downloads = |event: &&HubEvent| matches!(event, HubEvent::Download { .. });
    assert_eq!(bench.hub.log().iter().filter(downloads).count(), 1);
}

#[test]
fn an_archive_that_breaks_off_is_resumed_even_by_the_next_process() {
    let bench = Bench::new();
    let archive = archive("0.9.0", &bench.key);
    bench.hub.mischief(Mischief::CutDownload { after: 200_000 }, Times::Once);
    bench.offer(&archive);
    let device = bench.archiving(|config| config.download.retry_delay = Duration::from_secs(3600));
    device.until("cut", |event| matches!(event, Event::Archive(ArchiveEvent::DownloadInterrupted { .. })));
    device.stop();
    let device = bench.archiving(|_| {});
    ready(&device, &archive);
    device.stop();
    assert!(matches!(bench.downloads()[..], [(200, 0), (206, (1..))]), "{:?}", bench.downloads());
}

#[test]
fn what_is_not_to_be_trusted_is_deleted_and_offered_again_after_a_join() {
    let bench = Bench::new();
    let archive = archive("0.9.0", &bench.key);
    bench.hub.mischief(Mischief::CorruptByte { offset: 300_000 }, Times::Once);
    bench.offer(&archive);
    let device = bench.archiving(|_| {});
    assert!(failure(&device).contains("not to be trusted"));
    assert_eq!(bench.kept(), [""; 0]);
    device.handle.reconnect().unwrap();
    ready(&device, &archive);
    device.stop();
}

#[test]
fn an_archive_of_a_stranger_is_deleted() {
    let bench = Bench::new();
    bench.offer(&archive("0.9.0", &SigningKey::from_seed(99)));
    let device = bench.archiving(|_| {});
    let reason = failure(&device);
    assert!(reason.contains("signature"), "{reason}");
    assert_eq!(bench.kept(), [""; 0]);
    device.stop();
}

#[test]
fn another_archive_takes_the_place_of_one_that_is_still_coming() {
    let bench = Bench::new();
    let (old, new) = (archive("0.9.0", &bench.key), archive("0.9.1", &bench.key));
    bench.hub.mischief(Mischief::SlowBody { bytes: 1000, every_ms: 20 }, Times::Once);
    bench.offer(&old);
    let device = bench.archiving(|_| {});
    device.until("started", |event| matches!(event, Event::Archive(ArchiveEvent::DownloadStarted { .. })));
    bench.offer(&new);
    device.until("replaced", |event| matches!(event, Event::Archive(ArchiveEvent::Replaced { .. })));
    let path = ready(&device, &new);
    assert_eq!(bench.kept(), [path.file_name().unwrap().to_str().unwrap()]);
    device.stop();
}

#[test]
fn without_a_folder_it_fails_in_words_and_updates_go_on() {
    let bench = Bench::new();
    bench.offer(&archive("0.9.0", &bench.key));
    let device = bench.start();
    assert!(failure(&device).contains("no folder for archives"));
    bench.deploy("1.1.0");
    bench.assert_updated(&device);
}

#[test]
fn an_archive_and_an_update_arrive_side_by_side() {
    let bench = Bench::new();
    let archive = archive("0.9.0", &bench.key);
    let device = bench.archiving(|_| {});
    device.until_joined();
    bench.hub.mischief(Mischief::SlowBody { bytes: 2048, every_ms: 20 }, Times::Once);
    bench.deploy("1.1.0");
    device.until("started", |event| matches!(event, Event::DownloadStarted { .. }));
    bench.offer(&archive);
    ready(&device, &archive);
    bench.assert_updated(&device);
}
