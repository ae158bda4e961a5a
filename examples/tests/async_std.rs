//! What every adapter must do, done by the loop on async-std: connecting, and updates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod adapter;
#[path = "../../testkit/tests/suite/bench.rs"]
mod bench;

#[path = "../../testkit/tests/suite/connect.rs"]
mod connect;
#[path = "../../testkit/tests/suite/delta.rs"]
mod delta;
#[path = "../../testkit/tests/suite/store.rs"]
mod store;
#[path = "../../testkit/tests/suite/update.rs"]
mod update;
