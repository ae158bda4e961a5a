//! The threads of one device, counted, so that the loop knows when none is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::signal::Signals;

/// Starts threads. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Crew {
    signals: Arc<dyn Signals>,
    running: Arc<AtomicUsize>,
}

impl Crew {
    pub(crate) fn new(signals: Arc<dyn Signals>) -> Self {
        Self { signals, running: Arc::default() }
    }

    pub(crate) fn wake(&self) {
        self.signals.wake();
    }

    /// Runs a job on a thread of its own.
    pub(crate) fn start(&self, name: &str, job: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let place = Place::take(self.clone());
        let job = move || {
            let _place = place;
            job();
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(job).map(drop)
    }

    /// Returns whether no job runs. What a job held is released by then.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }
}

/// One running job, counted until it is dropped.
struct Place(Crew);

impl Place {
    fn take(crew: Crew) -> Self {
        crew.running.fetch_add(1, Ordering::AcqRel);
        Self(crew)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bell;
    use std::sync::mpsc::channel;

    #[test]
    fn a_crew_is_idle_when_its_last_job_has_ended_even_by_a_panic() {
        let bell = Bell::new();
        let crew = Crew::new(bell.clone());
        assert!(crew.is_idle());
        let (go, wait) = channel::<()>();
        crew.start("waits", move || wait.recv().unwrap()).unwrap();
        crew.start("panics", || panic!("on purpose")).unwrap();
        assert!(!crew.is_idle());
        go.send(()).unwrap();
        bell.wait_until(|| crew.is_idle().then_some(()));
    }
}
