//! The thread that keeps a download on disk, and the bounded hand-over of bytes to it and from it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nerves_hub_link_platform::archive;
use nerves_hub_link_platform::store::{DownloadStore, StoreError, StoreRequest, StoredFile};
use nerves_hub_link_protocol::{FetchId, OfferId, OpenStore, ReadStore, StoreId, StoreKind, VerifyArchive};

use crate::applier::panic_text;
use crate::crew::Crew;
use crate::identity::firmware_meta;
use crate::limits::{HANDOVER_MAX, READ_AHEAD_MAX, STORE_PIECE_MAX};
use crate::trust::Trust;

/// What the names of archives end with.
const ARCHIVE_EXTENSION: &str = "fw";

/// A folder that one download after the other uses for as long as it may write.
pub(crate) type SharedStore = Arc<Mutex<DownloadStore>>;

/// The loop's end of one open store. Dropping it closes the store after what is being done.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) store: StoreId,
    pub(crate) kind: StoreKind,
    desk: Arc<Desk>,
    /// Where what is read goes: the number of the reading and the applier's offer.
    feeds: Option<(FetchId, OfferId)>,
    /// Was told to close, in its turn.
    closing: bool,
}

/// What the thread did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The store is open and holds these parts.
    Opened(Vec<(u32, u64)>),
    /// Bytes were written.
    Stored(FetchId, usize),
    /// A part is on the disk for good.
    Committed(u32),
    /// An older archive had to go.
    Dropped(String),
    /// The archive is good, and is there. It is over.
    Verified(String),
    /// The archive is not to be trusted, and was deleted. It is over.
    Refused(String),
    /// What comes is not to be trusted, and was deleted. It is over.
    Untrusted(String),
    /// It is over.
    Failed(String),
}

/// What was read, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The next bytes.
    Piece(FetchId, Vec<u8>),
    /// There are no more, or can't be had.
    End(FetchId, Result<(), String>),
}

#[derive(Debug)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
    crew: Crew,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Bytes in jobs and in the piece being written.
    held: usize,
    news: VecDeque<News>,
    read: VecDeque<Reading>,
    /// Bytes in `read`.
    read_held: usize,
    /// The reading nobody wants any more.
    aborted: Option<FetchId>,
    cancelled: bool,
}

#[derive(Debug)]
enum Job {
    Write(FetchId, u64, Vec<u8>),
    Read(ReadStore),
    Commit(u32),
    Drop(u32),
    Verify(Box<VerifyArchive>),
    Close { clear: bool },
}

impl Keeper {
    /// Starts the thread. It opens the store once the one before, if any, is closed.
    pub(crate) fn start(order: OpenStore, folder: SharedStore, crew: &Crew) -> std::io::Result<Self> {
        let state = Mutex::new(State::default());
        let desk = Arc::new(Desk { state, changed: Condvar::new(), crew: crew.clone() });
        let (shared, store, kind) = (Arc::clone(&desk), order.store, order.kind);
        let job = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| keep(&shared, &folder, &order)));
            let outcome = outcome.map_err(|panic| format!("the store panicked: {}", panic_text(&*panic)));
            let failed = outcome.and_then(|kept| kept.map_err(|error| error.to_string())).err();
            if let Some(reason) = failed {
                shared.tell(News::Failed(reason));
            }
        };
        crew.start("nerves-hub-store", job)?;
        Ok(Self { store, kind, desk, feeds: None, closing: false })
    }

    /// Returns whether a piece of `len` bytes fits.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.desk.lock().held + len <= HANDOVER_MAX
    }

    /// Hands a piece over. Ask [`Self::has_room`] first.
    pub(crate) fn write(&self, fetch: FetchId, offset: u64, piece: Vec<u8>) {
        self.desk.lock().held += piece.len();
        self.push(Job::Write(fetch, offset, piece));
    }

    pub(crate) fn commit(&self, part: u32) {
        self.push(Job::Commit(part));
    }

    pub(crate) fn drop_part(&self, part: u32) {
        self.push(Job::Drop(part));
    }

    /// Checks an archive that is complete. Whatever the outcome, the store is closed then.
    pub(crate) fn verify(&self, order: VerifyArchive) {
        self.push(Job::Verify(Box::new(order)));
    }

    pub(crate) fn read(&mut self, order: ReadStore) {
        self.feeds = order.into.map(|offer| (order.fetch, offer));
        self.push(Job::Read(order));
    }

    /// Ends a reading; what was read of it is forgotten.
    pub(crate) fn abort(&self, fetch: FetchId) {
        let mut state = self.desk.lock();
        state.aborted = Some(fetch);
        state.read.clear();
        state.read_held = 0;
        self.desk.changed.notify_one();
    }

    /// Returns what was read next, and the offer whose applier gets it, if any applier does. What that one has no room for
    /// stays here.
    pub(crate) fn next_read(
        &self,
        has_room: impl FnOnce(OfferId) -> bool,
    ) -> Option<(Reading, Option<OfferId>)> {
        // Asked and taken under one lock: the thread may be reading the first piece in between.
        let mut state = self.desk.lock();
        let feeds = match (state.read.front()?, self.feeds) {
            (Reading::Piece(fetch, _), Some((feeds, offer))) if *fetch == feeds => Some(offer),
            _ => None,
        };
        if feeds.is_some_and(|offer| !has_room(offer)) {
            return None;
        }
        let read = state.read.pop_front()?;
        if let Reading::Piece(_, piece) = &read {
            debug_assert!(state.read_held >= piece.len(), "{} bytes of {}", piece.len(), state.read_held);
            state.read_held = state.read_held.saturating_sub(piece.len());
            self.desk.changed.notify_one();
        }
        Some((read, feeds))
    }

    /// Returns what happened since the last call.
    pub(crate) fn news(&self) -> VecDeque<News> {
        std::mem::take(&mut self.desk.lock().news)
    }

    /// Closes the store when everything before is done.
    pub(crate) fn close(mut self, clear: bool) {
        self.push(Job::Close { clear });
        self.closing = true;
    }

    fn push(&self, job: Job) {
        self.desk.lock().jobs.push_back(job);
        self.desk.changed.notify_one();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if !self.closing {
            self.desk.lock().cancelled = true;
            self.desk.changed.notify_one();
        }
    }
}

