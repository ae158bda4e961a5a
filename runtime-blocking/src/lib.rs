//! Runs the NervesHub device machine with threads and no async.
//!
//! One thread owns the machine, waits with `poll(2)` for connections, other threads and the next
//! deadline, and carries out the machine's orders. Looking up names, connecting and applying firmware,
//! which all may block, have threads of their own. Firmware goes from the network to the applier
//! through a bounded hand-over: the next read waits until the last pieces were written.
//!
//! | module | what is in it |
//! | --- | --- |
//! | `runner` | [`Runner`]: setting a device up and letting it run: the loop |
//! | `handle` | [`Handle`]: a running device; [`Control`] has the calls that return at once |
//! | `bell` | waking the loop, and those who wait for the device |
//! | `connect` | dialling |
//!
//! All else is the [`Engine`](nerves_hub_link_runtime::Engine)'s, which the tokio adapter turns too: [`Options`],
//! [`device_config`], [`health_report`], every bound in [`limits`].
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

mod bell;
mod connect;
mod handle;
mod runner;

pub use handle::Handle;
/// The Linux device: identity, boot environment, disks.
pub use nerves_hub_link_platform as platform;
/// The device machine, its settings and events.
pub use nerves_hub_link_protocol as protocol;
pub use nerves_hub_link_runtime::{
    Control, Exit, HandleError, Options, RunnerError, SendFileError, Status, device_config, firmware_meta,
    health_report, limits,
};
/// TLS settings and trust.
pub use nerves_hub_link_transport as transport;
pub use runner::Runner;

/// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
