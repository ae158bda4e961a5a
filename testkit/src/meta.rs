//! What a firmware says about itself.

use serde::Serialize;

/// The description of one firmware, as archives carry it and the hub sends it in `firmware_meta`
/// (device-protocol §6.1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FirmwareMeta {
    /// The version, normally SemVer.
    pub version: String,
    /// Free text, absent when empty.
    pub description: Option<String>,
    /// The product's name.
    pub product: String,
    /// Who made it, absent when empty.
    pub author: Option<String>,
    /// The archive's computed UUID, lower case.
    pub uuid: String,
    /// Free text, absent when empty.
    pub misc: Option<String>,
    /// The processor architecture.
    pub architecture: String,
    /// The hardware platform.
    pub platform: String,
    /// The source revision, absent when empty.
    pub vcs_identifier: Option<String>,
}
