//! Event loops of one's own around the NervesHub device, as examples to copy from.
//!
//! | module | what it shows |
//! | --- | --- |
//! | [`async_std_loop`] | all that a device does, on a runtime that no crate of ours knows: the engine of `nerves-hub-link-runtime`, turned by a task of async-std |
//! | [`poll_loop`] | what a device needs at least, without engine and threads: the machines of `nerves-hub-link-protocol` and `nerves-hub-link-transport` around `poll(2)` |
//!
//! They are no part of any release; the tests here run them against the test hub, the first one through the suite that the adapters run.

pub mod async_std_loop;
pub mod poll_loop;
