//! Archives at the machine's doors.

use alloc::string::String;

use super::Link;
use crate::hub::Context;
use crate::hub::archive::Archives;
use crate::phoenix::Payload;

impl Link {
    pub(super) fn archive_offered(&mut self, payload: Payload<'_>) -> Result<(), String> {
        let Self { now, wall, config, out, wire, ids, archives, archive_keys, .. } = self;
        let mut cx = Context { now: *now, wall: *wall, config, out, wire, ids };
        archives.offered(&mut cx, archive_keys, payload)
    }

    pub(super) fn archives_with<T>(&mut self, work: impl FnOnce(&mut Archives, &mut Context<'_>) -> T) -> T {
        let Self { now, wall, config, out, wire, ids, archives, .. } = self;
        work(archives, &mut Context { now: *now, wall: *wall, config, out, wire, ids })
    }
}
