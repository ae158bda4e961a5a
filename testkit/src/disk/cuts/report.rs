//! What came of it.

use std::fmt;

/// Failures told in words; all are counted.
const TOLD: usize = 10;

/// How many disks to try, and with which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Decides what is sampled.
    pub seed: u64,
    /// When at most this many different disks can come of a cut, all are tried.
    pub all_up_to: usize,
    /// When more can, this many are.
    pub samples: usize,
    /// The upgrade is applied again on each disk of this number; 1 is all.
    pub repeat_every: u64,
    /// Whether reads, writes and syncs are also made to fail.
    pub faults: bool,
}

impl Effort {
    /// A selection that takes seconds without optimisation.
    pub fn bounded(seed: u64) -> Self {
        Self { seed, all_up_to: 16, samples: 8, repeat_every: 19, faults: false }
    }

    /// Everything.
    pub fn full(seed: u64) -> Self {
        Self { seed, all_up_to: 1024, samples: 100, repeat_every: 1, faults: true }
    }
}

/// Counts of one case in one way, or of several together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The case.
    pub case: String,
    /// The way.
    pub way: String,
    /// Writes of an application without a cut.
    pub writes: u64,
    /// Syncs of an application without a cut.
    pub syncs: u64,
    /// Moments at which power was cut.
    pub cuts: u64,
    /// Disks that came of them, by what was lost or torn.
    pub disks: u64,
    /// Disks that booted the old firmware, whole.
    pub old: u64,
    /// Disks that booted the new firmware, whole.
    pub new: u64,
    /// Disks whose single boot environment was damaged, and that said so.
    pub damaged: u64,
    /// Times the upgrade was applied again from the start and ended in the new firmware.
    pub resumed: u64,
    /// Times power was cut while it was applied again, and it still ended there.
    pub cut_again: u64,
    /// Applications with a read, write or sync that fails, or a full disk.
    pub faults: u64,
    /// What should not be.
    pub failed: u64,
    /// The first of it, in words.
    pub failures: Vec<String>,
}

impl Report {
    pub(super) fn new(case: &str, way: &str) -> Self {
        Self { case: case.to_owned(), way: way.to_owned(), ..Self::default() }
    }

    /// Whether nothing failed and something was tried.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.disks > 0
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.writes, other.writes),
            (&mut self.syncs, other.syncs),
            (&mut self.cuts, other.cuts),
            (&mut self.disks, other.disks),
            (&mut self.old, other.old),
            (&mut self.new, other.new),
            (&mut self.damaged, other.damaged),
            (&mut self.resumed, other.resumed),
            (&mut self.cut_again, other.cut_again),
            (&mut self.faults, other.faults),
            (&mut self.failed, other.failed),
        ] {
            *mine += theirs;
        }
        let room = TOLD.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.iter().take(room).cloned());
    }

    pub(super) fn fail(&mut self, what: &str) {
        self.failed += 1;
        if self.failures.len() < TOLD {
            self.failures.push(format!("{}, {}: {what}", self.case, self.way));
        }
    }

    /// The names of the columns that [`Display`](fmt::Display) prints.
    pub fn columns() -> String {
        format!(
            "{:<72} {:>6} {:>5} {:>6} {:>8} {:>8} {:>8} {:>7} {:>8} {:>8} {:>7} {:>6}",
            "case",
            "writes",
            "syncs",
            "cuts",
            "disks",
            "old",
            "new",
            "damaged",
            "resumed",
            "again",
            "faults",
            "failed"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            if self.way.is_empty() { self.case.clone() } else { format!("{}: {}", self.case, self.way) };
        write!(
            f,
            "{name:<72} {:>6} {:>5} {:>6} {:>8} {:>8} {:>8} {:>7} {:>8} {:>8} {:>7} {:>6}",
            self.writes,
            self.syncs,
            self.cuts,
            self.disks,
            self.old,
            self.new,
            self.damaged,
            self.resumed,
            self.cut_again,
            self.faults,
            self.failed
        )
    }
}
