//! A token bucket, kept on this side so that the server's never runs dry and drops something without a word.

use core::time::Duration;

use crate::time::Instant;

/// Lets so many messages pass at once, and after that one per period.
pub(super) struct Bucket {
    period: Duration,
    burst: u32,
    /// When the bucket would be full again.
    full: Instant,
}

impl Bucket {
    /// Builds a full bucket: `burst` tokens, one more each `period`.
    pub(super) const fn new(burst: u32, period: Duration) -> Self {
        Self { period, burst, full: Instant::ZERO }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let ready = self.ready() <= now;
        if ready {
            self.full = self.full.max(now) + self.period;
        }
        ready
    }

    /// Returns when there is a token.
    pub(super) fn ready(&self) -> Instant {
        let spare = self.period.saturating_mul(self.burst.saturating_sub(1));
        Instant::ZERO + self.full.saturating_since(Instant::ZERO).saturating_sub(spare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_per_period() {
        let period = Duration::from_millis(200);
        let mut bucket = Bucket::new(10, period);
        let mut now = Instant::from_micros(7);
        for _ in 0..3 {
            assert_eq!((0..20).filter(|_| bucket.take(now)).count(), 10);
            for _ in 0..5 {
                assert!(!bucket.take(now));
                assert_eq!(bucket.ready(), now + period);
                now = now + period;
                assert!(bucket.take(now));
                assert!(!bucket.take(now));
            }
            // It fills up to the burst and no more.
            now = now + Duration::from_secs(3600);
        }
    }
}
