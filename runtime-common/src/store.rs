//! The worker that stores a download on disk and reads it back.

use std::sync::{Arc, Mutex, PoisonError};

use nerves_hub_link_platform::archive;
use nerves_hub_link_platform::store::{DownloadStore, StoreError, StoreRequest, StoredFile};
use nerves_hub_link_protocol::{FetchId, OfferId, OpenStore, ReadStore, StoreId, StoreKind, VerifyArchive};

use crate::identity::firmware_meta;
use crate::limits::{HANDOVER_MAX, READ_AHEAD_MAX, STORE_PIECE_MAX};
use crate::threads::Threads;
use crate::trust::Trust;
use crate::worker::{self, Worker};

type Jobs = worker::Jobs<Job, Report>;

/// The file extension of archives.
const ARCHIVE_EXTENSION: &str = "fw";

/// A folder of downloads. A store holds the lock for as long as it may write.
pub(crate) type SharedStore = Arc<Mutex<DownloadStore>>;

/// One open store. Dropping it closes the store after the job in progress.
pub(crate) struct Store {
    pub(crate) id: StoreId,
    pub(crate) kind: StoreKind,
    worker: Worker<Job, Report>,
    /// The read in progress, and the offer whose applier gets the bytes.
    feeds: Option<(FetchId, OfferId)>,
}

enum Job {
    Write(FetchId, u64, Vec<u8>),
    Read(ReadStore),
    /// Stops the read, which looks for this job in the queue.
    Abort(FetchId),
    Commit(u32),
    Drop(u32),
    Verify(Box<VerifyArchive>),
    Close {
        clear: bool,
    },
}

/// What a store did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The store is open and holds these parts.
    Opened(Vec<(u32, u64)>),
    /// Bytes were written.
    Stored(FetchId, usize),
    /// A part is complete and synced.
    Committed(u32),
    /// A read goes on or ends.
    Read(FetchId, Read),
    /// An older archive was deleted to make room.
    Dropped(String),
    /// The archive is good, and has this path. The last report.
    Verified(String),
    /// The archive can't be trusted, and was deleted. The last report.
    Refused(String),
    /// The download can't be trusted, and was deleted. The last report.
    Untrusted(String),
    /// The store failed. The last report.
    Failed(String),
}

/// What a read gives, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The next bytes.
    Chunk(Vec<u8>),
    /// No more bytes follow, or can be read.
    End(Result<(), String>),
}

impl worker::Job for Job {
    fn bytes(&self) -> usize {
        if let Self::Write(_, _, bytes) = self { bytes.len() } else { 0 }
    }
}

impl worker::Report for Report {
    fn panicked(message: &str) -> Self {
        Self::Failed(format!("the store panicked: {message}"))
    }

    fn bytes(&self) -> usize {
        if let Self::Read(_, Read::Chunk(bytes)) = self { bytes.len() } else { 0 }
    }

    fn append(&mut self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self::Stored(fetch, sum), Self::Stored(next, len)) if *fetch == next => *sum += len,
            (_, next) => return Some(next),
        }
        None
    }
}

impl Store {
    /// Starts the worker. It opens the store once the one before, if any, is closed.
    pub(crate) fn start(order: OpenStore, folder: SharedStore, threads: &Threads) -> std::io::Result<Self> {
        let (id, kind, worker) = (order.store, order.kind, Worker::new(threads));
        let run = move |jobs: &Jobs| {
            if let Err(error) = keep(jobs, &folder, &order) {
                jobs.report(Report::Failed(error.to_string()));
            }
        };
        worker.start("nerves-hub-store", run)?;
        Ok(Self { id, kind, worker, feeds: None })
    }

