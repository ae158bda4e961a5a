//! Short tasks that may block: asking the system about its health, reading the file that is sent, remembering attempts.
//!
//! One thread does them in order. It starts with the first task and ends a while after the last.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nerves_hub_link_platform::files::Outgoing;
use nerves_hub_link_platform::health::HealthSampler;
use nerves_hub_link_protocol::{ExtensionCommand, UploadId};

use crate::limits::{TASKS_LINGER, TASKS_MAX};
use crate::memory::Memory;
use crate::threads::Threads;
use crate::worker::{self, Jobs, Worker, panic_text};

/// The outcome of a task. The things the task needed come back with it.
pub(crate) enum Done {
    /// The attempts are kept, or why they aren't.
    Remembered(Memory, Result<(), String>),
    /// A health report.
    Sampled(Box<HealthSampler>, ExtensionCommand),
    /// The next bytes of the file that is sent.
    Read(UploadId, Outgoing, Result<Vec<u8>, String>),
    /// Whether updates can be installed, or why not; `None` while one is being installed.
    Checked(Option<Result<(), String>>),
    /// The task panicked; the things it needed are lost.
    Panicked(String),
}

type Task = Box<dyn FnOnce() -> Done + Send>;

impl worker::Job for Task {}

impl worker::Report for Done {
    fn panicked(message: &str) -> Self {
        Self::Panicked(message.to_owned())
    }
}

/// The loop's end. Dropping it lets the thread finish.
pub(crate) struct Tasks {
    worker: Worker<Task, Done>,
}

impl Tasks {
    pub(crate) fn new(threads: &Threads) -> Self {
        Self { worker: Worker::new(threads) }
    }

    /// Queues a task. If the system gives no thread, the task runs at once, in the caller.
    ///
    /// # Errors
    ///
    /// Too many tasks wait. The reason is for a person; the task and everything it holds are dropped.
    pub(crate) fn start(&self, task: impl FnOnce() -> Done + Send + 'static) -> Result<(), String> {
        if self.worker.waiting() >= TASKS_MAX {
            return Err(format!("{TASKS_MAX} earlier tasks have not ended; a disk may be hanging"));
        }
        self.worker.send(Box::new(task));
        if !self.worker.is_running() && self.worker.start("nerves-hub-tasks", run).is_err() {
            let here = self.worker.jobs_here();
            while let Some(task) = here.next_at_once() {
                here.report(outcome(task));
            }
        }
        Ok(())
    }

    /// Takes the next outcome.
    pub(crate) fn next_outcome(&self) -> Option<Done> {
        self.worker.next_report()
    }

    /// Lets the thread do the tasks that wait, and end.
    pub(crate) fn close(&self) {
        self.worker.close();
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(jobs: &Jobs<Task, Done>) {
    while let Some(task) = jobs.next_within(TASKS_LINGER) {
        jobs.report(outcome(task));
    }
}

fn outcome(task: Task) -> Done {
    let done = catch_unwind(AssertUnwindSafe(task));
    done.unwrap_or_else(|panic| Done::Panicked(panic_text(&*panic).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestSignals;
    use std::sync::mpsc::channel;

    fn remembered() -> Done {
        Done::Remembered(Memory::none(), Ok(()))
    }

    #[test]
    fn work_is_done_in_order_and_a_panic_stops_nothing() {
        let signals = TestSignals::new();
        let threads = Threads::new(signals.clone());
        let tasks = Tasks::new(&threads);
        tasks.start(|| panic!("no sensor")).unwrap();
        tasks.start(remembered).unwrap();
        let first = signals.wait_until(|| tasks.next_outcome());
        assert!(matches!(first, Done::Panicked(why) if why == "no sensor"));
        assert!(matches!(signals.wait_until(|| tasks.next_outcome()), Done::Remembered(_, Ok(()))));
        // Work that was given is finished though nobody waits for it.
        let (tell, told) = channel();
        tasks
            .start(move || {
                tell.send(()).unwrap();
                remembered()
            })
            .unwrap();
        drop(tasks);
        told.recv().unwrap();
        signals.wait_until(|| threads.is_idle().then_some(()));
    }

    #[test]
    fn what_waits_is_bounded() {
        let signals = TestSignals::new();
        let tasks = Tasks::new(&Threads::new(signals.clone()));
        let ((go, wait), (tell, told)) = (channel::<()>(), channel());
        tasks
            .start(move || {
                tell.send(()).unwrap();
                wait.recv().unwrap();
                remembered()
            })
            .unwrap();
        told.recv().unwrap();
        for _ in 0..TASKS_MAX {
            tasks.start(remembered).unwrap();
        }
        assert!(tasks.start(remembered).unwrap_err().contains("have not ended"));
        go.send(()).unwrap();
        for _ in 0..=TASKS_MAX {
            signals.wait_until(|| tasks.next_outcome());
        }
        tasks.start(remembered).unwrap();
    }
}
