//! The worker that applies an update.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use nerves_hub_link_platform::install::{InstallError, InstallEvent, InstallRequest, Installer};
use nerves_hub_link_protocol::{FetchId, FirmwareMeta, OfferId, StartApply};

use crate::identity::firmware_meta;
use crate::limits::{HANDOVER_MAX, REMARK_CHARS_MAX, REMARKS_MAX};
use crate::threads::Threads;
use crate::worker::{self, Jobs, Worker};

/// The installer. An applier holds the lock for as long as it may write.
pub(crate) type SharedInstaller = Arc<Mutex<Box<dyn Installer>>>;

/// One update being applied. Dropping it stops the worker after the chunk in progress.
pub(crate) struct Applier {
    pub(crate) offer: OfferId,
    worker: Worker<Job, Report>,
}

enum Job {
    /// The next bytes of the archive.
    Chunk(FetchId, Vec<u8>),
    /// The firmware that [`Report::Signed`] names may be written.
    Proceed,
    /// The archive is complete.
    Finish,
}

/// What an applier did.
#[derive(Debug, PartialEq)]
pub(crate) enum Report {
    /// The applier took these bytes.
    Stored(FetchId, usize),
    /// The progress, 0 to 100.
    Progress(u8),
    /// A remark of the archive, for the log.
    Remark(String),
    /// The signed metadata. The applier waits for [`Applier::proceed`].
    Signed(Box<FirmwareMeta>),
    /// After a failure: why nothing can be installed at present.
    Obstacle(String),
    /// The last report.
    Ended(Result<(), Failure>),
}

/// Why an update could not be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) kind: FailureKind,
}

/// What would cure a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// A full image in place of the delta.
    Delta,
    /// Other bytes.
    File,
    /// No other download.
    Other,
}

impl From<InstallError> for Failure {
    fn from(error: InstallError) -> Self {
        let kind = match error {
            InstallError::Delta(_) => FailureKind::Delta,
            InstallError::File(_) => FailureKind::File,
            _ => FailureKind::Other,
        };
        Self { reason: error.to_string(), kind }
    }
}

impl worker::Job for Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Chunk(_, bytes) => bytes.len(),
            Self::Proceed | Self::Finish => 0,
        }
    }
}

impl worker::Report for Report {
    fn panicked(message: &str) -> Self {
        let reason = format!("the installer panicked: {message}");
        Self::Ended(Err(Failure { reason, kind: FailureKind::Other }))
    }

    fn waiting_max(&self) -> Option<usize> {
        matches!(self, Self::Remark(_)).then_some(REMARKS_MAX)
    }

    fn append(&mut self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self::Stored(fetch, sum), Self::Stored(next, len)) if *fetch == next => *sum += len,
            (Self::Progress(percent), Self::Progress(next)) => *percent = next,
            (_, next) => return Some(next),
        }
        None
    }
}

impl Applier {
    /// Starts the worker. It begins once the applier before it, if any, has ended.
    pub(crate) fn start(
        start: StartApply,
        installer: SharedInstaller,
        threads: &Threads,
    ) -> std::io::Result<Self> {
        let (offer, worker) = (start.offer, Worker::new(threads));
        let run = move |jobs: &Jobs<Job, Report>| {
            let outcome = apply(jobs, &installer, start);
            if let Some(obstacle) = outcome.is_err().then(|| obstacle(&installer)).flatten() {
                jobs.report(Report::Obstacle(obstacle));
            }
            jobs.report(Report::Ended(outcome));
        };
        worker.start("nerves-hub-apply", run)?;
        Ok(Self { offer, worker })
    }

    /// Returns whether a chunk of `len` bytes fits.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.worker.has_room(len, HANDOVER_MAX)
    }

    /// Queues a chunk. Ask [`Self::has_room`] first.
    pub(crate) fn push(&self, fetch: FetchId, chunk: Vec<u8>) {
        self.worker.send(Job::Chunk(fetch, chunk));
    }

    /// Permits the applier to write the firmware that [`Report::Signed`] names.
    pub(crate) fn proceed(&self) {
        self.worker.send(Job::Proceed);
    }

    /// Ends the archive.
    pub(crate) fn finish(&self) {
        self.worker.send(Job::Finish);
    }

    pub(crate) fn next_report(&self) -> Option<Report> {
        self.worker.next_report()
    }
}

