//! What the platform found out about the device, in the machine's words.

use nerves_hub_link_platform::identity::{FirmwareInfo, Identity};
use nerves_hub_link_protocol::{Auth, Config, FirmwareMeta};

/// Builds a configuration for the device that `identity` describes: its firmware, whether that is
/// validated, and whether it fell back to it.
pub fn device_config(host: impl Into<String>, auth: Auth, identity: &Identity) -> Config {
    let mut config = Config::new(host, auth, firmware_meta(&identity.firmware));
    config.firmware_validated = identity.validated;
    config.firmware_auto_revert_detected = identity.auto_revert_detected;
    config
}

/// Translates a firmware's metadata.
pub fn firmware_meta(info: &FirmwareInfo) -> FirmwareMeta {
    let FirmwareInfo {
        uuid,
        product,
        version,
        platform,
        architecture,
        author,
        description,
        vcs_identifier,
        misc,
    } = info.clone();
    FirmwareMeta { uuid, product, version, platform, architecture, author, description, vcs_identifier, misc }
}
