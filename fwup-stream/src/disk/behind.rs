//! Writing in a thread of its own, so that reading, inflating and hashing go on meanwhile.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use super::buffer::Buffer;
use super::io::DiskError;
use super::target::{Extent, Target};
use super::{SEGMENT, SEGMENT_BYTES};

/// Segments that may wait to be written. More would only take memory: what is slow stays slow.
const WAITING: usize = 4;

/// A [`Target`] in front of another that writes in a thread of its own.
///
/// Writes happen in order, one at a time. One that fails is told by the next call; no later one is made until
/// it was told. Reading, syncing and trimming wait for all writes before them.
#[derive(Debug)]
pub struct WriteBehind<T> {
    worker: Arc<Mutex<Worker<T>>>,
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
    spare: Vec<Buffer>,
    waiting: usize,
    /// Counts failures told, so that the thread knows which writes were asked for in ignorance of one.
    epoch: u64,
    extent: Extent,
    granularity: usize,
}

/// Something to write.
#[derive(Debug)]
struct Job {
    epoch: u64,
    offset: u64,
    length: usize,
    data: Buffer,
}

/// What became of it, and its buffer back.
#[derive(Debug)]
struct Done {
    result: Result<(), DiskError>,
    buffer: Buffer,
}

impl<T: Target + Send + 'static> WriteBehind<T> {
    /// Starts the thread. With `verify`, everything is read back there and compared.
    pub fn new(target: T, verify: bool) -> io::Result<Self> {
        let (extent, granularity) = (target.extent(), target.granularity());
        let (jobs, todo) = channel();
        let (tell, done) = channel();
        let worker = Arc::new(Mutex::new(Worker { target, verify, check: None, failed: None }));
        let at_work = Arc::clone(&worker);
        let thread = Builder::new().name("write".to_owned()).spawn(move || {
            while let Ok(job) = todo.recv() {
                if tell.send(lock(&at_work).run(job)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            worker,
            jobs: Some(jobs),
            done,
            thread: Some(thread),
            spare: Vec::new(),
            waiting: 0,
            epoch: 0,
            extent,
            granularity,
        })
    }
}

impl<T> WriteBehind<T> {
    /// Waits until at most `left` writes are waiting; the first failure is the result, after all that wait.
    fn settle(&mut self, left: usize) -> io::Result<()> {
        let mut outcome = Ok(());
        while self.waiting > left || (self.waiting > 0 && outcome.is_err()) {
            let done = self.done.recv().map_err(|_| gone())?;
            self.waiting -= 1;
            self.spare.push(done.buffer);
            outcome = outcome.and(done.result);
        }
        if outcome.is_err() {
            self.epoch += 1;
        }
        outcome.map_err(io::Error::other)
    }

    /// The target itself, when nothing waits to be written.
    fn settled(&mut self) -> io::Result<MutexGuard<'_, Worker<T>>> {
        self.settle(0)?;
        Ok(lock(&self.worker))
    }
}

impl<T: Target> Target for WriteBehind<T> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.settled()?.target.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        for (piece, number) in data.chunks(SEGMENT).zip(0_u64..) {
            self.settle(WAITING - 1)?;
            let mut buffer = self.spare.pop().unwrap_or_else(Buffer::new);
            let place = buffer.bytes_mut().get_mut(..piece.len());
            let too_long =
                || io::Error::other(DiskError::internal(offset, "a piece is longer than a segment"));
            place.ok_or_else(too_long)?.copy_from_slice(piece);
            let offset = offset.saturating_add(number * SEGMENT_BYTES);
            let job = Job { epoch: self.epoch, offset, length: piece.len(), data: buffer };
            self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(gone)?;
            self.waiting += 1;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.settled()?.target.sync()
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.settled()?.target.trim(offset, length)
    }

    fn extent(&self) -> Extent {
        self.extent
    }

    fn granularity(&self) -> usize {
        self.granularity
    }
}

impl<T> Drop for WriteBehind<T> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Nobody is left to be told; what must be known was told by the last sync.
            let _ = thread.join();
        }
    }
}

/// The target, and how to write to it.
#[derive(Debug)]
struct Worker<T> {
    target: T,
    verify: bool,
    check: Option<Buffer>,
    /// The epoch in which a write failed.
    failed: Option<u64>,
}

impl<T: Target> Worker<T> {
    fn run(&mut self, job: Job) -> Done {
        let mut result = Ok(());
        if self.failed != Some(job.epoch) {
            let data = job.data.bytes().get(..job.length);
            let too_long = || DiskError::internal(job.offset, "a piece is longer than its memory");
            result = data.ok_or_else(too_long).and_then(|data| self.write(job.offset, data));
            if result.is_err() {
                self.failed = Some(job.epoch);
            }
        }
        Done { result, buffer: job.data }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        // Errors name the segment, as they do without a thread.
        let start = offset - offset % SEGMENT_BYTES;
        self.target.write_at(offset, data).map_err(|_| DiskError::Write { offset: start })?;
        if !self.verify {
            return Ok(());
        }
        let check = self.check.get_or_insert_with(Buffer::new);
        let back = check.bytes_mut().get_mut(..data.len());
        let back = back.ok_or_else(|| DiskError::internal(start, "a piece is longer than its memory"))?;
        let mut done = 0;
        while let Some(part) = back.get_mut(done..).filter(|part| !part.is_empty()) {
            match self.target.read_at(offset.saturating_add(done as u64), part) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(_) => return Err(DiskError::ReadBack { offset: start }),
            }
        }
        if *back == *data { Ok(()) } else { Err(DiskError::Verify { offset: start }) }
    }
}

/// The target stays as it is whatever became of the thread; its next call tells.
fn lock<T>(worker: &Mutex<Worker<T>>) -> MutexGuard<'_, Worker<T>> {
    worker.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone() -> io::Error {
    io::Error::other("the thread that writes is gone")
}
