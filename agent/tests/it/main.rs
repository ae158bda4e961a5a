//! The tests of this crate: one program, so that it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod blocked;
mod boot;
mod common;
mod demo;
mod filling;
mod hostile;
mod hostile_words;
mod run;
mod secrets;
mod storage;
mod trouble;
mod words;
