//! What the threads of the socket hub share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::firmware::Firmware;
use super::mischief::{Armed, Garbage};
use crate::hub::{ConnId, DeviceId, Hub, HubEvent, HubOutput, Serializer};

/// What waits to go out on one socket.
#[derive(Debug)]
pub(super) enum Outgoing {
    Text(String),
    Binary(Vec<u8>),
    Garbage(Garbage),
    Close(u16, String),
}

/// Everything behind the lock.
pub(super) struct State {
    pub hub: Hub,
    pub armed: Armed,
    /// Served files by path.
    pub files: BTreeMap<String, Firmware>,
    outboxes: BTreeMap<ConnId, VecDeque<Outgoing>>,
    next_conn: u64,
}

impl State {
    pub fn new(hub: Hub) -> Self {
        Self { hub, armed: Armed::default(), files: BTreeMap::new(), outboxes: BTreeMap::new(), next_conn: 1 }
    }

    /// Enters a socket; its number.
    pub fn open(&mut self, now_ms: u64, device: DeviceId, speaks: Serializer) -> ConnId {
        let conn = self.number();
        self.outboxes.insert(conn, VecDeque::new());
        self.hub.connected_speaking(now_ms, conn, device, speaks);
        conn
    }

    /// A number for a connection that has no socket behind it.
    pub fn number(&mut self) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn = self.next_conn.saturating_add(1);
        conn
    }

    pub fn close(&mut self, conn: ConnId) {
        self.outboxes.remove(&conn);
        self.hub.disconnected(conn);
    }

    pub fn outgoing(&mut self, conn: ConnId) -> Option<Outgoing> {
        self.outboxes.get_mut(&conn)?.pop_front()
    }

    pub fn garbage(&mut self, garbage: &Garbage) {
        for outbox in self.outboxes.values_mut() {
            outbox.push_back(Outgoing::Garbage(garbage.clone()));
        }
    }

    fn route(&mut self) {
        while let Some(output) = self.hub.poll() {
            let (conn, outgoing) = match output {
                HubOutput::Send { conn, text } => (conn, Outgoing::Text(text)),
                HubOutput::SendBinary { conn, data } => (conn, Outgoing::Binary(data)),
                HubOutput::Close { conn, code, reason } => (conn, Outgoing::Close(code, reason)),
            };
            if let Some(outbox) = self.outboxes.get_mut(&conn) {
                outbox.push_back(outgoing);
            }
        }
    }
}

/// The lock, the clock and the bell.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    started: Instant,
    stopping: AtomicBool,
}

impl Shared {
    pub fn new(hub: Hub) -> Self {
        Self {
            state: Mutex::new(State::new(hub)),
            changed: Condvar::new(),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Does something to the state and carries what comes of it to the sockets and listeners.
    pub fn with<T>(&self, act: impl FnOnce(&mut State, u64) -> T) -> T {
        let now_ms = self.now_ms();
        let mut state = self.lock();
        let answer = act(&mut state, now_ms);
        state.route();
        drop(state);
        self.changed.notify_all();
        answer
    }

    /// Milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Unix time in milliseconds by the hub's clock, which may be off on purpose.
    pub fn unix_ms(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        now.saturating_add_signed(self.lock().armed.skew_seconds().saturating_mul(1000))
    }

    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub fn set_stopping(&self, stopping: bool) {
        self.stopping.store(stopping, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Waits, but not past the stop.
    pub fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while !self.stopping() {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The first event from `position` on that `wanted` accepts, and the position behind it; waits for
    /// it at most so long.
    pub fn wait_for(
        &self,
        mut position: u64,
        timeout: Duration,
        mut wanted: impl FnMut(&HubEvent) -> bool,
    ) -> (u64, Option<HubEvent>) {
        let until = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            while let Some((at, event)) = state.hub.event_at(position) {
                position = at + 1;
                if wanted(event) {
                    return (position, Some(event.clone()));
                }
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else { return (position, None) };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
