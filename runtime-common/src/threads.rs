//! The threads of one device, counted: the loop must know when the last has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::signal::Signals;

/// Starts threads. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    signals: Arc<dyn Signals>,
    running: Arc<AtomicUsize>,
}

impl Threads {
    pub(crate) fn new(signals: Arc<dyn Signals>) -> Self {
        Self { signals, running: Arc::default() }
    }

    pub(crate) fn wake(&self) {
        self.signals.wake();
    }

    /// Runs a job on a new thread.
    pub(crate) fn start(&self, name: &str, job: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let running = Running::count(self.clone());
        let job = move || {
            let _running = running;
            job();
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(job).map(drop)
    }

    /// Returns whether no job runs. Everything a job held is released by then.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }
}

/// One running job, counted until it is dropped.
struct Running(Threads);

impl Running {
    fn count(threads: Threads) -> Self {
        threads.running.fetch_add(1, Ordering::AcqRel);
        Self(threads)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestSignals;
    use std::sync::mpsc::channel;

    #[test]
    fn threads_are_idle_after_their_last_job_even_after_a_panic() {
        let signals = TestSignals::new();
        let threads = Threads::new(signals.clone());
        assert!(threads.is_idle());
        let (go, wait) = channel::<()>();
        threads.start("waits", move || wait.recv().unwrap()).unwrap();
        threads.start("panics", || panic!("on purpose")).unwrap();
        assert!(!threads.is_idle());
        go.send(()).unwrap();
        signals.wait_until(|| threads.is_idle().then_some(()));
    }
}
