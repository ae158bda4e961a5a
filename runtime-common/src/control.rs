//! The application's end: commands to a running device, and how it is doing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nerves_hub_link_platform::files::{FileError, Outgoing};
use nerves_hub_link_protocol::limits::MAX_UPLOAD_BYTES;
use nerves_hub_link_protocol::{Command, ConnectionState, Decision, Event, ExtensionStatus, OfferId};

use crate::limits::COMMANDS_MAX;
use crate::signal::Signals;

/// The calls to a running device that return at once; every handle has them. Cheap to clone; every clone speaks to the
/// same device.
#[derive(Clone, Debug)]
pub struct Control {
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
    /// It was told to stop.
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

impl Control {
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

    /// Closes the connection and dials again at once.
    pub fn reconnect(&self) -> Result<(), HandleError> {
        self.command(Command::Reconnect)
    }

    /// Closes the connection and stays offline until [`Control::connect`].
    pub fn disconnect(&self) -> Result<(), HandleError> {
        self.command(Command::Disconnect)
    }

    /// Connects again after [`Control::disconnect`].
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

    /// Returns whether the channel of the extensions is joined.
    pub fn extensions_joined(&self) -> bool {
        self.shared.lock().link.extensions_joined
    }

    /// Returns what became of each extension the configuration allows. They are attached and detached by hand with
    /// [`ExtensionCommand::Attach`](nerves_hub_link_protocol::ExtensionCommand) and `Detach`.
    pub fn extensions(&self) -> Vec<ExtensionStatus> {
        self.shared.lock().link.extensions.clone()
    }

    /// Sends a file that was opened: what a handle's `send_file` does when it has opened it.
    ///
    /// # Errors
    ///
    /// If it is too large, or nobody can be reached.
    pub fn send_opened(&self, file: Outgoing) -> Result<(), SendFileError> {
        if file.size() >= MAX_UPLOAD_BYTES {
            return Err(SendFileError::TooLarge { size: file.size() });
        }
        if !self.console_joined() {
            return Err(SendFileError::NotJoined);
        }
        Ok(self.send(Order::SendFile(file))?)
    }

    /// Stops sending the file that is being sent, if one is. Operators see its beginning.
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
        self.shared.signals.wake();
        sent
    }

    /// Asks the device to stop. [`Status::exit`] says when it has: nothing writes to the disk then.
    pub fn request_stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.signals.wake();
    }

    /// Says how the device ended, for those who wait: for the loop, once it dropped the engine. Only the first word counts.
    pub fn end(&self, exit: Exit) {
        self.shared.end(exit);
    }
}

/// What handles and loop share.
#[derive(Debug)]
pub(crate) struct Shared {
    signals: Arc<dyn Signals>,
    orders: SyncSender<Order>,
    stop: AtomicBool,
    status: Mutex<Status>,
}

impl Shared {
    pub(crate) fn new(
        link: nerves_hub_link_protocol::Status,
        signals: Arc<dyn Signals>,
    ) -> (Arc<Self>, Receiver<Order>) {
        let (orders, receiver) = sync_channel(COMMANDS_MAX);
        let status = Mutex::new(Status { link, last_error: None, exit: None });
        (Arc::new(Self { signals, orders, stop: AtomicBool::new(false), status }), receiver)
    }

    pub(crate) fn control(self: &Arc<Self>) -> Control {
        Control { shared: Arc::clone(self) }
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Keeps what went wrong last.
    pub(crate) fn observe(&self, event: &Event) {
        let reason = match event {
            Event::Refused { explanation, .. } => explanation,
            Event::JoinRefused { reason, .. }
            | Event::ChannelLost { reason, .. }
            | Event::WaitingForNetwork { reason, .. }
            | Event::Disconnected { reason, .. }
            | Event::UpdateFailed { reason, .. } => reason,
            _ => return,
        };
        self.lock().last_error = Some(reason.clone());
        self.signals.changed();
    }

    /// Shows the machine's state after a turn of the loop.
    pub(crate) fn publish(&self, link: nerves_hub_link_protocol::Status) {
        let mut status = self.lock();
        if status.link != link {
            status.link = link;
            drop(status);
            self.signals.changed();
        }
    }

    /// Says how it ended. Only the first word counts.
    pub(crate) fn end(&self, exit: Exit) {
        let mut status = self.lock();
        status.link.connection = ConnectionState::Offline;
        status.exit.get_or_insert(exit);
        drop(status);
        self.signals.changed();
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
