//! A snapshot of the machine, for people and logs.

use alloc::string::String;
use alloc::vec::Vec;

use crate::alarm::RaisedAlarm;
use crate::extension::ExtensionStatus;
use crate::ids::OfferId;
use crate::update_mode::UpdateMode;

/// What the machine is doing, from [`Link::status`](crate::Link::status).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The connection.
    pub connection: ConnectionState,
    /// The update.
    pub update: UpdateState,
    /// Why the device can't install updates now, if so.
    pub install_obstacle: Option<String>,
    /// Who decides about updates, as the server told last; `None` if it hasn't, or in words this version doesn't know.
    pub update_mode: Option<UpdateMode>,
    /// Whether operators can reach the console.
    pub console_joined: bool,
    /// Whether the console's shell runs.
    pub console_active: bool,
    /// Whether the channel of the extensions is joined.
    pub extensions_joined: bool,
    /// What became of each extension the configuration allows.
    pub extensions: Vec<ExtensionStatus>,
    /// What a join would report as being downloaded.
    pub currently_downloading_uuid: Option<String>,
    /// The UUID of the archive that is being downloaded.
    pub downloading_archive: Option<String>,
    /// The alarms raised now, oldest first.
    pub alarms: Vec<RaisedAlarm>,
    /// What was dropped or refused so far.
    pub counters: Counters,
}

/// The connection's state. Later states are nearer to receiving updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Offline on purpose.
    Offline,
    /// Between two attempts.
    Waiting,
    /// Connecting.
    Dialing,
    /// Connected, not joined (yet).
    Connected,
    /// Joined: updates can arrive.
    Joined,
}

/// The update's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateState {
    /// None.
    Idle,
    /// The application is asked.
    Deciding {
        /// The number to answer with.
        offer: OfferId,
    },
    /// Bytes are coming, or will again.
    Downloading {
        /// The offer.
        offer: OfferId,
        /// Bytes received so far.
        received: u64,
        /// 0 to 100, if the size is known.
        percent: Option<u8>,
    },
    /// All bytes are stored; the applier finishes.
    Finishing {
        /// The offer.
        offer: OfferId,
    },
    /// The application carries the update out.
    HandedOver {
        /// The offer.
        offer: OfferId,
    },
    /// Done; the next boot runs the new firmware.
    Written,
}

/// Things that happened and changed nothing. Each saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Inputs about numbers no longer in use.
    pub stale_inputs: u64,
    /// Messages of an earlier join, second answers to one, and answers that nobody waits for.
    pub stale_messages: u64,
    /// Updates offered while another one was under way.
    pub ignored_offers: u64,
    /// Messages that can't be read.
    pub malformed_messages: u64,
    /// Events this version doesn't know.
    pub unknown_events: u64,
    /// Keys from the server that are no Ed25519 keys, or too many.
    pub unusable_keys: u64,
    /// Reports to the server dropped for lack of room.
    pub dropped_pushes: u64,
    /// Log lines dropped for lack of room. The server is told.
    pub dropped_log_lines: u64,
    /// Error reports dropped for lack of room. The server is told.
    pub dropped_error_reports: u64,
    /// Samples of metrics dropped for lack of room or because they were too old.
    pub dropped_metric_samples: u64,
}
