//! A worker: one thread, its queue of jobs, and its reports.
//!
//! Everything in this crate that may block runs on a worker: the applier, the download store, operators' files, and short
//! tasks. The loop never waits for one. It asks for room, queues a job, and takes reports after a wake-up.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::mem::discriminant;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::threads::Threads;

/// One piece of work for the thread.
pub(crate) trait Job: Send + Sized + 'static {
    /// Bytes the job holds. They count toward the queue's limit until [`Jobs::done`].
    fn bytes(&self) -> usize {
        0
    }

    /// Appends the next job to this one, which still waits. Returns the next job if the two can't be one.
    fn append(&mut self, next: Self) -> Option<Self> {
        Some(next)
    }
}

/// One thing the thread reports to the loop.
pub(crate) trait Report: Send + Sized + 'static {
    /// The thread panicked with this message and has ended.
    fn panicked(message: &str) -> Self;

    /// Bytes the report holds. They count toward the limit of [`Jobs::wait_for_room`].
    fn bytes(&self) -> usize {
        0
    }

    /// Number of reports of this variant that may wait; more are dropped.
    fn waiting_max(&self) -> Option<usize> {
        None
    }

    /// Appends the next report to this one, the last that waits. Returns the next report if the two can't be one.
    fn append(&mut self, next: Self) -> Option<Self> {
        Some(next)
    }
}

/// The loop's end. Dropping it cancels the work; [`Self::close`] lets it finish.
#[derive(Debug)]
pub(crate) struct Worker<J, R> {
    shared: Arc<Shared<J, R>>,
}

/// The thread's end.
pub(crate) struct Jobs<J, R> {
    shared: Arc<Shared<J, R>>,
    /// [`Self::next_within`] has ended this thread, and another may already run.
    retired: Cell<bool>,
}

#[derive(Debug)]
struct Shared<J, R> {
    threads: Threads,
    state: Mutex<State<J, R>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<J, R> {
    jobs: VecDeque<J>,
    /// Bytes of the jobs that wait, and of the one in progress.
    held: usize,
    reports: VecDeque<R>,
    /// Bytes of the reports that wait.
    reported: usize,
    /// A thread takes jobs.
    running: bool,
    /// No more jobs follow.
    closed: bool,
    cancelled: bool,
}

impl<J: Job, R: Report> Worker<J, R> {
    /// A worker without a thread. Jobs can wait in its queue.
    pub(crate) fn new(threads: &Threads) -> Self {
        let (jobs, reports) = (VecDeque::new(), VecDeque::new());
        let (running, closed, cancelled) = (false, false, false);
        let state = Mutex::new(State { jobs, held: 0, reports, reported: 0, running, closed, cancelled });
        Self { shared: Arc::new(Shared { threads: threads.clone(), state, changed: Condvar::new() }) }
    }

    /// Starts the thread. A panic in `run` becomes a report.
    pub(crate) fn start(
        &self,
        name: &str,
        run: impl FnOnce(&Jobs<J, R>) + Send + 'static,
    ) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        debug_assert!(!shared.lock().running, "{name} runs already");
        let job = move || {
            let jobs = Jobs { shared, retired: Cell::new(false) };
            let panic = catch_unwind(AssertUnwindSafe(|| run(&jobs))).err();
            if !jobs.retired.get() {
                jobs.shared.lock().running = false;
            }
            if let Some(panic) = panic {
                jobs.report(R::panicked(panic_text(&*panic)));
            }
        };
        self.shared.lock().running = true;
        let started = self.shared.threads.start(name, job);
        if started.is_err() {
            self.shared.lock().running = false;
        }
        started
    }

    /// Returns the thread's end for the calling thread, for work that can't have a thread of its own.
    pub(crate) fn jobs_here(&self) -> Jobs<J, R> {
        Jobs { shared: Arc::clone(&self.shared), retired: Cell::new(false) }
    }

    /// Returns whether a thread takes jobs.
    pub(crate) fn is_running(&self) -> bool {
        self.shared.lock().running
    }

