//! Slow and idle devices. Alone in their file, since they look at the processor time of the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod adapter;
#[path = "../../testkit/tests/suite/bench.rs"]
mod bench;
#[path = "../../testkit/tests/suite/pace.rs"]
mod pace;

const ON_ONE_THREAD: bool = false;
