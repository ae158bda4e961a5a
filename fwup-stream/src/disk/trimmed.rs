//! Which segments were trimmed: their old content no longer matters (fw-format §9.6).

/// Trims are tracked for the first 64 GiB, as in fwup; beyond that they are ignored.
pub(super) const TRACKED_SEGMENTS: u64 = 64 * 1024 * 1024 * 1024 / super::SEGMENT_BYTES;

/// A set of segment numbers; takes memory only up to the highest trimmed one.
#[derive(Debug, Default)]
pub(crate) struct Trimmed {
    words: Vec<u64>,
}

impl Trimmed {
    /// Adds the segments from `first` up to but not including `end`.
    pub(crate) fn insert(&mut self, first: u64, end: u64) {
        for segment in first..end.min(TRACKED_SEGMENTS) {
            let (word, bit) = place(segment);
            if self.words.len() <= word {
                self.words.resize(word + 1, 0);
            }
            if let Some(word) = self.words.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// Takes a segment out: it has content again.
    pub(crate) fn remove(&mut self, segment: u64) {
        let (word, bit) = place(segment);
        if let Some(word) = self.words.get_mut(word) {
            *word &= !bit;
        }
    }

    /// Says whether the segment was trimmed.
    pub(crate) fn contains(&self, segment: u64) -> bool {
        let (word, bit) = place(segment);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }
}

/// Which word and bit are a segment's. One that no `usize` can count is in no set.
fn place(segment: u64) -> (usize, u64) {
    (usize::try_from(segment / 64).unwrap_or(usize::MAX), 1 << (segment % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_up_to_64_gib_and_not_one_segment_more() {
        let mut trimmed = Trimmed::default();
        trimmed.insert(3, 5);
        trimmed.insert(TRACKED_SEGMENTS - 1, u64::MAX);
        assert!(!trimmed.contains(2) && trimmed.contains(3) && trimmed.contains(4) && !trimmed.contains(5));
        assert!(trimmed.contains(TRACKED_SEGMENTS - 1));
        assert!(!trimmed.contains(TRACKED_SEGMENTS));
        assert!(!trimmed.contains(u64::MAX));
        trimmed.remove(3);
        assert!(!trimmed.contains(3));
    }
}
