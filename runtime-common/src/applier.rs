//! The thread that applies an update, and the bounded hand-over of bytes to it.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nerves_hub_link_platform::install::{
    InstallError, InstallEvent, InstallRequest, Installer, SignedFirmware,
};
use nerves_hub_link_protocol::{FetchId, FirmwareMeta, OfferId, StartApply};

use crate::crew::Crew;
use crate::identity::firmware_meta;
use crate::limits::{HANDOVER_MAX, REMARK_CHARS_MAX, REMARKS_MAX};

/// An installer that one applier after the other holds for as long as it may write.
pub(crate) type SharedInstaller = Arc<Mutex<Box<dyn Installer>>>;

/// The loop's end of one applier. Dropping it stops the thread after the piece it is writing.
#[derive(Debug)]
pub(crate) struct Applier {
    pub(crate) offer: OfferId,
    handover: Arc<Handover>,
}

/// What an applier did since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Pieces written, oldest first.
    pub(crate) stored: Vec<(FetchId, usize)>,
    /// The newest progress, 0 to 100.
    pub(crate) percent: Option<u8>,
    /// Remarks of the archive, for the log.
    pub(crate) remarks: VecDeque<String>,
    /// The signed metadata, when the thread waits for [`Applier::proceed`]. Told once.
    pub(crate) signed: Option<FirmwareMeta>,
    /// How it ended. Told once.
    pub(crate) end: Option<Result<(), Failure>>,
    /// Why nothing can be installed, if that is so after a failure.
    pub(crate) obstacle: Option<String>,
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

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, kind: FailureKind::Other }
    }
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

#[derive(Debug)]
struct Handover {
    state: Mutex<State>,
    changed: Condvar,
    crew: Crew,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<(FetchId, Vec<u8>)>,
    /// Bytes in `pieces` and in the piece being written.
    held: usize,
    finish: bool,
    /// Whether the firmware may be written.
    allowed: bool,
    cancelled: bool,
    news: News,
}

enum Work {
    Piece(FetchId, Vec<u8>),
    Finish,
    Cancel,
}

impl Applier {
    /// Starts the thread. It begins once the applier before it, if any, has ended.
    pub(crate) fn start(start: StartApply, installer: SharedInstaller, crew: &Crew) -> std::io::Result<Self> {
        let offer = start.offer;
        let state = Mutex::new(State::default());
        let handover = Arc::new(Handover { state, changed: Condvar::new(), crew: crew.clone() });
        let shared = Arc::clone(&handover);
        let job = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| apply(&shared, &installer, start)));
            let outcome = outcome.unwrap_or_else(|panic| {
                Err(format!("the installer panicked: {}", panic_text(&*panic)).into())
            });
            let obstacle = outcome.is_err().then(|| obstacle(&installer)).flatten();
            shared.report(|news| (news.end, news.obstacle) = (Some(outcome), obstacle));
        };
        crew.start("nerves-hub-apply", job)?;
        Ok(Self { offer, handover })
    }

    /// Returns whether a piece of `len` bytes fits.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.handover.lock().held + len <= HANDOVER_MAX
    }

    /// Hands a piece over. Ask [`Self::has_room`] first.
    pub(crate) fn push(&self, fetch: FetchId, piece: Vec<u8>) {
        let mut state = self.handover.lock();
        state.held += piece.len();
        state.pieces.push_back((fetch, piece));
        self.handover.changed.notify_one();
    }

    /// Lets the firmware be written of which [`News::signed`] told.
    pub(crate) fn proceed(&self) {
        self.handover.lock().allowed = true;
        self.handover.changed.notify_one();
    }

    /// Says that no piece follows.
    pub(crate) fn finish(&self) {
        self.handover.lock().finish = true;
        self.handover.changed.notify_one();
    }

    /// Returns what happened since the last call.
    pub(crate) fn news(&self) -> News {
        std::mem::take(&mut self.handover.lock().news)
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        self.handover.cancel();
    }
}

