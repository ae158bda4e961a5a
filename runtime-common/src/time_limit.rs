//! A time limit for a thread that may hang.

use std::time::{Duration, Instant as Real};

use nerves_hub_link_protocol::Instant;

/// A limit on the loop's clock that also needs as much real time to pass. The clock of a simulation, or of a system that was
/// suspended, jumps; a thread that has just begun does not hang because of that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimit {
    limit: Duration,
    began: Real,
    until: Instant,
}

impl TimeLimit {
    pub(crate) fn new(now: Instant, limit: Duration) -> Self {
        Self { limit, began: Real::now(), until: now + limit }
    }

    /// When to look again.
    pub(crate) const fn until(&self) -> Instant {
        self.until
    }

    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        if now < self.until {
            return false;
        }
        let left = self.limit.saturating_sub(self.began.elapsed());
        self.until = now + left;
        left.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_is_not_believed() {
        let mut long = TimeLimit::new(Instant::ZERO, Duration::from_secs(600));
        assert!(!long.is_over(Instant::ZERO + Duration::from_secs(599)));
        assert!(!long.is_over(Instant::ZERO + Duration::from_secs(600)));
        assert!(long.until() > Instant::ZERO + Duration::from_secs(1100), "looked at later");
        let mut short = TimeLimit::new(Instant::ZERO, Duration::ZERO);
        assert!(short.is_over(Instant::ZERO));
    }
}
