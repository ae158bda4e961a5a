//! Standard output and standard error, written by threads of their own: nobody who says something waits for a reader.
//!
//! A pipe whose reader stopped takes a few lines and then no more, for as long as the reader likes. So lines go through a
//! bounded queue. When it is full, the oldest are dropped and counted, and the count is written once the reader is back.
//!
//! Everything this program prints passes through here, and is escaped here.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nerves_hub_link_protocol::printable::escape;
use rustix::event::{PollFd, PollFlags, poll};

use crate::limits::{LINES_BYTES_MAX, LINES_MAX};

/// A queue of lines and the thread that writes them. Cheap to clone; every clone feeds the same queue.
#[derive(Clone)]
pub struct Lines {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Says that lines were lost.
    lost: Box<dyn Fn(u64) -> String + Send + Sync>,
    /// Taken by the thread when it starts.
    target: Mutex<Option<Box<dyn Write + Send>>>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<String>,
    /// Bytes in `waiting`.
    bytes: usize,
    /// Lines dropped since this was last said.
    lost: u64,
    /// A line is being written.
    writing: bool,
    /// There is a thread.
    attended: bool,
}

impl Lines {
    /// Queues lines for a target; `lost` makes the line that says how many were dropped. The thread starts with the first
    /// line.
    pub fn new(
        target: impl Write + Send + 'static,
        lost: impl Fn(u64) -> String + Send + Sync + 'static,
    ) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let target = Mutex::new(Some(Box::new(target) as Box<dyn Write + Send>));
        Self { shared: Arc::new(Shared { state, changed, lost: Box::new(lost), target }) }
    }

    /// Queues lines for standard error.
    pub fn stderr() -> Self {
        let lost = |count| format!("nerves-hub-link: {count} messages were lost: nobody read them");
        Self::new(Descriptor(io::stderr()), lost)
    }

    /// Queues lines for standard output.
    pub fn stdout(lost: impl Fn(u64) -> String + Send + Sync + 'static) -> Self {
        Self::new(Descriptor(io::stdout()), lost)
    }

    /// Queues a line. Returns at once. Whatever the text is, it comes out as one line without control characters.
    pub fn line(&self, line: impl AsRef<str>) {
        let mut line = escape(line.as_ref()).into_owned();
        line.push('\n');
        let mut state = self.shared.lock();
        state.bytes += line.len();
        state.waiting.push_back(line);
        while state.waiting.len() > LINES_MAX || state.bytes > LINES_BYTES_MAX {
            let Some(oldest) = state.waiting.pop_front() else {
                debug_assert!(false, "{} bytes in no line", state.bytes);
                state.bytes = 0;
                break;
            };
            state.bytes -= oldest.len();
            state.lost = state.lost.saturating_add(1);
        }
        if !state.attended {
            let shared = Arc::clone(&self.shared);
            // Without a thread the lines wait, and the next one tries again.
            state.attended =
                thread::Builder::new().name("output".into()).spawn(move || shared.attend()).is_ok();
        }
        self.shared.changed.notify_all();
    }

    /// Waits until everything is written, for so long at most. Returns whether it is.
    pub fn flush(&self, limit: Duration) -> bool {
        let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), limit, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, for the rest of the process's life.
    fn attend(&self) {
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner).take();
        debug_assert!(target.is_some(), "a second thread for one target");
        let Some(mut target) = target else { return };
        loop {
            let (line, lost) = self.next();
            let mut failed = lost > 0 && target.write_all(((self.lost)(lost) + "\n").as_bytes()).is_err();
            let unsaid = if failed { lost } else { 0 };
            failed = failed || line.is_some_and(|line| target.write_all(line.as_bytes()).is_err());
            let mut state = self.lock();
            // A reader that is gone may come back: to a FIFO, or a disk that has space again.
            state.lost = state.lost.saturating_add(unsaid).saturating_add(u64::from(failed));
            state.writing = false;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits for the next line, and takes the number of those that were lost before it.
    fn next(&self) -> (Option<String>, u64) {
        let idle = |state: &mut State| state.waiting.is_empty();
        let mut state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let line = state.waiting.pop_front();
        debug_assert!(line.is_some(), "waited for a line, and there is none");
        state.bytes -= line.as_ref().map_or(0, String::len);
        state.writing = true;
        (line, std::mem::take(&mut state.lost))
    }
}

