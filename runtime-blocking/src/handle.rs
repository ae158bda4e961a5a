//! The application's end: commands to a running device, and how it is doing.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nerves_hub_link_platform::files::{FileError, Outgoing};
use nerves_hub_link_protocol::limits::MAX_UPLOAD_BYTES;
use nerves_hub_link_protocol::{Command, ConnectionState, Decision, Event, OfferId};

use crate::limits::COMMANDS_MAX;
use crate::wake::Waker;

/// A device that runs on another thread. Cheap to clone; every clone speaks to the same device.
///
/// Dropping all handles does not stop the device; [`Handle::stop`] does.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// How a device is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The machine's own account: connection, update, counters.
    pub link: nerves_hub_link_protocol::Status,
    /// Why the last connection, join or update failed, for a person.
    pub last_error: Option<String>,
    /// How the device stopped, once it has.
    pub exit: Option<Exit>,
}

impl Status {
    /// Returns whether the WebSocket is open.
    pub const fn connected(&self) -> bool {
        matches!(self.link.connection, ConnectionState::Connected | ConnectionState::Joined)
    }

    /// Returns whether the server accepted the device.
    pub const fn joined(&self) -> bool {
        matches!(self.link.connection, ConnectionState::Joined)
    }
}

/// Why a device stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// [`Handle::stop`] was called.
    Stopped,
    /// The device must restart; [`Client::reboot`](nerves_hub_link_protocol::Client::reboot) was called.
    Reboot {
        /// Why.
        reason: String,
    },
    /// The loop could not go on.
    Failed {
        /// What failed and why.
        reason: String,
    },
}

/// Why a command did not reach the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The device has stopped.
    #[error("the device has stopped")]
    Stopped,
    /// Too many commands wait already.
    #[error("{COMMANDS_MAX} commands wait for the device already; try again later")]
    Busy,
}

/// Why a file is not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendFileError {
    /// It can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is too large.
    #[error("the file has {size} bytes; it must have fewer than {MAX_UPLOAD_BYTES}")]
    TooLarge {
        /// Its size.
        size: u64,
    },
    /// The console isn't joined, or not allowed.
    #[error("the console is not joined; wait until it is, and see Config::console")]
    NotJoined,
    /// The device can't be told.
    #[error(transparent)]
    Handle(#[from] HandleError),
}

/// What handles tell the loop.
#[derive(Debug)]
pub(crate) enum Order {
    /// Something for the machine.
    Command(Command),
    /// A file to send.
    SendFile(Outgoing),
    /// The file is not to be sent any more.
    CancelUpload,
}

impl Handle {
    /// Returns whether the WebSocket is open.
    pub fn connected(&self) -> bool {
        self.shared.lock().connected()
    }

    /// Returns whether the server accepted the device.
    pub fn joined(&self) -> bool {
        self.shared.lock().joined()
    }

    /// Returns how the device is doing.
    pub fn status(&self) -> Status {
        self.shared.lock().clone()
    }

