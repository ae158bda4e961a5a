//! Waking the loop from other threads, and other threads when the device's status changes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Instant;

use nerves_hub_link_runtime::Signals;
use rustix::event::{EventfdFlags, eventfd};

/// A counter of the kernel that the loop waits on beside its connections, and one that handles wait on.
#[derive(Debug)]
pub(crate) struct Bell {
    counter: OwnedFd,
    changes: Mutex<u64>,
    changed: Condvar,
    runs_on: Mutex<Option<ThreadId>>,
}

impl Bell {
    pub(crate) fn new() -> std::io::Result<Self> {
        let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { counter, changes: Mutex::default(), changed: Condvar::new(), runs_on: Mutex::default() })
    }

    /// Forgets the wake-ups so far. What woke is looked at afterwards, so none is lost.
    pub(crate) fn clear(&self) {
        // Empty means that nobody woke.
        let _ = rustix::io::read(&self.counter, &mut [0; 8]);
    }

    /// Returns how often the status changed so far.
    pub(crate) fn changes(&self) -> u64 {
        *lock(&self.changes)
    }

    /// Waits until it changed more often than that, or until the end.
    pub(crate) fn wait_for_change(&self, seen: u64, end: Option<Instant>) {
        let changes = lock(&self.changes);
        let same = |changes: &mut u64| *changes == seen;
        // What came of it is looked at by the caller.
        match end.map(|end| end.saturating_duration_since(Instant::now())) {
            Some(left) => drop(self.changed.wait_timeout_while(changes, left, same)),
            None => drop(self.changed.wait_while(changes, same)),
        }
    }

    /// Notes the thread that callbacks run on.
    pub(crate) fn runs_here(&self) {
        *lock(&self.runs_on) = Some(std::thread::current().id());
    }

    pub(crate) fn is_the_loops_thread(&self) -> bool {
        *lock(&self.runs_on) == Some(std::thread::current().id())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Signals for Bell {
    fn wake(&self) {
        // Full means that a wake-up is waiting already.
        let _ = rustix::io::write(&self.counter, &1_u64.to_ne_bytes());
    }

    fn changed(&self) {
        *lock(&self.changes) += 1;
        self.changed.notify_all();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.counter.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn ready(bell: &Bell) -> bool {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&zero)).unwrap() == 1
    }

    #[test]
    fn many_wakes_are_one_and_clearing_forgets_them() {
        let bell = Bell::new().unwrap();
        assert!(!ready(&bell));
        for _ in 0..3 {
            bell.wake();
        }
        assert!(ready(&bell));
        bell.clear();
        assert!(!ready(&bell));
        bell.clear();
        bell.wake();
        assert!(ready(&bell));
    }
}
