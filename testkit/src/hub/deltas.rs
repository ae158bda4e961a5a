//! Deltas between firmware, and who gets them (device-protocol §9.3).

use std::collections::BTreeMap;

use super::config::Release;
use super::device::version;
use super::event::ConnId;
use super::machine::Hub;

/// A delta as the hub offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The UUID of the firmware that must run.
    pub source: String,
    /// The oldest fwup that applies it.
    pub fwup_version: (u64, u64, u64),
    /// The firmware that it makes, with the address, the size and the checksums of the delta.
    pub release: Release,
}

/// The deltas by source and target.
pub(super) type Deltas = BTreeMap<(String, String), Delta>;

impl Hub {
    /// Adds a delta. From now on it is sent in place of its target to devices that run its source and announce a fwup
    /// that applies it.
    pub fn add_delta(&mut self, delta: Delta) {
        let target = delta.release.meta.uuid.clone();
        self.deltas.insert((delta.source.clone(), target), delta);
    }

    /// Returns what is sent to a device for a release of its deployment group: a delta if there is one for it.
    pub(super) fn for_device(&mut self, conn: ConnId, release: &Release) -> Release {
        let Some(device) = self.device_of(conn) else { return release.clone() };
        let runs = device.runs().map(str::to_owned);
        // One that is missing or unreadable counts as the oldest.
        let fwup = device.fwup_version.as_deref().and_then(version).unwrap_or_default();
        runs.and_then(|source| self.deltas.get(&(source, release.meta.uuid.clone())))
            .filter(|delta| fwup >= delta.fwup_version)
            .map_or_else(|| release.clone(), |delta| delta.release.clone())
    }
}
