//! The Linux device: identity, key-value store, slots, applying firmware.
