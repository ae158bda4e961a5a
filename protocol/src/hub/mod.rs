//! What makes a Phoenix client a NervesHub device.

pub(crate) mod auth;
pub(crate) mod connection;
pub(crate) mod device;
mod explain;
pub(crate) mod keys;
pub(crate) mod managed;
pub(crate) mod names;
pub(crate) mod payload;
mod progress;
mod redirect;
mod report;
pub(crate) mod scripts;
mod twin;
pub(crate) mod update;

use crate::config::Config;
use crate::outputs::{Ids, Outputs};
use crate::phoenix::Phoenix;
use crate::time::Instant;

/// What the parts of the hub side share for the length of one call.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) config: &'a Config,
    pub(crate) out: &'a mut Outputs,
    pub(crate) wire: &'a mut Phoenix,
    pub(crate) ids: &'a mut Ids,
}
