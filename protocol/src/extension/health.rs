//! What a device tells about its health (device-protocol §5.2).

use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::time::UnixMicros;

/// How a device is doing. What is not known is left out, never made up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HealthReport {
    /// When it was so; `None` for now.
    pub timestamp: Option<UnixMicros>,
    /// Facts about the device, shown beside it.
    pub metadata: BTreeMap<String, String>,
    /// What is wrong, by name, with a description each; beside the link's own alarms and those of
    /// [`ExtensionCommand::RaiseAlarm`](crate::ExtensionCommand::RaiseAlarm).
    pub alarms: BTreeMap<String, String>,
    /// Numbers to draw, by name. Servers know `cpu_temp` (°C), `cpu_usage_percent`, `load_1min`, `load_5min`,
    /// `load_15min`, `mem_size_mb`, `mem_used_mb`, `mem_used_percent`, `disk_total_kb`, `disk_available_kb` and
    /// `disk_used_percentage`; others are welcome. Spaces in names are removed. Numbers that aren't finite, names of
    /// more than 64 bytes, and all but the first 20 names in sorted order are left out, as servers do.
    pub metrics: BTreeMap<String, f64>,
    /// Checks, by name.
    pub checks: BTreeMap<String, HealthCheck>,
    /// Network interfaces, by name.
    pub connectivity: BTreeMap<String, Connectivity>,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Whether all is well.
    pub pass: bool,
    /// What was found, for a person.
    pub note: String,
}

/// How a network interface is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct Connectivity {
    /// The kind of interface.
    pub kind: InterfaceKind,
    /// Whether the device has it now.
    pub present: bool,
    /// Its state in the words of the system, such as `up`.
    pub state: String,
    /// What it reaches.
    pub reach: Reach,
    /// Numbers about it, such as signal strength; bounded as [`HealthReport::metrics`].
    pub metrics: BTreeMap<String, f64>,
    /// Facts about it.
    pub metadata: BTreeMap<String, String>,
}

/// The kind of a network interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InterfaceKind {
    /// A cable.
    Ethernet,
    /// Wi-Fi.
    Wifi,
    /// A mobile network.
    Mobile,
    /// Within the device, or to its neighbour.
    Local,
    /// Not known.
    #[default]
    Unknown,
}

/// What a network interface reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// The local network.
    Lan,
    /// The internet.
    Internet,
    /// Nothing.
    #[default]
    Disconnected,
}

impl InterfaceKind {
    /// Returns the server's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ethernet => "ethernet",
            Self::Wifi => "wifi",
            Self::Mobile => "mobile",
            Self::Local => "local",
            Self::Unknown => "unknown",
        }
    }
}

impl Reach {
    /// Returns the server's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Internet => "internet",
            Self::Disconnected => "disconnected",
        }
    }
}
