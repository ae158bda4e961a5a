//! A server that attacks its devices.
//!
//! | file | its job |
//! | --- | --- |
//! | `attack` | every attack, and one blow of each |
//! | `archives` | signed archives that are not what an offer says |
//!
//! Devices get a valid connection: TLS, their own secret, honest heartbeats. Everything else is the attack. What a device must
//! do is the same in every case: stay connected or come back, keep its running slot, write only what the signed metadata and
//! the offer agree on, and stay within its limits of reboots, memory, storage and log.

mod archives;
mod attack;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::disk::DiskLayout;
use crate::firmware::SigningKey;
use crate::hub::HubEvent;
use crate::server::{HubOptions, HubServer};

pub use attack::Attack;

/// Milliseconds after which the attacker looks whether it has to stop.
const TURN: Duration = Duration::from_millis(100);

/// The device under attack, as far as the attacker knows it.
#[derive(Debug, Clone)]
pub struct Victim {
    /// Its identifier.
    pub identifier: String,
    /// Its product, which the attacker can read from the server's database.
    pub product: String,
    /// Its platform.
    pub platform: String,
    /// Its architecture.
    pub architecture: String,
    /// The layout of its disk.
    pub layout: DiskLayout,
    /// Signs archives. The attacker holds no key: it has archives that the vendor signed for other purposes.
    pub vendor: SigningKey,
}

/// A hub that strikes whenever the device gives it an occasion: after each join and after each update that ended.
pub struct HostileHub {
    hub: Arc<HubServer>,
    blows: Arc<Blows>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Blows {
    count: Mutex<u32>,
    changed: Condvar,
}

impl HostileHub {
    /// Starts a hub that strikes `rounds` times.
    ///
    /// # Errors
    ///
    /// If the hub cannot be started or an archive cannot be built.
    pub fn start(attack: Attack, victim: Victim, rounds: u32) -> io::Result<Self> {
        let hub = Arc::new(HubServer::start(HubOptions::default())?);
        let blows = Arc::new(Blows::default());
        let stop = Arc::new(AtomicBool::new(false));
        attack.prepare(&hub);
        let thread = {
            let (hub, blows, stop) = (Arc::clone(&hub), Arc::clone(&blows), Arc::clone(&stop));
            std::thread::Builder::new()
                .name("attacker".to_owned())
                .spawn(move || run(attack, &victim, rounds, &hub, &blows, &stop))?
        };
        Ok(Self { hub, blows, stop, thread: Some(thread) })
    }

    /// The hub behind it.
    pub fn hub(&self) -> &HubServer {
        &self.hub
    }

    /// Waits until the attack had so many rounds. Returns how many it had within `timeout`.
    pub fn wait_for_rounds(&self, rounds: u32, timeout: Duration) -> u32 {
        let until = Instant::now() + timeout;
        let mut count = self.blows.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count < rounds {
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            count = self.blows.changed.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *count
    }
}

impl Drop for HostileHub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(attack: Attack, victim: &Victim, rounds: u32, hub: &HubServer, blows: &Blows, stop: &AtomicBool) {
    let mut events = hub.events();
    let mut round = 0;
    while !stop.load(Ordering::SeqCst) && round < rounds {
        let Some(event) = events.next(TURN) else { continue };
        if !is_occasion(&event, attack) {
            continue;
        }
        attack.strike(hub, victim, round);
        round += 1;
        *blows.count.lock().unwrap_or_else(PoisonError::into_inner) = round;
        blows.changed.notify_all();
    }
}

/// Whether the device is free for another blow.
fn is_occasion(event: &HubEvent, attack: Attack) -> bool {
    match event {
        HubEvent::Joined { .. } => true,
        HubEvent::Status { status, .. } => {
            attack.is_update() && matches!(status.as_str(), "failed" | "ignored" | "rescheduled")
        }
        HubEvent::Heartbeat { .. } => attack.is_repeated(),
        _ => false,
    }
}
