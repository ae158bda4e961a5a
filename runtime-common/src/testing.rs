//! A loop for unit tests: it only waits for wake-ups.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::signal::Signals;

/// Longest wait for anything. Reached only when something is broken.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct TestSignals {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl TestSignals {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Waits for something that `look` finds, which it tries after every wake-up.
    pub(crate) fn wait_until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(found) = look() {
                return found;
            }
            let woken = self.woken.lock().unwrap();
            let (mut woken, end) = self.changed.wait_timeout_while(woken, LIMIT, |woken| !*woken).unwrap();
            assert!(!end.timed_out(), "no wake-up");
            *woken = false;
        }
    }
}

impl Signals for TestSignals {
    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn changed(&self) {}
}