fn apply(jobs: &Jobs<Job, Report>, installer: &SharedInstaller, start: StartApply) -> Result<(), Failure> {
    // Held to the end: the next update begins when this one can no longer write. `begin` starts afresh after a panic.
    let mut installer = installer.lock().unwrap_or_else(PoisonError::into_inner);
    if jobs.is_cancelled() {
        return Ok(());
    }
    let report = jobs.reporter();
    let StartApply { public_keys, uuid, version, size, .. } = start;
    let progress = move |event| Report::of(event).into_iter().for_each(&report);
    let request = InstallRequest::new(public_keys, progress).firmware(uuid, version, size).hold(true);
    let mut install = installer.begin(request)?;
    while let Some(job) = jobs.next() {
        match job {
            Job::Chunk(fetch, chunk) => {
                install.write(&chunk)?;
                if let Some(firmware) = install.held() {
                    jobs.report(Report::Signed(Box::new(firmware_meta(&firmware))));
                    if !jobs.wait_for(|job| matches!(job, Job::Proceed)) {
                        return Ok(());
                    }
                    install.proceed()?;
                }
                jobs.done(chunk.len());
                jobs.report(Report::Stored(fetch, chunk.len()));
            }
            Job::Finish => return Ok(install.finish().map(drop)?),
            // The machine permits what was never held: the installer doesn't hold.
            Job::Proceed => debug_assert!(false, "nothing is held"),
        }
    }
    Ok(())
}

/// Returns why nothing can be installed, if so.
fn obstacle(installer: &SharedInstaller) -> Option<String> {
    let installer = installer.lock().unwrap_or_else(PoisonError::into_inner);
    let checked = catch_unwind(AssertUnwindSafe(|| installer.check()));
    // An installer whose check panics has no better reason than the failure.
    checked.ok()?.err().map(|error| error.to_string())
}

