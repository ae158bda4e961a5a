//! A loop for unit tests: it only waits for wake-ups.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::signal::Signals;

/// Longest wait for anything. Reached only when something is broken.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Waits for something that `look` finds, which it tries after every wake-up.
    pub(crate) fn wait_until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(found) = look() {
                return found;
            }
            let rung = self.rung.lock().unwrap();
            let (mut rung, end) = self.changed.wait_timeout_while(rung, LIMIT, |rung| !*rung).unwrap();
            assert!(!end.timed_out(), "no wake-up");
            *rung = false;
        }
    }
}

impl Signals for Bell {
    fn wake(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn changed(&self) {}
}
