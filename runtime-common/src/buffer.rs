//! The buffer that connections and terminals are read into.

use crate::limits::READ_MAX;

/// Memory that is there while something is being read: a thousand idle devices need none.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// Returns [`READ_MAX`] bytes with anything in them.
    pub(crate) fn get(&mut self) -> &mut [u8] {
        if self.0.is_empty() {
            self.0 = vec![0; READ_MAX];
        }
        &mut self.0
    }

    /// Gives the memory back until it is needed again.
    pub(crate) fn release(&mut self) {
        self.0 = Vec::new();
    }
}
