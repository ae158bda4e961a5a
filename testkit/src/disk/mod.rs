//! A disk that boots: given an image, it says which firmware runs, or why none does.
//!
//! | file | its job |
//! | --- | --- |
//! | `layout` | where things are |
//! | `ab` | makes an image with a firmware in slot A |
//! | `boot` | the boot loader's decision, validation and revert |
//! | `environment` | the U-Boot environment, independent of the code under test |
//! | `rootfs` | a root file system that can tell whether it is whole |
//! | `medium`, `image` | disks as files and as memory, of which many share what they have in common |
//! | `power`, `loss` | destinations that lose power, and what is left of unsynced writes |
//! | `fault` | destinations that are full, slow or going bad |
//! | [`cuts`] | firmware applied with a loss of power at every write and every sync |
//!
//! A device of a simulation has a [`SimDisk`]: a clone is a snapshot and takes only what was changed.
//!
//! ```
//! use fwup_stream::disk::Target;
//! use nerves_hub_link_testkit::disk::{Cut, Fault, FaultTarget, Image, PowerLossDisk, SimDisk};
//!
//! # fn main() -> std::io::Result<()> {
//! let mut disk: SimDisk = FaultTarget::sound(PowerLossDisk::new(Image::new(), 1 << 20, 7));
//! disk.add(Fault::Slow { read: 1, write: 5, sync: 40 });
//! disk.inner_mut().cut(Cut::Sync(2));
//! disk.write_at(0, &[1; 4096])?;
//! disk.sync()?;
//! disk.write_at(4096, &[2; 4096])?;
//! let before = disk.clone();
//! assert!(disk.sync().is_err() && disk.inner().is_dark());
//! // The first write is there; of the second, any sector may be.
//! disk.inner_mut().power_on()?;
//! assert_eq!(disk.inner().medium().bytes(0, 4096), [1; 4096]);
//! assert_eq!((before.ticks(), disk.ticks()), (50, 90));
//! # Ok(())
//! # }
//! ```

mod ab;
mod boot;
pub mod cuts;
mod environment;
mod fault;
mod image;
mod layout;
mod loss;
mod medium;
mod power;
mod random;
mod rootfs;

pub use ab::{AbDisk, format_disk};
pub use boot::{BootError, Booted, boot, boot_variable, boot_with_watchdog, slot_meta, validate};
pub use environment::{
    EnvironmentError, Variables, decode as decode_environment, encode as encode_environment,
    read_environment, write_environment,
};
pub use fault::{Fault, FaultTarget};
pub use image::Image;
pub use layout::{BLOCK, DiskLayout, Slot};
pub use medium::{ImageFile, Medium};
pub use power::{Cut, PowerLossDisk};
pub use rootfs::{Rootfs, RootfsError, RootfsInfo, check as check_rootfs};

/// The disk of a simulated device: faults in front of a write cache in front of shared memory.
pub type SimDisk = FaultTarget<PowerLossDisk<Image>>;
