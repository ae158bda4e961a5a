//! Samples of numbers (device-protocol A6).

use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::time::UnixMicros;

/// Numbers at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricSample {
    /// When; `None` for now. Servers take what is at most a day old.
    pub time: Option<UnixMicros>,
    /// The numbers, by name; bounded as [`HealthReport::metrics`](crate::HealthReport::metrics).
    pub metrics: BTreeMap<String, f64>,
}
