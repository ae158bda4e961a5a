//! What the fuzz targets do with an input, and what must hold whatever the input is.
//!
//! Each target is a function of bytes: the same bytes do the same, nothing is read or written outside of
//! memory, and a panic means that a promise was broken. The programs in `fuzz/targets` only call these, and
//! the test `harness` runs them on every seed, every regression and some random inputs, without a fuzzer.
//!
//! | target | input | promises |
//! | --- | --- | --- |
//! | [`archive_reader`] | an archive | cuts don't matter, events are in order, pieces are bounded; so for verifying |
//! | [`manifest`] | a `meta.conf` | it is read or refused; lists of calls and metadata hold together |
//! | [`apply`] | an archive, a spoilt one, or a manifest to make one of | cuts don't matter; nothing unsigned is written |
//! | [`configuration`] | a `fwup.conf` | it is refused, or what is made of it can be read; twice the same |
//! | [`signer`] | an archive, or a spoilt one | what was signed has the same manifest and data, and verifies |
//! | [`delta`] | a delta | cuts don't matter, neither of it nor of its source |
//! | [`fat`] | a FAT image and a list of operations | every operation ends |
//! | [`environment`] | a U-Boot environment or a partition table | both readers of the project agree |
//! | [`tables`] | a partition table to write or to look through | both kinds are sound; file systems are found |
//! | [`keys`] | a public key | what is taken is a key, in every form of it |
//! | [`frames`] | framed input | cuts don't matter |
//! | [`texts`] | addresses, a proxy's answer, small files of a device | what is read is written and read again; no secret is told |
//! | [`link`] | what happens to a device | see the function |
//! | [`planner`] | what happens to a download with a store | see the function |
//! | [`wire_json`], [`wire_msgpack`] | messages of a server | none costs the connection |
//! | [`exchange`], [`socket`] | what a server sends | cuts don't matter, buffers are bounded |
//! | [`world`] | what happens to some devices, in virtual time | all of [`crate::sim`] |
//!
//! ```
//! use nerves_hub_link_testkit::harness;
//!
//! for (name, target) in harness::TARGETS {
//!     println!("{name}");
//!     target(b"any bytes");
//! }
//! ```

mod apply;
mod archive;
pub(crate) mod container;
mod create;
mod delta;
mod environment;
mod fat;
mod input;
mod link;
mod link_more;
mod link_rest;
mod link_world;
mod manifest;
mod planner;
mod planner_disk;
mod planner_server;
mod small;
mod tables;
mod texts;
mod transport;
mod wire;
mod world;

pub use apply::apply;
pub use archive::archive_reader;
pub use create::{configuration, signer};
pub use delta::delta;
pub use environment::environment;
pub use fat::fat;
pub use link::link;
pub use manifest::manifest;
pub use planner::planner;
pub use small::{frames, keys};
pub use tables::tables;
pub use texts::texts;
pub use transport::{exchange, socket};
pub use wire::{wire_json, wire_msgpack};
pub use world::world;

/// A fuzz target: takes an input, panics when a promise is broken.
pub type Target = fn(&[u8]);

/// Every target with its name.
pub const TARGETS: [(&str, Target); 19] = [
    ("archive_reader", archive_reader),
    ("manifest", manifest),
    ("apply", apply),
    ("configuration", configuration),
    ("signer", signer),
    ("delta", delta),
    ("fat", fat),
    ("environment", environment),
    ("tables", tables),
    ("keys", keys),
    ("frames", frames),
    ("texts", texts),
    ("link", link),
    ("planner", planner),
    ("wire_json", wire_json),
    ("wire_msgpack", wire_msgpack),
    ("exchange", exchange),
    ("socket", socket),
    ("world", world),
];