impl State {
    /// Returns whether the store is to be closed when what is being done ends.
    fn is_closing(&self) -> bool {
        self.jobs.iter().any(|job| matches!(job, Job::Close { .. }))
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, news: News) {
        let mut state = self.lock();
        match (&news, state.news.back_mut()) {
            (News::Stored(fetch, len), Some(News::Stored(last, sum))) if last == fetch => *sum += len,
            _ => state.news.push_back(news),
        }
        drop(state);
        self.crew.wake();
    }

    /// Waits for the next thing to do.
    fn next(&self) -> Job {
        let mut state = self.lock();
        loop {
            if state.cancelled {
                return Job::Close { clear: false };
            }
            if let Some(job) = state.jobs.pop_front() {
                return job;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns whether the store is to be closed, whatever is being done.
    fn is_closing(&self) -> bool {
        self.lock().is_closing()
    }

    /// Waits until more may be read. Returns false when nobody wants it.
    fn wants(&self, fetch: FetchId) -> bool {
        let mut state = self.lock();
        let mut over = state.cancelled || state.is_closing() || state.aborted == Some(fetch);
        while !over && state.read_held >= READ_AHEAD_MAX {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            over = state.cancelled || state.is_closing() || state.aborted == Some(fetch);
        }
        !over
    }

    fn hand(&self, reading: Reading) {
        let mut state = self.lock();
        let (Reading::Piece(fetch, _) | Reading::End(fetch, _)) = &reading;
        if state.aborted == Some(*fetch) {
            return;
        }
        if let Reading::Piece(_, piece) = &reading {
            state.read_held += piece.len();
        }
        state.read.push_back(reading);
        drop(state);
        self.crew.wake();
    }
}

fn keep(desk: &Desk, folder: &SharedStore, order: &OpenStore) -> Result<(), StoreError> {
    // Held to the end: the next download begins when this one can no longer write.
    let mut folder = folder.lock().unwrap_or_else(PoisonError::into_inner);
    if desk.lock().cancelled {
        return Ok(());
    }
    let mut request = StoreRequest::new(&order.key, &order.manifest).parts(order.part_size, order.parts);
    request.size = order.size;
    let mut trust = match Trust::new(order) {
        Ok(trust) => trust,
        Err(error) => {
            desk.tell(News::Untrusted(error.to_string()));
            return Ok(());
        }
    };
    let mut file = folder.open(&request)?;
    if trust.resume(&mut file).is_err() {
        // Of another file, or damaged: the download starts over.
        file.clear()?;
        file = folder.open(&request)?;
        trust.restart();
    }
    desk.tell(News::Opened(file.lengths().to_vec()));
    match work(desk, &mut file, &mut trust) {
        Ok(End::Kept) => Ok(()),
        Ok(End::Cleared) => file.clear(),
        Ok(End::Verify(order)) => verify(desk, file, &order),
        Ok(End::Untrusted(reason)) => {
            file.clear()?;
            desk.tell(News::Untrusted(reason));
            Ok(())
        }
        Err(error) if error.is_full() => {
            // A full partition harms others; that there was no space is what is reported.
            let _ = file.clear();
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// How the work on a store ends.
enum End {
    Kept,
    Cleared,
    Verify(Box<VerifyArchive>),
    Untrusted(String),
}

/// Does what is asked for until the store is to be closed.
fn work(desk: &Desk, file: &mut StoredFile, trust: &mut Trust) -> Result<End, StoreError> {
    loop {
        match desk.next() {
            Job::Write(fetch, offset, piece) => {
                if let Err(error) = trust.write(offset, &piece) {
                    return Ok(End::Untrusted(error.to_string()));
                }
                file.write(offset, &piece)?;
                let mut state = desk.lock();
                debug_assert!(state.held >= piece.len(), "{} bytes written of {}", piece.len(), state.held);
                state.held = state.held.saturating_sub(piece.len());
                drop(state);
                desk.tell(News::Stored(fetch, piece.len()));
            }
            Job::Commit(part) => {
                file.commit(part)?;
                desk.tell(News::Committed(part));
            }
            Job::Drop(part) => file.drop_part(part)?,
            Job::Read(read) => {
                let end = read_back(desk, file, &read);
                desk.hand(Reading::End(read.fetch, end));
            }
            Job::Verify(order) => return Ok(End::Verify(order)),
            Job::Close { clear: true } => return Ok(End::Cleared),
            Job::Close { clear: false } => return Ok(End::Kept),
        }
    }
}

fn verify(desk: &Desk, mut file: StoredFile, order: &VerifyArchive) -> Result<(), StoreError> {
    let verdict = match archive::verify(&mut file, &order.public_keys) {
        Ok(signed) => order.check(&firmware_meta(&signed)).map_err(|mismatch| mismatch.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if desk.lock().cancelled {
        // It is checked again after the next start.
        return Ok(());
    }
    if desk.is_closing() {
        return file.clear();
    }
    match verdict {
        Ok(()) => {
            let kept = file.keep_as(ARCHIVE_EXTENSION)?;
            for path in kept.dropped {
                desk.tell(News::Dropped(path.display().to_string()));
            }
            desk.tell(News::Verified(kept.path.display().to_string()));
        }
        Err(reason) => {
            file.clear()?;
            desk.tell(News::Refused(reason));
        }
    }
    Ok(())
}

fn read_back(desk: &Desk, file: &mut StoredFile, read: &ReadStore) -> Result<(), String> {
    let mut at = read.from;
    while at < read.to && desk.wants(read.fetch) {
        // More than a 32-bit address is as good as the largest piece.
        let room = usize::try_from(read.to - at).unwrap_or(usize::MAX).min(STORE_PIECE_MAX);
        let mut piece = vec![0; room];
        let count = file.read(at, &mut piece).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err(format!("it ends at byte {at} and not at {}", read.to));
        }
        piece.truncate(count);
        at = at.saturating_add(count as u64);
        desk.hand(Reading::Piece(read.fetch, piece));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bell;

    const FETCH: FetchId = FetchId(7);

    struct Bench {
        folder: SharedStore,
        bell: Arc<Bell>,
        crew: Crew,
        dir: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::TempDir::new().unwrap();
            let folder = Arc::new(Mutex::new(DownloadStore::new(dir.path().join("firmware"))));
            let bell = Bell::new();
            Self { folder, crew: Crew::new(bell.clone()), bell, dir }
        }

        fn start(&self) -> Keeper {
            let order = OpenStore {
                store: StoreId(1),
                kind: StoreKind::Firmware,
                key: "key".to_owned(),
                manifest: "m".to_owned(),
                size: None,
                part_size: u64::MAX,
                parts: 1,
                public_keys: Vec::new(),
            };
            Keeper::start(order, Arc::clone(&self.folder), &self.crew).unwrap()
        }

        /// Waits for something that `look` finds.
        fn wait<T>(&self, look: impl FnMut() -> Option<T>) -> T {
            self.bell.wait_until(look)
        }

        fn wait_for_end(&self) {
            self.wait(|| self.crew.is_idle().then_some(()));
        }

        fn news(&self, keeper: &Keeper) -> News {
            self.wait(|| keeper.desk.lock().news.pop_front())
        }
    }

    fn next(keeper: &Keeper) -> Option<Reading> {
        keeper.next_read(|_| true).map(|(reading, _)| reading)
    }

    #[test]
    fn what_an_applier_gets_comes_with_its_offer_and_waits_for_its_room() {
        let bench = Bench::new();
        let mut keeper = bench.start();
        let total = 3 * STORE_PIECE_MAX;
        keeper.write(FETCH, 0, vec![5; total]);
        let (fetch, offer) = (FetchId(8), OfferId(3));
        keeper.read(ReadStore { fetch, store: StoreId(1), from: 0, to: total as u64, into: Some(offer) });
        let mut got = 0;
        while got < total {
            // Looked at again and again while the thread reads: whenever a piece comes, its offer is known.
            let (piece, feeds) = bench.wait(|| keeper.next_read(|_| true));
            assert_eq!(feeds, Some(offer));
            let Reading::Piece(_, piece) = piece else { panic!("{piece:?}") };
            got += piece.len();
        }
        assert_eq!(bench.wait(|| keeper.next_read(|_| false)), (Reading::End(fetch, Ok(())), None));
        keeper.read(ReadStore { fetch, store: StoreId(1), from: 0, to: 1, into: Some(offer) });
        bench.wait(|| (!keeper.desk.lock().read.is_empty()).then_some(()));
        assert_eq!(keeper.next_read(|_| false), None, "no room");
        assert!(keeper.next_read(|asked| asked == offer).is_some());
    }

    #[test]
    fn what_was_written_is_read_back_no_further_ahead_than_the_limit() {
        let bench = Bench::new();
        let mut keeper = bench.start();
        assert_eq!(bench.news(&keeper), News::Opened(Vec::new()));
        let total = READ_AHEAD_MAX + 3 * STORE_PIECE_MAX;
        let mut at = 0;
        while at < total {
            bench.wait(|| keeper.has_room(STORE_PIECE_MAX).then_some(()));
            let piece = STORE_PIECE_MAX.min(total - at);
            keeper.write(FETCH, at as u64, vec![5; piece]);
            at += piece;
        }
        keeper.commit(0);
        while bench.news(&keeper) != News::Committed(0) {}
        let order = ReadStore { fetch: FETCH, store: StoreId(1), from: 1, to: total as u64, into: None };
        keeper.read(order);
        bench.wait(|| (keeper.desk.lock().read_held >= READ_AHEAD_MAX).then_some(()));
        assert!(keeper.desk.lock().read_held < READ_AHEAD_MAX + STORE_PIECE_MAX);
        let mut length = 0;
        loop {
            match bench.wait(|| next(&keeper)) {
                Reading::Piece(FETCH, piece) => length += piece.len(),
                other => {
                    assert_eq!(other, Reading::End(FETCH, Ok(())));
                    break;
                }
            }
        }
        assert_eq!(length, total - 1);
        let order =
            ReadStore { fetch: FetchId(8), store: StoreId(1), from: 0, to: total as u64 + 1, into: None };
        keeper.read(order);
        let end = bench.wait(|| {
            loop {
                // A wake may stand for many pieces.
                if let Reading::End(fetch, end) = next(&keeper)? {
                    return Some((fetch, end));
                }
            }
        });
        assert!(end.1.unwrap_err().contains(&format!("ends at byte {total}")));
        keeper.close(true);
        bench.wait_for_end();
        assert!(!bench.dir.path().join("firmware/key").exists());
    }

    #[test]
    fn a_reading_can_be_aborted_and_a_store_closed_while_it_waits() {
        let bench = Bench::new();
        let mut keeper = bench.start();
        let total = READ_AHEAD_MAX * 2;
        keeper.write(FETCH, 0, vec![5; total]);
        let order = ReadStore { fetch: FETCH, store: StoreId(1), from: 0, to: total as u64, into: None };
        keeper.read(order.clone());
        bench.wait(|| (keeper.desk.lock().read_held >= READ_AHEAD_MAX).then_some(()));
        keeper.abort(FETCH);
        let again = FetchId(9);
        keeper.read(ReadStore { fetch: again, ..order });
        let first = bench.wait(|| next(&keeper));
        assert!(matches!(first, Reading::Piece(fetch, _) if fetch == again), "nothing of the aborted one");
        bench.wait(|| (keeper.desk.lock().read_held >= READ_AHEAD_MAX).then_some(()));
        drop(keeper);
        bench.wait_for_end();
        assert!(bench.dir.path().join("firmware/key/part-00000").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told_and_the_next_one_works() {
        let bench = Bench::new();
        std::fs::write(bench.dir.path().join("firmware"), "in the way").unwrap();
        let keeper = bench.start();
        let news = bench.news(&keeper);
        assert!(matches!(&news, News::Failed(why) if why.contains("firmware")), "{news:?}");
        keeper.close(false);
        bench.wait_for_end();
        std::fs::remove_file(bench.dir.path().join("firmware")).unwrap();
        assert_eq!(bench.news(&bench.start()), News::Opened(Vec::new()));
    }
}
