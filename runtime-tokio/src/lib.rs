//! Runs the NervesHub device machine on tokio.
//!
//! One task per device turns the [`Engine`](nerves_hub_link_runtime::Engine), which the blocking adapter turns too, and
//! waits for its connections, its threads and the next deadline. A thousand devices fit in one process, on one thread or
//! on many; every future is `Send`.
//!
//! Nothing blocks the runtime: names are looked up on tokio's threads for what blocks; an update is applied, a download
//! kept and an operator's file stored on threads of their own, which end with the work. Firmware goes from the network
//! to the applier through a bounded hand-over: the next read waits until the last pieces were written.
//!
//! | module | what is in it |
//! | --- | --- |
//! | `runner` | [`Runner`]: setting a device up and letting it run: the loop |
//! | `handle` | [`Handle`]: a running device, [`Device`]: its owner; [`Control`] has the calls that return at once |
//! | `events` | [`events()`]: events to await, in place of callbacks |
//! | `bell` | waking the loop, and those who wait for the device |
//! | `connect` | dialling |
//! | [`limits`] | every bound, with its reason |
//!
//! The runtime must have I/O and time (`enable_all`). Callbacks of a [`Client`](nerves_hub_link_protocol::Client) run in
//! the device's task, so they must return at once; what takes longer goes to a task or thread of the application's, and its
//! answer comes back through the handle.
//!
//! ```
//! use nerves_hub_link_platform::install::{DiskPolicy, FwupStreamInstaller};
//! use nerves_hub_link_protocol::{Auth, Config, Event, FirmwareMeta, SharedSecret};
//! use nerves_hub_link_testkit::server::{HubOptions, HubServer};
//! use nerves_hub_link_tokio::{Exit, Options, Runner, events};
//! use nerves_hub_link_transport::{Roots, Tls, TlsOptions};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let hub = HubServer::start(HubOptions::default())?; // in place of your NervesHub
//!     let product = hub.product();
//!     let secret = SharedSecret::new(&*product.key, &*product.secret, "my-device-1");
//!     let running = FirmwareMeta { uuid: "...".into(), version: "1.0.0".into(), ..FirmwareMeta::default() };
//!     let config = Config::new(hub.url(), Auth::SharedSecret(secret), running);
//!     let tls = Tls::new(&TlsOptions::new(Roots::Pem(hub.ca_pem().as_bytes().to_vec())))?;
//!
//!     let (client, mut news) = events();
//!     let installer = FwupStreamInstaller::new(DiskPolicy::new("disk.img"));
//!     let device = Runner::new(config, Options::new(tls, installer, client))?.spawn()?;
//!     while let Some(event) = news.next().await {
//!         if event == Event::Joined {
//!             break; // an application would go on, and look at every event
//!         }
//!     }
//!     assert!(device.joined());
//!     assert_eq!(device.shutdown().await, Exit::Stopped);
//!     Ok(())
//! }
//! ```

mod bell;
mod connect;
mod events;
mod handle;
pub mod limits;
mod runner;

pub use events::{EventSender, Events, events};
pub use handle::{Device, Handle};
/// The Linux device: identity, boot environment, disks.
pub use nerves_hub_link_platform as platform;
/// The device machine, its settings and events.
pub use nerves_hub_link_protocol as protocol;
pub use nerves_hub_link_runtime::{
    Control, Exit, HandleError, Options, RunnerError, SendFileError, Status, device_config, firmware_meta,
    health_report,
};
/// TLS settings and trust.
pub use nerves_hub_link_transport as transport;
pub use runner::Runner;

/// The examples of the README, one for each adapter, so that they keep compiling.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The program in this crate's README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct CrateReadme;
