//! Applies, verifies, reads and creates `.fw` firmware archives, with the results of `fwup` 1.16.0.
//!
//! An archive's bytes go in, in pieces of any size; a written destination comes out. Firmware is never held
//! whole, neither in memory nor on spare storage.
//!
//! ```
//! use fwup_stream::disk::MemoryTarget;
//! use fwup_stream::trust::PublicKey;
//! use fwup_stream::{Applier, ApplyOptions};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/golden/fw/corrupt/");
//! # let Ok(archive) = std::fs::read(format!("{place}signed.fw")) else {
//! #     println!("SKIPPED: the recorded archive is not here");
//! #     return Ok(());
//! # };
//! # let key = &std::fs::read_to_string(format!("{place}k1.pub"))?;
//!
//! let mut options = ApplyOptions::default();
//! options.task = "complete".to_owned();
//! options.public_keys = vec![PublicKey::from_text(key)?];
//!
//! let mut disk = MemoryTarget::new();
//! let mut applier = Applier::new(options, &mut disk)?;
//! for piece in archive.chunks(1000) {
//!     applier.push(piece)?; // nothing is written before the signature holds
//! }
//! let report = applier.finish()?; // what selects the new firmware is written last
//!
//! assert_eq!(report.task, "complete");
//! assert_eq!(disk.length(), 3 * 128 * 1024);
//! assert_eq!(disk.bytes(0, 4), [7, 7, 7, 7]);
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! * [`Applier`] applies an archive to a [`disk::Target`]: a [`disk::FileTarget`], a [`disk::MemoryTarget`] or
//!   your own. [`ApplyOptions`] says how, [`ApplyEvent`] tells what happens, [`Error`] why it cannot be.
//! * [`Verifier`] checks a whole archive without writing anything.
//! * [`create::Builder`] makes an archive from a configuration, [`create::Signer`] signs one.
//! * [`archive`] takes the container apart, [`manifest`] reads what the firmware says about itself and wants
//!   done, [`trust`] checks signatures and digests.
//! * [`action`] holds the functions of the format, one file for each family, and the file systems they need.
//! * [`delta`] makes new content from old content and a delta.
//! * [`disk`] is the destination: targets, and the cache that decides what is written when.
//! * [`framing`] speaks to a program that drives the command, [`limits`] bounds what an archive can ask for.
//!
//! The command `fwup-stream` takes the options of `fwup`, prints what it prints and exits as it exits.

pub mod action;
mod applier;
pub mod archive;
pub mod create;
pub mod delta;
pub mod disk;
mod error;
pub mod framing;
mod internal;
mod lengths;
pub mod limits;
pub mod manifest;
mod names;
mod options;
mod progress;
mod task;
mod tool;
pub mod trust;
mod verifier;
mod work;

pub use applier::{Applier, ApplyReport};
pub use error::Error;
pub use internal::Internal;
pub use options::{ApplyEvent, ApplyOptions, Variables};
pub use progress::ProgressReport;
pub use verifier::{Verdict, Verifier};
