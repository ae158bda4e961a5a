//! Memory for one segment, aligned as direct I/O on block devices wants it.

use super::SEGMENT;

/// Block devices are opened for direct I/O, which wants memory on page boundaries.
pub(crate) const ALIGNMENT: usize = 4096;

/// The bytes of one segment.
#[derive(Debug)]
pub(crate) struct Buffer {
    store: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// Makes a buffer of zeros.
    pub(crate) fn new() -> Self {
        let store = vec![0; SEGMENT + ALIGNMENT];
        // The vector never grows, so what is aligned now stays aligned when it is moved.
        let start = store.as_ptr().align_offset(ALIGNMENT);
        // The standard library may give up, but does so only while compiling. Everything lies in the vector then, and a
        // device that cannot do without alignment refuses it.
        debug_assert!(start < ALIGNMENT, "memory could not be aligned");
        let start = start.min(ALIGNMENT);
        Self { store, start }
    }

    /// The segment's bytes. The vector is as long as it was made, so none are missing.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.store.get(self.start..self.start + SEGMENT).unwrap_or_default()
    }

    /// The segment's bytes, to be changed.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.store.get_mut(self.start..self.start + SEGMENT).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_page_aligned_and_a_segment_long() {
        let buffer = Buffer::new();
        assert_eq!(buffer.bytes().as_ptr().align_offset(ALIGNMENT), 0);
        assert_eq!(buffer.bytes().len(), SEGMENT);
    }
}
