//! Delays between attempts to connect (device-protocol §1.11).

use core::time::Duration;

use crate::config::Backoff;
use crate::number::as_usize;
use crate::rng::Rng;

/// Returns the delay after `failures` attempts that failed before this one: `min` doubled that many times,
/// at most `max`, lengthened by up to `jitter` of itself.
pub(crate) fn delay(backoff: &Backoff, failures: u32, rng: &mut Rng) -> Duration {
    let doubled =
        1_u32.checked_shl(failures).map_or(backoff.max, |factor| backoff.min.saturating_mul(factor));
    lengthen(doubled.min(backoff.max), backoff.jitter, rng)
}

/// Returns the delay of a list after `failures` attempts that failed before this one; the last repeats.
pub(crate) fn listed(delays: &[Duration], failures: u32) -> Option<Duration> {
    delays.get(as_usize(failures)).or_else(|| delays.last()).copied()
}

/// Returns a delay lengthened by up to `jitter` of itself.
pub(crate) fn lengthen(base: Duration, jitter: f64, rng: &mut Rng) -> Duration {
    // The configuration bounds delays.
    let millis = u64::try_from(base.as_millis()).unwrap_or(u64::MAX);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "milliseconds of a day fit 53 bits; the configuration bounds both factors; `as` saturates"
    )]
    let lengthened = (millis as f64 * (1.0 + jitter * rng.unit()) + 0.5) as u64;
    Duration::from_millis(lengthened)
}
