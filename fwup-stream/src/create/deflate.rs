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
use crate::internal::Internal;
use crate::lengths::smaller;

/// Bytes of a block: large enough that the ends of blocks cost nothing, small enough to spread.
pub(super) const BLOCK: usize = 256 * 1024;
/// Bytes of data a block can refer back to.
const WINDOW: usize = 32 * 1024;
/// The fastest level that makes data no larger than zlib's fastest does. The one below it makes a sixth more of a
/// root file system, and a twentieth more of what does not compress than there was.
const FASTEST: u32 = 2;
/// Bytes of room beyond the size of the data, and what is added should it not be enough.
const ROOM: usize = 16 * 1024;
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
    // Where the system does not say, there is one at least.
    let processors = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let threads = smaller(blocks, processors);
    let mut totals = Totals { out, crc: crc32fast::Hasher::new(), compressed: 0 };
    let mut source = Source { left: size, before: None, read: &mut read };
    if threads < 2 {
        while let Some((data, before, last)) = source.next(&mut totals)? {
            totals.put(&deflate_block(level, &data, before.as_deref().map(Vec::as_slice), last)?)?;
        }
        return Ok(totals.finish());
    }
    thread::scope(|scope| {
        let (jobs, queue) = sync_channel::<Job>(1);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            scope.spawn(move || work(&queue, level));
        }
        // The threads own the queue: when the last of them is gone, sending fails rather than waits.
        drop(queue);
        let mut replies: VecDeque<Receiver<io::Result<Vec<u8>>>> = VecDeque::new();
        while let Some((data, before, last)) = source.next(&mut totals)? {
            if replies.len() >= threads + 2 {
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
    let answer = replies.pop_front();
    let answer = answer.ok_or_else(|| io::Error::other(Internal::new("no deflated block is on its way")))?;
    totals.put(&answer.recv().map_err(|_| gone())??)
}

fn gone() -> io::Error {
    io::Error::other("a thread that deflates ended early")
}

/// What a thread does until there is no more.
fn work(queue: &Mutex<Receiver<Job>>, level: u32) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let block = deflate_block(level, &job.data, job.before.as_deref().map(Vec::as_slice), job.last);
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
        let length = smaller(self.left, BLOCK);
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
        self.compressed += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn finish(self) -> EntryTotals {
        EntryTotals { crc: self.crc.finalize(), compressed: self.compressed }
    }
}

/// Deflates a block. A compressor used again would remember enough of its last block for the result to
/// depend on which thread had that; a new one costs next to nothing beside the work.
fn deflate_block(level: u32, data: &[u8], before: Option<&[u8]>, last: bool) -> io::Result<Vec<u8>> {
    let mut machine = Compress::new(Compression::new(level.max(FASTEST)), false);
    if let Some(before) = before {
        let (_, window) = before.split_at(before.len().saturating_sub(WINDOW));
        machine.set_dictionary(window).map_err(io::Error::other)?;
    }
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    // Room for data that do not compress, so that nothing has to move.
    let mut out = Vec::with_capacity(data.len() + ROOM);
    let mut rest = data;
    loop {
        let taken_before = machine.total_in();
        let status = machine.compress_vec(rest, &mut out, flush).map_err(io::Error::other)?;
        let taken = smaller(machine.total_in() - taken_before, rest.len());
        (_, rest) = rest.split_at(taken);
        let has_room = out.len() < out.capacity();
        if if last { status == Status::StreamEnd } else { rest.is_empty() && has_room } {
            return Ok(out);
        }
        out.reserve(ROOM);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{self, Read, Write};
    use std::thread;

    use super::{BLOCK, THREADS_MAX, deflate};

    /// Counts what was written.
    struct Counting<'a>(&'a Cell<usize>);

    impl Write for Counting<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.set(self.0.get() + bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_few_blocks_are_held_at_a_time() {
        let (written, mut read, mut most) = (Cell::new(0), 0, 0);
        let mut state = 1_u64;
        let size = 40 * BLOCK;
        let source = |buffer: &mut [u8]| {
            for byte in buffer.iter_mut() {
                // Bytes that do not compress, so that what was read and not written is held.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state.to_le_bytes()[3];
            }
            read += buffer.len();
            most = most.max(read - written.get().min(read));
            Ok::<_, io::Error>(buffer.len())
        };
        deflate(size as u64, 1, source, &mut Counting(&written)).unwrap();
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        assert!(most <= (threads + 4) * BLOCK, "{most} bytes in flight");
        assert!(written.get() >= size, "nothing was to be saved");
    }

    /// Data that do not compress grow by no more than what stands in front of blocks of them, at any level.
    #[test]
    fn what_does_not_compress_hardly_grows() {
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()[7]
        };
        for size in [1, 65_535, 65_536, BLOCK, 2 * BLOCK + 70_000] {
            let data: Vec<u8> = (0..size).map(|_| noise()).collect();
            for level in 1..=9 {
                let (mut left, mut packed) = (data.as_slice(), Vec::new());
                let source = |buffer: &mut [u8]| {
                    let (now, rest) = left.split_at(buffer.len());
                    buffer.copy_from_slice(now);
                    left = rest;
                    Ok::<_, io::Error>(now.len())
                };
                deflate(size as u64, level, source, &mut packed).unwrap();
                let most = size + size / 1000 + 10;
                assert!(packed.len() <= most, "{size} bytes at {level}: {}", packed.len());
                let mut back = Vec::new();
                flate2::read::DeflateDecoder::new(packed.as_slice()).read_to_end(&mut back).unwrap();
                assert!(back == data, "{size} bytes at {level}");
            }
        }
    }

    #[test]
    fn data_that_end_early_are_an_error() {
        for blocks in [0, 3] {
            let mut left = blocks * BLOCK + 5;
            let source = |buffer: &mut [u8]| {
                let count = buffer.len().min(left);
                left -= count;
                Ok::<_, io::Error>(count)
            };
            let size = (blocks * BLOCK + 6) as u64;
            let error = deflate(size, 9, source, &mut io::sink()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
