//! The queue behind [`Link::poll`](crate::Link::poll).

use alloc::collections::VecDeque;

use crate::event::Event;
use crate::ids::{
    ArchiveId, FetchId, FileId, OfferId, ProbeId, ScriptId, ShellId, SocketId, StoreId, UploadId,
};
use crate::limits::MAX_OUTPUTS;
use crate::output::Output;

/// Room for orders and events that an idle machine keeps. A heartbeat needs one.
const IDLE_OUTPUTS: usize = 1;

/// Orders and events in the order they arose.
#[derive(Default)]
pub(crate) struct Outputs {
    queue: VecDeque<Output>,
    /// An internal error that found no room: it is never lost.
    fault: Option<Event>,
}

impl Outputs {
    pub(crate) fn push(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    /// Adds an event nobody misses when the queue is full.
    pub(crate) fn event_if_room(&mut self, event: Event) {
        if self.has_room() {
            self.event(event);
        }
    }

    /// Adds an internal error. It has a place of its own when the queue is full; of several, the first explains the
    /// others.
    pub(crate) fn fault(&mut self, event: Event) {
        if self.has_room() {
            self.event(event);
        } else {
            self.fault.get_or_insert(event);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Output> {
        let next = self.queue.pop_front().or_else(|| self.fault.take().map(Output::Event));
        if next.is_none() && self.queue.capacity() > IDLE_OUTPUTS {
            // A burst is over; an idle machine gives its memory back.
            self.queue.shrink_to(IDLE_OUTPUTS);
        }
        next
    }

    /// Returns whether new activity may start. See [`MAX_OUTPUTS`].
    pub(crate) fn has_room(&self) -> bool {
        self.queue.len() < MAX_OUTPUTS
    }
}

/// The source of numbers that are never used twice.
#[derive(Default)]
pub(crate) struct Ids {
    last: u64,
}

impl Ids {
    pub(crate) const fn socket(&mut self) -> SocketId {
        SocketId(self.next())
    }

    pub(crate) const fn probe(&mut self) -> ProbeId {
        ProbeId(self.next())
    }

    pub(crate) const fn fetch(&mut self) -> FetchId {
        FetchId(self.next())
    }

    pub(crate) const fn offer(&mut self) -> OfferId {
        OfferId(self.next())
    }

    pub(crate) const fn archive(&mut self) -> ArchiveId {
        ArchiveId(self.next())
    }

    pub(crate) const fn store(&mut self) -> StoreId {
        StoreId(self.next())
    }

    pub(crate) const fn script(&mut self) -> ScriptId {
        ScriptId(self.next())
    }

    pub(crate) const fn shell(&mut self) -> ShellId {
        ShellId(self.next())
    }

    pub(crate) const fn file(&mut self) -> FileId {
        FileId(self.next())
    }

    pub(crate) const fn upload(&mut self) -> UploadId {
        UploadId(self.next())
    }

    const fn next(&mut self) -> u64 {
        // 2^64 numbers outlast any device.
        self.last = self.last.saturating_add(1);
        self.last
    }
}
