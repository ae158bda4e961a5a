//! What makes a Phoenix client a NervesHub device.

pub(crate) mod alarms;
pub(crate) mod archive;
pub(crate) mod attempts;
pub(crate) mod auth;
pub(crate) mod connection;
pub(crate) mod console;
mod context;
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

use crate::phoenix::TopicId;

pub(crate) use context::{Context, Core};

/// The topics, in the order in which they are joined; each is named by its place.
pub(crate) const TOPICS: [&str; 3] = [names::DEVICE, names::CONSOLE, names::EXTENSIONS];
/// The device channel, which is always joined.
pub(crate) const DEVICE: TopicId = TopicId::FIRST;
/// The extensions channel, which is joined once the server asked what the device can do.
pub(crate) const EXTENSIONS: TopicId = TopicId(2);
/// The console, joined while the configuration allows it.
pub(crate) const CONSOLE: TopicId = TopicId(1);
