//! The tests of this crate: one program, so that it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod archive;
mod boot;
mod disk;
mod files;
mod golden_environment;
mod health;
mod identity;
mod install;
mod pty;
mod store;
mod stores;
