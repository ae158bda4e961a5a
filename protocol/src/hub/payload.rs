//! The payloads of the device channel: reading the server's, writing ours.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::lenient::{Fields, Given, List, Scalar};
use super::names;
use crate::archive::ArchiveInfo;
use crate::config::{Config, DelayUnit};
use crate::download::{Sha, from_hex};
use crate::event::{FirmwareMeta, Stage, UpdateInfo};
use crate::http::url::{Url, UrlError};
use crate::limits::{MAX_META_CHARS, MAX_NAME_CHARS, MAX_REASON_CHARS};
use crate::phoenix::Payload;
use crate::text::cut;
use crate::update_tool::ProgressEvent;

/// An `update` message (spec §6.1).
pub(crate) enum Update {
    /// The server thought better of it; nothing to do.
    NotAvailable,
    /// What is offered, and where it is.
    Offer(Box<(UpdateInfo, Result<Url, UrlError>)>),
}

/// The fields of an `update` that are read.
#[derive(Deserialize, Default)]
#[serde(default)]
struct UpdateFields<'a> {
    #[serde(borrow)]
    update_available: Scalar<'a>,
    #[serde(borrow)]
    firmware_meta: Fields<MetaFields<'a>>,
    #[serde(borrow)]
    firmware_url: Scalar<'a>,
    #[serde(borrow)]
    checksum: Scalar<'a>,
    partials_checksums: List<Sum>,
    #[serde(borrow)]
    size: Scalar<'a>,
    #[serde(borrow)]
    deployment_id: Given<'a>,
}

/// A SHA-256 in hex, or anything else.
#[derive(Deserialize)]
#[serde(from = "Scalar<'_>")]
struct Sum(Option<Sha>);

impl From<Scalar<'_>> for Sum {
    fn from(field: Scalar<'_>) -> Self {
        Self(field.text().and_then(|text| from_hex(&text)))
    }
}

/// The fields of a `firmware_meta`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct MetaFields<'a> {
    #[serde(borrow)]
    uuid: Scalar<'a>,
    #[serde(borrow)]
    product: Scalar<'a>,
    #[serde(borrow)]
    version: Scalar<'a>,
    #[serde(borrow)]
    platform: Scalar<'a>,
    #[serde(borrow)]
    architecture: Scalar<'a>,
    #[serde(borrow)]
    author: Scalar<'a>,
    #[serde(borrow)]
    description: Scalar<'a>,
    #[serde(borrow)]
    vcs_identifier: Scalar<'a>,
    #[serde(borrow)]
    misc: Scalar<'a>,
}

/// Reads an `update`. Fields that are missing or of another type count as unknown, but without
/// address or description there is no update.
pub(crate) fn update(payload: Payload<'_>) -> Result<Update, String> {
    let fields: UpdateFields<'_> = payload.read()?;
    if fields.update_available.bool() == Some(false) {
        return Ok(Update::NotAvailable);
    }
    let meta = fields.firmware_meta.0.ok_or_else(|| String::from("an update without firmware_meta"))?;
    let url = fields.firmware_url.text().filter(|url| !url.is_empty());
    let url = url.ok_or_else(|| String::from("an update without firmware_url"))?;
    let info = UpdateInfo {
        firmware: firmware(meta),
        size: fields.size.unsigned().filter(|size| *size > 0),
        checksum: fields.checksum.text().and_then(|text| sha256(&text)),
        part_checksums: part_checksums(fields.partials_checksums),
        deployment_id: fields.deployment_id.signed(),
        by_hand: fields.deployment_id.is_null(),
        requested: false,
    };
    Ok(Update::Offer(Box::new((info, Url::parse(&url)))))
}

/// Returns the checksums of parts. If one of them is none, all are of no use.
fn part_checksums(list: List<Sum>) -> Vec<Sha> {
    let sums = list.0.unwrap_or_default().into_iter().map(|Sum(sum)| sum);
    sums.collect::<Option<_>>().unwrap_or_default()
}

/// Returns a firmware's identity.
fn firmware(meta: MetaFields<'_>) -> FirmwareMeta {
    let text = |field: Scalar<'_>| field.text().map(|text| cut(&text, MAX_META_CHARS));
    let required = |field| text(field).unwrap_or_default();
    FirmwareMeta {
        uuid: required(meta.uuid),
        product: required(meta.product),
        version: required(meta.version),
        platform: required(meta.platform),
        architecture: required(meta.architecture),
        author: text(meta.author),
        description: text(meta.description),
        vcs_identifier: text(meta.vcs_identifier),
        misc: text(meta.misc),
    }
}

