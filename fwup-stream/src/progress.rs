//! Counting work and turning it into a percentage (fw-format §10).

/// How far an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgressReport {
    /// The progress, from the lower to the higher end of the configured range; 0 to 100 by default. The
    /// higher end comes only when everything is written.
    pub value: i32,
    /// Bytes of the archive taken so far.
    pub bytes_in: u64,
    /// Work done, in bytes written or their equivalent.
    pub units_done: u64,
    /// Work to do in all; 0 when not known yet or when there is nothing to count.
    pub units_total: u64,
}

/// The count. A value is reported only when it is higher than all before.
#[derive(Debug)]
pub(crate) struct Progress {
    low: i32,
    high: i32,
    total: u64,
    done: u64,
    bytes_in: u64,
    last: Option<i32>,
}

impl Progress {
    pub(crate) fn new(low: i32, high: i32) -> Self {
        Self { low, high, total: 0, done: 0, bytes_in: 0, last: None }
    }

    /// Sets what there is to do.
    pub(crate) fn set_total(&mut self, total: u64) {
        self.total = total;
    }

    /// Counts archive bytes taken.
    pub(crate) fn add_input(&mut self, bytes: u64) {
        self.bytes_in = self.bytes_in.saturating_add(bytes);
    }

    /// Archive bytes taken so far.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// Work done so far.
    pub(crate) fn units_done(&self) -> u64 {
        self.done
    }

    /// The first report.
    pub(crate) fn begin(&mut self) -> Option<ProgressReport> {
        self.report(self.low)
    }

    /// Counts work done; a report when the value rises.
    pub(crate) fn add(&mut self, units: u64) -> Option<ProgressReport> {
        // A manifest may announce more work than can be counted; the percentage then stays below 100.
        self.done = self.done.saturating_add(units);
        if self.total == 0 {
            return None;
        }
        let range = i128::from(self.high) - i128::from(self.low);
        let done = i128::from(self.done.min(self.total));
        let part = (done * range).div_euclid(i128::from(self.total)).min(range - 1);
        let value = i32::try_from(i128::from(self.low) + part);
        debug_assert!(value.is_ok(), "progress left its range");
        self.report(value.unwrap_or(self.low))
    }

    /// The last report: everything is written.
    pub(crate) fn end(&mut self) -> Option<ProgressReport> {
        self.report(self.high)
    }

    fn report(&mut self, value: i32) -> Option<ProgressReport> {
        // fwup begins its comparison with -1, so a negative low end is never shown.
        if value <= self.last.unwrap_or(-1) {
            return None;
        }
        self.last = Some(value);
        Some(ProgressReport {
            value,
            bytes_in: self.bytes_in,
            units_done: self.done,
            units_total: self.total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(low: i32, high: i32, total: u64, steps: &[u64]) -> Vec<i32> {
        let mut progress = Progress::new(low, high);
        let mut out = vec![progress.begin()];
        progress.set_total(total);
        out.extend(steps.iter().map(|units| progress.add(*units)));
        out.push(progress.end());
        out.into_iter().flatten().map(|report| report.value).collect()
    }

    #[test]
    fn holds_99_until_the_end() {
        assert_eq!(values(0, 100, 1024, &[512, 512, 512]), [0, 50, 99, 100]);
    }

    #[test]
    fn ranges_can_be_moved_turned_and_empty() {
        assert_eq!(values(20, 40, 4096, &[512; 8]), [20, 22, 25, 27, 30, 32, 35, 37, 39, 40]);
        assert_eq!(values(100, 0, 2, &[1, 1]), [100]);
        assert_eq!(values(5, 5, 2, &[1, 1]), [5]);
        assert_eq!(values(0, 100, 0, &[]), [0, 100]);
    }

    #[test]
    fn huge_totals_do_not_overflow() {
        assert_eq!(values(0, 100, u64::MAX, &[u64::MAX / 2, u64::MAX]), [0, 49, 99, 100]);
    }
}
