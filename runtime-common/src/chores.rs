//! Short work that may block: asking the system about its health, reading the file that is sent, remembering attempts.
//! One thread does it in order; it comes with the work and goes a while after it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nerves_hub_link_platform::files::Outgoing;
use nerves_hub_link_platform::health::HealthSampler;
use nerves_hub_link_protocol::{ExtensionCommand, UploadId};

use crate::applier::panic_text;
use crate::crew::Crew;
use crate::limits::{CHORES_LINGER, CHORES_MAX};
use crate::memory::Memory;

/// What came of a piece of work. What the work needed comes back with it.
pub(crate) enum Done {
    /// The attempts are kept, or why they aren't.
    Remembered(Memory, Result<(), String>),
    /// How the system is doing.
    Sampled(Box<HealthSampler>, ExtensionCommand),
    /// The next bytes of the file that is sent.
    Read(UploadId, Outgoing, Result<Vec<u8>, String>),
    /// Whether updates can be installed, or why not; `None` while one is being installed.
    Checked(Option<Result<(), String>>),
    /// The work panicked; whatever it needed is lost.
    Panicked(String),
}

type Chore = Box<dyn FnOnce() -> Done + Send>;

/// The loop's end. Dropping it lets the thread finish.
pub(crate) struct Chores {
    crew: Crew,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Chore>,
    done: VecDeque<Done>,
    /// There is a thread, which will look for work before it ends.
    attended: bool,
    closed: bool,
}

impl Chores {
    pub(crate) fn new(crew: Crew) -> Self {
        Self { crew, shared: Arc::default() }
    }

    /// Has something done; on the spot, if the system gives no thread for it.
    ///
    /// # Errors
    ///
    /// Why that can't be, for a person. The work and all it held is dropped then.
    pub(crate) fn give(&self, work: impl FnOnce() -> Done + Send + 'static) -> Result<(), String> {
        let mut state = self.shared.lock();
        if state.waiting.len() >= CHORES_MAX {
            return Err(format!("{CHORES_MAX} earlier tasks have not ended; a disk may be hanging"));
        }
        state.waiting.push_back(Box::new(work));
        self.shared.changed.notify_one();
        if !state.attended {
            let (shared, crew) = (Arc::clone(&self.shared), self.crew.clone());
            state.attended = self.crew.start("nerves-hub-chore", move || shared.attend(&crew)).is_ok();
            if !state.attended {
                drop(state);
                self.shared.work(&self.crew);
            }
        }
        Ok(())
    }

    /// Returns what was done next, once it is.
    pub(crate) fn done(&self) -> Option<Done> {
        self.shared.lock().done.pop_front()
    }

    /// Lets the thread finish what it was given, and end.
    pub(crate) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Drop for Chores {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Work is done without the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attend(&self, crew: &Crew) {
        while self.waits_for_work() {
            self.work(crew);
        }
    }

    /// Does what there is.
    fn work(&self, crew: &Crew) {
        while let Some(work) = self.take() {
            let done = catch_unwind(AssertUnwindSafe(work));
            let done = done.unwrap_or_else(|panic| Done::Panicked(panic_text(&*panic).to_owned()));
            self.lock().done.push_back(done);
            crew.wake();
        }
    }

    fn take(&self) -> Option<Chore> {
        self.lock().waiting.pop_front()
    }

    /// Waits for work. When there is none, the thread is to end, and is no longer counted on.
    fn waits_for_work(&self) -> bool {
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let waited = self.changed.wait_timeout_while(self.lock(), CHORES_LINGER, idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.attended = !state.waiting.is_empty();
        state.attended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bell;
    use std::sync::mpsc::channel;

    fn remembered() -> Done {
        Done::Remembered(Memory::none(), Ok(()))
    }

    #[test]
    fn work_is_done_in_order_and_a_panic_stops_nothing() {
        let bell = Bell::new();
        let crew = Crew::new(bell.clone());
        let chores = Chores::new(crew.clone());
        chores.give(|| panic!("no sensor")).unwrap();
        chores.give(remembered).unwrap();
        let first = bell.wait_until(|| chores.done());
        assert!(matches!(first, Done::Panicked(why) if why == "no sensor"));
        assert!(matches!(bell.wait_until(|| chores.done()), Done::Remembered(_, Ok(()))));
        // Work that was given is finished though nobody waits for it.
        let (tell, told) = channel();
        chores
            .give(move || {
                tell.send(()).unwrap();
                remembered()
            })
            .unwrap();
        drop(chores);
        told.recv().unwrap();
        bell.wait_until(|| crew.is_idle().then_some(()));
    }

    #[test]
    fn what_waits_is_bounded() {
        let bell = Bell::new();
        let chores = Chores::new(Crew::new(bell.clone()));
        let ((go, wait), (tell, told)) = (channel::<()>(), channel());
        chores
            .give(move || {
                tell.send(()).unwrap();
                wait.recv().unwrap();
                remembered()
            })
            .unwrap();
        told.recv().unwrap();
        for _ in 0..CHORES_MAX {
            chores.give(remembered).unwrap();
        }
        assert!(chores.give(remembered).unwrap_err().contains("have not ended"));
        go.send(()).unwrap();
        for _ in 0..=CHORES_MAX {
            bell.wait_until(|| chores.done());
        }
        chores.give(remembered).unwrap();
    }
}