    /// Returns whether a chunk of `len` bytes fits.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.worker.has_room(len, HANDOVER_MAX)
    }

    /// Queues a chunk. Ask [`Self::has_room`] first.
    pub(crate) fn write(&self, fetch: FetchId, offset: u64, chunk: Vec<u8>) {
        self.worker.send(Job::Write(fetch, offset, chunk));
    }

    pub(crate) fn commit(&self, part: u32) {
        self.worker.send(Job::Commit(part));
    }

    pub(crate) fn drop_part(&self, part: u32) {
        self.worker.send(Job::Drop(part));
    }

    /// Verifies a complete archive. The store closes afterwards, whatever the outcome.
    pub(crate) fn verify(&self, order: VerifyArchive) {
        self.worker.send(Job::Verify(Box::new(order)));
    }

    pub(crate) fn read(&mut self, order: ReadStore) {
        self.feeds = order.into.map(|offer| (order.fetch, offer));
        self.worker.send(Job::Read(order));
    }

    /// Ends a read and drops what was read of it.
    pub(crate) fn abort(&self, fetch: FetchId) {
        let of_it = |report: &Report| matches!(report, Report::Read(read, _) if *read == fetch);
        self.worker.send_and_drop(Job::Abort(fetch), of_it);
    }

    /// Takes what was read next, and the offer whose applier gets it, if an applier does. Bytes for which the applier has no
    /// room stay here.
    pub(crate) fn next_read(
        &self,
        has_room: impl Fn(OfferId) -> bool,
    ) -> Option<(FetchId, Read, Option<OfferId>)> {
        let feeds = |fetch: FetchId, read: &Read| match (read, self.feeds) {
            (Read::Chunk(_), Some((feeds, offer))) if fetch == feeds => Some(offer),
            _ => None,
        };
        // Reads stay in order: only the first may be taken.
        let mut first = true;
        let wanted = |report: &Report| match report {
            Report::Read(fetch, read) => {
                std::mem::take(&mut first) && feeds(*fetch, read).is_none_or(&has_room)
            }
            _ => false,
        };
        match self.worker.take_report(wanted)? {
            Report::Read(fetch, read) => {
                let offer = feeds(fetch, &read);
                Some((fetch, read, offer))
            }
            other => {
                debug_assert!(false, "{other:?} is no read");
                None
            }
        }
    }

    /// Takes the next report about anything but a read.
    pub(crate) fn next_report(&self) -> Option<Report> {
        self.worker.take_report(|report| !matches!(report, Report::Read(..)))
    }

    /// Closes the store after the jobs that wait.
    pub(crate) fn close(self, clear: bool) {
        self.worker.send(Job::Close { clear });
        self.worker.close();
    }
}

