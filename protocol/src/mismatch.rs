//! Comparing a file's signed metadata with what the server offered and with the device, before anything is written.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use semver::Version;

use crate::archive::ArchiveInfo;
use crate::config::Config;
use crate::event::FirmwareMeta;
use crate::limits::MAX_META_CHARS;
use crate::text::cut;

/// Which differences between signed metadata and what was expected are allowed. By default, none are.
///
/// The signature of an archive proves who made it, not that it is the firmware the server speaks of, nor that it is for
/// this device. So before the first write, the signed metadata are compared with the offer (UUID, version, product,
/// platform and architecture) and with the running firmware (product, platform and architecture). A field that the
/// offer leaves out, or that the device doesn't know, is not compared. A field that the archive leaves out differs from
/// every value. UUIDs are compared without regard to case, everything else exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AllowMismatch {
    /// Files that are other than what the server offered, in any field.
    pub offer: bool,
    /// Files for another product than the device's.
    pub product: bool,
    /// Files for another platform than the device's.
    pub platform: bool,
    /// Files for another architecture than the device's.
    pub architecture: bool,
}

/// A field of a firmware's metadata that identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetaField {
    /// The UUID, which is a digest of the manifest.
    Uuid,
    /// The version.
    Version,
    /// The product.
    Product,
    /// The platform.
    Platform,
    /// The architecture.
    Architecture,
}

/// Why a file is not installed or kept, though a trusted key signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// It is not what the server offered.
    Offer {
        /// The first field that differs.
        field: MetaField,
        /// The file's signed metadata.
        signed: Box<FirmwareMeta>,
        /// What the server said of it.
        offered: Box<FirmwareMeta>,
    },
    /// It is for another device.
    Device {
        /// The first field that differs.
        field: MetaField,
        /// What the file's signed metadata say.
        signed: String,
        /// What the device is.
        device: String,
    },
    /// It is older than what runs or ran here ([`Config::refuse_older`](crate::Config::refuse_older)).
    Older {
        /// The version that its signed metadata say.
        signed: String,
        /// The newest version that ran well here.
        newest: String,
    },
    /// Its version is none by the rules of SemVer, so whether it is older can't be told
    /// ([`Config::refuse_older`](crate::Config::refuse_older)).
    Unordered {
        /// The version that its signed metadata say.
        signed: String,
    },
}

impl MetaField {
    /// The fields that an offer may name.
    const OF_OFFERS: [Self; 5] =
        [Self::Uuid, Self::Version, Self::Product, Self::Platform, Self::Architecture];

    /// The fields that a device has as well.
    const OF_DEVICES: [Self; 3] = [Self::Product, Self::Platform, Self::Architecture];

    fn of(self, meta: &FirmwareMeta) -> &str {
        match self {
            Self::Uuid => &meta.uuid,
            Self::Version => &meta.version,
            Self::Product => &meta.product,
            Self::Platform => &meta.platform,
            Self::Architecture => &meta.architecture,
        }
    }

    /// Returns whether the signed value is the expected one, or nothing is expected.
    fn agrees(self, signed: &FirmwareMeta, expected: &FirmwareMeta) -> bool {
        let (signed, expected) = (self.of(signed), self.of(expected));
        match self {
            _ if expected.is_empty() => true,
            Self::Uuid => signed.eq_ignore_ascii_case(expected),
            // Servers read the lines that `fwup -m` prints, in which quotes and backslashes are escaped.
            _ => signed == expected || cut(&escaped(signed), MAX_META_CHARS) == expected,
        }
    }
}

impl fmt::Display for MetaField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uuid => "uuid",
            Self::Version => "version",
            Self::Product => "product",
            Self::Platform => "platform",
            Self::Architecture => "architecture",
        })
    }
}

impl AllowMismatch {
    /// Compares signed metadata with what the server offered.
    ///
    /// # Errors
    ///
    /// The first field that differs, unless all differences from offers are allowed.
    pub fn check_offer(self, signed: &FirmwareMeta, offered: &FirmwareMeta) -> Result<(), Mismatch> {
        if self.offer {
            return Ok(());
        }
        let (signed, offered) = (Box::new(bounded(signed)), Box::new(bounded(offered)));
        match MetaField::OF_OFFERS.into_iter().find(|field| !field.agrees(&signed, &offered)) {
            Some(field) => Err(Mismatch::Offer { field, signed, offered }),
            None => Ok(()),
        }
    }

    /// Compares signed metadata with the firmware that runs on the device.
    ///
    /// # Errors
    ///
    /// The first field that differs and whose difference is not allowed.
    pub fn check_device(self, signed: &FirmwareMeta, running: &FirmwareMeta) -> Result<(), Mismatch> {
        let allowed = |field| match field {
            MetaField::Product => self.product,
            MetaField::Platform => self.platform,
            MetaField::Architecture => self.architecture,
            MetaField::Uuid | MetaField::Version => true,
        };
        let (signed, running) = (bounded(signed), bounded(running));
        let differs = |field: &MetaField| !allowed(*field) && !field.agrees(&signed, &running);
        match MetaField::OF_DEVICES.into_iter().find(differs) {
            Some(field) => {
                let text = |meta| String::from(field.of(meta));
                Err(Mismatch::Device { field, signed: text(&signed), device: text(&running) })
            }
            None => Ok(()),
        }
    }

