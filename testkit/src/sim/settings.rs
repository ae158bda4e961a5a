//! What each device is told about itself, and how devices differ.

use std::time::Duration;

use nerves_hub_link_protocol::{
    Auth, Config, ConsoleConfig, FirmwareMeta, PartsConfig, Serializer, SharedSecret, UpdateStrategy,
};

use super::device::{PRODUCT_KEY, identifier};
use super::disk::Booted;
use super::firmware::{Firmware, KEYS};
use super::mutation::Mutation;
use super::policy;
use super::scenario::{Scenario, Variant};
use super::twins::namesake;
use super::watch::SHARED_SECRET;

/// Bytes of a file from an operator, at most.
const MAX_FILE: u64 = 256 * 1024;

/// Whether a device has a shell that is always there, where there are consoles.
pub(super) const fn has_local_shell(number: u32) -> bool {
    number.is_multiple_of(4)
}

/// Whether a device decides when it is updated: one of ten of a fleet, and most of few.
pub(super) const fn manages(scenario: &Scenario, number: u32) -> bool {
    let which = if scenario.fleet { number % 10 == 7 } else { number % 4 != 3 };
    scenario.has(Variant::Managed) && which
}

/// Whether a device runs scripts: one of ten of a fleet. The others refuse.
pub(super) const fn runs_scripts(scenario: &Scenario, number: u32) -> bool {
    scenario.has(Variant::Scripts) && (!scenario.fleet || number % 10 == 2)
}

/// How a device keeps updates before they are applied, if it does.
pub(super) fn kept(scenario: &Scenario, number: u32) -> Option<Variant> {
    let of =
        |parts: bool, stored: bool| parts.then_some(Variant::Parts).or(stored.then_some(Variant::Stored));
    of(scenario.has(Variant::Parts), scenario.has(Variant::Stored)).or_else(|| {
        let mixed = scenario.has(Variant::Mixed);
        of(mixed && number % 10 == 3, mixed && number % 10 == 4)
    })
}

/// Whether a device speaks MessagePack: some of a fleet do, beside those that speak JSON.
pub(super) fn speaks_msgpack(scenario: &Scenario, number: u32) -> bool {
    scenario.has(Variant::MsgPack) && number % 3 != 1
}

/// The settings of a device that runs this firmware.
pub(super) fn config(
    scenario: &Scenario,
    number: u32,
    firmware: &Firmware,
    booted: Booted,
    policy: u32,
) -> Config {
    let mut secret = SharedSecret::new(PRODUCT_KEY, SHARED_SECRET, identifier(namesake(scenario, number)));
    // A signature for each dial, and there are many.
    secret.iterations = 1;
    let meta = &firmware.meta;
    let running = FirmwareMeta {
        uuid: meta.uuid.clone(),
        product: meta.product.clone(),
        version: meta.version.clone(),
        platform: meta.platform.clone(),
        architecture: meta.architecture.clone(),
        ..FirmwareMeta::default()
    };
    let mut config = Config::new("hub.sim", Auth::SharedSecret(secret), running);
    config.firmware_validated = (!scenario.has(Variant::ValidationUnknown)).then_some(booted.validated);
    config.firmware_auto_revert_detected = booted.reverted;
    config.heartbeat = Duration::from_secs(scenario.heartbeat);
    match kept(scenario, number) {
        Some(Variant::Parts) => {
            config.strategy =
                UpdateStrategy::Parts(PartsConfig { max_concurrent_parts: 2, ..PartsConfig::default() });
        }
        Some(_) => config.strategy = UpdateStrategy::Caching,
        None => {}
    }
    if speaks_msgpack(scenario, number) {
        config.serializer = Serializer::MsgPack;
    }
    if scenario.has(Variant::Console) {
        config.console = Some(ConsoleConfig { max_file_size: MAX_FILE, ..ConsoleConfig::default() });
        config.extensions.local_shell = has_local_shell(number);
    }
    config.scripts = runs_scripts(scenario, number);
    // More goes wrong here in three hours than in years: power cuts, torn writes and bad images make updates fail one after
    // the other, while the rule is that devices converge within those hours. So neither a bound on overwrites nor a pause
    // after failures, which would hold them up for longer; `protocol/bounds_updates` shows both.
    config.bounds.overwrites_per_day = 0;
    config.bounds.failure_pause = Duration::ZERO;
    if policy::has_policy(scenario, number) {
        if policy::has_speed(scenario, number) {
            config.rate = policy::rate(policy);
        }
        if scenario.mutation != Some(Mutation::IgnoreWindow) {
            config.maintenance = policy::maintenance(policy);
        }
    }
    if scenario.has(Variant::OwnKeys) {
        config.public_keys = KEYS.iter().take(1).map(|key| (*key).to_owned()).collect();
        config.accept_server_keys = false;
    }
    config
}