    /// Waits until `done` says yes to the status, the device stops, or the time is over. Returns the
    /// status then, and whether `done` said yes to it.
    pub fn wait_until(&self, timeout: Duration, done: impl Fn(&Status) -> bool) -> (Status, bool) {
        let end = Instant::now() + timeout;
        let mut status = self.shared.lock();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let yes = done(&status);
            if yes || status.exit.is_some() || left.is_zero() {
                return (status.clone(), yes);
            }
            let woken = self.shared.changed.wait_timeout(status, left);
            status = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Closes the connection and dials again at once.
    pub fn reconnect(&self) -> Result<(), HandleError> {
        self.command(Command::Reconnect)
    }

    /// Closes the connection and stays offline until [`Handle::connect`].
    pub fn disconnect(&self) -> Result<(), HandleError> {
        self.command(Command::Disconnect)
    }

    /// Connects again after [`Handle::disconnect`].
    pub fn connect(&self) -> Result<(), HandleError> {
        self.command(Command::Connect)
    }

    /// Tells the server that the running firmware proved good.
    pub fn firmware_validated(&self) -> Result<(), HandleError> {
        self.command(Command::FirmwareValidated)
    }

    /// Answers an offer. One that no longer waits for an answer is told to the notice hook.
    pub fn decide(&self, offer: OfferId, decision: Decision) -> Result<(), HandleError> {
        self.command(Command::Decide { offer, decision })
    }

    /// Returns whether operators can reach the console.
    pub fn console_joined(&self) -> bool {
        self.shared.lock().link.console_joined
    }

    /// Returns whether the console's shell runs.
    pub fn console_active(&self) -> bool {
        self.shared.lock().link.console_active
    }

    /// Sends a file to the operators who watch the console, under its name without the path. One at a time; why it
    /// could not be sent after all is told to the notice hook.
    ///
    /// # Errors
    ///
    /// If it can't be read, is too large, or nobody can be reached.
    pub fn send_file(&self, path: impl Into<PathBuf>) -> Result<(), SendFileError> {
        let file = Outgoing::open(path)?;
        if file.size() >= MAX_UPLOAD_BYTES {
            return Err(SendFileError::TooLarge { size: file.size() });
        }
        if !self.console_joined() {
            return Err(SendFileError::NotJoined);
        }
        Ok(self.send(Order::SendFile(file))?)
    }

    /// Stops sending the file of [`Handle::send_file`], if one is being sent. Operators see its beginning.
    pub fn cancel_upload(&self) -> Result<(), HandleError> {
        self.send(Order::CancelUpload)
    }

    /// Sends any command. Returns when it is queued; a refusal is told to the notice hook.
    pub fn command(&self, command: Command) -> Result<(), HandleError> {
        self.send(Order::Command(command))
    }

    fn send(&self, order: Order) -> Result<(), HandleError> {
        let sent = self.shared.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => HandleError::Busy,
            TrySendError::Disconnected(_) => HandleError::Stopped,
        });
        self.shared.waker.wake();
        sent
    }

    /// Stops the device and returns when its threads have ended and nothing writes to the disk.
    ///
    /// From within a callback, which the device waits for, it only asks for the stop and returns
    /// [`Exit::Stopped`].
    pub fn stop(&self) -> Exit {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.waker.wake();
        self.wait()
    }

    /// Waits until the device stops by itself, or another handle stops it.
    ///
    /// From within a callback it returns [`Exit::Stopped`] at once, as waiting would be for ever.
    pub fn wait(&self) -> Exit {
        let mut status = self.shared.lock();
        loop {
            if let Some(exit) = &status.exit {
                return exit.clone();
            }
            if *self.shared.runs_on.lock().unwrap_or_else(PoisonError::into_inner)
                == Some(std::thread::current().id())
            {
                return Exit::Stopped;
            }
            status = self.shared.changed.wait(status).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What handles and loop share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) waker: Waker,
    orders: SyncSender<Order>,
    stop: AtomicBool,
    status: Mutex<Status>,
    changed: Condvar,
    runs_on: Mutex<Option<std::thread::ThreadId>>,
}

impl Shared {
    pub(crate) fn new(
        link: nerves_hub_link_protocol::Status,
    ) -> std::io::Result<(Arc<Self>, Receiver<Order>)> {
        let (orders, receiver) = sync_channel(COMMANDS_MAX);
        let shared = Self {
            waker: Waker::new()?,
            orders,
            stop: AtomicBool::new(false),
            status: Mutex::new(Status { link, last_error: None, exit: None }),
            changed: Condvar::new(),
            runs_on: Mutex::default(),
        };
        Ok((Arc::new(shared), receiver))
    }

    pub(crate) fn handle(self: &Arc<Self>) -> Handle {
        Handle { shared: Arc::clone(self) }
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Notes the thread that callbacks run on.
    pub(crate) fn runs_here(&self) {
        *self.runs_on.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current().id());
    }

    /// Keeps what went wrong last.
    pub(crate) fn observe(&self, event: &Event) {
        let reason = match event {
            Event::Refused { explanation, .. } => explanation,
            Event::JoinRefused { reason }
            | Event::ChannelLost { reason }
            | Event::WaitingForNetwork { reason }
            | Event::Disconnected { reason, .. }
            | Event::UpdateFailed { reason, .. } => reason,
            _ => return,
        };
        self.lock().last_error = Some(reason.clone());
        self.changed.notify_all();
    }

    /// Shows the machine's state after a turn of the loop.
    pub(crate) fn publish(&self, link: nerves_hub_link_protocol::Status) {
        let mut status = self.lock();
        if status.link != link {
            status.link = link;
            self.changed.notify_all();
        }
    }

    /// Says how it ended. Only the first word counts.
    pub(crate) fn end(&self, exit: Exit) {
        let mut status = self.lock();
        status.link.connection = ConnectionState::Offline;
        status.exit.get_or_insert(exit);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
