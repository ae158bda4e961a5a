//! A simulated world: a fleet of devices, a hub, a network and all that goes wrong, in virtual time, from one seed.
//!
//! Each device is the real [`nerves_hub_link_protocol::Link`], carried out by adapters of a few lines on a disk that
//! keeps slots, a write-back cache and a boot environment. The hub is the pure [`crate::hub::Hub`]. After every
//! single thing that happens, invariants are checked and a small reference model is compared with the machine; after
//! a while everything heals, and every device must be online with the newest firmware in bounded time.
//!
//! | file | its job |
//! | --- | --- |
//! | `scenario` | what decides a run, as data; the generator that turns a seed or a fuzzer's bytes into it |
//! | `fault` | the classes of faults |
//! | `world/` | what happens: dialling, messages, downloads, updates, archives, operators, faults |
//! | `bytes/` | connections of real bytes, for the scenarios that have them |
//! | `device`, `settings`, `armed`, `applier`, `disk`, `store`, `files`, `firmware`, `net`, `queue` | what a world is made of |
//! | `watch`, `asked`, `scripts`, `sent_files`, `policy`, `twins`, `model`, `message` | what must hold |
//! | `violation` | what it looks like when it didn't |
//! | `mutation` | mistakes that the world must notice |
//! | `shrink`, `saved` | makes a failing run smaller, and keeps it in a file |
//! | `stats`, `trace`, `report` | figures, what happened, and both for people |
//!
//! ```
//! use nerves_hub_link_testkit::sim::{Scenario, World};
//!
//! let outcome = World::new(Scenario::short(7)).run()?;
//! println!("{} things happened in {} s", outcome.events, outcome.ended / 1_000_000);
//! # Ok::<(), nerves_hub_link_testkit::sim::Violation>(())
//! ```

mod applier;
mod armed;
mod asked;
mod bytes;
mod device;
mod dice;
mod disk;
mod fault;
mod files;
mod firmware;
mod message;
mod model;
mod mutation;
mod net;
mod policy;
mod queue;
mod report;
mod saved;
mod scenario;
mod scripts;
mod sent_files;
mod settings;
mod shrink;
mod stats;
mod store;
mod trace;
mod twins;
mod violation;
mod watch;
mod world;

pub use dice::{Dice, Rng};
pub use fault::{Fault, Faults, Origin, UnknownFault};
pub use mutation::Mutation;
pub use report::Report;
pub use saved::{Saved, replay_line};
pub use scenario::{DAY, HOUR, MINUTE, SECOND, Scenario, Step, What};
pub use shrink::{Shrunk, shrink};
pub use stats::{BytesStats, ReleaseStats, Stats};
pub use violation::{Broken, Clock, Violation};
pub use world::{Outcome, World};
