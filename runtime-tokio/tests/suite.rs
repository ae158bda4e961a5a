//! What every adapter must do, done by the one on tokio, with all devices on one runtime of two threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod adapter;
#[path = "../../testkit/tests/suite/bench.rs"]
mod bench;

#[path = "../../testkit/tests/suite/archive.rs"]
mod archive;
#[path = "../../testkit/tests/suite/connect.rs"]
mod connect;
#[path = "../../testkit/tests/suite/console.rs"]
mod console;
#[path = "../../testkit/tests/suite/delta.rs"]
mod delta;
#[path = "../../testkit/tests/suite/health.rs"]
mod health;
#[path = "../../testkit/tests/suite/policy.rs"]
mod policy;
#[path = "../../testkit/tests/suite/routes.rs"]
mod routes;
#[path = "../../testkit/tests/suite/signed.rs"]
mod signed;
#[path = "../../testkit/tests/suite/store.rs"]
mod store;
#[path = "../../testkit/tests/suite/update.rs"]
mod update;

const ON_ONE_THREAD: bool = false;
