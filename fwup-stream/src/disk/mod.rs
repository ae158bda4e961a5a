//! The destination: what a target must offer, and the cache in front of it.

mod io;

pub use io::{DiskError, DiskIo};
