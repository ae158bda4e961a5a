//! What a device says about itself: identifier, running firmware, trust (device-identity §1.3, §4).

pub use nerves_hub_link_serial::is_placeholder as is_placeholder_serial;

use fwup_stream::manifest::Metadata;

use crate::boot::{BootCheck, BootState, MARK, Marked};
use crate::kv::uboot_env::EnvError;
use crate::kv::{KeyValueStore, KvError, Pairs};
use crate::limits::NOTE_RESERVE;

/// A device's identity as its key-value store tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The slot that runs: `nerves_fw_active`, or `a` where that is missing. Between an update and the restart of the
    /// system that is the slot that runs next; [`BootCheck`] tells.
    pub active_slot: String,
    /// The firmware in that slot.
    pub firmware: FirmwareInfo,
    /// Whether that firmware is marked good; `None` where the device can't tell.
    pub validated: Option<bool>,
    /// Whether another slot holds firmware that was tried and never validated.
    pub auto_revert_detected: bool,
    /// The disk that updates are written to (`nerves_fw_devpath`).
    pub devpath: Option<String>,
    /// The serial number set at burn time, unless it is one of the usual placeholders.
    pub serial_number: Option<String>,
}

/// A firmware's metadata (`<slot>.nerves_fw_*`). Missing texts are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirmwareInfo {
    /// The archive's UUID.
    pub uuid: String,
    /// The product's name.
    pub product: String,
    /// The version, as in SemVer.
    pub version: String,
    /// The platform, such as `rpi4`.
    pub platform: String,
    /// The architecture, such as `arm`.
    pub architecture: String,
    /// Who made it.
    pub author: Option<String>,
    /// What it is.
    pub description: Option<String>,
    /// The commit it was built from.
    pub vcs_identifier: Option<String>,
    /// Anything else.
    pub misc: Option<String>,
}

impl Identity {
    /// Reads the identity from a store.
    pub fn load(store: &dyn KeyValueStore) -> Result<Self, KvError> {
        Ok(Self::from_pairs(&store.load()?))
    }

    /// Builds the identity from the pairs of a store.
    pub fn from_pairs(pairs: &Pairs) -> Self {
        Self::of_slot(pairs, active_slot(pairs))
    }

    /// Builds the identity of a device that runs this slot, whatever the store names:
    /// [`BootState::OtherRuns`].
    pub fn of_slot(pairs: &Pairs, active: &str) -> Self {
        Self {
            firmware: FirmwareInfo::of_slot(pairs, active),
            validated: if active == active_slot(pairs) {
                validated(pairs, active)
            } else {
                // The flags for all slots speak of the one that is named.
                flag(pairs, &format!("{active}.nerves_fw_validated"))
            },
            auto_revert_detected: auto_revert_detected(pairs, active),
            devpath: non_empty(pairs, "nerves_fw_devpath"),
            serial_number: ["nerves_serial_number", "serial_number"]
                .into_iter()
                .filter_map(|key| non_empty(pairs, key))
                .find(|serial| !is_placeholder_serial(serial)),
            active_slot: active.to_owned(),
        }
    }
}

impl FirmwareInfo {
    /// Reads the metadata of one slot from the pairs of a store.
    pub fn of_slot(pairs: &Pairs, slot: &str) -> Self {
        let optional = |name: &str| non_empty(pairs, &format!("{slot}.nerves_fw_{name}"));
        let text = |name: &str| optional(name).unwrap_or_default();
        Self {
            uuid: text("uuid"),
            product: text("product"),
            version: text("version"),
            platform: text("platform"),
            architecture: text("architecture"),
            author: optional("author"),
            description: optional("description"),
            vcs_identifier: optional("vcs_identifier"),
            misc: optional("misc"),
        }
    }
}

