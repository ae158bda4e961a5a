//! A disk that boots: given an image, it says which firmware runs, or why none does.
//!
//! | file | its job |
//! | --- | --- |
//! | `layout` | where things are |
//! | `ab` | makes an image with a firmware in slot A |
//! | `boot` | the boot loader's decision, validation and revert |
//! | `environment` | the U-Boot environment, independent of the code under test |
//! | `rootfs` | a root file system that can tell whether it is whole |
//! | `medium` | disks as files and as memory |
//! | `power`, `fault` | destinations that lose power, fill up or go bad |

mod ab;
mod boot;
mod environment;
mod fault;
mod layout;
mod medium;
mod power;
mod rootfs;

pub use ab::{AbDisk, format_disk};
pub use boot::{BootError, Booted, boot, boot_variable, boot_with_watchdog, slot_meta, validate};
pub use environment::{
    EnvironmentError, Variables, decode as decode_environment, encode as encode_environment,
    read_environment, write_environment,
};
pub use fault::{Fault, FaultTarget};
pub use layout::{BLOCK, DiskLayout, Slot};
pub use medium::{ImageFile, Medium};
pub use power::PowerLossDisk;
pub use rootfs::{Rootfs, RootfsError, RootfsInfo, check as check_rootfs};
