//! Looking from time to time whether updates can be installed, so that the server hears of it before one fails.

use std::sync::{Arc, TryLockError};
use std::time::Duration;

use nerves_hub_link_protocol::{Command, Config, Instant, UpdateStrategy};

use super::Engine;
use crate::applier::SharedInstaller;
use crate::limits::{INSTALL_CHECK_MAX, INSTALL_CHECK_SPARSE};
use crate::store::SharedStore;
use crate::tasks::{Done, Tasks};
use crate::tcp::Network;
use crate::threads::Threads;
use crate::time_limit::TimeLimit;

/// What is known about it.
pub(super) struct Readiness {
    /// A thread that nothing else waits for: a disk may hang.
    checks: Tasks,
    every: Duration,
    /// Whether updates are kept in a folder first.
    staged: bool,
    /// Since when a check runs, or when the next one is due.
    check: Check,
    /// What the machine was told.
    obstacle: Option<String>,
}

enum Check {
    Due(Instant),
    Running(TimeLimit),
    /// It runs for too long.
    Hanging,
}

impl Readiness {
    pub(super) fn new(config: &Config, every: Duration, threads: &Threads, now: Instant) -> Self {
        let (checks, staged) = (Tasks::new(threads), is_staged(config));
        Self { checks, every, staged, check: Check::Due(now), obstacle: None }
    }

    pub(super) fn reconfigured(&mut self, config: &Config) {
        self.staged = is_staged(config);
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.check {
            Check::Due(at) => Some(*at),
            Check::Running(limit) => Some(limit.until()),
            Check::Hanging => None,
        }
    }

    pub(super) fn close(&self) {
        self.checks.close();
    }
}

impl<N: Network> Engine<N> {
    /// Takes the answer of the last check and starts the next when it is due.
    pub(super) fn check_install(&mut self) {
        let now = self.connector.network.now();
        while let Some(done) = self.ready.checks.next_outcome() {
            match done {
                Done::Checked(Some(result)) => self.obstacle(result.err()),
                // One is being installed, which tells by itself.
                Done::Checked(None) => {}
                Done::Panicked(text) => {
                    self.obstacle(Some(format!("looking whether updates can be installed panicked: {text}")));
                }
                _ => debug_assert!(false, "this thread does nothing but checks"),
            }
            let rare = if self.ready.obstacle.is_some() { 1 } else { INSTALL_CHECK_SPARSE };
            self.ready.check = Check::Due(now + self.ready.every * rare);
        }
        let hangs = match &mut self.ready.check {
            Check::Due(at) if *at <= now => return self.start_check(now),
            Check::Running(limit) => limit.is_over(now),
            Check::Due(_) | Check::Hanging => false,
        };
        if hangs {
            self.ready.check = Check::Hanging;
            let seconds = INSTALL_CHECK_MAX.as_secs();
            self.obstacle(Some(format!(
                "looking at the disk has not ended for {seconds} s; it may be hanging"
            )));
        }
    }

    fn start_check(&mut self, now: Instant) {
        let installer = Arc::clone(&self.installer);
        let folder = self.folders.firmware.as_ref().filter(|_| self.ready.staged).map(Arc::clone);
        self.ready.check = Check::Running(TimeLimit::new(now, INSTALL_CHECK_MAX));
        if let Err(reason) = self.ready.checks.start(move || Done::Checked(look(&installer, folder.as_ref())))
        {
            self.ready.check = Check::Due(now + self.ready.every);
            self.obstacle(Some(reason));
        }
    }

    /// Tells the machine what is in the way of updates, if that changed.
    pub(super) fn obstacle(&mut self, reason: Option<String>) {
        if self.ready.obstacle != reason {
            self.ready.obstacle.clone_from(&reason);
            if let Check::Due(at) = &mut self.ready.check {
                // Found after a failure: look sooner whether it lasts.
                *at = (*at).min(self.connector.network.now() + self.ready.every);
            }
            self.order(Command::InstallObstacle { reason });
        }
    }
}

/// Looks at the disk, and at the folder that updates are kept in. `None` while either is in use.
fn look(installer: &SharedInstaller, folder: Option<&SharedStore>) -> Option<Result<(), String>> {
    let checked = match installer.try_lock() {
        Ok(installer) => installer.check(),
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().check(),
        Err(TryLockError::WouldBlock) => return None,
    };
    if let Err(error) = checked {
        return Some(Err(error.to_string()));
    }
    let Some(folder) = folder else { return Some(Ok(())) };
    let checked = match folder.try_lock() {
        Ok(folder) => folder.check(),
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().check(),
        Err(TryLockError::WouldBlock) => return None,
    };
    Some(checked.map_err(|error| format!("updates can't be kept: {error}")))
}

fn is_staged(config: &Config) -> bool {
    !matches!(config.strategy, UpdateStrategy::Streaming)
}
