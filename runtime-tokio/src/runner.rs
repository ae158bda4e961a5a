//! Setting a device up and letting it run: the loop.

use std::future::poll_fn;
use std::os::fd::BorrowedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nerves_hub_link_protocol::Config;
use nerves_hub_link_runtime::{Control, Engine, Exit, Interest, Options, RunnerError};
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::bell::Bell;
use crate::connect::{Stream, Tasks};
use crate::handle::{Device, Handle};
use crate::limits::TERMINAL_PAUSE;

/// A device that is ready to run.
#[derive(Debug)]
pub struct Runner {
    engine: Engine<Tasks>,
    bell: Arc<Bell>,
}

impl Runner {
    /// Checks the settings and gets ready. Nothing is connected yet. It reads what
    /// [`Options::remember_attempts`] keeps, which is a short look at a disk; one that hangs is waited for within
    /// [`Options::attempts_limit`].
    ///
    /// # Errors
    ///
    /// If the settings make no sense, or the system gives no random numbers.
    pub fn new(config: Config, options: Options) -> Result<Self, RunnerError> {
        let bell = Arc::new(Bell::new());
        let engine = Engine::new(config, options, Tasks::new(), Arc::<Bell>::clone(&bell))?;
        Ok(Self { engine, bell })
    }

    /// Returns a handle, to be used once the device runs.
    pub fn handle(&self) -> Handle {
        Handle::new(self.engine.control(), Arc::clone(&self.bell))
    }

    /// Runs the device until it stops. When this returns, no thread of the device writes any more.
    ///
    /// Needs a runtime of tokio's with I/O and time. Dropping the future ends the device at once: connections are
    /// closed without a word, and its threads end after the piece they are writing. [`Handle::stop`] is the polite way.
    pub async fn run(self) -> Exit {
        let ended = Ended(self.engine.control());
        let exit = match tokio::runtime::Handle::try_current() {
            Ok(_) => turn_and_wait(self.engine, &self.bell).await,
            Err(error) => Exit::Failed { reason: format!("the device needs tokio: {error}") },
        };
        ended.0.end(exit.clone());
        exit
    }

    /// Runs the device in a task of its own, on the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// If it is called outside of a runtime.
    pub fn spawn(self) -> Result<Device, RunnerError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(std::io::Error::other)?;
        let device = Device::new(self.handle());
        // How it ends is told to the handles.
        drop(runtime.spawn(self.run()));
        Ok(device)
    }
}

/// Runs until told to stop or to reboot.
async fn turn_and_wait(mut engine: Engine<Tasks>, bell: &Bell) -> Exit {
    let mut timer = pin!(sleep_until(Instant::now()));
    loop {
        if let Some(exit) = engine.turn() {
            return exit;
        }
        wait(&mut engine, bell, timer.as_mut()).await;
    }
}

/// Waits until a connection, a thread or a deadline wants something. Nothing is read or written here, so that nothing can
/// be lost when the future is dropped.
async fn wait(engine: &mut Engine<Tasks>, bell: &Bell, mut timer: Pin<&mut Sleep>) {
    let mut left = engine.time_left();
    if left == Some(Duration::ZERO) {
        return tokio::task::yield_now().await;
    }
    let interests = engine.interests();
    let mut watched = Vec::new();
    for (fd, interest) in interests.descriptors {
        match Watched::new(fd, interest) {
            Ok(it) => watched.push(it),
            // The kernel has no room to watch more; so look again, and again.
            Err(_) => left = Some(left.map_or(TERMINAL_PAUSE, |left| left.min(TERMINAL_PAUSE))),
        }
    }
    let end = left.and_then(|left| Instant::now().checked_add(left));
    if let Some(end) = end {
        timer.as_mut().reset(end);
    }
    let mut woken = pin!(bell.woken());
    poll_fn(|cx| {
        let ready = woken.as_mut().poll(cx).is_ready()
            || (end.is_some() && timer.as_mut().poll(cx).is_ready())
            || interests.connections.iter().any(|(Stream(tcp), interest)| is_ready(tcp, *interest, cx))
            || watched.iter().any(|it| it.is_ready(cx));
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// What the last read or write left undone is ready at once; tokio forgets readiness when one would have to wait.
fn is_ready(tcp: &TcpStream, interest: Interest, cx: &mut Context<'_>) -> bool {
    (interest.read && tcp.poll_read_ready(cx).is_ready())
        || (interest.write && tcp.poll_write_ready(cx).is_ready())
}

/// A terminal or a process, watched during one wait: registered anew each time, it is known to be ready whenever it is,
/// whoever read from it in between.
struct Watched<'a> {
    fd: AsyncFd<BorrowedFd<'a>>,
    interest: Interest,
}

impl<'a> Watched<'a> {
    fn new(fd: BorrowedFd<'a>, interest: Interest) -> std::io::Result<Self> {
        use tokio::io::Interest as Wanted;
        let wanted = match (interest.read, interest.write) {
            (true, true) => Wanted::READABLE | Wanted::WRITABLE,
            (_, false) => Wanted::READABLE,
            (false, true) => Wanted::WRITABLE,
        };
        #[allow(
            deprecated,
            reason = "its successor is `unsafe` and asks that the descriptor stays open: a `BorrowedFd` does, by its lifetime"
        )]
        let fd = AsyncFd::with_interest(fd, wanted)?;
        Ok(Self { fd, interest })
    }

    fn is_ready(&self, cx: &mut Context<'_>) -> bool {
        (self.interest.read && self.fd.poll_read_ready(cx).is_ready())
            || (self.interest.write && self.fd.poll_write_ready(cx).is_ready())
    }
}

/// Says that the loop ended even if it panicked or was dropped, so that no one waits for ever.
struct Ended(Control);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end(if std::thread::panicking() {
            let reason = "the device's task panicked, which is a bug in nerves-hub-link".to_owned();
            Exit::Failed { reason }
        } else {
            Exit::Stopped
        });
    }
}
