//! Deltas, and what becomes of a device that can't apply one.

use std::os::unix::fs::FileExt as _;

use crate::bench::{Adapter as _, Bench, Device, LIMIT, SERIAL};
use nerves_hub_link_platform::kv::FileStore;
use nerves_hub_link_platform::store::DownloadStore;
use nerves_hub_link_protocol::{Decision, PartsConfig, UpdateStrategy};
use nerves_hub_link_testkit::disk::BLOCK;
use nerves_hub_link_testkit::firmware::{FirmwareArchive, FirmwareBuilder, delta};
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::Firmware;

const ROOTFS: u64 = 2_500_000;

trait Deltas {
    fn image(&self, version: &str) -> FirmwareArchive;
    fn deploy_with_delta(&self, from: &FirmwareArchive, to: &FirmwareArchive);
    fn run(&self, strategy: UpdateStrategy) -> Device;
    fn announced(&self) -> Vec<String>;
    fn fetched(&self) -> Vec<&'static str>;
}

impl Deltas for Bench {
    fn image(&self, version: &str) -> FirmwareArchive {
        let builder = FirmwareBuilder::new("lift", version).ab_layout(&self.layout).deltas().level(1);
        builder.rootfs(ROOTFS, 7).build(&self.key).unwrap()
    }

    fn deploy_with_delta(&self, from: &FirmwareArchive, to: &FirmwareArchive) {
        let smaller = Firmware::from_archive(&delta(from, to, "rootfs.img").unwrap()).unwrap();
        let whole = Firmware::from_archive(to).unwrap();
        assert!(smaller.size() < whole.size() / 100, "{} bytes of {}", smaller.size(), whole.size());
        self.hub.add_delta(from.uuid(), smaller);
        self.hub.deploy(whole);
    }

    fn run(&self, strategy: UpdateStrategy) -> Device {
        let mut config = self.config();
        config.fwup_version = "1.16.0".into();
        config.strategy = strategy;
        let (store, state) = (DownloadStore::new(self.path("kept")), FileStore::new(self.path("state")));
        Device::start_as(
            config,
            self.tls(),
            self.installer(),
            |_| Decision::Apply,
            |options| options.firmware_store(store).remember_attempts(state),
        )
    }

    /// The versions of fwup that the device announced at its joins.
    fn announced(&self) -> Vec<String> {
        let joined = |event: &HubEvent| match event {
            HubEvent::Joined { fwup_version, .. } => fwup_version.clone(),
            _ => None,
        };
        self.hub.log().iter().filter_map(joined).collect()
    }

    /// What was downloaded: deltas or whole images.
    fn fetched(&self) -> Vec<&'static str> {
        let kind = |event: &HubEvent| match event {
            HubEvent::Download { path, .. } if path.ends_with(".delta.fw") => Some("delta"),
            HubEvent::Download { .. } => Some("whole"),
            _ => None,
        };
        let mut kinds: Vec<_> = self.hub.log().iter().filter_map(kind).collect();
        // Some strategies fetch a file in parts.
        kinds.dedup();
        kinds
    }
}

#[test]
fn a_delta_of_the_running_firmware_is_applied() {
    let parts = UpdateStrategy::Parts(PartsConfig::default());
    for strategy in [UpdateStrategy::Streaming, UpdateStrategy::Caching, parts] {
        let bench = Bench::with_rootfs(ROOTFS);
        bench.deploy_with_delta(&bench.firmware("1.0.0"), &bench.image("1.1.0"));
        let device = bench.run(strategy);
        bench.assert_updated(&device);
        assert_eq!(bench.fetched(), ["delta"]);
    }
}

#[test]
fn a_delta_of_another_firmware_or_for_a_newer_fwup_is_not_sent() {
    for (source, fwup) in [("1.0.1", "1.16.0"), ("1.0.0", "1.5.9"), ("1.0.0", "")] {
        let bench = Bench::with_rootfs(ROOTFS);
        bench.deploy_with_delta(&bench.firmware(source), &bench.image("1.1.0"));
        let mut config = bench.config();
        config.fwup_version = fwup.into();
        let device = bench.start_with(config, bench.installer());
        bench.assert_updated(&device);
        assert_eq!(bench.fetched(), ["whole"], "{source} {fwup}");
    }
}

#[test]
fn a_device_whose_delta_cannot_be_applied_gets_the_full_image_and_deltas_again_afterwards() {
    for strategy in [UpdateStrategy::Streaming, UpdateStrategy::Caching] {
        let bench = Bench::with_rootfs(ROOTFS);
        // Somebody wrote to the running slot.
        let disk = std::fs::OpenOptions::new().write(true).open(bench.disk.path()).unwrap();
        disk.write_all_at(&[0x55; 4096], bench.layout.slot_a * BLOCK + 1_000_000).unwrap();
        let next = bench.image("1.1.0");
        bench.deploy_with_delta(&bench.firmware("1.0.0"), &next);

        let device = bench.run(strategy);
        let reason = bench.hub_saw_status("failed").unwrap_or_default();
        assert!(reason.contains("checksum"), "{reason}");
        // It connects once more, by itself, to say that it wants full images.
        let wants_full = |event: &HubEvent| matches!(event, HubEvent::Joined { fwup_version: Some(fwup), .. } if fwup == "1.0.0");
        bench.hub_saw("a join without deltas", wants_full);
        assert_eq!(bench.announced(), ["1.16.0", "1.0.0"]);
        device.answers(&bench.hub);
        assert!(device.handle.status().exit.is_none());
        assert_eq!(bench.announced().len(), 2, "the connection stays");

        // A day later, or when a person lifts the block.
        bench.hub.with_hub(|hub, _| hub.clear_penalty(SERIAL));
        bench.assert_updated(&device);
        assert_eq!(bench.fetched(), ["delta", "whole"]);

        // Until the new firmware proves good, deltas are not wanted.
        let device = bench.run(strategy);
        bench.hub_saw("success", |event| matches!(event, HubEvent::UpdateSucceeded { .. }));
        assert_eq!(bench.announced(), ["1.16.0", "1.0.0", "1.0.0"]);
        device.handle.firmware_validated().unwrap();
        bench.hub_saw("validation", |event| matches!(event, HubEvent::Validated { .. }));
        device.stop();
        bench.validate();

        // From the next join on they are.
        bench.deploy_with_delta(&next, &bench.image("1.2.0"));
        let device = bench.run(strategy);
        let (status, stopped) = device.handle.wait_until(LIMIT, |status| status.exit.is_some());
        assert!(stopped, "{status:?}");
        assert_eq!(bench.announced().last().map(String::as_str), Some("1.16.0"));
        assert_eq!(bench.fetched(), ["delta", "whole", "delta"]);
        assert_eq!(bench.disk.boot().unwrap().meta.version, "1.2.0");
    }
}
