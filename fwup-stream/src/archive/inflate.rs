//! Inflating without keeping more than one buffer.
