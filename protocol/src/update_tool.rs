//! What applies updates on the device, and how it describes the running firmware to the server.

use alloc::collections::BTreeMap;
use alloc::string::String;

/// The tool that applies updates, with what the server wants to know of it at the join (device-protocol A15).
///
/// All but `fwup` are experimental on servers and need switches there. The machine itself only streams bytes to the
/// adapter's applier; with another tool, that is what must understand them, or the application takes updates over
/// ([`Decision::TakeOver`](crate::Decision::TakeOver)).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum UpdateTool {
    /// `fwup`, or what takes its place: the firmware is described by [`Config::firmware`](crate::Config::firmware).
    #[default]
    Fwup,
    /// ESP-IDF images.
    EspIdf {
        /// The project's name (`esp_idf_project_name`).
        project_name: String,
        /// The application's version (`esp_idf_version`).
        version: String,
        /// SHA-256 of the application's ELF file, hex (`esp_idf_app_elf_sha256`); the server makes the UUID of it.
        app_elf_sha256: String,
        /// The version of ESP-IDF (`esp_idf_ver`).
        idf_version: String,
        /// The chip (`esp_idf_chip_id`).
        chip_id: u32,
    },
    /// AtomVM archives.
    AtomVm {
        /// The application's name (`atomvm_app_name`).
        app_name: String,
        /// The application's version (`atomvm_app_version`).
        app_version: String,
        /// SHA-256 of the archive, hex (`atomvm_avm_sha256`); the server makes the UUID of it.
        avm_sha256: String,
        /// The version of AtomVM (`atomvm_version`).
        vm_version: String,
    },
    /// RAUC bundles.
    Rauc {
        /// The first 128 bits of the slot's bundle hash, as UUID (`rauc_uuid`).
        uuid: String,
        /// The bundle's version (`rauc_version`).
        version: String,
        /// The platform (`rauc_platform`); the server takes `compatible` instead of none.
        platform: Option<String>,
        /// The product (`rauc_product`); the server takes `compatible` instead of none.
        product: Option<String>,
        /// What bundles must be compatible with (`rauc_compatible`).
        compatible: String,
        /// RAUC's version, at least 1.9 (`rauc_tool_version`).
        tool_version: String,
    },
    /// A tool of the application's. Servers that don't know the name look at the parameters, and at last read the
    /// firmware as of `fwup`, so that is described as well.
    Other {
        /// The name (`update_tool`).
        name: String,
        /// Further join parameters. A name the machine sends itself is ignored.
        params: BTreeMap<String, JoinValue>,
    },
}

/// The value of a join parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinValue {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number.
    Integer(i64),
    /// A text.
    Text(String),
}

/// The event by which progress is reported; the payload is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ProgressEvent {
    /// `fwup_progress` for `fwup` and the application's own tools, `update_progress` for the other tools, whose
    /// servers know it.
    #[default]
    ByTool,
    /// `fwup_progress`, which every server knows.
    FwupProgress,
    /// `update_progress`, which servers older than 2.5 ignore.
    UpdateProgress,
}

impl UpdateTool {
    /// Returns what servers call it, where they must be told.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Fwup => None,
            Self::EspIdf { .. } => Some("esp-idf"),
            Self::AtomVm { .. } => Some("atomvm"),
            Self::Rauc { .. } => Some("rauc"),
            Self::Other { name, .. } => Some(name),
        }
    }

    /// Returns whether the server describes its firmware with the keys of `fwup`.
    pub(crate) const fn speaks_fwup(&self) -> bool {
        matches!(self, Self::Fwup | Self::Other { .. })
    }
}