fn keep(jobs: &Jobs, folder: &SharedStore, order: &OpenStore) -> Result<(), StoreError> {
    // Held to the end: the next download begins when this one can no longer write.
    let mut folder = folder.lock().unwrap_or_else(PoisonError::into_inner);
    if jobs.is_cancelled() {
        return Ok(());
    }
    let mut request = StoreRequest::new(&order.key, &order.manifest).parts(order.part_size, order.parts);
    request.size = order.size;
    let mut trust = match Trust::new(order) {
        Ok(trust) => trust,
        Err(error) => {
            jobs.report(Report::Untrusted(error.to_string()));
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
    jobs.report(Report::Opened(file.lengths().to_vec()));
    match work(jobs, &mut file, &mut trust) {
        Ok(End::Kept) => Ok(()),
        Ok(End::Cleared) => file.clear(),
        Ok(End::Verify(order)) => verify(jobs, file, &order),
        Ok(End::Untrusted(reason)) => {
            file.clear()?;
            jobs.report(Report::Untrusted(reason));
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
fn work(jobs: &Jobs, file: &mut StoredFile, trust: &mut Trust) -> Result<End, StoreError> {
    while let Some(job) = jobs.next() {
        match job {
            Job::Write(fetch, offset, piece) => {
                if let Err(error) = trust.write(offset, &piece) {
                    return Ok(End::Untrusted(error.to_string()));
                }
                file.write(offset, &piece)?;
                jobs.done(piece.len());
                jobs.report(Report::Stored(fetch, piece.len()));
            }
            Job::Commit(part) => {
                file.commit(part)?;
                jobs.report(Report::Committed(part));
            }
            Job::Drop(part) => file.drop_part(part)?,
            Job::Read(read) => {
                let end = read_back(jobs, file, &read);
                let end = Report::Read(read.fetch, Read::End(end));
                jobs.report_unless(end, |job| aborts(job, read.fetch));
            }
            // The read it was about has ended.
            Job::Abort(_) => {}
            Job::Verify(order) => return Ok(End::Verify(order)),
            Job::Close { clear: true } => return Ok(End::Cleared),
            Job::Close { clear: false } => return Ok(End::Kept),
        }
    }
    Ok(End::Kept)
}

fn verify(jobs: &Jobs, mut file: StoredFile, order: &VerifyArchive) -> Result<(), StoreError> {
    let verdict = match archive::verify(&mut file, &order.public_keys) {
        Ok(signed) => order.check(&firmware_meta(&signed)).map_err(|mismatch| mismatch.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if jobs.is_cancelled() {
        // It is checked again after the next start.
        return Ok(());
    }
    if jobs.is_waiting(is_close) {
        return file.clear();
    }
    match verdict {
        Ok(()) => {
            let kept = file.keep_as(ARCHIVE_EXTENSION)?;
            for path in kept.dropped {
                jobs.report(Report::Dropped(path.display().to_string()));
            }
            jobs.report(Report::Verified(kept.path.display().to_string()));
        }
        Err(reason) => {
            file.clear()?;
            jobs.report(Report::Refused(reason));
        }
    }
    Ok(())
}

const fn is_close(job: &Job) -> bool {
    matches!(job, Job::Close { .. })
}

fn aborts(job: &Job, read: FetchId) -> bool {
    matches!(job, Job::Abort(fetch) if *fetch == read)
}

fn read_back(jobs: &Jobs, file: &mut StoredFile, read: &ReadStore) -> Result<(), String> {
    let mut at = read.from;
    let stops = |job: &Job| is_close(job) || aborts(job, read.fetch);
    while at < read.to && jobs.wait_for_room(READ_AHEAD_MAX, stops) {
        // More than a 32-bit address is as good as the largest piece.
        let room = usize::try_from(read.to - at).unwrap_or(usize::MAX).min(STORE_PIECE_MAX);
        let mut piece = vec![0; room];
        let count = file.read(at, &mut piece).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err(format!("it ends at byte {at} and not at {}", read.to));
        }
        piece.truncate(count);
        at = at.saturating_add(count as u64);
        jobs.report_unless(Report::Read(read.fetch, Read::Chunk(piece)), |job| aborts(job, read.fetch));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestSignals;

    const FETCH: FetchId = FetchId(7);

    struct Bench {
        folder: SharedStore,
        signals: Arc<TestSignals>,
        threads: Threads,
        dir: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::TempDir::new().unwrap();
            let folder = Arc::new(Mutex::new(DownloadStore::new(dir.path().join("firmware"))));
            let signals = TestSignals::new();
            Self { folder, threads: Threads::new(signals.clone()), signals, dir }
        }

        fn start(&self) -> Store {
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
            Store::start(order, Arc::clone(&self.folder), &self.threads).unwrap()
        }

        /// Waits for something that `look` finds.
        fn wait<T>(&self, look: impl FnMut() -> Option<T>) -> T {
            self.signals.wait_until(look)
        }

        fn wait_for_end(&self) {
            self.wait(|| self.threads.is_idle().then_some(()));
        }

        fn report(&self, store: &Store) -> Report {
            self.wait(|| store.next_report())
        }
    }

    fn next(store: &Store) -> Option<(FetchId, Read)> {
        store.next_read(|_| true).map(|(fetch, read, _)| (fetch, read))
    }

    #[test]
    fn what_an_applier_gets_comes_with_its_offer_and_waits_for_its_room() {
        let bench = Bench::new();
        let mut store = bench.start();
        let total = 3 * STORE_PIECE_MAX;
        store.write(FETCH, 0, vec![5; total]);
        let (fetch, offer) = (FetchId(8), OfferId(3));
        store.read(ReadStore { fetch, store: StoreId(1), from: 0, to: total as u64, into: Some(offer) });
        let mut got = 0;
        while got < total {
            // Looked at again and again while the thread reads: whenever a piece comes, its offer is known.
            let (_, read, feeds) = bench.wait(|| store.next_read(|_| true));
            assert_eq!(feeds, Some(offer));
            let Read::Chunk(piece) = read else { panic!("{read:?}") };
            got += piece.len();
        }
        assert_eq!(bench.wait(|| store.next_read(|_| false)), (fetch, Read::End(Ok(())), None));
        store.read(ReadStore { fetch, store: StoreId(1), from: 0, to: 1, into: Some(offer) });
        bench.wait(|| (store.worker.reported() > 0).then_some(()));
        assert_eq!(store.next_read(|_| false), None, "no room");
        assert!(store.next_read(|asked| asked == offer).is_some());
    }

    #[test]
    fn what_was_written_is_read_back_no_further_ahead_than_the_limit() {
        let bench = Bench::new();
        let mut store = bench.start();
        assert_eq!(bench.report(&store), Report::Opened(Vec::new()));
        let total = READ_AHEAD_MAX + 3 * STORE_PIECE_MAX;
        let mut at = 0;
        while at < total {
            bench.wait(|| store.has_room(STORE_PIECE_MAX).then_some(()));
            let piece = STORE_PIECE_MAX.min(total - at);
            store.write(FETCH, at as u64, vec![5; piece]);
            at += piece;
        }
        store.commit(0);
        while bench.report(&store) != Report::Committed(0) {}
        let order = ReadStore { fetch: FETCH, store: StoreId(1), from: 1, to: total as u64, into: None };
        store.read(order);
        bench.wait(|| (store.worker.reported() >= READ_AHEAD_MAX).then_some(()));
        assert!(store.worker.reported() < READ_AHEAD_MAX + STORE_PIECE_MAX);
        let mut length = 0;
        loop {
            match bench.wait(|| next(&store)) {
                (FETCH, Read::Chunk(piece)) => length += piece.len(),
                other => {
                    assert_eq!(other, (FETCH, Read::End(Ok(()))));
                    break;
                }
            }
        }
        assert_eq!(length, total - 1);
        let order =
            ReadStore { fetch: FetchId(8), store: StoreId(1), from: 0, to: total as u64 + 1, into: None };
        store.read(order);
        let end = bench.wait(|| {
            loop {
                // A wake may stand for many pieces.
                if let (fetch, Read::End(end)) = next(&store)? {
                    return Some((fetch, end));
                }
            }
        });
        assert!(end.1.unwrap_err().contains(&format!("ends at byte {total}")));
        store.close(true);
        bench.wait_for_end();
        assert!(!bench.dir.path().join("firmware/key").exists());
    }

    #[test]
    fn a_reading_can_be_aborted_and_a_store_closed_while_it_waits() {
        let bench = Bench::new();
        let mut store = bench.start();
        let total = READ_AHEAD_MAX * 2;
        store.write(FETCH, 0, vec![5; total]);
        let order = ReadStore { fetch: FETCH, store: StoreId(1), from: 0, to: total as u64, into: None };
        store.read(order.clone());
        bench.wait(|| (store.worker.reported() >= READ_AHEAD_MAX).then_some(()));
        store.abort(FETCH);
        let again = FetchId(9);
        store.read(ReadStore { fetch: again, ..order });
        let first = bench.wait(|| next(&store));
        assert!(matches!(first, (fetch, Read::Chunk(_)) if fetch == again), "nothing of the aborted one");
        bench.wait(|| (store.worker.reported() >= READ_AHEAD_MAX).then_some(()));
        drop(store);
        bench.wait_for_end();
        assert!(bench.dir.path().join("firmware/key/part-00000").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told_and_the_next_one_works() {
        let bench = Bench::new();
        std::fs::write(bench.dir.path().join("firmware"), "in the way").unwrap();
        let store = bench.start();
        let report = bench.report(&store);
        assert!(matches!(&report, Report::Failed(why) if why.contains("firmware")), "{report:?}");
        store.close(false);
        bench.wait_for_end();
        std::fs::remove_file(bench.dir.path().join("firmware")).unwrap();
        assert_eq!(bench.report(&bench.start()), Report::Opened(Vec::new()));
    }
}
