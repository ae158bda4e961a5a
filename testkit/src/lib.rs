//! A NervesHub to test against, .fw builders and disks that lose power.

mod date;
pub mod disk;
pub mod firmware;
pub mod hub;
pub mod limits;
pub mod meta;
pub mod server;
