//! The state that every part of the machine needs.

use alloc::boxed::Box;

use crate::config::Config;
use crate::outputs::{Ids, Outputs};
use crate::phoenix::Phoenix;
use crate::time::{Instant, Now, UnixTime};

/// Clock, settings, output queue, wire and id counters. One per machine; [`Self::cx`] lends it to a part.
pub(crate) struct Core {
    pub(crate) now: Instant,
    /// The device's wall clock, if it believes it has one.
    pub(crate) wall: Option<UnixTime>,
    pub(crate) config: Box<Config>,
    pub(crate) out: Outputs,
    pub(crate) wire: Phoenix,
    pub(crate) ids: Ids,
}

/// The core, lent to a part for one call.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    /// The device's wall clock, if it believes it has one.
    pub(crate) wall: Option<UnixTime>,
    pub(crate) config: &'a Config,
    pub(crate) out: &'a mut Outputs,
    pub(crate) wire: &'a mut Phoenix,
    pub(crate) ids: &'a mut Ids,
}

impl Core {
    pub(crate) fn advance(&mut self, now: Now) {
        self.now = self.now.max(now.mono);
        self.wall = now.wall;
    }

    pub(crate) fn cx(&mut self) -> Context<'_> {
        let Self { now, wall, config, out, wire, ids } = self;
        Context { now: *now, wall: *wall, config, out, wire, ids }
    }
}