    /// Returns the number of jobs that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().jobs.len()
    }

    /// Returns whether a job of `bytes` bytes stays within `max` bytes of work.
    pub(crate) fn has_room(&self, bytes: usize, max: usize) -> bool {
        self.shared.lock().held.saturating_add(bytes) <= max
    }

    /// Queues a job.
    pub(crate) fn send(&self, job: J) {
        let mut state = self.shared.lock();
        state.held += job.bytes();
        let rest = match state.jobs.back_mut() {
            Some(last) => last.append(job),
            None => Some(job),
        };
        state.jobs.extend(rest);
        self.shared.changed.notify_all();
    }

    /// Takes the oldest report.
    pub(crate) fn next_report(&self) -> Option<R> {
        self.take_report(|_| true)
    }

    /// Takes the oldest report that `wanted` accepts. The thread waits meanwhile.
    pub(crate) fn take_report(&self, wanted: impl FnMut(&R) -> bool) -> Option<R> {
        let mut state = self.shared.lock();
        let at = state.reports.iter().position(wanted)?;
        let report = state.reports.remove(at)?;
        state.forget(report.bytes());
        self.shared.changed.notify_all();
        Some(report)
    }

    /// Returns the bytes of the reports that wait.
    #[cfg(test)]
    pub(crate) fn reported(&self) -> usize {
        self.shared.lock().reported
    }

    /// Queues a job and drops the reports it makes useless.
    pub(crate) fn send_and_drop(&self, job: J, useless: impl Fn(&R) -> bool) {
        let mut state = self.shared.lock();
        let bytes = state.reports.iter().filter(|report| useless(report)).map(R::bytes).sum();
        state.reports.retain(|report| !useless(report));
        state.forget(bytes);
        drop(state);
        self.send(job);
    }

    /// Lets the thread do the jobs that wait, and end.
    pub(crate) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl<J, R> Drop for Worker<J, R> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if !state.closed {
            state.cancelled = true;
            state.jobs.clear();
        }
        self.shared.changed.notify_all();
    }
}

impl<J: Job, R: Report> Jobs<J, R> {
    /// Waits for the next job. `None` after the last one, and when the work was cancelled.
    pub(crate) fn next(&self) -> Option<J> {
        let idle = |state: &mut State<J, R>| state.is_idle();
        let state = self.shared.changed.wait_while(self.shared.lock(), idle);
        state.unwrap_or_else(PoisonError::into_inner).jobs.pop_front()
    }

    /// Waits for the next job for a limited time. After `None` the thread must end.
    pub(crate) fn next_within(&self, limit: Duration) -> Option<J> {
        let idle = |state: &mut State<J, R>| state.is_idle();
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), limit, idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let job = state.jobs.pop_front();
        if job.is_none() {
            // With the lock held: the loop sees either a thread that finds its job, or none.
            state.running = false;
            self.retired.set(true);
        }
        job
    }

    /// Takes the next job, if one waits.
    pub(crate) fn next_at_once(&self) -> Option<J> {
        self.shared.lock().jobs.pop_front()
    }

    /// Waits for a job ahead of the others. Returns false if the work was cancelled first.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&J) -> bool) -> bool {
        let missing =
            |state: &mut State<J, R>| !state.cancelled && !state.closed && !state.jobs.iter().any(&wanted);
        let state = self.shared.changed.wait_while(self.shared.lock(), missing);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let at = state.jobs.iter().position(&wanted);
        at.and_then(|at| state.jobs.remove(at)).is_some()
    }

    /// Gives back the bytes of a job that was done.
    pub(crate) fn done(&self, bytes: usize) {
        let mut state = self.shared.lock();
        debug_assert!(state.held >= bytes, "{bytes} bytes done of {}", state.held);
        state.held = state.held.saturating_sub(bytes);
    }

    /// Returns whether the loop dropped its end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.shared.lock().cancelled
    }

    /// Returns whether such a job waits.
    pub(crate) fn is_waiting(&self, wanted: impl Fn(&J) -> bool) -> bool {
        self.shared.lock().jobs.iter().any(wanted)
    }

    /// Reports to the loop.
    pub(crate) fn report(&self, report: R) {
        self.shared.report(report);
    }

    /// Returns a way to report from a callback.
    pub(crate) fn reporter(&self) -> impl Fn(R) + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move |report| shared.report(report)
    }

    /// Waits until fewer than `max` bytes of reports wait. Returns false if the work was cancelled or such a job waits.
    pub(crate) fn wait_for_room(&self, max: usize, stop: impl Fn(&J) -> bool) -> bool {
        let full = |state: &mut State<J, R>| !state.is_stopped(&stop) && state.reported >= max;
        let state = self.shared.changed.wait_while(self.shared.lock(), full);
        !state.unwrap_or_else(PoisonError::into_inner).is_stopped(&stop)
    }

    /// Reports unless the work was cancelled or such a job waits.
    pub(crate) fn report_unless(&self, report: R, stop: impl Fn(&J) -> bool) {
        let mut state = self.shared.lock();
        if state.is_stopped(&stop) {
            return;
        }
        state.report(report);
        drop(state);
        self.shared.threads.wake();
    }
}