impl Report {
    fn of(event: InstallEvent) -> Option<Self> {
        let remark = match event {
            InstallEvent::Progress(percent) => return Some(Self::Progress(percent)),
            InstallEvent::Info(text) => text,
            InstallEvent::Warning(text) => format!("warning: {text}"),
            _ => return None,
        };
        Some(Self::Remark(remark.chars().take(REMARK_CHARS_MAX).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestSignals;
    use nerves_hub_link_platform::install::{Install, InstallReport};
    use std::sync::mpsc::{Receiver, Sender, channel};

    const FETCH: FetchId = FetchId(1);

    /// An installer whose every write waits for a permit; what it does is told.
    struct Gated {
        permits: Arc<Mutex<Receiver<()>>>,
        told: Sender<String>,
    }

    struct GatedInstall {
        permits: Arc<Mutex<Receiver<()>>>,
        told: Sender<String>,
    }

    impl Installer for Gated {
        fn begin(&mut self, mut request: InstallRequest) -> Result<Box<dyn Install>, InstallError> {
            (request.progress)(InstallEvent::Progress(7));
            (request.progress)(InstallEvent::Warning("odd".to_owned()));
            self.told.send("begin".to_owned()).unwrap();
            let (permits, told) = (Arc::clone(&self.permits), self.told.clone());
            Ok(Box::new(GatedInstall { permits, told }))
        }
    }

    impl Install for GatedInstall {
        fn write(&mut self, chunk: &[u8]) -> Result<(), InstallError> {
            self.told.send(format!("write {}", chunk.len())).unwrap();
            self.permits.lock().unwrap().recv().unwrap();
            match chunk.first() {
                Some(b'!') => panic!("bad piece"),
                Some(b'~') => Err(InstallError::Delta("another source".to_owned())),
                Some(b'%') => Err(InstallError::File("bad digest".to_owned())),
                Some(b'?') => Err(InstallError::Failed("disk full".to_owned())),
                _ => Ok(()),
            }
        }

        fn finish(self: Box<Self>) -> Result<InstallReport, InstallError> {
            self.told.send("finish".to_owned()).unwrap();
            Ok(InstallReport::default())
        }
    }

    impl Drop for GatedInstall {
        fn drop(&mut self) {
            let _ = self.told.send("drop".to_owned());
        }
    }

    struct Bench {
        installer: SharedInstaller,
        signals: Arc<TestSignals>,
        threads: Threads,
        permit: Sender<()>,
        told: Receiver<String>,
    }

    impl Bench {
        fn new() -> Self {
            let (permit, permits) = channel();
            let (sender, told) = channel();
            let gated = Gated { permits: Arc::new(Mutex::new(permits)), told: sender };
            let installer: SharedInstaller = Arc::new(Mutex::new(Box::new(gated)));
            let signals = TestSignals::new();
            Self { installer, threads: Threads::new(signals.clone()), signals, permit, told }
        }

        fn start(&self, offer: u64) -> Applier {
            let installer = Arc::clone(&self.installer);
            Applier::start(StartApply::new(OfferId(offer), vec![]), installer, &self.threads).unwrap()
        }

        /// Waits for a report that `wanted` accepts, and returns it after those before it.
        fn reports(&self, applier: &Applier, wanted: impl Fn(&Report) -> bool) -> Vec<Report> {
            let mut reports = Vec::new();
            while !reports.last().is_some_and(&wanted) {
                reports.push(self.signals.wait_until(|| applier.next_report()));
            }
            reports
        }

        fn end(&self, applier: &Applier) -> Result<(), Failure> {
            match self.reports(applier, |report| matches!(report, Report::Ended(_))).pop() {
                Some(Report::Ended(end)) => end,
                other => panic!("{other:?}"),
            }
        }

        fn heard(&self, expected: &str) {
            assert_eq!(self.told.recv_timeout(std::time::Duration::from_secs(10)).unwrap(), expected);
        }
    }

    #[test]
    fn pieces_are_written_in_order_and_reported() {
        let bench = Bench::new();
        let applier = bench.start(1);
        applier.push(FETCH, vec![b'a'; 3]);
        applier.push(FetchId(2), vec![b'b'; 4]);
        applier.finish();
        bench.permit.send(()).unwrap();
        bench.permit.send(()).unwrap();
        let reports = bench.reports(&applier, |report| matches!(report, Report::Ended(_)));
        let expected = [
            Report::Progress(7),
            Report::Remark("warning: odd".to_owned()),
            Report::Stored(FETCH, 3),
            Report::Stored(FetchId(2), 4),
            Report::Ended(Ok(())),
        ];
        assert_eq!(reports, expected);
        for expected in ["begin", "write 3", "write 4", "finish", "drop"] {
            bench.heard(expected);
        }
    }

    #[test]
    fn the_hand_over_is_bounded_and_counts_the_piece_being_written() {
        let bench = Bench::new();
        let applier = bench.start(1);
        assert!(applier.has_room(HANDOVER_MAX) && !applier.has_room(HANDOVER_MAX + 1));
        applier.push(FETCH, vec![0; HANDOVER_MAX - 10]);
        bench.heard("begin");
        bench.heard(&format!("write {}", HANDOVER_MAX - 10));
        assert!(applier.has_room(10) && !applier.has_room(11), "taken, but not written yet");
        bench.permit.send(()).unwrap();
        bench.reports(&applier, |report| matches!(report, Report::Stored(..)));
        assert!(applier.has_room(HANDOVER_MAX));
    }

    #[test]
    fn failures_and_panics_end_it_with_a_reason() {
        for (piece, reason) in [(b'?', "disk full"), (b'!', "the installer panicked: bad piece")] {
            let bench = Bench::new();
            let applier = bench.start(1);
            applier.push(FETCH, vec![piece]);
            bench.permit.send(()).unwrap();
            let reports = bench.reports(&applier, |report| matches!(report, Report::Ended(_)));
            let failure = Failure { reason: reason.to_owned(), kind: FailureKind::Other };
            assert_eq!(reports.last(), Some(&Report::Ended(Err(failure))));
            assert!(!reports.iter().any(|report| matches!(report, Report::Stored(..))));
            // The next update is not held up by what happened to this one.
            let next = bench.start(2);
            next.finish();
            assert_eq!(bench.end(&next), Ok(()));
        }
    }

    #[test]
    fn what_would_cure_a_failure_is_told() {
        for (piece, reason, kind) in [
            (b"~", "another source", FailureKind::Delta),
            (b"%", "bad digest", FailureKind::File),
            (b"?", "disk full", FailureKind::Other),
            (b"!", "the installer panicked: bad piece", FailureKind::Other),
        ] {
            let bench = Bench::new();
            let applier = bench.start(1);
            applier.push(FETCH, piece.to_vec());
            bench.permit.send(()).unwrap();
            let failure = Failure { reason: reason.to_owned(), kind };
            assert_eq!(bench.end(&applier), Err(failure));
        }
    }

    #[test]
    fn a_new_update_begins_only_when_the_cancelled_one_can_no_longer_write() {
        let bench = Bench::new();
        let first = bench.start(1);
        first.push(FETCH, vec![0; 1]);
        first.push(FETCH, vec![0; 2]);
        bench.heard("begin");
        bench.heard("write 1");
        drop(first);
        let second = bench.start(2);
        second.finish();
        // The first is still inside a write; the second has said nothing.
        assert!(bench.told.try_recv().is_err());
        bench.permit.send(()).unwrap();
        for expected in ["drop", "begin", "finish", "drop"] {
            bench.heard(expected);
        }
        assert_eq!(bench.end(&second), Ok(()));
        bench.signals.wait_until(|| bench.threads.is_idle().then_some(()));
    }

    #[test]
    fn remarks_are_bounded_in_number_and_length() {
        let threads = Threads::new(TestSignals::new());
        let worker = Worker::<Job, Report>::new(&threads);
        let jobs = worker.jobs_here();
        for _ in 0..=REMARKS_MAX {
            jobs.report(Report::of(InstallEvent::Info("x".repeat(REMARK_CHARS_MAX + 1))).unwrap());
        }
        for _ in 0..REMARKS_MAX {
            let Some(Report::Remark(text)) = worker.next_report() else { panic!("a remark is missing") };
            assert_eq!(text.chars().count(), REMARK_CHARS_MAX);
        }
        assert_eq!(worker.next_report(), None);
    }
}
