//! The tests of this crate: one program, so that it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod addresses;
mod apply;
mod citations;
mod commands;
mod common;
mod disk;
mod documents;
mod firmware;
mod harness;
mod hub;
mod hub_today;
mod power_cuts;
mod power_cuts_mutations;
mod properties;
mod recordings;
mod replay;
mod replay_clock;
mod replay_unseen;
mod seeds;
mod server;
mod server_limits;
mod sim;
mod storage;
