//! The Linux device: who it is, what it runs, and how new firmware gets onto its disk.
//! Synchronous; knows no network and no protocol.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`identity`] | serial number, running firmware, whether it is validated, whether it fell back |
//! | [`boot`] | whether the firmware that runs is the one that the environment names |
//! | [`kv`] | the key-value store that all of it comes from: U-Boot environment, text file, memory |
//! | [`install`] | applying an update: the traits, the streaming installer, which disk may be written |
//! | [`pty`] | shells with a terminal of their own |
//! | [`files`] | files received from operators, and sent to them |
//! | [`archive`] | checking archives |
//! | [`health`] | temperature, load, memory, disk, network: how the device is doing |
//! | [`small_file`] | small local files, read and replaced without waiting |
//! | [`store`] | downloads on disk that outlive a restart |
//! | [`limits`] | every bound, with its reason |
//!
//! ```
//! use nerves_hub_link_platform::identity::Identity;
//! use nerves_hub_link_platform::kv::MemoryStore;
//!
//! // On a device: UbootStore::new(FwEnvConfig::read("/etc/fw_env.config".as_ref())?).
//! let store = MemoryStore::new([
//!     ("nerves_fw_active", "a"),
//!     ("nerves_serial_number", "1234"),
//!     ("a.nerves_fw_version", "1.0.0"),
//!     ("a.nerves_fw_validated", "1"),
//! ]);
//! let identity = Identity::load(&store)?;
//! assert_eq!(identity.serial_number.as_deref(), Some("1234"));
//! assert_eq!(identity.firmware.version, "1.0.0");
//! assert_eq!(identity.validated, Some(true));
//! # Ok::<(), nerves_hub_link_platform::kv::KvError>(())
//! ```

pub mod archive;
pub mod boot;
pub mod child_env;
pub mod files;
pub mod health;
pub mod identity;
pub mod install;
pub mod kv;
pub mod limits;
mod lock;
pub mod pty;
mod signals;
pub mod small_file;
pub mod store;

use small_file::read_limited;
