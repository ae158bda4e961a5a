//! What every loop around the NervesHub device machine shares: all but the waiting and the dialling.
//!
//! [`nerves_hub_link_protocol::Link`] decides and does nothing; an adapter does and decides nothing. Most of what it does is
//! the same whatever it waits with: moving bytes between connections and the transport's machines, applying updates and
//! keeping downloads on threads of their own with a bounded hand-over, operators' shells and files, health, callbacks.
//! That is the [`Engine`]. `nerves-hub-link-blocking` waits for it with `poll(2)` on a thread,
//! `nerves-hub-link-tokio` in a task; a loop of your own brings a [`Network`], which connects and tells the time, and
//! [`Signals`], by which threads wake it. One on async-std is in the folder `examples`.
//!
//! | module | what is in it |
//! | --- | --- |
//! | `engine` | [`Engine`]: one turn of any loop |
//! | `tcp`, `signal`, `dial` | what a loop brings along: [`Network`], [`Tcp`], [`Signals`]; an order to connect |
//! | `options`, `identity` | [`Options`], [`device_config`]: setting a device up |
//! | `control`, `orders` | [`Control`]: commands to a running device, its [`Status`] and [`Exit`] |
//! | `connection`, `wire`, `buffer`, `clock` | WebSocket and downloads, moving their bytes |
//! | `closing` | closing a connection so that the server reads what was sent last |
//! | `worker` | one thread, its bounded queue of jobs, its reports; the next four use it |
//! | `applier` | applies an update |
//! | `store`, `trust` | stores a download on disk; checks its signature on the way |
//! | `inbox` | stores the files operators send |
//! | `tasks`, `memory`, `health` | short tasks that may block: remembering attempts, asking about the system's health |
//! | `shells` | operators' shells in terminals |
//! | `threads`, `time_limit` | all threads of a device, counted; how long one may hang |
//! | [`limits`] | every bound, with its reason |

mod applier;
mod buffer;
mod clock;
mod closing;
mod connection;
mod control;
mod dial;
mod engine;
mod health;
mod identity;
mod inbox;
pub mod limits;
mod memory;
mod options;
mod orders;
mod shells;
mod signal;
mod store;
mod tasks;
mod tcp;
#[cfg(test)]
mod testing;
mod threads;
mod time_limit;
mod trust;
mod wire;
mod worker;

pub use control::{Control, Exit, HandleError, SendFileError, Status};
pub use dial::{Candidates, DialOrder, Guard, Place};
pub use engine::{Engine, Interests, RunnerError};
pub use health::health_report;
pub use identity::{device_config, firmware_meta};
pub use options::Options;
pub use signal::Signals;
pub use tcp::{Interest, Network, Tcp};
