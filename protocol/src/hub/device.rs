//! The device channel's join (spec §3.1).

use alloc::string::String;

use serde_json::{Map, Value, json};

use super::names;
use crate::config::Config;

/// Writes the join parameters. Made anew for every join, so that they are never stale.
pub(crate) fn join_params(config: &Config, downloading: Option<&str>) -> Value {
    let firmware = &config.firmware;
    let mut params = Map::new();
    let mut put = |name: &str, value: Value| {
        params.insert(String::from(name), value);
    };
    put("nerves_fw_uuid", Value::from(firmware.uuid.as_str()));
    put("nerves_fw_product", Value::from(firmware.product.as_str()));
    put("nerves_fw_version", Value::from(firmware.version.as_str()));
    put("nerves_fw_platform", Value::from(firmware.platform.as_str()));
    put("nerves_fw_architecture", Value::from(firmware.architecture.as_str()));
    let optional = [
        ("nerves_fw_author", &firmware.author),
        ("nerves_fw_description", &firmware.description),
        ("nerves_fw_vcs_identifier", &firmware.vcs_identifier),
        ("nerves_fw_misc", &firmware.misc),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            put(name, Value::from(value.as_str()));
        }
    }
    if !config.fwup_version.is_empty() {
        put("fwup_version", Value::from(config.fwup_version.as_str()));
    }
    put("device_api_version", Value::from(names::DEVICE_API_VERSION));
    put("console_version", Value::from(names::CONSOLE_VERSION));
    put("currently_downloading_uuid", downloading.map_or(Value::Null, Value::from));
    let mut meta = json!({"firmware_auto_revert_detected": config.firmware_auto_revert_detected});
    // Missing means unknown; anything but a bool crashes the server's join.
    if let (Some(validated), Some(meta)) = (config.firmware_validated, meta.as_object_mut()) {
        meta.insert(String::from("firmware_validated"), Value::from(validated));
    }
    put("meta", meta);
    let wants_keys = config.public_keys.is_empty() || config.request_public_keys;
    if config.accept_server_keys && wants_keys {
        put(names::FWUP_PUBLIC_KEYS, Value::from(names::ON_CONNECT));
    }
    for (name, value) in &config.extra_join_params {
        if !is_own(name) && !params.contains_key(name) {
            params.insert(name.clone(), Value::from(value.as_str()));
        }
    }
    Value::Object(params)
}

/// Returns whether the machine decides about a parameter, sent or not.
fn is_own(name: &str) -> bool {
    matches!(
        name,
        "nerves_fw_author"
            | "nerves_fw_description"
            | "nerves_fw_vcs_identifier"
            | "nerves_fw_misc"
            | "fwup_version"
            | "meta"
            | names::FWUP_PUBLIC_KEYS
    )
}