impl Handover {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self) {
        let mut state = self.lock();
        state.cancelled = true;
        state.pieces.clear();
        self.changed.notify_one();
    }

    fn cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// Waits for the next thing to do.
    fn next(&self) -> Work {
        let mut state = self.lock();
        loop {
            if state.cancelled {
                return Work::Cancel;
            }
            if let Some((fetch, piece)) = state.pieces.pop_front() {
                return Work::Piece(fetch, piece);
            }
            if state.finish {
                return Work::Finish;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells what the signed metadata say, and waits until that may be written. Returns false if it may not.
    fn may_write(&self, firmware: &SignedFirmware) -> bool {
        self.report(|news| news.signed = Some(firmware_meta(firmware)));
        let mut state = self.lock();
        while !state.allowed && !state.cancelled {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.cancelled
    }

    fn written(&self, fetch: FetchId, len: usize) {
        let mut state = self.lock();
        debug_assert!(state.held >= len, "{len} bytes written of {}", state.held);
        state.held = state.held.saturating_sub(len);
        match state.news.stored.last_mut() {
            Some((last, sum)) if *last == fetch => *sum += len,
            _ => state.news.stored.push((fetch, len)),
        }
        drop(state);
        self.crew.wake();
    }

    fn report(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.lock().news);
        self.crew.wake();
    }
}

fn apply(handover: &Arc<Handover>, installer: &SharedInstaller, start: StartApply) -> Result<(), Failure> {
    // Held to the end: the next update begins when this one can no longer write. Whatever an earlier
    // panic left behind, `begin` starts afresh.
    let mut installer = installer.lock().unwrap_or_else(PoisonError::into_inner);
    if handover.cancelled() {
        return Ok(());
    }
    let told = Arc::clone(handover);
    let StartApply { public_keys, uuid, version, size, .. } = start;
    let request = InstallRequest::new(public_keys, move |event| told.report(|news| news.note(event)))
        .firmware(uuid, version, size)
        .hold(true);
    let mut install = installer.begin(request)?;
    loop {
        match handover.next() {
            Work::Piece(fetch, piece) => {
                install.write(&piece)?;
                if let Some(firmware) = install.held() {
                    if !handover.may_write(&firmware) {
                        return Ok(());
                    }
                    install.proceed()?;
                }
                handover.written(fetch, piece.len());
            }
            Work::Finish => return Ok(install.finish().map(drop)?),
            Work::Cancel => return Ok(()),
        }
    }
}

/// Returns why nothing can be installed, if so.
fn obstacle(installer: &SharedInstaller) -> Option<String> {
    let installer = installer.lock().unwrap_or_else(PoisonError::into_inner);
    let checked = catch_unwind(AssertUnwindSafe(|| installer.check()));
    // An installer whose check panics has no better reason than the failure.
    checked.ok()?.err().map(|error| error.to_string())
}

impl News {
    fn note(&mut self, event: InstallEvent) {
        let remark = match event {
            InstallEvent::Progress(percent) => {
                self.percent = Some(percent);
                return;
            }
            InstallEvent::Info(text) => text,
            InstallEvent::Warning(text) => format!("warning: {text}"),
            _ => return,
        };
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push_back(remark.chars().take(REMARK_CHARS_MAX).collect());
        }
    }
}

/// The words of a panic, if it has any.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bell;
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
        bell: Arc<Bell>,
        crew: Crew,
        permit: Sender<()>,
        told: Receiver<String>,
    }

    impl Bench {
        fn new() -> Self {
            let (permit, permits) = channel();
            let (sender, told) = channel();
            let gated = Gated { permits: Arc::new(Mutex::new(permits)), told: sender };
            let installer: SharedInstaller = Arc::new(Mutex::new(Box::new(gated)));
            let bell = Bell::new();
            Self { installer, crew: Crew::new(bell.clone()), bell, permit, told }
        }

        fn start(&self, offer: u64) -> Applier {
            let installer = Arc::clone(&self.installer);
            Applier::start(StartApply::new(OfferId(offer), vec![]), installer, &self.crew).unwrap()
        }

        /// Collects news, waiting for each wake-up, until it is enough.
        fn news(&self, applier: &Applier, enough: impl Fn(&News) -> bool) -> News {
            let mut all = Some(News::default());
            self.bell.wait_until(|| {
                let News { stored, percent, remarks, end, .. } = applier.news();
                let all_so_far = all.as_mut().unwrap();
                all_so_far.stored.extend(stored);
                all_so_far.remarks.extend(remarks);
                all_so_far.percent = percent.or(all_so_far.percent);
                all_so_far.end = end.or(all_so_far.end.take());
                if enough(all_so_far) { all.take() } else { None }
            })
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
        let news = bench.news(&applier, |news| news.end.is_some());
        assert_eq!(news.stored, [(FETCH, 3), (FetchId(2), 4)]);
        assert_eq!((news.percent, news.end), (Some(7), Some(Ok(()))));
        assert_eq!(news.remarks, ["warning: odd"]);
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
        bench.news(&applier, |news| !news.stored.is_empty());
        assert!(applier.has_room(HANDOVER_MAX));
    }

    #[test]
    fn failures_and_panics_end_it_with_a_reason() {
        for (piece, reason) in [(b'?', "disk full"), (b'!', "the installer panicked: bad piece")] {
            let bench = Bench::new();
            let applier = bench.start(1);
            applier.push(FETCH, vec![piece]);
            bench.permit.send(()).unwrap();
            let news = bench.news(&applier, |news| news.end.is_some());
            assert_eq!(news.end, Some(Err(reason.to_owned().into())));
            assert!(news.stored.is_empty());
            // The next update is not held up by what happened to this one.
            let next = bench.start(2);
            next.finish();
            assert_eq!(bench.news(&next, |news| news.end.is_some()).end, Some(Ok(())));
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
            assert_eq!(bench.news(&applier, |news| news.end.is_some()).end, Some(Err(failure)));
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
        assert_eq!(bench.news(&second, |news| news.end.is_some()).end, Some(Ok(())));
        bench.bell.wait_until(|| bench.crew.is_idle().then_some(()));
    }

    #[test]
    fn remarks_are_bounded_in_number_and_length() {
        let mut news = News::default();
        for _ in 0..=REMARKS_MAX {
            news.note(InstallEvent::Info("x".repeat(REMARK_CHARS_MAX + 1)));
        }
        assert_eq!(news.remarks.len(), REMARKS_MAX);
        assert!(news.remarks.iter().all(|remark| remark.chars().count() == REMARK_CHARS_MAX));
    }
}
