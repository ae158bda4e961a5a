//! Which missing parts are requested together (device-protocol §6.5).

use alloc::vec::Vec;
use core::ops::Range;

/// Groups missing parts into contiguous runs. While there are fewer than `at_once`, the longest run of more than one
/// part (the first of equals) is cut in two, the first half being the shorter.
pub(super) fn split(missing: impl Iterator<Item = u32>, at_once: usize) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for part in missing {
        match runs.last_mut() {
            Some(run) if run.end == part => run.end = part.saturating_add(1),
            _ => runs.push(part..part.saturating_add(1)),
        }
    }
    while runs.len() < at_once {
        // Of equals, `max_by_key` returns the last.
        let longest = runs.iter_mut().enumerate().rev().max_by_key(|(_, run)| run.len());
        let Some((at, run)) = longest.filter(|(_, run)| run.len() > 1) else { break };
        let middle = run.start.midpoint(run.end);
        let second = middle..run.end;
        run.end = middle;
        runs.insert(at + 1, second);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(parts: &[u32], at_once: usize) -> Vec<(u32, u32)> {
        split(parts.iter().copied(), at_once).into_iter().map(|run| (run.start, run.end)).collect()
    }

    #[test]
    fn the_longest_run_is_halved_until_there_are_enough() {
        let eight = [0, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(all(&eight, 1), [(0, 8)]);
        assert_eq!(all(&eight, 2), [(0, 4), (4, 8)]);
        assert_eq!(all(&eight, 4), [(0, 2), (2, 4), (4, 6), (6, 8)]);
        assert_eq!(all(&eight, 3), [(0, 2), (2, 4), (4, 8)]);
        assert_eq!(all(&[0, 1, 2], 2), [(0, 1), (1, 3)]);
        assert_eq!(all(&[5], 8), [(5, 6)]);
        assert_eq!(all(&[], 8), []);
        // Parts 0, 1, 4 and 5 are there already.
        assert_eq!(all(&[2, 3, 6, 7], 4), [(2, 3), (3, 4), (6, 7), (7, 8)]);
        // More gaps than requests at a time: the others wait.
        assert_eq!(all(&[0, 2, 4, 5], 2), [(0, 1), (2, 3), (4, 6)]);
    }
}