impl FirmwareInfo {
    /// Takes the metadata of an archive.
    pub(crate) fn of_archive(metadata: &Metadata) -> Self {
        let optional = |name| metadata.value(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let text = |name| optional(name).unwrap_or_default();
        Self {
            uuid: metadata.uuid().to_owned(),
            product: text("meta-product"),
            version: text("meta-version"),
            platform: text("meta-platform"),
            architecture: text("meta-architecture"),
            author: optional("meta-author"),
            description: optional("meta-description"),
            vcs_identifier: optional("meta-vcs-identifier"),
            misc: optional("meta-misc"),
        }
    }
}

/// Marks the running firmware good, in one write, and checks that the store now says so.
///
/// For devices whose firmware brings no task of its own for this (device-identity §4). Nothing is written unless `boot`
/// finds that this boot started the firmware that the store names, nor if it is called good already.
///
/// # Errors
///
/// What kept the store from being read or written.
pub fn mark_validated(store: &mut dyn KeyValueStore, boot: &BootCheck) -> Result<Marked, KvError> {
    let mut refused = None;
    let mut decide = |pairs: &Pairs, noted: bool| {
        let (state, note) = boot.judge(pairs);
        if state != BootState::AsNamed {
            refused = Some(state);
            return Vec::new();
        }
        let active = active_slot(pairs);
        if validated(pairs, active) == Some(true) {
            return Vec::new();
        }
        let set = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        let mut changes = vec![set("nerves_fw_validated", "1")];
        // The slot's own flag, where there is one, takes precedence when read.
        let slot_key = format!("{active}.nerves_fw_validated");
        if pairs.contains_key(&slot_key) {
            changes.push(set(&slot_key, "1"));
        }
        if pairs.contains_key("upgrade_available") {
            changes.extend([set("upgrade_available", "0"), set("bootcount", "0")]);
        }
        if noted {
            changes.extend(note);
        } else if pairs.contains_key(MARK) {
            // An older note would be about another install.
            changes.push((MARK.to_owned(), None));
        }
        changes
    };
    match store.change_leaving(NOTE_RESERVE, &mut |pairs| decide(pairs, true)) {
        // Being called good is worth more than the note.
        Err(KvError::Env(EnvError::TooSmall { .. })) => store.change(&mut |pairs| decide(pairs, false))?,
        other => other?,
    }
    if let Some(state) = refused {
        return Ok(Marked::NotThisBoot(state));
    }
    let good = Identity::load(store)?.validated == Some(true);
    Ok(if good { Marked::Good } else { Marked::StillNot })
}

pub(crate) fn active_slot(pairs: &Pairs) -> &str {
    pairs.get("nerves_fw_active").map(String::as_str).filter(|slot| !slot.is_empty()).unwrap_or("a")
}

/// Returns the slots that a store has metadata of.
pub(crate) fn known_slots(pairs: &Pairs) -> Vec<String> {
    let mut slots: Vec<String> = pairs
        .keys()
        .filter_map(|key| key.split_once(".nerves_fw_"))
        .map(|(slot, _)| slot.to_owned())
        .collect();
    // They are sorted by key.
    slots.dedup();
    slots
}

fn non_empty(pairs: &Pairs, key: &str) -> Option<String> {
    pairs.get(key).filter(|value| !value.is_empty()).cloned()
}

fn flag(pairs: &Pairs, key: &str) -> Option<bool> {
    match pairs.get(key)?.as_str() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn validated(pairs: &Pairs, active: &str) -> Option<bool> {
    if let Some(pending) = flag(pairs, "upgrade_available") {
        return Some(!pending);
    }
    let slot_key = format!("{active}.nerves_fw_validated");
    let key = if pairs.contains_key(&slot_key) { &slot_key } else { "nerves_fw_validated" };
    flag(pairs, key)
}

fn auto_revert_detected(pairs: &Pairs, active: &str) -> bool {
    let other_slots = pairs.iter().filter_map(|(key, value)| {
        let slot = key.strip_suffix(".nerves_fw_validated")?;
        (slot != active && value == "0").then_some(slot)
    });
    // A slot that was wiped on purpose has no platform and architecture any more.
    other_slots.into_iter().any(|slot| {
        let other = FirmwareInfo::of_slot(pairs, slot);
        !other.platform.is_empty() && !other.architecture.is_empty()
    })
}
