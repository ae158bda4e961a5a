//! The payloads of the device channel: reading the server's, writing ours.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::de::MapAccess;
use serde_json::{Value as Json, json};

use super::lenient::{Object, Record, Scalar, Value};
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

/// Where a file is, or why its address can't be used.
pub(crate) type Address = Result<Url, UrlError>;

/// The size of a file as the server announced it, if it did, or why no file has such a size.
pub(crate) type Size = Result<Option<u64>, SizeError>;

/// A size that no file has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SizeError {
    Zero,
    Negative(i64),
    /// Too large for 64 bits, or a fraction.
    Number(f64),
}

impl core::fmt::Display for SizeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the server announced a file of ")?;
        match self {
            Self::Zero => f.write_str("0 bytes; there is nothing to download"),
            Self::Negative(size) => write!(f, "{size} bytes; no file has such a size"),
            Self::Number(size) => write!(f, "{size:e} bytes; no file has such a size"),
        }
    }
}

/// See [`Size`]; nothing at first.
struct Announced(Size);

impl Default for Announced {
    fn default() -> Self {
        Self(Ok(None))
    }
}

/// What an `update` says.
#[derive(Default)]
struct UpdateFields {
    update_available: Option<bool>,
    described: bool,
    info: UpdateInfo,
    size: Announced,
    /// Nothing without an address, or with an empty one.
    url: Option<Address>,
}

impl<'de> Record<'de> for UpdateFields {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match name {
            "update_available" => self.update_available = value.scalar()?.bool(),
            "firmware_meta" => {
                self.info.firmware = FirmwareMeta::default();
                self.described = value.record(&mut self.info.firmware)?;
            }
            "firmware_url" => self.url = address(&value.scalar()?),
            "size" => self.size = Announced(value.scalar()?.size()),
            "checksum" => self.info.checksum = value.scalar()?.as_text().and_then(sha256),
            "partials_checksums" => self.info.part_checksums = part_checksums(value)?,
            "deployment_id" => {
                let deployment = value.scalar()?;
                self.info.deployment_id = deployment.signed();
                // Null, which is told from a missing one, or of no use.
                self.info.by_hand = matches!(deployment, Scalar::Other);
            }
            _ => value.ignore()?,
        }
        Ok(())
    }
}

impl<'de> Record<'de> for FirmwareMeta {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match name {
            // What the server leaves out is empty.
            "uuid" => self.uuid = value.scalar()?.meta().unwrap_or_default(),
            "product" => self.product = value.scalar()?.meta().unwrap_or_default(),
            "version" => self.version = value.scalar()?.meta().unwrap_or_default(),
            "platform" => self.platform = value.scalar()?.meta().unwrap_or_default(),
            "architecture" => self.architecture = value.scalar()?.meta().unwrap_or_default(),
            "author" => self.author = value.scalar()?.meta(),
            "description" => self.description = value.scalar()?.meta(),
            "vcs_identifier" => self.vcs_identifier = value.scalar()?.meta(),
            "misc" => self.misc = value.scalar()?.meta(),
            _ => value.ignore()?,
        }
        Ok(())
    }
}

impl Scalar<'_> {
    /// Returns a text of a description, cut to a length that can be kept.
    fn meta(&self) -> Option<String> {
        self.as_text().map(|text| cut(text, MAX_META_CHARS))
    }

    /// Returns a number of bytes, if it is a number.
    const fn size(&self) -> Size {
        match self {
            Self::Unsigned(0) => Err(SizeError::Zero),
            Self::Unsigned(size) => Ok(Some(*size)),
            Self::Signed(size) => Err(SizeError::Negative(*size)),
            Self::Real(size) => Err(SizeError::Number(*size)),
            Self::Bool(_) | Self::Text(_) | Self::Other => Ok(None),
        }
    }
}

/// Returns an address, unless there is none.
fn address(value: &Scalar<'_>) -> Option<Address> {
    value.as_text().filter(|url| !url.is_empty()).map(Url::parse)
}

/// Reads the checksums of parts. If one of them is none, all are of no use.
fn part_checksums<'de, A: MapAccess<'de>>(value: Value<'_, A>) -> Result<Vec<Sha>, A::Error> {
    let mut sums = Some(Vec::new());
    value.list(|item| match (&mut sums, item.as_text().and_then(from_hex)) {
        (Some(sums), Some(sum)) => sums.push(sum),
        _ => sums = None,
    })?;
    // Empty means unknown: the file is checked as a whole.
    Ok(sums.unwrap_or_default())
}

