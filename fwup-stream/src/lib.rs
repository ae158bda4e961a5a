//! Apply, verify and read .fw firmware archives from a stream.

pub mod action;
pub mod archive;
pub mod disk;
pub mod framing;
pub mod limits;
pub mod manifest;
pub mod trust;
