//! Whether the partitions of a table are in each other's way: the same for both kinds of tables.

/// Two partitions that claim the same blocks. Displays as fwup does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "partitions {first} (blocks {first_start} to {first_end}) and {second} (blocks {second_start} to {second_end}) \
     overlap"
)]
pub struct Overlap {
    /// The lower number of the two.
    pub first: u32,
    /// Its first block.
    pub first_start: u64,
    /// The block behind it.
    pub first_end: u64,
    /// The higher number.
    pub second: u32,
    /// Its first block.
    pub second_start: u64,
    /// The block behind it.
    pub second_end: u64,
}

/// The blocks of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) number: u32,
    pub(super) start: u64,
    /// The block behind it.
    pub(super) end: u64,
}

/// No two may share a block. A partition without blocks is in nobody's way, wherever it begins.
pub(super) fn check(ranges: impl Iterator<Item = Range>) -> Result<(), Overlap> {
    let mut ranges: Vec<_> = ranges.filter(|range| range.start < range.end).collect();
    ranges.sort_by_key(|range| range.number);
    for (at, one) in ranges.iter().enumerate() {
        if let Some(other) =
            ranges.iter().skip(at + 1).find(|other| one.start < other.end && other.start < one.end)
        {
            return Err(Overlap {
                first: one.number,
                first_start: one.start,
                first_end: one.end,
                second: other.number,
                second_start: other.start,
                second_end: other.end,
            });
        }
    }
    Ok(())
}

/// The first number that more than one partition has: `0` and `0x0` are two titles and one number.
pub(super) fn duplicate(numbers: impl Iterator<Item = u32>) -> Option<u32> {
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_unstable();
    numbers.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(*one),
        _ => None,
    })
}
