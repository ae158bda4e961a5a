//! Writing in a thread of its own, so that reading, inflating and hashing go on meanwhile.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
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
pub struct WriteBehind {
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
    spare: Vec<Buffer>,
    waiting: usize,
    /// Counts failures told, so that the thread knows which writes were made in ignorance of one.
    epoch: u64,
    extent: Extent,
    granularity: usize,
}

#[derive(Debug)]
enum Job {
    Write { epoch: u64, offset: u64, length: usize, data: Buffer },
    Read { offset: u64, length: usize, into: Buffer },
    Sync(Buffer),
    Trim { offset: u64, length: u64, buffer: Buffer },
}

/// What became of a job: bytes read, and its buffer back.
#[derive(Debug)]
struct Done {
    result: io::Result<usize>,
    buffer: Buffer,
}

impl WriteBehind {
    /// Starts the thread. With `verify`, everything is read back there and compared.
    pub fn new(target: impl Target + Send + 'static, verify: bool) -> io::Result<Self> {
        let (extent, granularity) = (target.extent(), target.granularity());
        let (jobs, todo) = channel();
        let (tell, done) = channel();
        let mut worker = Worker { target, verify, check: None, failed: None };
        let thread = Builder::new().name("write".to_owned()).spawn(move || {
            while let Ok(job) = todo.recv() {
                if tell.send(worker.run(job)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
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

    /// Waits until at most `left` jobs are waiting; the first failure is the result.
    fn settle(&mut self, left: usize) -> io::Result<()> {
        let mut outcome = Ok(());
        while self.waiting > left || (self.waiting > 0 && outcome.is_err()) {
            let done = self.done.recv().map_err(|_| gone())?;
            self.waiting -= 1;
            self.spare.push(done.buffer);
            if outcome.is_ok() {
                outcome = done.result.map(|_| ());
            }
        }
        if outcome.is_err() {
            self.epoch += 1;
        }
        outcome
    }

    /// Has one job done now, after all others.
    fn ask(&mut self, job: impl FnOnce(Buffer) -> Job) -> io::Result<Done> {
        self.settle(0)?;
        let buffer = self.buffer();
        self.send(job(buffer))?;
        self.waiting -= 1;
        self.done.recv().map_err(|_| gone())
    }

    fn send(&mut self, job: Job) -> io::Result<()> {
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(gone)?;
        self.waiting += 1;
        Ok(())
    }

    fn buffer(&mut self) -> Buffer {
        self.spare.pop().unwrap_or_else(Buffer::new)
    }
}

impl Target for WriteBehind {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(SEGMENT);
        let done = self.ask(|into| Job::Read { offset, length, into })?;
        let count = done.result.as_ref().map_or(0, |count| (*count).min(length));
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), done.buffer.bytes().get(..count)) {
            to.copy_from_slice(from);
        }
        self.spare.push(done.buffer);
        done.result
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        for (piece, number) in data.chunks(SEGMENT).zip(0_u64..) {
            self.settle(WAITING - 1)?;
            let mut buffer = self.buffer();
            if let Some(place) = buffer.bytes_mut().get_mut(..piece.len()) {
                place.copy_from_slice(piece);
            }
            let offset = offset.saturating_add(number * SEGMENT_BYTES);
            self.send(Job::Write { epoch: self.epoch, offset, length: piece.len(), data: buffer })?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let done = self.ask(Job::Sync)?;
        self.spare.push(done.buffer);
        done.result.map(|_| ())
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let done = self.ask(|buffer| Job::Trim { offset, length, buffer })?;
        self.spare.push(done.buffer);
        done.result.map(|_| ())
    }

    fn extent(&self) -> Extent {
        self.extent
    }

    fn granularity(&self) -> usize {
        self.granularity
    }
}

impl Drop for WriteBehind {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Nobody is left to be told; what must be known was told by the last sync.
            let _ = thread.join();
        }
    }
}

/// What runs in the thread.
struct Worker<T> {
    target: T,
    verify: bool,
    check: Option<Buffer>,
    /// The epoch in which a write failed.
    failed: Option<u64>,
}

impl<T: Target> Worker<T> {
    fn run(&mut self, job: Job) -> Done {
        match job {
            Job::Write { epoch, data, .. } if self.failed == Some(epoch) => {
                Done { result: Ok(0), buffer: data }
            }
            Job::Write { epoch, offset, length, data } => {
                let written = self.write(offset, data.bytes().get(..length).unwrap_or_default());
                if written.is_err() {
                    self.failed = Some(epoch);
                }
                Done { result: written.map(|()| length).map_err(io::Error::other), buffer: data }
            }
            Job::Read { offset, length, mut into } => {
                let place = into.bytes_mut().get_mut(..length).unwrap_or_default();
                Done { result: self.target.read_at(offset, place), buffer: into }
            }
            Job::Sync(buffer) => Done { result: self.target.sync().map(|()| 0), buffer },
            Job::Trim { offset, length, buffer } => {
                Done { result: self.target.trim(offset, length).map(|()| 0), buffer }
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        // Errors name the segment, as they do without a thread.
        let start = offset - offset % SEGMENT_BYTES;
        self.target.write_at(offset, data).map_err(|_| DiskError::Write { offset: start })?;
        if !self.verify {
            return Ok(());
        }
        let check = self.check.get_or_insert_with(Buffer::new);
        let back = check.bytes_mut().get_mut(..data.len()).unwrap_or_default();
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

fn gone() -> io::Error {
    io::Error::other("the thread that writes is gone")
}