/// Reads an `update_available`: whether there is an update, and which.
pub(crate) fn update_available(payload: Payload<'_>) -> Result<(bool, Option<FirmwareMeta>), String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Available<'a> {
        #[serde(borrow)]
        available: Scalar<'a>,
        #[serde(borrow)]
        firmware_meta: Fields<MetaFields<'a>>,
    }

    let fields: Fields<Available<'_>> = payload.read()?;
    let fields = fields.0.unwrap_or_default();
    let available = fields.available.bool() == Some(true);
    Ok((available, fields.firmware_meta.0.filter(|_| available).map(firmware)))
}

/// Reads an `archive`. Fields that are missing or of another type count as unknown, but without address there is no
/// archive.
pub(crate) fn archive(payload: Payload<'_>) -> Result<(ArchiveInfo, Result<Url, UrlError>), String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct ArchiveFields<'a> {
        #[serde(borrow)]
        uuid: Scalar<'a>,
        #[serde(borrow)]
        version: Scalar<'a>,
        #[serde(borrow)]
        description: Scalar<'a>,
        #[serde(borrow)]
        platform: Scalar<'a>,
        #[serde(borrow)]
        architecture: Scalar<'a>,
        #[serde(borrow)]
        uploaded_at: Scalar<'a>,
        #[serde(borrow)]
        size: Scalar<'a>,
        #[serde(borrow)]
        url: Scalar<'a>,
    }

    let fields: Fields<ArchiveFields<'_>> = payload.read()?;
    let fields = fields.0.unwrap_or_default();
    let url = fields.url.text().filter(|url| !url.is_empty());
    let url = url.ok_or_else(|| String::from("an archive without url"))?;
    let text = |field: Scalar<'_>| field.text().map(|text| cut(&text, MAX_META_CHARS));
    let info = ArchiveInfo {
        uuid: text(fields.uuid).unwrap_or_default(),
        version: text(fields.version).unwrap_or_default(),
        description: text(fields.description),
        platform: text(fields.platform),
        architecture: text(fields.architecture),
        uploaded_at: text(fields.uploaded_at),
        size: fields.size.unsigned().filter(|size| *size > 0),
    };
    Ok((info, Url::parse(&url)))
}

/// Reads the keys of `fwup_public_keys` or `archive_public_keys`: the strings of the list, and how many entries were none.
pub(crate) fn public_keys(payload: Payload<'_>) -> Result<(Vec<String>, u64), String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Keys<'a> {
        #[serde(borrow)]
        keys: List<Scalar<'a>>,
    }

    let fields: Fields<Keys<'_>> = payload.read()?;
    let keys = fields.0.and_then(|fields| fields.keys.0);
    let keys = keys.ok_or_else(|| String::from("public keys without a list of keys"))?;
    let total = keys.len();
    let texts: Vec<String> = keys.into_iter().filter_map(Scalar::string).collect();
    let others = u64::try_from(total.saturating_sub(texts.len())).unwrap_or(u64::MAX);
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

/// Returns the name of an interface as the server is to know it, if it is one worth sending.
pub(crate) fn interface_name(config: &Config, interface: Option<&str>) -> Option<String> {
    let name = interface.filter(|name| !name.is_empty())?;
    let known = config.interface_names.get(name).map_or(name, String::as_str);
    Some(cut(known, MAX_NAME_CHARS))
}

/// Returns the name of the event that reports progress.
pub(crate) const fn progress_event(config: &Config) -> &'static str {
    match config.progress_event {
        ProgressEvent::ByTool if config.update_tool.speaks_fwup() => names::FWUP_PROGRESS,
        ProgressEvent::FwupProgress => names::FWUP_PROGRESS,
        ProgressEvent::ByTool | ProgressEvent::UpdateProgress => names::UPDATE_PROGRESS,
    }
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

/// Returns a SHA-256 in lower-case hex, if the text is one.
fn sha256(text: &str) -> Option<String> {
    from_hex(text).map(|_| text.to_ascii_lowercase())
}
