//! Apply, verify and read .fw firmware archives from a stream.

pub mod action;
mod applier;
pub mod archive;
pub mod disk;
mod error;
pub mod framing;
pub mod limits;
pub mod manifest;
mod names;
mod options;
mod progress;
mod task;
pub mod trust;
mod verifier;
mod work;

pub use applier::{Applier, ApplyReport};
pub use error::Error;
pub use options::{ApplyEvent, ApplyOptions, Variables};
pub use progress::ProgressReport;
pub use verifier::{Verdict, Verifier};
