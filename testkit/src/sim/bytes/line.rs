//! A connection with both its ends.

use std::collections::{BTreeMap, VecDeque};

use nerves_hub_link_protocol::{FetchId, SocketId};

use super::answer::Framing;
use super::far::Far;
use super::flow::Flow;
use super::near::Near;
use super::witness::Witness;
use crate::hub::ConnId;
use crate::sim::dice::Rng;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) enum Way {
    Socket(SocketId),
    Fetch(FetchId),
}

/// Whose connection it is, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) struct LineId {
    pub device: u32,
    pub life: u32,
    pub way: Way,
}

/// A connection.
#[derive(Debug)]
pub(in crate::sim) struct Line {
    /// The device's machine, until the adapter drops it.
    pub near: Option<Near>,
    pub far: Far,
    /// To the server, and to the device.
    pub up: Flow,
    pub down: Flow,
    /// TCP is there.
    pub connected: bool,
    /// It was of use before its time was over.
    pub settled: bool,
    /// The system takes no bytes for a while, and says when it does again.
    pub stalled: bool,
    /// The adapter has met the end of what it reads.
    pub read_ended: bool,
    /// Why the adapter reads no more, to be told once the machine has nothing to say.
    pub broken: Option<String>,
    /// The connection's number at the hub.
    pub conn: Option<ConnId>,
    /// The close code that the server sent.
    pub closed: Option<u16>,
    /// Bytes of the server that did not fit yet, and whether it ends behind them.
    pub pending: VecDeque<u8>,
    pub ends: bool,
    pub to_hub: Witness,
    pub to_device: Witness,
    pub file: Served,
    /// What came since the machine, or the hub's end, last said something: the front of a message.
    pub since: Vec<u8>,
    pub far_since: usize,
}

/// A download's answer, as far as it is on its way.
#[derive(Debug, Default)]
pub(in crate::sim) struct Served {
    /// What was sent is no head, or breaks off in the middle of a body into what is none.
    pub broken_head: bool,
    pub broken_body: bool,
    /// The head that was sent.
    pub head: Option<(u16, Vec<(String, String)>)>,
    pub framing: Framing,
    /// Bytes of the body that the machine was not told of.
    pub body: VecDeque<u8>,
    /// Where in the file the next of those is.
    pub at: u64,
    /// Where the body ends by what its head says, if it says so.
    pub to: Option<u64>,
    /// The body is a file's.
    pub is_file: bool,
    /// All of it was written.
    pub whole: bool,
    /// The server waits for room.
    pub waits: bool,
}

impl Served {
    /// Whether a head is the one that was sent: names are told in lower case, and lines about the body's length are
    /// its own.
    pub fn is_head(&self, status: u16, headers: &[(String, String)]) -> bool {
        let framing = ["content-length", "transfer-encoding"];
        let told = headers.iter().filter(|(name, _)| !framing.contains(&name.as_str()));
        self.head.as_ref().is_some_and(|(sent, lines)| {
            let sent_lines = lines.iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
            *sent == status && sent_lines.eq(told.map(|(name, value)| (name.clone(), value)))
        })
    }
}

impl Line {
    pub fn new(near: Near, rng: &mut Rng) -> Self {
        const SMALL: [usize; 4] = [700, 4 * 1024, 16 * 1024, 64 * 1024];
        const LARGE: [usize; 2] = [16 * 1024, 64 * 1024];
        let file = matches!(near, Near::File(_));
        let mut window = |sizes: &[usize]| {
            let at = usize::try_from(rng.below(sizes.len() as u64)).unwrap_or(0);
            sizes.get(at).copied().unwrap_or(4096)
        };
        Self {
            near: Some(near),
            far: Far::Request(Vec::new()),
            up: Flow::new(window(&SMALL)),
            down: Flow::new(window(if file { &LARGE } else { &SMALL })),
            connected: false,
            settled: false,
            stalled: false,
            read_ended: false,
            broken: None,
            conn: None,
            closed: None,
            pending: VecDeque::new(),
            ends: false,
            to_hub: Witness::default(),
            to_device: Witness::default(),
            file: Served::default(),
            since: Vec::new(),
            far_since: 0,
        }
    }

    /// Whether the server sent bytes that the machine must refuse.
    pub fn is_garbage(&self) -> bool {
        self.file.broken_head || self.file.broken_body || self.to_device.is_garbage()
    }

    /// Hands the machine's bytes to the system as far as it takes them. They arrive at `at`.
    pub fn flush(&mut self, at: u64, rng: &mut Rng) {
        let Some(near) = self.near.as_mut().filter(|_| self.connected) else { return };
        loop {
            let taken = self.up.write(near.transmit(), at, rng);
            if taken == 0 {
                return;
            }
            near.transmitted(taken);
        }
    }

    /// Bytes that the machine holds for the system.
    pub fn unsent(&mut self) -> usize {
        self.near.as_mut().map_or(0, |near| near.transmit().len())
    }

    /// Hands the server's bytes to its system as far as it takes them, and then the end.
    pub fn pump(&mut self, at: u64, rng: &mut Rng) {
        self.pending.extend(self.far.take_output());
        while !self.pending.is_empty() {
            let (front, _) = self.pending.as_slices();
            let taken = self.down.write(front, at, rng);
            if taken == 0 {
                return;
            }
            self.pending.drain(..taken);
        }
        if self.ends {
            self.down.finish(at);
        }
    }
}

/// All connections there are.
#[derive(Debug, Default)]
pub(in crate::sim) struct Lines {
    pub all: BTreeMap<LineId, Line>,
    /// For [`crate::sim::Mutation::KeepPartial`]: what was left of the last connection.
    pub left: Vec<u8>,
    /// For [`crate::sim::Mutation::ReadWholeBuffer`]: the buffer as the last read left it.
    pub buffer: Vec<u8>,
}

impl Lines {
    /// The connections of one life of a device.
    pub fn of(&self, device: u32, life: u32) -> Vec<LineId> {
        let ids = self.all.keys().filter(|id| (id.device, id.life) == (device, life));
        ids.copied().collect()
    }
}
