//! What will happen, in a stable order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use nerves_hub_link_protocol::{
    ArchiveId, Dial, FetchId, FileId, OfferId, ProbeId, ScriptId, ShellId, SocketId, StoreId, UploadId,
};

use super::applier::Finish;
use super::bytes::{LineId, Way};
use super::message::Frame;
use super::scenario::What;
use crate::hub::ConnId;

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Due {
    /// To one life of a device.
    Device { device: u32, life: u32, what: DeviceDue },
    /// A device dials the hub.
    HubDial { device: u32, life: u32, dial: Box<Dial> },
    /// A message arrives at the hub.
    HubHears { conn: ConnId, frame: Frame },
    /// Bytes arrive at the hub.
    Wire(LineId),
    /// The hub says something of its own accord.
    HubSays { conn: ConnId, says: Says },
    /// The hub notices that a connection is gone.
    HubGone { conn: ConnId },
    /// The hub has something to do.
    HubTick,
    /// The step of this number is due.
    Step(usize),
    /// The seed has something for this device, or for all.
    Strike { device: Option<u32>, what: What, how: u32 },
    /// The calendar has a release.
    Planned(What),
    /// An operator goes on with what he does to a device.
    Operator { device: u32, how: u32, step: u8 },
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
    Probed {
        probe: ProbeId,
        failure: Option<&'static str>,
    },
    Up {
        socket: SocketId,
        conn: ConnId,
    },
    Refused {
        socket: SocketId,
        answer: Box<Answer>,
    },
    Down {
        socket: SocketId,
        code: Option<u16>,
        reason: &'static str,
    },
    Hears {
        socket: SocketId,
        frame: Frame,
    },
    /// Something happens to a connection of bytes.
    Wire {
        way: Way,
        what: WireDue,
    },
    /// What an earlier connection had under way.
    Stale {
        socket: SocketId,
        how: u32,
    },
    Head(FetchId),
    Body(FetchId),
    FetchFailed {
        fetch: FetchId,
        reason: &'static str,
    },
    StoreOpened {
        store: StoreId,
        parts: Vec<(u32, u64)>,
    },
    StoreFailed {
        store: StoreId,
        reason: &'static str,
    },
    PartCommitted {
        store: StoreId,
        part: u32,
    },
    ArchiveChecked {
        store: StoreId,
        archive: ArchiveId,
        keys: Vec<String>,
    },
    DecideArchive(ArchiveId),
    Read(FetchId),
    Kept {
        fetch: FetchId,
        length: u32,
    },
    Stored {
        offer: OfferId,
        fetch: FetchId,
        length: u32,
    },
    Finish {
        offer: OfferId,
        step: Finish,
    },
    ApplyFailed {
        offer: OfferId,
        reason: String,
    },
    Decide(OfferId),
    /// The application answers a question of the server.
    Answer(Question),
    /// A shell writes.
    Shell {
        shell: ShellId,
        act: ShellAct,
    },
    /// A piece of a file was stored, or not.
    FileStored {
        file: FileId,
        bytes: usize,
    },
    /// What is wanted of a file was read.
    FileRead(UploadId),
    /// A script ends.
    Script(ScriptId),
    /// The application looks after its updates.
    Manage,
    Validate,
    Watchdog,
}

/// What happens to a connection of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireDue {
    /// TCP is there.
    Opened,
    /// Bytes arrived, or there is room for them.
    Reads,
    /// The system takes bytes again.
    Writes,
    /// Bytes arrive at the file server.
    Serves,
    /// The connection must be of use by now.
    Expires,
}

/// What the hub says of its own accord.
#[derive(Debug)]
pub(super) enum Says {
    Frame(Frame),
    /// Bytes that are no frame.
    Garbage(u32),
}

/// What the server may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Health,
    Location,
    Identities,
}

/// What a shell does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShellAct {
    Starts,
    Fails,
    Writes(usize),
    Exits,
}

/// An answer to an upgrade or a download other than the wished one.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// When, in which order of those due at the same time, and the place of what.
type Entry = Reverse<(u64, u64, u32)>;

/// The queue. What is due at the same time happens in the order in which it was queued.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Entry>,
    number: u64,
    /// What is due, so that the heap moves little. Places are used again.
    places: Vec<Option<Due>>,
    free: Vec<u32>,
}

impl Queue {
    pub fn push(&mut self, at: u64, due: Due) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(slot) = self.places.get_mut(place as usize) {
            *slot = Some(due);
        }
        self.number += 1;
        self.heap.push(Reverse((at, self.number, place)));
    }

    pub fn pop(&mut self) -> Option<(u64, Due)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        let due = self.places.get_mut(place as usize).and_then(Option::take)?;
        self.free.push(place);
        Some((at, due))
    }
}
