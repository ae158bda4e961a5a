//! The application's end of a device on a thread.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nerves_hub_link_platform::files::Outgoing;
use nerves_hub_link_runtime::{Control, Exit, SendFileError, Status};

use crate::bell::Bell;

/// A device that runs on another thread. Cheap to clone; every clone speaks to the same device. The calls that return at
/// once are [`Control`]'s.
///
/// Dropping all handles does not stop the device; [`Handle::stop`] does.
#[derive(Clone, Debug)]
pub struct Handle {
    control: Control,
    bell: Arc<Bell>,
}

impl Deref for Handle {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Handle {
    pub(crate) const fn new(control: Control, bell: Arc<Bell>) -> Self {
        Self { control, bell }
    }

    /// Waits until `done` says yes to the status, the device stops, or the time is over. Returns the
    /// status then, and whether `done` said yes to it.
    pub fn wait_until(&self, timeout: Duration, done: impl Fn(&Status) -> bool) -> (Status, bool) {
        let end = Instant::now() + timeout;
        loop {
            let seen = self.bell.changes();
            let status = self.control.status();
            let yes = done(&status);
            if yes || status.exit.is_some() || end <= Instant::now() {
                return (status, yes);
            }
            self.bell.wait_for_change(seen, Some(end));
        }
    }

    /// Sends a file to the operators who watch the console, under its name without the path. One at a time; why it
    /// could not be sent after all is told to the notice hook.
    ///
    /// # Errors
    ///
    /// If it can't be read, is too large, or nobody can be reached.
    pub fn send_file(&self, path: impl Into<PathBuf>) -> Result<(), SendFileError> {
        self.control.send_opened(Outgoing::open(path)?)
    }

    /// Stops the device and returns when its threads have ended and nothing writes to the disk.
    ///
    /// From within a callback, which the device waits for, it only asks for the stop and returns
    /// [`Exit::Stopped`].
    pub fn stop(&self) -> Exit {
        self.control.request_stop();
        self.wait()
    }

    /// Waits until the device stops by itself, or another handle stops it.
    ///
    /// From within a callback it returns [`Exit::Stopped`] at once, as waiting would be for ever.
    pub fn wait(&self) -> Exit {
        loop {
            let seen = self.bell.changes();
            if let Some(exit) = self.control.status().exit {
                return exit;
            }
            if self.bell.is_the_loops_thread() {
                return Exit::Stopped;
            }
            self.bell.wait_for_change(seen, None);
        }
    }
}
