//! A NervesHub to test against, `.fw` builders, and disks that boot, lose power or fill up.
//!
//! | module | what it gives |
//! | --- | --- |
//! | [`hub`] | the server as a pure machine: shared secrets, joins, deployments, penalties; checked against recorded traffic of the real one |
//! | [`server`] | the same behind real sockets on loopback, TLS and ranges included, with [`server::Mischief`] |
//! | [`hostile`] | a server that attacks its devices |
//! | [`firmware`] | real signed archives in fwup's form, built, signed anew, or spoilt on purpose |
//! | [`disk`] | A/B disk images: which firmware boots, or why none does; targets that lose power |
//! | [`harness`] | the bodies of the fuzz targets, which `cargo test` runs too |
//! | [`replay`] | recorded traffic fed to the device's machine, whose own side is compared with the recorded device's |
//! | [`meta`], [`msgpack`], [`limits`] | what a firmware says about itself; MessagePack; every limit with its reason |
//!
//! Never a dependency of a shipped library: it is for tests and for the agent's `demo`.
//!
//! ```
//! use nerves_hub_link_testkit::disk::{AbDisk, DiskLayout, Slot};
//! use nerves_hub_link_testkit::firmware::{FirmwareBuilder, SigningKey};
//! use nerves_hub_link_testkit::meta::FirmwareMeta;
//! use nerves_hub_link_testkit::server::{Firmware, HubOptions, HubServer, Mischief, Times};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A hub that offers version 1.1.0 and cuts the first download after 100 kB.
//! let layout = DiskLayout::with_slots_of(1);
//! let archive = FirmwareBuilder::new("gadget", "1.1.0")
//!     .rootfs(500_000, 1)
//!     .ab_layout(&layout)
//!     .build(&SigningKey::from_seed(1))?;
//! let server = HubServer::start(HubOptions::default())?;
//! server.deploy(Firmware::from_archive(&archive)?);
//! server.mischief(Mischief::CutDownload { after: 100_000 }, Times::Once);
//! assert!(server.url().starts_with("wss://localhost:"));
//!
//! // A disk that runs version 1.0.0, for a device that connects to `server.url()`, trusts
//! // `server.ca_pem()` and signs with `server.product()`.
//! let folder = tempfile::tempdir()?;
//! let running = FirmwareMeta {
//!     product: "gadget".to_owned(),
//!     version: "1.0.0".to_owned(),
//!     platform: "testkit".to_owned(),
//!     architecture: "generic".to_owned(),
//!     ..FirmwareMeta::default()
//! };
//! let disk = AbDisk::create(&folder.path().join("disk.img"), &layout, &running, 500_000, 2)?;
//! let booted = disk.boot()?;
//! assert_eq!((booted.slot, booted.rootfs.version.as_str()), (Slot::A, "1.0.0"));
//! # Ok(())
//! # }
//! ```

mod date;
pub mod disk;
pub mod firmware;
pub mod harness;
pub mod hostile;
pub mod hub;
pub mod limits;
pub mod meta;
pub mod msgpack;
pub mod replay;
pub mod server;
pub mod sim;
