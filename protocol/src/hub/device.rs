//! The device channel's join (device-protocol §3.1, A15).

use alloc::string::String;

use serde_json::{Map, Value, json};

use super::names;
use crate::config::Config;
use crate::update_tool::{JoinValue, UpdateTool};

/// Writes the join parameters. Made anew for every join, so that they are never stale.
/// Without `deltas` a version of fwup is announced that knows none. A server that isn't `trusted` is not asked for keys.
pub(crate) fn join_params(config: &Config, downloading: Option<&str>, deltas: bool, trusted: bool) -> Value {
    let mut params = Params(Map::new());
    if config.update_tool.speaks_fwup() {
        fwup(&mut params, config, deltas);
    }
    other_tool(&mut params, &config.update_tool);
    params.put("device_api_version", names::DEVICE_API_VERSION);
    params.put("console_version", names::CONSOLE_VERSION);
    params.put(names::CURRENTLY_DOWNLOADING, downloading);
    let mut meta = json!({"firmware_auto_revert_detected": config.firmware_auto_revert_detected});
    // Missing means unknown; anything but a bool crashes the server's join.
    if let (Some(validated), Some(meta)) = (config.firmware_validated, meta.as_object_mut()) {
        meta.insert(String::from("firmware_validated"), Value::from(validated));
    }
    params.put("meta", meta);
    let accepts_keys = config.accept_server_keys && trusted;
    let wants_keys = config.public_keys.is_empty() || config.request_public_keys;
    if accepts_keys && wants_keys {
        params.put(names::FWUP_PUBLIC_KEYS, names::ON_CONNECT);
    }
    // Keys for firmware are good for archives too.
    let no_keys = config.public_keys.is_empty() && config.archive_public_keys.is_empty();
    if accepts_keys && (no_keys || config.request_archive_public_keys) {
        params.put(names::ARCHIVE_PUBLIC_KEYS, names::ON_CONNECT);
    }
    if let UpdateTool::Other { params: more, .. } = &config.update_tool {
        for (name, value) in more {
            params.add(name, value.to_json());
        }
    }
    for (name, value) in &config.extra_join_params {
        params.add(name, Value::from(value.as_str()));
    }
    Value::Object(params.0)
}

struct Params(Map<String, Value>);

impl Params {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(String::from(name), value.into());
    }

    fn put_some(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Adds a parameter of the application's, if the machine has none of that name.
    fn add(&mut self, name: &str, value: Value) {
        if !is_own(name) && !self.0.contains_key(name) {
            self.0.insert(String::from(name), value);
        }
    }
}

fn fwup(params: &mut Params, config: &Config, deltas: bool) {
    let firmware = &config.firmware;
    params.put("nerves_fw_uuid", firmware.uuid.as_str());
    params.put("nerves_fw_product", firmware.product.as_str());
    params.put("nerves_fw_version", firmware.version.as_str());
    params.put("nerves_fw_platform", firmware.platform.as_str());
    params.put("nerves_fw_architecture", firmware.architecture.as_str());
    params.put_some("nerves_fw_author", firmware.author.as_deref());
    params.put_some("nerves_fw_description", firmware.description.as_deref());
    params.put_some("nerves_fw_vcs_identifier", firmware.vcs_identifier.as_deref());
    params.put_some("nerves_fw_misc", firmware.misc.as_deref());
    params.put_some("fwup_version", fwup_version(config, deltas));
}

/// Returns the version of fwup that a join announces, if any.
pub(crate) fn fwup_version(config: &Config, deltas: bool) -> Option<&str> {
    let known = config.update_tool.speaks_fwup() && !config.fwup_version.is_empty();
    known.then_some(if deltas { config.fwup_version.as_str() } else { names::FWUP_WITHOUT_DELTAS })
}

fn other_tool(params: &mut Params, tool: &UpdateTool) {
    params.put_some(names::UPDATE_TOOL, tool.name());
    match tool {
        UpdateTool::Fwup | UpdateTool::Other { .. } => {}
        UpdateTool::EspIdf { project_name, version, app_elf_sha256, idf_version, chip_id } => {
            params.put("esp_idf_project_name", project_name.as_str());
            params.put("esp_idf_version", version.as_str());
            params.put("esp_idf_app_elf_sha256", app_elf_sha256.as_str());
            params.put("esp_idf_ver", idf_version.as_str());
            params.put("esp_idf_chip_id", *chip_id);
        }
        UpdateTool::AtomVm { app_name, app_version, avm_sha256, vm_version } => {
            params.put("atomvm_app_name", app_name.as_str());
            params.put("atomvm_app_version", app_version.as_str());
            params.put("atomvm_avm_sha256", avm_sha256.as_str());
            params.put("atomvm_version", vm_version.as_str());
        }
        UpdateTool::Rauc { uuid, version, platform, product, compatible, tool_version } => {
            params.put("rauc_uuid", uuid.as_str());
            params.put("rauc_version", version.as_str());
            params.put("rauc_platform", platform.as_deref());
            params.put("rauc_product", product.as_deref());
            // The server knows the architecture from the firmware with that UUID.
            params.put("rauc_architecture", Value::Null);
            params.put("rauc_compatible", compatible.as_str());
            params.put("rauc_tool_version", tool_version.as_str());
        }
    }
}

impl JoinValue {
    fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::from(*value),
            Self::Integer(value) => Value::from(*value),
            Self::Text(value) => Value::from(value.as_str()),
        }
    }
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
            | names::UPDATE_TOOL
            | names::FWUP_PUBLIC_KEYS
            | names::ARCHIVE_PUBLIC_KEYS
    )
}
