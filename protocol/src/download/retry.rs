//! Counting attempts, and the budget of the slowest-speed rule (device-protocol §6.4).

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use crate::limits::MIN_SPEED_BUDGET;
use crate::text::count;

/// The attempts of one download.
#[derive(Default)]
pub(super) struct Retries {
    /// The number of the present attempt, from 0.
    pub(super) attempt: u32,
    /// Attempts in a row that brought no byte.
    failures: u32,
}

impl Retries {
    /// A byte arrived.
    pub(super) const fn progressed(&mut self) {
        self.failures = 0;
    }

    /// The same is asked for again, through no fault of the connection.
    pub(super) const fn again(&mut self) {
        self.attempt = self.attempt.saturating_add(1);
    }

    /// An attempt failed. With `limit` failures in a row it was the last.
    pub(super) fn failed(&mut self, limit: u32) -> Result<(), String> {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= limit {
            let attempts = count(self.failures.into(), "attempt");
            return Err(format!("given up after {attempts} without a byte"));
        }
        self.attempt = self.attempt.saturating_add(1);
        Ok(())
    }
}

/// Returns how long so many bytes may take: as long as the slowest acceptable speed needs, at least
/// [`MIN_SPEED_BUDGET`]. `None` when there is no slowest speed.
pub(super) fn speed_budget(bytes: u64, min_bits_per_second: u64) -> Option<Duration> {
    let millis = (u128::from(bytes) * 8000).checked_div(u128::from(min_bits_per_second))?;
    let budget = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
    Some(budget.max(MIN_SPEED_BUDGET))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_budget_is_the_specification_s() {
        let millis = |bytes| speed_budget(bytes, 30_000).map(|budget| budget.as_millis());
        assert_eq!(millis(20_971_520), Some(5_592_405));
        assert_eq!(millis(1), Some(300_000));
        assert_eq!(speed_budget(1, 0), None);
        assert!(speed_budget(u64::MAX, 1).is_some());
    }
}