/// Reads an `update` (device-protocol §6.1): what is offered, and where it is; nothing if the server thought better of it. Fields that
/// are missing or of another type count as unknown, but without address or description there is no update.
pub(crate) fn update(payload: Payload<'_>) -> Result<Option<(UpdateInfo, Size, Address)>, String> {
    let Object(fields) = payload.read::<Object<UpdateFields>>()?;
    // A payload that is no object has no fields, and is refused below.
    let fields = fields.unwrap_or_default();
    if fields.update_available == Some(false) {
        return Ok(None);
    }
    match *fields {
        UpdateFields { described: true, mut info, size: Announced(size), url: Some(url), .. } => {
            info.size = size.clone().ok().flatten();
            Ok(Some((info, size, url)))
        }
        UpdateFields { described: false, .. } => Err(String::from("an update without firmware_meta")),
        UpdateFields { url: None, .. } => Err(String::from("an update without firmware_url")),
    }
}

/// Reads an `update_available`: whether there is an update, and which.
pub(crate) fn update_available(payload: Payload<'_>) -> Result<(bool, Option<FirmwareMeta>), String> {
    let Object(fields) = payload.read::<Object<AvailableFields>>()?;
    // A payload that is no object has no fields: no update.
    let fields = fields.unwrap_or_default();
    Ok((fields.available, fields.firmware.filter(|_| fields.available)))
}

#[derive(Default)]
struct AvailableFields {
    available: bool,
    firmware: Option<FirmwareMeta>,
}

impl<'de> Record<'de> for AvailableFields {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match name {
            "available" => self.available = value.scalar()?.bool() == Some(true),
            "firmware_meta" => {
                let mut firmware = FirmwareMeta::default();
                self.firmware = value.record(&mut firmware)?.then_some(firmware);
            }
            _ => value.ignore()?,
        }
        Ok(())
    }
}

/// Reads an `archive`. Fields that are missing or of another type count as unknown, but without address there is no
/// archive.
pub(crate) fn archive(payload: Payload<'_>) -> Result<(ArchiveInfo, Size, Address), String> {
    let Object(fields) = payload.read::<Object<ArchiveFields>>()?;
    // A payload that is no object has no fields, and is refused below.
    let ArchiveFields { mut info, size: Announced(size), url } = *fields.unwrap_or_default();
    let url = url.ok_or_else(|| String::from("an archive without url"))?;
    info.size = size.clone().ok().flatten();
    Ok((info, size, url))
}

#[derive(Default)]
struct ArchiveFields {
    info: ArchiveInfo,
    size: Announced,
    url: Option<Address>,
}

impl<'de> Record<'de> for ArchiveFields {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match name {
            // What the server leaves out is empty.
            "uuid" => self.info.uuid = value.scalar()?.meta().unwrap_or_default(),
            "version" => self.info.version = value.scalar()?.meta().unwrap_or_default(),
            "description" => self.info.description = value.scalar()?.meta(),
            "platform" => self.info.platform = value.scalar()?.meta(),
            "architecture" => self.info.architecture = value.scalar()?.meta(),
            "uploaded_at" => self.info.uploaded_at = value.scalar()?.meta(),
            "size" => self.size = Announced(value.scalar()?.size()),
            "url" => self.url = address(&value.scalar()?),
            _ => value.ignore()?,
        }
        Ok(())
    }
}

/// Reads the keys of `fwup_public_keys` or `archive_public_keys`: the strings of the list, and how many entries were none.
pub(crate) fn public_keys(payload: Payload<'_>) -> Result<(Vec<String>, u64), String> {
    let Object(fields) = payload.read::<Object<KeyFields>>()?;
    // A payload that is no object has no fields, and is refused below.
    let fields = fields.unwrap_or_default();
    if !fields.is_list {
        return Err(String::from("public keys without a list of keys"));
    }
    Ok((fields.keys, fields.others))
}

#[derive(Default)]
struct KeyFields {
    is_list: bool,
    keys: Vec<String>,
    others: u64,
}

impl<'de> Record<'de> for KeyFields {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        if name != "keys" {
            return value.ignore();
        }
        *self = Self::default();
        self.is_list = value.list(|item| match item.string() {
            Some(key) => self.keys.push(key),
            None => self.others += 1,
        })?;
        Ok(())
    }
}

/// What the device reports about an update (device-protocol §3.5).
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
    pub(crate) fn to_json(&self) -> Json {
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
                    fields.insert(String::from("reason"), Json::from(cut(reason, MAX_REASON_CHARS)));
                }
                status
            }
            Self::Failed { reason } => json!({"status": "failed", "reason": cut(reason, MAX_REASON_CHARS)}),
        }
    }
}

/// Writes a `fwup_progress`. The value is an integer: a float crashes the server's channel.
pub(crate) fn progress(stage: Stage, percent: u8) -> Json {
    json!({"stage": stage_name(stage), "value": percent})
}

/// Writes the payload of an event that says everything by its name.
pub(crate) fn empty() -> Json {
    json!({})
}

/// Writes a `report_network_interface`.
pub(crate) fn network_interface(interface: &str) -> Json {
    json!({"interface": interface})
}

/// Writes a `connection_types`.
pub(crate) fn connection_types(types: &[String]) -> Json {
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
