//! What makes a Phoenix client a NervesHub device.

pub(crate) mod alarms;
pub(crate) mod archive;
pub(crate) mod attempts;
pub(crate) mod auth;
pub(crate) mod connection;
pub(crate) mod console;
pub(crate) mod device;
mod explain;
pub(crate) mod extensions;
pub(crate) mod keys;
pub(crate) mod ledger;
mod lenient;
pub(crate) mod managed;
pub(crate) mod names;
pub(crate) mod origin;
pub(crate) mod pace;
pub(crate) mod payload;
mod progress;
mod redirect;
mod report;
pub(crate) mod scripts;
pub(crate) mod shell;
mod twin;
pub(crate) mod update;
mod window;

use crate::config::Config;
use crate::outputs::{Ids, Outputs};
use crate::phoenix::{Phoenix, TopicId};
use crate::time::{Instant, UnixTime};

/// The topics, in the order in which they are joined; each is named by its place.
pub(crate) const TOPICS: [&str; 3] = [names::DEVICE, names::CONSOLE, names::EXTENSIONS];
/// The device channel, which is always joined.
pub(crate) const DEVICE: TopicId = TopicId::FIRST;
/// The extensions channel, which is joined once the server asked what the device can do.
pub(crate) const EXTENSIONS: TopicId = TopicId(2);
/// The console, joined while the configuration allows it.
pub(crate) const CONSOLE: TopicId = TopicId(1);

/// What the parts of the hub side share for the length of one call.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    /// The device's wall clock, if it believes it has one.
    pub(crate) wall: Option<UnixTime>,
    pub(crate) config: &'a Config,
    pub(crate) out: &'a mut Outputs,
    pub(crate) wire: &'a mut Phoenix,
    pub(crate) ids: &'a mut Ids,
}
