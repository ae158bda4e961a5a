//! Setting a device up and letting it run: the loop.

use std::sync::Arc;
use std::time::Duration;

use nerves_hub_link_protocol::Config;
use nerves_hub_link_runtime::{Control, Engine, Exit, Interest, Options, RunnerError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::bell::Bell;
use crate::connect::Threads;
use crate::handle::Handle;

/// A device that is ready to run.
#[derive(Debug)]
pub struct Runner {
    engine: Engine<Threads>,
    bell: Arc<Bell>,
}

impl Runner {
    /// Checks the settings and gets ready. Nothing is connected yet.
    pub fn new(config: Config, options: Options) -> Result<Self, RunnerError> {
        let bell = Arc::new(Bell::new()?);
        let engine = Engine::new(config, options, Threads::new(), Arc::<Bell>::clone(&bell))?;
        Ok(Self { engine, bell })
    }

    /// Returns a handle, to be used once the device runs.
    pub fn handle(&self) -> Handle {
        Handle::new(self.engine.control(), Arc::clone(&self.bell))
    }

    /// Runs the device on this thread until it stops.
    pub fn run(self) -> Exit {
        self.bell.runs_here();
        let ended = Ended(self.engine.control());
        let exit = turn_and_wait(self.engine, &self.bell);
        ended.0.end(exit.clone());
        exit
    }

    /// Runs the device on a thread of its own.
    pub fn spawn(self) -> Result<Handle, RunnerError> {
        let handle = self.handle();
        std::thread::Builder::new().name("nerves-hub-link".to_owned()).spawn(move || drop(self.run()))?;
        Ok(handle)
    }
}

/// Runs until told to stop or to reboot. When it returns, no thread of this device writes any more.
fn turn_and_wait(mut engine: Engine<Threads>, bell: &Bell) -> Exit {
    loop {
        if let Some(exit) = engine.turn() {
            return exit;
        }
        if let Err(error) = wait(&mut engine, bell) {
            engine.fail(format!("cannot wait for connections: {error}"));
            // Only the end of its threads is left to wait for.
            std::thread::sleep(PAUSE);
        }
    }
}

/// How often a loop that can't wait looks whether its threads have ended.
const PAUSE: Duration = Duration::from_millis(10);

/// Sleeps until a connection, another thread or a deadline wants something.
fn wait(engine: &mut Engine<Threads>, bell: &Bell) -> std::io::Result<()> {
    // More than the system can count is as good as for ever.
    let timeout = engine.time_left().and_then(|left| Timespec::try_from(left).ok());
    let wanted = engine.interests();
    let mut interests = vec![PollFd::new(bell, PollFlags::IN)];
    interests.extend(wanted.connections.into_iter().map(|(tcp, it)| PollFd::new(tcp, flags(it))));
    interests.extend(wanted.descriptors.into_iter().map(|(fd, it)| PollFd::from_borrowed_fd(fd, flags(it))));
    match poll(&mut interests, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    bell.clear();
    Ok(())
}

fn flags(interest: Interest) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, interest.read);
    flags.set(PollFlags::OUT, interest.write);
    flags
}

/// Says that the loop ended even if it panicked, so that no one waits for ever.
struct Ended(Control);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the device's loop panicked, which is a bug in nerves-hub-link".to_owned();
            self.0.end(Exit::Failed { reason });
        }
    }
}
