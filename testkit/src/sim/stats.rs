//! Figures of a run.

use std::collections::BTreeMap;

use super::fault::{Fault, Faults, Origin};
use super::firmware::FirmwareId;
use super::scenario::MINUTE;

/// Points along the time axis.
const POINTS: u64 = 240;

/// What a run added up to. Times are microseconds of virtual time.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Devices.
    pub devices: u32,
    /// The length of one point of the series.
    pub point: u64,
    /// When everything healed.
    pub healed_at: u64,
    /// When the run ended.
    pub ended_at: u64,
    /// Time that devices were joined, for each point.
    pub online: Vec<u64>,
    /// Time that devices ran the newest good release, for each point.
    pub newest: Vec<u64>,
    /// Faults, for each point and origin, in the order of [`Origin::ALL`].
    pub faults: Vec<[u32; 6]>,
    /// How often each class struck, in the order of [`Fault::ALL`].
    pub struck: Vec<u64>,
    /// Devices, or connections of the hub, to which a class made a difference, in the same order.
    pub felt: Vec<u64>,
    /// Releases.
    pub releases: Vec<ReleaseStats>,
    /// From accepting an update to running it, each.
    pub durations: Vec<u64>,
    /// Attempts to connect.
    pub dials: u64,
    /// Attempts the server refused.
    pub refused: u64,
    /// Connections and attempts that ended.
    pub disconnected: u64,
    /// Updates offered to applications.
    pub offers: u64,
    /// Offers accepted.
    pub accepted: u64,
    /// Offers ignored or postponed.
    pub declined: u64,
    /// Updates that devices asked for.
    pub requests: u64,
    /// Those that the server gave none for.
    pub rejected: u64,
    /// Updates written.
    pub written: u64,
    /// Updates that failed, by the first words of the reason.
    pub failures: BTreeMap<String, u64>,
    /// Devices that fell back to their old firmware.
    pub reverted: u64,
    /// Requests for firmware.
    pub fetches: u64,
    /// Downloads interrupted and resumed.
    pub interrupted: u64,
    /// Bytes of firmware that arrived.
    pub received: u64,
    /// Bytes of firmware that ended up in a slot as part of a whole update.
    pub useful: u64,
    /// Power cuts that struck.
    pub power_cuts: u64,
    /// Archives that applications were given.
    pub archives: u64,
    /// Questions of the server that applications were asked.
    pub questions: u64,
    /// Answers that reached the server.
    pub answers: u64,
    /// Visits of operators to a device's console.
    pub visits: u64,
    /// Shells that applications were asked for.
    pub shells: u64,
    /// Bytes that shells wrote.
    pub shell_bytes: u64,
    /// Messages of consoles that reached the server.
    pub console_messages: u64,
    /// What became of connections of bytes, where there are any.
    pub bytes: BytesStats,
    /// Files sent on consoles, both ways.
    pub files: u64,
    /// Files that devices got whole.
    pub files_received: u64,
    /// Files that devices sent whole.
    pub files_sent: u64,
    /// How often a device suspected that another has its identity.
    pub twins: u64,
    /// Scripts that operators had run.
    pub scripts: u64,
    /// Answers to scripts that reached the server.
    pub script_answers: u64,
    /// Devices the hub gave no more updates for a while, by cause.
    pub blocked: BTreeMap<&'static str, u64>,
    /// Updates the hub forgot for want of news.
    pub expired: u64,
    /// Reports of updates that reached the hub, by status.
    pub statuses: BTreeMap<String, u64>,
    on_newest: u32,
    newest_id: Option<FirmwareId>,
    newest_since: u64,
}

/// What became of connections of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BytesStats {
    /// Times that a device read.
    pub reads: u64,
    /// Bytes that it read.
    pub read: u64,
    /// Answers to pings that reached the hub.
    pub pongs: u64,
    /// Connections that ended inside a message or a body, at either end.
    pub torn: u64,
    /// Connections that a device gave up because of what the server sent.
    pub refused: u64,
}

/// One release.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleaseStats {
    /// Its number.
    pub id: FirmwareId,
    /// When it was made.
    pub at: u64,
    /// Whether devices can run it.
    pub good: bool,
    /// When each device that got it ran it first, after it was made.
    pub arrivals: Vec<u64>,
}

impl ReleaseStats {
    /// When so many of a hundred devices ran it.
    pub fn reached(&self, percent: u64, devices: u32) -> Option<u64> {
        let wanted = usize::try_from((u64::from(devices) * percent).div_ceil(100)).ok()?;
        self.arrivals.get(wanted.checked_sub(1)?).copied()
    }
}

impl Stats {
    pub(super) fn new(devices: u32, span: u64) -> Self {
        Self {
            devices,
            point: (span / POINTS).max(MINUTE),
            healed_at: span,
            ended_at: span,
            online: Vec::new(),
            newest: Vec::new(),
            faults: Vec::new(),
            struck: vec![0; Fault::ALL.len()],
            felt: vec![0; Fault::ALL.len()],
            releases: Vec::new(),
            durations: Vec::new(),
            dials: 0,
            refused: 0,
            disconnected: 0,
            offers: 0,
            accepted: 0,
            declined: 0,
            requests: 0,
            rejected: 0,
            written: 0,
            failures: BTreeMap::new(),
            reverted: 0,
            fetches: 0,
            interrupted: 0,
            received: 0,
            useful: 0,
            power_cuts: 0,
            archives: 0,
            questions: 0,
            answers: 0,
            visits: 0,
            shells: 0,
            shell_bytes: 0,
            console_messages: 0,
            bytes: BytesStats::default(),
            files: 0,
            files_received: 0,
            files_sent: 0,
            twins: 0,
            scripts: 0,
            script_answers: 0,
            blocked: BTreeMap::new(),
            expired: 0,
            statuses: BTreeMap::new(),
            on_newest: 0,
            newest_id: None,
            newest_since: 0,
        }
    }