/// A descriptor, written without the buffer and the lock that the standard library puts before it: whoever else prints must
/// not wait for this thread. Another process may have set it to non-blocking.
struct Descriptor<T>(T);

impl<T: AsFd> Write for Descriptor<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.0, bytes).map_err(io::Error::from) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A reader that takes one write per permit; without permits it hangs, and `Err` is a reader that is gone.
    struct Reader {
        permits: Receiver<Result<(), ErrorKind>>,
        taken: Sender<String>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().unwrap()?;
            self.taken.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines() -> (Lines, Sender<Result<(), ErrorKind>>, Receiver<String>) {
        let ((permit, permits), (taken, read)) = (channel(), channel());
        let lines = Lines::new(Reader { permits, taken }, |count| format!("{count} lost"));
        (lines, permit, read)
    }

    /// Waits until the thread hangs in the write of a line.
    fn hangs(lines: &Lines) {
        let mut state = lines.shared.lock();
        while !state.writing {
            state = lines.shared.changed.wait_timeout(state, Duration::from_millis(1)).unwrap().0;
        }
    }

    #[test]
    fn a_reader_that_stops_costs_the_oldest_lines_and_is_told_how_many() {
        let (lines, permit, read) = lines();
        lines.line("0");
        hangs(&lines);
        for number in 1..=LINES_MAX + 3 {
            lines.line(number.to_string());
        }
        assert!(!lines.flush(Duration::ZERO), "the reader hangs");
        for _ in 0..LINES_MAX + 2 {
            permit.send(Ok(())).unwrap();
        }
        assert!(lines.flush(PATIENCE));
        let read: Vec<String> = read.try_iter().collect();
        assert_eq!(read[..3], ["0\n", "3 lost\n", "4\n"]);
        assert_eq!(read.last().unwrap(), &format!("{}\n", LINES_MAX + 3));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (lines, permit, read) = lines();
        lines.line("0");
        hangs(&lines);
        // Each with its line break: two fill the queue to the last byte.
        lines.line("a".repeat(LINES_BYTES_MAX / 2 - 1));
        lines.line("b".repeat(LINES_BYTES_MAX / 2 - 1));
        let lost_and_left = || {
            let state = lines.shared.lock();
            (state.lost, state.waiting.len())
        };
        assert_eq!(lost_and_left(), (0, 2));
        lines.line("");
        assert_eq!(lost_and_left(), (1, 2));
        lines.line("c".repeat(LINES_BYTES_MAX));
        assert_eq!(lost_and_left(), (4, 0));
        lines.line("last");
        for _ in 0..3 {
            permit.send(Ok(())).unwrap();
        }
        assert!(lines.flush(PATIENCE));
        assert_eq!(read.try_iter().collect::<Vec<_>>(), ["0\n", "4 lost\n", "last\n"]);
    }

    #[test]
    fn a_reader_that_is_gone_and_comes_back_is_told_what_it_missed() {
        let (lines, permit, read) = lines();
        permit.send(Err(ErrorKind::BrokenPipe)).unwrap();
        permit.send(Err(ErrorKind::BrokenPipe)).unwrap();
        lines.line("1");
        lines.line("2");
        while lines.shared.lock().lost < 2 {
            thread::yield_now();
        }
        permit.send(Ok(())).unwrap();
        permit.send(Ok(())).unwrap();
        lines.line("3");
        assert!(lines.flush(PATIENCE));
        assert_eq!(read.try_iter().collect::<Vec<_>>(), ["2 lost\n", "3\n"]);
    }
}
