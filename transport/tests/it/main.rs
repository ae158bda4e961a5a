//! The tests of this crate: one program, so that it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod client_identity;
mod common;
mod exchange;
mod golden;
mod headers;
mod limits;
mod socket;
mod tls;
mod tungstenite;
mod tunnel;
mod url;
