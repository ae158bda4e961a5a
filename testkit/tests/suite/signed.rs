//! Firmware and archives of a trusted key that are not what the hub offers, or not for this device.

use std::time::Duration;

use crate::bench::{Bench, Device, SERIAL};
use nerves_hub_link_platform::boot::BootCheck;
use nerves_hub_link_platform::kv::FileStore;
use nerves_hub_link_platform::store::DownloadStore;
use nerves_hub_link_protocol::{
    ArchiveEvent, Config, Decision, Event, FirmwareMeta, PartsConfig, UpdateStrategy,
};
use nerves_hub_link_testkit::firmware::{FirmwareArchive, FirmwareBuilder, Tamper, tamper};
use nerves_hub_link_testkit::server::Firmware;

/// How firmware gets to the applier.
fn strategies() -> [UpdateStrategy; 3] {
    [UpdateStrategy::Streaming, UpdateStrategy::Caching, UpdateStrategy::Parts(PartsConfig::default())]
}

/// Firmware for the disk, with a description of its own.
fn built(
    bench: &Bench,
    version: &str,
    change: impl FnOnce(FirmwareBuilder) -> FirmwareBuilder,
) -> FirmwareArchive {
    let builder = FirmwareBuilder::new("lift", version).ab_layout(&bench.layout).level(1);
    change(builder.rootfs(700_000, 7)).build(&bench.key).unwrap()
}

/// Starts a device with the guarded installer, as real devices have it.
fn start(bench: &Bench, strategy: UpdateStrategy, change: impl FnOnce(&mut Config)) -> Device {
    let mut config = bench.config();
    config.strategy = strategy;
    change(&mut config);
    let installer = BootCheck::of_process().guard(bench.installer(), bench.environment());
    Device::start_as(
        config,
        bench.tls(),
        installer,
        |_| Decision::Apply,
        |options| {
            options
                .firmware_store(DownloadStore::new(bench.path("downloads")))
                .install_checks(Duration::from_secs(5))
        },
    )
}

/// Pushes firmware by hand, for which the hub looks at nothing.
fn push(bench: &Bench, device: &Device, firmware: Firmware) {
    device.until_joined();
    assert!(bench.hub.push_update(SERIAL, firmware));
}

/// The update, pushed by hand, is refused with these words, and no byte of the disk is another.
fn refused(bench: &Bench, strategy: UpdateStrategy, firmware: Firmware, words: &[&str]) {
    let before = std::fs::read(bench.disk.path()).unwrap();
    let device = start(bench, strategy, |_| {});
    push(bench, &device, firmware);
    let reason = bench.hub_saw_status("failed").unwrap();
    for word in words {
        assert!(reason.contains(word), "{strategy:?}: {word:?} is not in {reason:?}");
    }
    device.answers(&bench.hub);
    device.stop();
    assert!(std::fs::read(bench.disk.path()).unwrap() == before, "{strategy:?}: something was written");
    assert_eq!(bench.disk.boot().unwrap().meta.version, "1.0.0");
}

#[test]
fn an_old_archive_padded_to_the_size_of_a_new_one_is_not_written() {
    for strategy in strategies() {
        for name in ["data/pad", "pad"] {
            let bench = Bench::new();
            let (old, new) =
                (built(&bench, "0.9.0", |it| it), built(&bench, "9.9.9", |it| it.rootfs(800_000, 9)));
            let size = new.bytes().unwrap().len();
            let padded = Tamper::Padded { name: name.to_owned(), size };
            let bytes = tamper(&old.bytes().unwrap(), &padded).unwrap();
            assert_eq!(bytes.len(), size);
            let firmware = Firmware::from_bytes(bytes, new.meta.clone()).unwrap();
            let words = ["nothing was written", "0.9.0", "9.9.9", &old.meta.uuid, &new.meta.uuid];
            refused(&bench, strategy, firmware, &words);
        }
    }
}

#[test]
fn padding_alone_is_no_reason_to_refuse() {
    let bench = Bench::new();
    let new = built(&bench, "1.1.0", |it| it);
    let padded = Tamper::Padded { name: "data/pad".to_owned(), size: new.bytes().unwrap().len() + 5000 };
    let bytes = tamper(&new.bytes().unwrap(), &padded).unwrap();
    bench.hub.deploy(Firmware::from_bytes(bytes, new.meta).unwrap());
    bench.assert_updated(&start(&bench, UpdateStrategy::Streaming, |_| {}));
}