    /// Compares the signed metadata of a deployment's archive with what the server said of it. An archive may serve several
    /// boards, so nothing of it is compared with the device.
    ///
    /// # Errors
    ///
    /// The first field that differs, unless all differences from offers are allowed.
    pub fn check_archive(self, signed: &FirmwareMeta, offered: &ArchiveInfo) -> Result<(), Mismatch> {
        let offered = FirmwareMeta {
            uuid: offered.uuid.clone(),
            version: offered.version.clone(),
            platform: offered.platform.clone().unwrap_or_default(),
            architecture: offered.architecture.clone().unwrap_or_default(),
            ..FirmwareMeta::default()
        };
        self.check_offer(signed, &offered)
    }
}

/// Decides about firmware whose signature holds.
pub(crate) fn check(config: &Config, signed: &FirmwareMeta, offered: &FirmwareMeta) -> Result<(), Mismatch> {
    config.allow_mismatch.check_offer(signed, offered)?;
    // Other tools describe the running firmware in their own words.
    if config.update_tool.speaks_fwup() {
        config.allow_mismatch.check_device(signed, &config.firmware)?;
    }
    check_age(config, &signed.version)
}

/// Compares a version with what runs and with the newest that ever ran well here, if that is wanted.
pub(crate) fn check_age(config: &Config, version: &str) -> Result<(), Mismatch> {
    if !config.refuse_older {
        return Ok(());
    }
    let Some(signed) = parsed(version) else {
        return Err(Mismatch::Unordered { signed: String::from(version) });
    };
    match newest(config).filter(|newest| signed.cmp_precedence(newest).is_lt()) {
        Some(newest) => Err(Mismatch::Older { signed: String::from(version), newest: newest.to_string() }),
        None => Ok(()),
    }
}

/// Returns the version to keep as the newest that ran well, if it isn't kept already. Call when the running firmware is
/// good.
pub(crate) fn newest_to_keep(config: &Config) -> Option<String> {
    if !config.refuse_older {
        return None;
    }
    let newest = newest(config)?;
    let kept = config.newest_version.as_deref().and_then(parsed);
    let raised = kept.is_none_or(|kept| newest.cmp_precedence(&kept).is_gt());
    raised.then(|| newest.to_string())
}

/// Returns the version that others must not be older than, if one is known that can be compared.
fn newest(config: &Config) -> Option<Version> {
    let running = parsed(&config.firmware.version);
    let kept = config.newest_version.as_deref().and_then(parsed);
    running.into_iter().chain(kept).max_by(Version::cmp_precedence)
}

/// Reads a version as the server does, by the rules of SemVer.
fn parsed(version: &str) -> Option<Version> {
    (version.len() <= MAX_META_CHARS).then(|| Version::parse(version).ok()).flatten()
}

/// Returns metadata whose texts are no longer than those of an offer are kept.
pub(crate) fn bounded(meta: &FirmwareMeta) -> FirmwareMeta {
    let text = |text: &str| cut(text, MAX_META_CHARS);
    let optional = |field: &Option<String>| field.as_deref().map(text);
    FirmwareMeta {
        uuid: text(&meta.uuid),
        product: text(&meta.product),
        version: text(&meta.version),
        platform: text(&meta.platform),
        architecture: text(&meta.architecture),
        author: optional(&meta.author),
        description: optional(&meta.description),
        vcs_identifier: optional(&meta.vcs_identifier),
        misc: optional(&meta.misc),
    }
}

/// Writes a text as `fwup -m` prints it between quotes.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Writes a value for a message: short, in quotes, and without anything that a terminal would obey. A reason for the
/// server has 200 characters, and both sides must fit.
fn shown(value: &str, chars: usize) -> String {
    if value.is_empty() { String::from("none") } else { format!("\"{}\"", cut(value, chars).escape_debug()) }
}

/// Characters of a UUID, a version and a name in a message.
const UUID_CHARS: usize = 36;
const VERSION_CHARS: usize = 14;
const SHOWN_CHARS: usize = 40;

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the archive is ")?;
        match self {
            Self::Offer { field: MetaField::Uuid | MetaField::Version, signed, offered } => {
                let firmware = |meta: &FirmwareMeta| {
                    let (version, uuid) =
                        (shown(&meta.version, VERSION_CHARS), shown(&meta.uuid, UUID_CHARS));
                    format!("{version} (uuid {uuid})")
                };
                write!(f, "version {}, the server offered {}", firmware(signed), firmware(offered))
            }
            Self::Offer { field, signed, offered } => {
                let (signed, offered) = (field.of(signed), field.of(offered));
                let (signed, offered) = (shown(signed, SHOWN_CHARS), shown(offered, SHOWN_CHARS));
                write!(f, "for {field} {signed}, but the server offered {offered} (see allow_mismatch)")
            }
            Self::Device { field, signed, device } => {
                let (signed, device) = (shown(signed, SHOWN_CHARS), shown(device, SHOWN_CHARS));
                write!(f, "for {field} {signed}, but this device's is {device} (see allow_mismatch)")
            }
            Self::Older { signed, newest } => {
                let (signed, newest) = (shown(signed, SHOWN_CHARS), shown(newest, SHOWN_CHARS));
                write!(f, "version {signed}, older than {newest}, which ran here (see refuse_older)")
            }
            Self::Unordered { signed } => {
                let signed = shown(signed, SHOWN_CHARS);
                write!(
                    f,
                    "version {signed}, which can't be ordered by the rules of SemVer (see refuse_older)"
                )
            }
        }
    }
}

impl core::error::Error for Mismatch {}
