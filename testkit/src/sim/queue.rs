//! What will happen, in a stable order.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use nerves_hub_link_protocol::{Dial, FetchId, OfferId, ProbeId, SocketId, StoreId};

use super::applier::Finish;
use super::fault::Fault;
use crate::hub::ConnId;

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Due {
    /// To one life of a device.
    Device { device: u32, life: u32, what: DeviceDue },
    /// A device dials the hub.
    HubDial { device: u32, life: u32, dial: Box<Dial> },
    /// A message arrives at the hub.
    HubText { conn: ConnId, text: String },
    /// The hub notices that a connection is gone.
    HubGone { conn: ConnId },
    /// The hub has something to do.
    HubTick,
    /// The step of this number is due.
    Step(usize),
    /// The seed has a fault for this device, or for all.
    Strike { device: Option<u32>, fault: Fault, how: u32 },
    /// A release is due.
    Release,
    /// A good release takes the place of a spoilt one.
    Mend,
    /// Everything is well from here on.
    Heal,
    /// Somebody looks whether all is well.
    Inspect,
}

/// What happens to a device.
#[derive(Debug)]
pub(super) enum DeviceDue {
    Start,
    Tick,
    Probed { probe: ProbeId, failure: Option<&'static str> },
    Up { socket: SocketId, conn: ConnId },
    Refused { socket: SocketId, answer: Box<Answer> },
    Down { socket: SocketId, code: Option<u16>, reason: &'static str },
    Text { socket: SocketId, text: String },
    Head(FetchId),
    Body(FetchId),
    FetchFailed { fetch: FetchId, reason: &'static str },
    StoreOpened { store: StoreId, parts: Vec<(u32, u64)> },
    StoreFailed { store: StoreId, reason: &'static str },
    PartCommitted { store: StoreId, part: u32 },
    Read(FetchId),
    Kept { fetch: FetchId, length: u32 },
    Stored { offer: OfferId, fetch: FetchId, length: u32 },
    Finish { offer: OfferId, step: Finish },
    ApplyFailed { offer: OfferId, reason: String },
    Decide(OfferId),
    Validate,
    Watchdog,
}

/// An answer to an upgrade or a download other than the wished one.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

#[derive(Debug)]
struct Entry {
    at: u64,
    number: u64,
    due: Due,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The queue. What is due at the same time happens in the order in which it was queued.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    number: u64,
}

impl Queue {
    pub fn push(&mut self, at: u64, due: Due) {
        self.number += 1;
        self.heap.push(Reverse(Entry { at, number: self.number, due }));
    }

    pub fn pop(&mut self) -> Option<(u64, Due)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.due))
    }
}