#[test]
fn firmware_for_another_device_is_not_written_though_the_hub_offers_just_that() {
    for (strategy, change, words) in [
        (
            UpdateStrategy::Streaming,
            (|it| it.platform("other-board")) as fn(FirmwareBuilder) -> FirmwareBuilder,
            ["platform", "other-board"],
        ),
        (UpdateStrategy::Caching, |it| it.platform("other-board"), ["platform", "other-board"]),
        (UpdateStrategy::Streaming, |it| it.architecture("other-cpu"), ["architecture", "other-cpu"]),
    ] {
        let bench = Bench::new();
        let archive = built(&bench, "1.1.0", change);
        refused(&bench, strategy, Firmware::from_archive(&archive).unwrap(), &words);
    }
}

#[test]
fn a_configuration_may_allow_a_difference() {
    let bench = Bench::new();
    // The archive's own requirements look at the platform, too, and not at the product.
    let archive = built(&bench, "1.1.0", |_| {
        FirmwareBuilder::new("stairs", "1.1.0").ab_layout(&bench.layout).level(1).rootfs(700_000, 7)
    });
    let device = start(&bench, UpdateStrategy::Streaming, |config| config.allow_mismatch.product = true);
    push(&bench, &device, Firmware::from_archive(&archive).unwrap());
    device.until(
        "told",
        |event| matches!(event, Event::FirmwareSigned { firmware, .. } if firmware.product == "stairs"),
    );
    bench.assert_updated(&device);

    let bench = Bench::new();
    let (other, offered) = (built(&bench, "1.1.0", |it| it), built(&bench, "9.9.9", |it| it));
    bench.hub.deploy(Firmware::from_bytes(other.bytes().unwrap(), offered.meta).unwrap());
    let device = start(&bench, UpdateStrategy::Streaming, |config| config.allow_mismatch.offer = true);
    bench.assert_updated(&device);
}

#[test]
fn what_is_older_than_what_ran_here_is_refused_even_in_the_other_slot() {
    let bench = Bench::new();
    let memory = bench.path("state");
    let policy = |config: &mut Config| config.refuse_older = true;
    let begin = || {
        let mut config = bench.config();
        policy(&mut config);
        let installer = BootCheck::of_process().guard(bench.installer(), bench.environment());
        let store = FileStore::new(&memory);
        Device::start_as(
            config,
            bench.tls(),
            installer,
            |_| Decision::Apply,
            |it| it.remember_attempts(store),
        )
    };
    bench.deploy("1.1.0");
    let device = begin();
    bench.assert_updated(&device);
    // 1.1.0 proves good; then the device falls back.
    bench.validate();
    let device = begin();
    device.until_joined();
    device.stop();
    let kept = std::fs::read_to_string(&memory).unwrap();
    assert!(kept.contains("1.1.0"), "{kept}");
    bench.fall_back();
    assert_eq!(bench.identity().firmware.version, "1.0.0");
    let before = std::fs::read(bench.disk.path()).unwrap();
    bench.deploy("1.0.5");
    let device = begin();
    let reason = bench.hub_saw_status("failed").unwrap();
    assert!(reason.contains("1.0.5") && reason.contains("older") && reason.contains("1.1.0"), "{reason}");
    device.stop();
    assert!(std::fs::read(bench.disk.path()).unwrap() == before);
}

#[test]
fn a_deployment_s_archive_that_is_not_the_offered_one_is_not_kept() {
    let bench = Bench::new();
    let build = |version: &str| {
        FirmwareBuilder::new("archive", version).level(1).rootfs(300_000, 3).build(&bench.key).unwrap()
    };
    let (old, new) = (build("0.9.0"), build("9.9.9"));
    let folder = bench.path("archives");
    let run = |config: Config| {
        let store = DownloadStore::new(&folder);
        Device::start_as(
            config,
            bench.tls(),
            bench.installer(),
            |_| Decision::Apply,
            |it| it.archive_store(store),
        )
    };
    let other = Firmware::from_bytes(old.bytes().unwrap(), new.meta).unwrap();
    bench.hub.offer_archive(other.without_public_keys());
    let device = run(bench.config());
    let failed = device.until("failed", |event| matches!(event, Event::Archive(ArchiveEvent::Failed { .. })));
    let Event::Archive(ArchiveEvent::Failed { reason, .. }) = failed else { unreachable!() };
    assert!(reason.contains("0.9.0") && reason.contains("9.9.9"), "{reason}");
    device.stop();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    // Its product and platform are its own affair, and a difference can be allowed.
    let mut config = bench.config();
    config.firmware = FirmwareMeta { platform: "elsewhere".into(), ..config.firmware };
    config.allow_mismatch.offer = true;
    let device = run(config);
    device.until("ready", |event| matches!(event, Event::Archive(ArchiveEvent::Ready { .. })));
    device.stop();
}
