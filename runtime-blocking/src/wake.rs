//! Waking the loop from other threads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// A counter of the kernel that the loop waits on beside its connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Waker {
    counter: Arc<OwnedFd>,
}

impl Waker {
    pub(crate) fn new() -> std::io::Result<Self> {
        let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { counter: Arc::new(counter) })
    }

    /// Ends the loop's present or next wait.
    pub(crate) fn wake(&self) {
        // Full means that a wake-up is waiting already.
        let _ = rustix::io::write(&*self.counter, &1_u64.to_ne_bytes());
    }

    /// Forgets the wake-ups so far. What woke is looked at afterwards, so none is lost.
    pub(crate) fn clear(&self) {
        let _ = rustix::io::read(&*self.counter, &mut [0; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.counter.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn ready(waker: &Waker) -> bool {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(waker, PollFlags::IN)], Some(&zero)).unwrap() == 1
    }

    #[test]
    fn many_wakes_are_one_and_clearing_forgets_them() {
        let waker = Waker::new().unwrap();
        assert!(!ready(&waker));
        for _ in 0..3 {
            waker.clone().wake();
        }
        assert!(ready(&waker));
        waker.clear();
        assert!(!ready(&waker));
        waker.clear();
        waker.wake();
        assert!(ready(&waker));
    }
}
