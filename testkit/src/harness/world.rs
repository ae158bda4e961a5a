//! A device, or a few, in the simulated world.

use crate::sim::{Scenario, World};

/// Reads a short scenario off an input, and runs it.
///
/// # Panics
/// When a promise is broken, or nothing comes right after everything healed; see [`crate::sim`].
pub fn world(data: &[u8]) {
    let result = World::new(Scenario::from_bytes(data)).run();
    assert!(result.is_ok(), "{}", result.err().map_or_else(String::new, |violation| violation.to_string()));
}
