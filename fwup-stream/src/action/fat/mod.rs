//! FAT12, FAT16 and FAT32 file systems on the destination, byte for byte as `fwup` 1.16.0 leaves them
//! (fw-format §15). It embeds FatFs R0.15; layout, order of searching and texts follow from that.
//!
//! Everything goes through [`Mounts`]. File systems come from disk and sizes from archives, so all walks are
//! bounded (see [`limits`]) and what makes no sense is [`Fault::Corrupt`].

mod boot;
mod codepage;
mod edit;
mod error;
mod file;
mod folder;
mod index;
pub mod limits;
mod mkfs;
mod mounts;
mod name;
mod path;
mod search;
mod table;
mod transfer;
mod volume;
mod window;

pub use error::{FatError, Fault};
pub use mounts::Mounts;
