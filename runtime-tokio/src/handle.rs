//! The application's end of a device in a task.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nerves_hub_link_platform::files::Outgoing;
use nerves_hub_link_runtime::{Control, Exit, HandleError, SendFileError, Status};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::bell::Bell;

/// A device that runs in a task. Cheap to clone; every clone speaks to the same device. The calls that return at once are
/// [`Control`]'s, and may be made from anywhere, outside of tokio too.
///
/// Dropping handles stops nothing. The owner of the task does that: [`Device`], or whoever holds the future of
/// [`Runner::run`](crate::Runner::run).
///
/// Every future here may be dropped at any moment without losing anything, and must be awaited within a runtime of tokio's
/// where it says so.
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

    /// Waits until `done` says yes to the status, the device stops, or the time is over. Returns the status then, and
    /// whether `done` said yes to it.
    ///
    /// Cancel safe. Needs tokio's timer.
    pub async fn wait_until(&self, limit: Duration, done: impl Fn(&Status) -> bool) -> (Status, bool) {
        let satisfied = self.status_when(|status| done(status) || status.exit.is_some());
        let status = match timeout(limit, satisfied).await {
            Ok(status) => status,
            Err(_) => self.control.status(),
        };
        let yes = done(&status);
        (status, yes)
    }

    /// Waits until the device stops by itself, or is stopped.
    ///
    /// Cancel safe. A callback, which the device waits for, must not wait for this.
    pub async fn wait(&self) -> Exit {
        loop {
            if let Some(exit) = self.status_when(|status| status.exit.is_some()).await.exit {
                return exit;
            }
        }
    }

    /// Stops the device: leaves the server with a word, finishes the piece that is being written, and returns when its
    /// threads have ended and nothing writes to the disk.
    ///
    /// Cancel safe: the device stops though nobody waits for it any more. A callback, which the device waits for, must not
    /// wait for this; it can [`request_stop`](Control::request_stop).
    pub async fn stop(&self) -> Exit {
        self.control.request_stop();
        self.wait().await
    }

    /// Sends a file to the operators who watch the console, under its name without the path. One at a time; why it
    /// could not be sent after all is told to the notice hook. The file is opened on one of tokio's threads for what blocks.
    ///
    /// When it is dropped early, the file is either sent or not.
    ///
    /// # Errors
    ///
    /// If it can't be read, is too large, or nobody can be reached.
    pub async fn send_file(&self, path: impl Into<PathBuf>) -> Result<(), SendFileError> {
        let path = path.into();
        // Ends early only with the runtime, and the device with it.
        let opened = spawn_blocking(move || Outgoing::open(path)).await.map_err(|_| HandleError::Stopped)?;
        self.control.send_opened(opened?)
    }

    async fn status_when(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut changes = self.bell.changes();
        loop {
            changes.borrow_and_update();
            let status = self.control.status();
            // The sender lives as long as this handle.
            if wanted(&status) || changes.changed().await.is_err() {
                return status;
            }
        }
    }
}

/// A device that runs in a task, and its owner: dropping it stops the device, which takes leave and ends by itself.
///
/// It is a [`Handle`] too; [`Device::handle`] gives others.
#[derive(Debug)]
pub struct Device {
    handle: Handle,
    owned: bool,
}

impl Device {
    pub(crate) const fn new(handle: Handle) -> Self {
        Self { handle, owned: true }
    }

    /// Returns a handle, which does not own the device.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Lets the device run on without an owner, until it is stopped by a handle.
    pub fn detach(mut self) -> Handle {
        self.owned = false;
        self.handle()
    }

    /// Stops the device and waits for its end, as [`Handle::stop`] does.
    pub async fn shutdown(self) -> Exit {
        self.handle.stop().await
    }
}

impl Deref for Device {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.owned {
            self.handle.request_stop();
        }
    }
}