impl<J, R> Shared<J, R> {
    fn lock(&self) -> MutexGuard<'_, State<J, R>> {
        // Jobs run without the lock, so a panic leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J, R> State<J, R> {
    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && !self.closed && !self.cancelled
    }

    fn is_stopped(&self, stop: impl Fn(&J) -> bool) -> bool {
        self.cancelled || self.jobs.iter().any(stop)
    }
}

impl<J, R: Report> Shared<J, R> {
    fn report(&self, report: R) {
        self.lock().report(report);
        self.threads.wake();
    }
}

impl<J, R: Report> State<J, R> {
    fn report(&mut self, report: R) {
        let kind = discriminant(&report);
        let waiting = || self.reports.iter().filter(|waiting| discriminant(*waiting) == kind).count();
        if report.waiting_max().is_some_and(|max| waiting() >= max) {
            return;
        }
        self.reported += report.bytes();
        let rest = match self.reports.back_mut() {
            Some(last) => last.append(report),
            None => Some(report),
        };
        self.reports.extend(rest);
    }

    fn forget(&mut self, bytes: usize) {
        debug_assert!(self.reported >= bytes, "{bytes} bytes taken of {}", self.reported);
        self.reported = self.reported.saturating_sub(bytes);
    }
}

/// Returns the message of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestSignals;
    use std::sync::mpsc::channel;

    #[derive(Debug, PartialEq)]
    enum Work {
        Bytes(Vec<u8>),
        Go,
        Stop,
        Panic,
    }

    #[derive(Debug, PartialEq)]
    enum Said {
        Sum(usize),
        Note(&'static str),
        Bytes(usize),
        Panicked(String),
    }

    impl Job for Work {
        fn bytes(&self) -> usize {
            if let Self::Bytes(bytes) = self { bytes.len() } else { 0 }
        }

        fn append(&mut self, next: Self) -> Option<Self> {
            match (self, next) {
                (Self::Bytes(waiting), Self::Bytes(bytes)) => waiting.extend(bytes),
                (_, next) => return Some(next),
            }
            None
        }
    }

    impl Report for Said {
        fn panicked(message: &str) -> Self {
            Self::Panicked(message.to_owned())
        }

        fn bytes(&self) -> usize {
            if let Self::Bytes(len) = self { *len } else { 0 }
        }

        fn waiting_max(&self) -> Option<usize> {
            matches!(self, Self::Note(_)).then_some(2)
        }

        fn append(&mut self, next: Self) -> Option<Self> {
            match (self, next) {
                (Self::Sum(sum), Self::Sum(more)) => *sum += more,
                (_, next) => return Some(next),
            }
            None
        }
    }

    fn worker() -> (Worker<Work, Said>, Arc<TestSignals>, Threads) {
        let signals = TestSignals::new();
        let threads = Threads::new(signals.clone());
        (Worker::new(&threads), signals, threads)
    }

    #[test]
    fn room_counts_waiting_jobs_and_the_one_in_progress() {
        let (worker, _, _) = worker();
        assert!(worker.has_room(10, 10) && !worker.has_room(11, 10));
        worker.send(Work::Bytes(vec![0; 4]));
        worker.send(Work::Bytes(vec![0; 3]));
        assert_eq!(worker.waiting(), 1, "two jobs became one");
        let here = worker.jobs_here();
        assert_eq!(here.next(), Some(Work::Bytes(vec![0; 7])));
        assert!(worker.has_room(3, 10) && !worker.has_room(4, 10), "in progress");
        here.done(7);
        assert!(worker.has_room(10, 10));
    }

    #[test]
    fn reports_merge_are_bounded_and_can_be_taken_out_of_order() {
        let (worker, _, _) = worker();
        let here = worker.jobs_here();
        for report in
            [Said::Sum(1), Said::Sum(2), Said::Note("a"), Said::Note("b"), Said::Note("c"), Said::Sum(4)]
        {
            here.report(report);
        }
        assert_eq!(worker.take_report(|report| matches!(report, Said::Note(_))), Some(Said::Note("a")));
        here.report(Said::Note("d"));
        let rest: Vec<Said> = std::iter::from_fn(|| worker.next_report()).collect();
        assert_eq!(rest, [Said::Sum(3), Said::Note("b"), Said::Sum(4), Said::Note("d")]);
    }

    #[test]
    fn a_full_queue_of_reports_holds_the_thread_until_one_is_taken_or_a_job_stops_it() {
        let (worker, signals, threads) = worker();
        let stop = |job: &Work| *job == Work::Stop;
        worker
            .start("fills", move |jobs| {
                while jobs.wait_for_room(10, stop) {
                    jobs.report_unless(Said::Bytes(6), stop);
                }
                assert_eq!(jobs.next(), Some(Work::Stop));
                jobs.report(Said::Note("stopped"));
            })
            .unwrap();
        signals.wait_until(|| (worker.reported() == 12).then_some(()));
        assert_eq!(worker.next_report(), Some(Said::Bytes(6)));
        signals.wait_until(|| (worker.reported() == 12).then_some(()));
        worker.send_and_drop(Work::Stop, |report| matches!(report, Said::Bytes(_)));
        assert_eq!(signals.wait_until(|| worker.next_report()), Said::Note("stopped"));
        assert_eq!(worker.next_report(), None);
        signals.wait_until(|| threads.is_idle().then_some(()));
    }

    #[test]
    fn a_thread_can_wait_for_a_later_job_and_a_cancelled_one_waits_for_nothing() {
        let (worker, signals, threads) = worker();
        let run = |jobs: &Jobs<Work, Said>| {
            assert!(jobs.wait_for(|job| *job == Work::Go));
            assert_eq!(jobs.next(), Some(Work::Bytes(vec![1])));
            jobs.report(Said::Note("went"));
            assert!(!jobs.wait_for(|job| *job == Work::Go) && jobs.is_cancelled());
            assert_eq!(jobs.next(), None);
        };
        worker.start("waits", run).unwrap();
        worker.send(Work::Bytes(vec![1]));
        worker.send(Work::Go);
        signals.wait_until(|| worker.next_report());
        drop(worker);
        signals.wait_until(|| threads.is_idle().then_some(()));
    }

    #[test]
    fn a_closed_worker_does_its_jobs_and_a_dropped_one_does_not() {
        for close in [true, false] {
            let (worker, signals, threads) = worker();
            let ((go, wait), (tell, told)) = (channel::<()>(), channel());
            worker
                .start("counts", move |jobs| {
                    wait.recv().unwrap();
                    while jobs.next().is_some() {
                        tell.send(()).unwrap();
                    }
                })
                .unwrap();
            worker.send(Work::Go);
            worker.send(Work::Stop);
            if close {
                worker.close();
            }
            drop(worker);
            go.send(()).unwrap();
            signals.wait_until(|| threads.is_idle().then_some(()));
            assert_eq!(told.iter().count(), if close { 2 } else { 0 });
        }
    }

    #[test]
    fn a_panic_is_reported_and_another_thread_can_take_over() {
        let (worker, signals, threads) = worker();
        let run = |jobs: &Jobs<Work, Said>| {
            while let Some(job) = jobs.next() {
                assert!(job != Work::Panic, "on purpose");
                jobs.report(Said::Note("done"));
            }
        };
        worker.start("panics", run).unwrap();
        worker.send(Work::Panic);
        worker.send(Work::Go);
        let report = signals.wait_until(|| worker.next_report());
        assert!(matches!(&report, Said::Panicked(why) if why.contains("on purpose")), "{report:?}");
        assert!(!worker.is_running());
        worker.start("goes on", run).unwrap();
        assert_eq!(signals.wait_until(|| worker.next_report()), Said::Note("done"));
        drop(worker);
        signals.wait_until(|| threads.is_idle().then_some(()));
    }

    #[test]
    fn a_thread_that_waited_in_vain_is_gone_for_the_loop_at_once() {
        let (worker, signals, threads) = worker();
        let run = |jobs: &Jobs<Work, Said>| {
            while jobs.next_within(Duration::ZERO).is_some() {
                jobs.report(Said::Sum(1));
            }
        };
        for round in 0..100 {
            worker.send(Work::Go);
            if !worker.is_running() {
                worker.start("goes soon", run).unwrap();
            }
            assert_eq!(signals.wait_until(|| worker.next_report()), Said::Sum(1), "round {round}");
        }
        drop(worker);
        signals.wait_until(|| threads.is_idle().then_some(()));
    }
}
