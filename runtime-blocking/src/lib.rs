//! Runs the NervesHub device machine with threads and no async.
//!
//! One thread owns the machine, waits with `poll(2)` for connections, other threads and the next
//! deadline, and carries out the machine's orders. Looking up names, connecting and applying firmware,
//! which all may block, have threads of their own. Firmware goes from the network to the applier
//! through a bounded hand-over: the next read waits until the last pieces were written.
//!
//! | module | what is in it |
//! | --- | --- |
//! | `runner`, `options` | [`Runner`]: setting a device up and letting it run |
//! | `handle`, `orders` | [`Handle`]: commands to a running device, its [`Status`] and [`Exit`] |
//! | `engine` | the loop |
//! | `connection`, `wire`, `connect` | WebSocket and downloads, moving their bytes, dialling |
//! | `identity` | [`device_config`]: settings from what the platform found out |
//! | `shells`, `inbox` | operators' shells in terminals, the thread that stores the files they send |
//! | `memory` | what survives a restart: how often each update was tried |
//! | `health` | [`health_report`]: how the device is doing, unless the application tells |
//! | `applier` | the thread that applies an update |
//! | `keeper` | the thread that keeps a download on disk |
//! | [`limits`] | every bound, with its reason |
//!
//! ```no_run
//! use nerves_hub_link_blocking::{Exit, Options, Runner, device_config};
//! use nerves_hub_link_platform::identity::Identity;
//! use nerves_hub_link_platform::install::{DiskPolicy, FwupStreamInstaller};
//! use nerves_hub_link_platform::kv::{UbootStore, fw_env_config::FwEnvConfig};
//! use nerves_hub_link_protocol::{Auth, Client, SharedSecret};
//! use nerves_hub_link_transport::{Tls, TlsOptions};
//!
//! struct App;
//! impl Client for App {}
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = UbootStore::new(FwEnvConfig::read("/etc/fw_env.config".as_ref())?);
//! let identity = Identity::load(&store)?;
//! let secret = SharedSecret::new("nhp_key", "secret", identity.serial_number.clone().unwrap_or_default());
//! let config = device_config("devices.nervescloud.com", Auth::SharedSecret(secret), &identity);
//! let disk = DiskPolicy::new("/dev/mmcblk0").allow_block_device(true);
//! let options = Options::new(Tls::new(&TlsOptions::default())?, FwupStreamInstaller::new(disk), App);
//! let device = Runner::new(config, options)?.spawn()?;
//! if let Exit::Reboot { reason } = device.wait() {
//!     println!("rebooting: {reason}");
//! }
//! # Ok(())
//! # }
//! ```

mod applier;
mod clock;
mod connect;
mod connection;
mod engine;
mod handle;
mod health;
mod identity;
mod inbox;
mod keeper;
pub mod limits;
mod memory;
mod options;
mod orders;
mod runner;
mod shells;
mod wake;
mod wire;

pub use handle::{Exit, Handle, HandleError, SendFileError, Status};
pub use health::health_report;
pub use identity::{device_config, firmware_meta};
pub use options::Options;
pub use runner::{Runner, RunnerError};

/// The example of the README, so that it keeps compiling.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
