//! Where a device is (device-protocol §5.3).

use alloc::string::String;

/// Where a device is.
#[derive(Clone, Debug, PartialEq)]
pub struct Location {
    /// Who says so, such as `gps` or `geoip`; at most 64 characters.
    pub source: String,
    /// Degrees north, from -90 to 90.
    pub latitude: f64,
    /// Degrees east, from -180 to 180.
    pub longitude: f64,
    /// Within how many metres, if known.
    pub accuracy: Option<u32>,
}

/// Why a device can't tell where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocationError {
    /// A word for programs, such as `HTTP_ERROR`; at most 64 characters.
    pub code: String,
    /// What happened, for a person; at most 300 characters.
    pub description: String,
}
