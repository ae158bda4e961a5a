//! Apply, verify and read .fw firmware archives from a stream.

pub mod disk;
pub mod manifest;
