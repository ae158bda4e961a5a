//! The payloads of the device channel: reading the server's, writing ours.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::{Value, json};

use crate::config::DelayUnit;
use crate::event::{FirmwareMeta, Stage, UpdateInfo};
use crate::http::url::{Url, UrlError};
use crate::limits::{MAX_META_CHARS, MAX_NAME_CHARS, MAX_REASON_CHARS};
use crate::phoenix::Payload;
use crate::text::cut;

/// An `update` message (spec §6.1).
pub(crate) enum Update {
    /// The server thought better of it; nothing to do.
    NotAvailable,
    /// What is offered, and where it is.
    Offer(Box<(UpdateInfo, Result<Url, UrlError>)>),
}

/// Reads an `update`. Fields that are missing or of another type count as unknown, but without
/// address or description there is no update.
pub(crate) fn update(payload: Payload<'_>) -> Result<Update, String> {
    let payload = payload.value()?;
    if payload.get("update_available").and_then(Value::as_bool) == Some(false) {
        return Ok(Update::NotAvailable);
    }
    let Some(meta @ Value::Object(_)) = payload.get("firmware_meta") else {
        return Err(String::from("an update without firmware_meta"));
    };
    let Some(url) = payload.get("firmware_url").and_then(Value::as_str).filter(|url| !url.is_empty()) else {
        return Err(String::from("an update without firmware_url"));
    };
    let checksum = payload.get("checksum").and_then(Value::as_str).filter(|text| is_sha256(text));
    let info = UpdateInfo {
        firmware: firmware(meta),
        size: payload.get("size").and_then(Value::as_u64).filter(|size| *size > 0),
        checksum: checksum.map(str::to_ascii_lowercase),
        deployment_id: payload.get("deployment_id").and_then(Value::as_i64),
        requested: false,
    };
    Ok(Update::Offer(Box::new((info, Url::parse(url)))))
}

/// Reads a `firmware_meta`.
pub(crate) fn firmware(meta: &Value) -> FirmwareMeta {
    let text = |name| meta.get(name).and_then(Value::as_str).map(|text| cut(text, MAX_META_CHARS));
    let required = |name| text(name).unwrap_or_default();
    FirmwareMeta {
        uuid: required("uuid"),
        product: required("product"),
        version: required("version"),
        platform: required("platform"),
        architecture: required("architecture"),
        author: text("author"),
        description: text("description"),
        vcs_identifier: text("vcs_identifier"),
        misc: text("misc"),
    }
}

/// Reads the keys of `fwup_public_keys`: the strings of the list, and how many entries were none.
pub(crate) fn public_keys(payload: Payload<'_>) -> Result<(Vec<String>, u64), String> {
    let mut payload = payload.value()?;
    let Some(Value::Array(keys)) = payload.get_mut("keys").map(Value::take) else {
        return Err(String::from("fwup_public_keys without a list of keys"));
    };
    let mut texts = Vec::new();
    let mut others = 0;
    for key in keys {
        match key {
            Value::String(key) => texts.push(key),
            _ => others += 1,
        }
    }
    Ok((texts, others))
}

/// What the device reports about an update (spec §3.5).
pub(crate) enum Status<'a> {
    Received,
    Started { interface: Option<&'a str> },
    Completed,
    Ignored { reason: &'a str },
    Rescheduled { delay: Duration, unit: DelayUnit, reason: Option<&'a str> },
    Failed { reason: &'a str },
}

impl Status<'_> {
    /// Writes a `status_update`.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Received => json!({"status": "received"}),
            Self::Started { interface } => {
                json!({"status": "started", "downloader_network_interface": interface})
            }
            Self::Completed => json!({"status": "completed"}),
            Self::Ignored { reason } => json!({"status": "ignored", "reason": cut(reason, MAX_REASON_CHARS)}),
            Self::Rescheduled { delay, unit, reason } => {
                let mut status = json!({"status": "rescheduled", "delay_for": delay_for(*delay, *unit)});
                if let (Some(reason), Some(fields)) = (reason, status.as_object_mut()) {
                    fields.insert(String::from("reason"), Value::from(cut(reason, MAX_REASON_CHARS)));
                }
                status
            }
            Self::Failed { reason } => json!({"status": "failed", "reason": cut(reason, MAX_REASON_CHARS)}),
        }
    }
}

/// Writes a `fwup_progress`. The value is an integer: a float crashes the server's channel.
pub(crate) fn progress(stage: Stage, percent: u8) -> Value {
    json!({"stage": stage_name(stage), "value": percent})
}

/// Writes the payload of an event that says everything by its name.
pub(crate) fn empty() -> Value {
    json!({})
}

/// Writes a `report_network_interface`.
pub(crate) fn network_interface(interface: &str) -> Value {
    json!({"interface": interface})
}

/// Writes a `connection_types`.
pub(crate) fn connection_types(types: &[String]) -> Value {
    json!({"values": types})
}

/// Returns the name of an interface, if it is one worth sending.
pub(crate) fn interface_name(interface: Option<&str>) -> Option<String> {
    interface.filter(|name| !name.is_empty()).map(|name| cut(name, MAX_NAME_CHARS))
}

const fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Downloading => "downloading",
        Stage::Updating => "updating",
    }
}

fn delay_for(delay: Duration, unit: DelayUnit) -> u64 {
    let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    match unit {
        DelayUnit::Milliseconds => millis,
        // Rounded up: an early offer would only be turned down again.
        DelayUnit::Minutes => millis.div_ceil(60_000),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