    /// A device was joined from one time to another.
    pub(super) fn online(&mut self, from: u64, to: u64) {
        spread(&mut self.online, self.point, from, to, 1);
    }

    pub(super) fn struck(&mut self, at: u64, fault: Fault) {
        if let Some(count) = self.struck.get_mut(fault.index()) {
            *count += 1;
        }
        let point = usize::try_from(at / self.point).unwrap_or(0);
        if self.faults.len() <= point {
            self.faults.resize(point + 1, [0; 6]);
        }
        let origin = Origin::ALL.iter().position(|origin| *origin == fault.origin()).unwrap_or(0);
        if let Some(count) = self.faults.get_mut(point).and_then(|counts| counts.get_mut(origin)) {
            *count += 1;
        }
    }

    pub(super) fn felt(&mut self, faults: Faults) {
        for fault in faults.iter() {
            if let Some(count) = self.felt.get_mut(fault.index()) {
                *count += 1;
            }
        }
    }

    pub(super) fn released(&mut self, at: u64, id: FirmwareId, good: bool) {
        self.releases.push(ReleaseStats { id, at, good, arrivals: Vec::new() });
        if good {
            self.count_newest(at);
            (self.newest_id, self.on_newest) = (Some(id), 0);
        }
    }

    /// A device booted other firmware than before.
    pub(super) fn runs(&mut self, at: u64, before: FirmwareId, now: FirmwareId, reverted: bool, took: u64) {
        self.count_newest(at);
        if self.newest_id == Some(before) {
            self.on_newest = self.on_newest.saturating_sub(1);
        }
        if self.newest_id == Some(now) {
            self.on_newest += 1;
        }
        if reverted {
            self.reverted += 1;
            return;
        }
        self.durations.push(took);
        if let Some(release) = self.releases.iter_mut().find(|release| release.id == now) {
            release.arrivals.push(at - release.at);
        }
    }

    fn count_newest(&mut self, at: u64) {
        spread(&mut self.newest, self.point, self.newest_since, at, u64::from(self.on_newest));
        self.newest_since = at;
    }

    pub(super) fn failed(&mut self, reason: &str) {
        // Words with numbers in them differ each time.
        let words = reason.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
        let mut key: String = words.collect::<Vec<_>>().join(" ").replace(" : ", ": ");
        key.truncate(key.char_indices().nth(70).map_or(key.len(), |(at, _)| at));
        if self.failures.len() < 64 || self.failures.contains_key(&key) {
            *self.failures.entry(key).or_default() += 1;
        } else {
            *self.failures.entry("others".to_owned()).or_default() += 1;
        }
    }

    pub(super) fn decided(&mut self, apply: bool) {
        *(if apply { &mut self.accepted } else { &mut self.declined }) += 1;
    }

    /// A file of so many bytes is where it should be, of which so many were fetched.
    pub(super) fn applied(&mut self, bytes: u64, fetched: &mut u64) {
        self.useful += bytes.min(std::mem::take(fetched));
    }

    pub(super) fn status(&mut self, status: &str) {
        match self.statuses.get_mut(status) {
            Some(count) => *count += 1,
            None => drop(self.statuses.insert(status.to_owned(), 1)),
        }
    }

    pub(super) fn blocked(&mut self, why: &'static str) {
        *self.blocked.entry(why).or_default() += 1;
    }

    pub(super) fn healed(&mut self, at: u64) {
        self.healed_at = at;
    }

    pub(super) fn ended(&mut self, at: u64) {
        self.count_newest(at);
        self.ended_at = at;
    }

    /// The share of the time until everything healed that devices were joined.
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    pub fn availability(&self) -> f64 {
        let points = usize::try_from(self.healed_at / self.point.max(1)).unwrap_or(0);
        let whole = self.point as f64 * points as f64 * f64::from(self.devices);
        let online: u64 = self.online.iter().take(points).sum();
        if whole > 0.0 { online as f64 / whole } else { 0.0 }
    }

    /// Faults that struck.
    pub fn faults_met(&self) -> u64 {
        self.struck.iter().sum()
    }

    /// Updates that failed.
    pub fn failed_updates(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Bytes of firmware that had to be fetched again, or for nothing.
    pub fn fetched_again(&self) -> u64 {
        self.received.saturating_sub(self.useful)
    }

    /// A duration that so many of a hundred updates didn't exceed.
    pub fn duration(&self, percent: usize) -> Option<u64> {
        let mut sorted = self.durations.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * percent / 100).min(sorted.len().checked_sub(1)?)).copied()
    }
}

/// Adds `times` times a stretch of time to the points it lies in.
fn spread(series: &mut Vec<u64>, point: u64, from: u64, to: u64, times: u64) {
    let mut at = from;
    while at < to && times > 0 {
        let index = at / point;
        let end = ((index + 1) * point).min(to);
        let index = usize::try_from(index).unwrap_or(0);
        if series.len() <= index {
            series.resize(index + 1, 0);
        }
        if let Some(sum) = series.get_mut(index) {
            *sum += (end - at) * times;
        }
        at = end;
    }
}
