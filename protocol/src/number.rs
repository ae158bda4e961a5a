//! Lengths and counts as other integers, where nothing can be lost.

/// Returns a length in memory as a number of bytes of a file.
pub(crate) const fn as_u64(length: usize) -> u64 {
    const { assert!(usize::BITS <= u64::BITS, "lengths fit into 64 bits") };
    length as u64
}

/// Returns a count as a length in memory.
pub(crate) const fn as_usize(count: u32) -> usize {
    const { assert!(u32::BITS <= usize::BITS, "counts of 32 bits are lengths, too") };
    count as usize
}

/// Returns how many of `left` bytes may be in one piece of `most`.
pub(crate) fn at_most(left: u64, most: usize) -> usize {
    // More than can be in memory is more than any piece.
    usize::try_from(left).map_or(most, |left| left.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost() {
        assert_eq!(as_u64(usize::MAX), u64::try_from(usize::MAX).unwrap());
        assert_eq!(as_usize(u32::MAX), usize::try_from(u32::MAX).unwrap());
        assert_eq!([at_most(3, 5), at_most(5, 5), at_most(6, 5), at_most(u64::MAX, 5)], [3, 5, 5, 5]);
    }
}
