//! Waking the device's task from threads, and whoever waits for its status.

use nerves_hub_link_runtime::Signals;
use tokio::sync::{Notify, watch};

/// One task waits for `woken`, any number for `changes`.
#[derive(Debug)]
pub(crate) struct Bell {
    woken: Notify,
    changes: watch::Sender<u64>,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self { woken: Notify::new(), changes: watch::Sender::new(0) }
    }

    /// Waits for the next wake-up, or takes those that were.
    pub(crate) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Returns what changes whenever the status does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Signals for Bell {
    fn wake(&self) {
        self.woken.notify_one();
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }
}
