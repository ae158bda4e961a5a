//! A disk that boots: layout, environment, root file systems that know whether they are whole.

mod layout;
mod rootfs;

pub use layout::{BLOCK, DiskLayout, Slot};
pub use rootfs::{Rootfs, RootfsError, RootfsInfo, check as check_rootfs};
