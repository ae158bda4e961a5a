//! Arithmetic on lengths.

/// The smaller of a length from outside and one in memory.
pub(crate) fn smaller(length: u64, most: usize) -> usize {
    // What has no place in a `usize` is larger than anything in memory.
    usize::try_from(length).map_or(most, |length| length.min(most))
}
