//! Deflating on all processors, with the same result on any number of them.
//!
//! The data are cut into blocks of fixed size. Each is deflated on its own, with the end of the block before
//! as its dictionary, and ends on a byte boundary; joined they are one ordinary deflate stream.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::archive::EntryTotals;

/// Bytes of a block: large enough that the ends of blocks cost nothing, small enough to spread.
pub(super) const BLOCK: usize = 512 * 1024;
/// Bytes of data a block can refer back to.
const WINDOW: usize = 32 * 1024;
/// Bytes of room added when the output of a block is full.
const ROOM: usize = 64 * 1024;
/// More threads than this are not used, so that memory stays bounded.
const THREADS_MAX: usize = 64;

/// A block to deflate.
struct Job {
    data: Arc<Vec<u8>>,
    before: Option<Arc<Vec<u8>>>,
    last: bool,
    reply: SyncSender<io::Result<Vec<u8>>>,
}

/// Deflates what `read` fills blocks with (returning how much it put in; less than asked for only at the
/// end) and writes it to `out`. `size` is how much will come.
pub(super) fn deflate<E: From<io::Error> + Send>(
    size: u64,
    level: u32,
    mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    out: &mut dyn Write,
) -> Result<EntryTotals, E> {
    let blocks = size.div_ceil(BLOCK as u64).max(1);
    let processors = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let threads = processors.min(usize::try_from(blocks).unwrap_or(usize::MAX));
    let mut totals = Totals { out, crc: crc32fast::Hasher::new(), compressed: 0 };
    let mut source = Source { left: size, before: None, read: &mut read };
    if threads < 2 {
        let mut machine = Machine::new(level);
        while let Some((data, before, last)) = source.next(&mut totals)? {
            totals.put(&machine.block(&data, before.as_deref().map(Vec::as_slice), last)?)?;
        }
        return Ok(totals.finish());
    }
    thread::scope(|scope| {
        let (jobs, queue) = sync_channel::<Job>(threads);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            scope.spawn(move || work(&queue, level));
        }
        // The threads own the queue: when the last of them is gone, sending fails rather than waits.
        drop(queue);
        let mut replies: VecDeque<Receiver<io::Result<Vec<u8>>>> = VecDeque::new();
        while let Some((data, before, last)) = source.next(&mut totals)? {
            if replies.len() >= threads * 2 {
                receive(&mut replies, &mut totals)?;
            }
            let (reply, answer) = sync_channel(1);
            jobs.send(Job { data, before, last, reply }).map_err(|_| gone())?;
            replies.push_back(answer);
        }
        drop(jobs);
        while !replies.is_empty() {
            receive(&mut replies, &mut totals)?;
        }
        Ok(totals.finish())
    })
}

/// Writes the block that comes next.
fn receive(replies: &mut VecDeque<Receiver<io::Result<Vec<u8>>>>, totals: &mut Totals<'_>) -> io::Result<()> {
    let Some(answer) = replies.pop_front() else { return Ok(()) };
    totals.put(&answer.recv().map_err(|_| gone())??)
}

fn gone() -> io::Error {
    io::Error::other("a thread that deflates ended early")
}

/// What a thread does until there is no more.
fn work(queue: &Mutex<Receiver<Job>>, level: u32) {
    let mut machine = Machine::new(level);
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let block = machine.block(&job.data, job.before.as_deref().map(Vec::as_slice), job.last);
        // Nobody waits any more after an error elsewhere.
        let _ = job.reply.send(block);
    }
}

/// What is read, block by block.
struct Source<'a, R> {
    left: u64,
    before: Option<Arc<Vec<u8>>>,
    read: &'a mut R,
}

/// A block, the one before it, and whether it is the last.
type Block = (Arc<Vec<u8>>, Option<Arc<Vec<u8>>>, bool);

impl<E: From<io::Error>, R: FnMut(&mut [u8]) -> Result<usize, E>> Source<'_, R> {
    fn next(&mut self, totals: &mut Totals<'_>) -> Result<Option<Block>, E> {
        if self.before.is_some() && self.left == 0 {
            return Ok(None);
        }
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(BLOCK);
        let mut data = vec![0; length];
        let mut filled = 0;
        while let Some(room) = data.get_mut(filled..).filter(|room| !room.is_empty()) {
            match (self.read)(room)? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => filled += count,
            }
        }
        totals.crc.update(&data);
        self.left -= length as u64;
        let data = Arc::new(data);
        let before = self.before.replace(Arc::clone(&data));
        Ok(Some((data, before, self.left == 0)))
    }
}

/// What was written.
struct Totals<'a> {
    out: &'a mut dyn Write,
    crc: crc32fast::Hasher,
    compressed: u64,
}

impl Totals<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.compressed = self.compressed.saturating_add(bytes.len() as u64);
        self.out.write_all(bytes)
    }

    fn finish(self) -> EntryTotals {
        EntryTotals { crc: self.crc.finalize(), compressed: self.compressed }
    }
}

/// A compressor, used again for each block.
struct Machine(Compress);

impl Machine {
    fn new(level: u32) -> Self {
        Self(Compress::new(Compression::new(level), false))
    }

    fn block(&mut self, data: &[u8], before: Option<&[u8]>, last: bool) -> io::Result<Vec<u8>> {
        self.0.reset();
        if let Some(before) = before {
            let window = before.get(before.len().saturating_sub(WINDOW)..).unwrap_or(before);
            self.0.set_dictionary(window).map_err(io::Error::other)?;
        }
        let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
        let mut out = Vec::with_capacity(data.len() / 2 + ROOM);
        let mut rest = data;
        loop {
            let taken_before = self.0.total_in();
            let status = self.0.compress_vec(rest, &mut out, flush).map_err(io::Error::other)?;
            let taken = usize::try_from(self.0.total_in() - taken_before).unwrap_or(rest.len());
            rest = rest.get(taken..).unwrap_or_default();
            let done = if last {
                status == Status::StreamEnd
            } else {
                rest.is_empty() && out.len() < out.capacity()
            };
            if done {
                return Ok(out);
            }
            out.reserve(ROOM);
        }
    }
}
