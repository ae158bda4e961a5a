//! What the application wants: orders to the machine, which it may refuse.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::archive::ArchiveCommand;
use crate::config::Config;
use crate::error::ConfigError;
use crate::event::Stage;
use crate::extension::ExtensionCommand;
use crate::file::{FileCommand, UploadCommand};
use crate::ids::{ArchiveId, FileId, OfferId, ScriptId, ShellId, UploadId};
use crate::limits::{MAX_FILE_NAME_BYTES, MAX_RECONNECT_DELAYS, MAX_UPLOAD_BYTES};
use crate::shell::ShellCommand;
use crate::update_mode::UpdateMode;

/// An order for [`Link::command`](crate::Link::command).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// Connect. The machine starts offline.
    Connect,
    /// Close the connection and stay offline until [`Command::Connect`].
    Disconnect,
    /// Close the connection and dial again, without waiting for the back-off.
    Reconnect,
    /// Use other settings: other credentials, another server, other policies, without a restart.
    ///
    /// Address, credentials and headers count from the next attempt to connect on ([`Command::Reconnect`] makes one at
    /// once); everything else from now on, but for an update under way, whose strategy, keys and address stay. Kept as
    /// they were, whatever is given here: the firmware, whether it is validated and reverted, past attempts,
    /// serializer, heartbeat, join timeout, delays between joins, extensions and console. Keys the server sent stay
    /// unless [`Config::public_keys`] changes.
    Reconfigure(Box<Config>),
    /// Use these delays between attempts to connect, from the present wait on, in place of
    /// [`Config::backoff`](crate::Config::backoff) and [`Config::reconnect_after`](crate::Config::reconnect_after),
    /// with the same bounds. Empty goes back to those.
    ReconnectAfter {
        /// The first is used after one failure, and so on; the last repeats.
        delays: Vec<Duration>,
    },
    /// Answer [`Event::UpdateOffered`](crate::Event::UpdateOffered).
    Decide {
        /// The offer the answer is for.
        offer: OfferId,
        /// The answer.
        decision: Decision,
    },
    /// Tell how far an update is that the application took over. After
    /// [`APPLY_STALL`](crate::limits::APPLY_STALL) without a report it counts as failed.
    ReportUpdate {
        /// The offer that was taken over.
        offer: OfferId,
        /// How far it is.
        report: UpdateReport,
    },
    /// Tell the server that the running firmware proved good.
    FirmwareValidated,
    /// A person at the device wants updates and reboots tried again at once: the pause after failures ends, and what counts
    /// towards [`Config::bounds`](crate::Config::bounds) begins anew. Never send it because a server asks.
    ForgetHistory,
    /// Say that the device can't install updates now, and why, for the operator; or `None` once it can again. Offers are
    /// put off meanwhile, and an update that fails counts as put off, too: a server blocks a device whose updates fail.
    /// [`Event::InstallObstacle`](crate::Event::InstallObstacle) follows each change.
    InstallObstacle {
        /// What is in the way. At most [`MAX_REASON_CHARS`](crate::limits::MAX_REASON_CHARS) are kept.
        reason: Option<String>,
    },
    /// An order about archives.
    Archive(ArchiveCommand),
    /// Ask whether an update waits. [`Event::UpdateAvailability`](crate::Event::UpdateAvailability) or
    /// [`Event::RequestFailed`](crate::Event::RequestFailed) follows.
    CheckUpdate,
    /// Ask for the update. [`Event::UpdateOffered`](crate::Event::UpdateOffered),
    /// [`Event::UpdateRejected`](crate::Event::UpdateRejected) or
    /// [`Event::RequestFailed`](crate::Event::RequestFailed) follows. It counts as an attempt as if it had been
    /// pushed.
    RequestUpdate,
    /// Ask the server to change who decides about updates.
    /// [`Event::UpdateModeChanged`](crate::Event::UpdateModeChanged) or
    /// [`Event::RequestFailed`](crate::Event::RequestFailed) follows.
    SetUpdateMode {
        /// The wanted mode. [`UpdateMode::Off`] is for operators and refused.
        mode: UpdateMode,
    },
    /// Answer [`Event::ScriptRequested`](crate::Event::ScriptRequested).
    ScriptFinished {
        /// The script the answer is for.
        id: ScriptId,
        /// What it wrote, errors included. At most
        /// [`MAX_SCRIPT_OUTPUT_BYTES`](crate::limits::MAX_SCRIPT_OUTPUT_BYTES) are sent.
        output: String,
        /// The value it ended with, in words, as bounded as the output; or why it could not run to its end.
        result: Result<String, String>,
    },
    /// An order about an extension.
    Extension(ExtensionCommand),
    /// What became of a shell.
    Shell(ShellCommand),
    /// What became of a file from an operator.
    File(FileCommand),
    /// An order about a file for operators.
    Upload(UploadCommand),
    /// Tell the server over which interface this connection runs, where the adapter doesn't know or names it
    /// otherwise.
    NetworkInterface {
        /// Its name. Servers know the kinds `wlan…`, `eth…`, `en…` and `wwan…` by their beginning.
        name: String,
    },
    /// Tell the server how the device is connected, now and after every join.
    ConnectionTypes {
        /// Words such as `ethernet`, `wifi`, `cellular`; at most
        /// [`MAX_CONNECTION_TYPES`](crate::limits::MAX_CONNECTION_TYPES), more are left out.
        types: Vec<String>,
    },
}

impl From<ExtensionCommand> for Command {
    fn from(command: ExtensionCommand) -> Self {
        Self::Extension(command)
    }
}

/// What to do with an update.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Decision {
    /// Download and apply it now.
    Apply,
    /// The application downloads and installs it itself, and reports with [`Command::ReportUpdate`].
    /// [`Event::UpdateHandedOver`](crate::Event::UpdateHandedOver) tells it where the file is.
    TakeOver,
    /// Refuse it. The server counts this as a failure and may not offer again for a day.
    Ignore {
        /// Why, for the operator; may be empty.
        reason: String,
    },
    /// Ask the server to offer it again later.
    Reschedule {
        /// How long from now. Raised to five minutes if shorter.
        delay: Duration,
        /// Why, for the operator.
        reason: Option<String>,
    },
}

/// How far an update is that the application carries out.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum UpdateReport {
    /// Bytes are coming. Told to the server once per update.
    Started {
        /// The name of the interface they come over, if known.
        interface: Option<String>,
    },
    /// It got further. Reports may come as often as they like; the server gets two a second at most.
    Progress {
        /// What is under way.
        stage: Stage,
        /// 0 to 100; more is taken as 100.
        percent: u8,
    },
    /// The firmware is installed; the device reboots into it.
    Completed,
    /// It failed; the running firmware is untouched.
    Failed {
        /// What failed, on what and why, for a person.
        reason: String,
    },
}

/// Why a command was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The settings make no sense.
    #[error("the configuration cannot be used: {0}")]
    Config(#[from] ConfigError),
    /// The offer is not, or no longer, waiting for a decision.
    #[error("offer {0} is not waiting for a decision")]
    UnknownOffer(OfferId),
    /// The archive is not, or no longer, waiting for a decision.
    #[error("archive {0} is not waiting for a decision")]
    UnknownArchive(ArchiveId),
    /// The script isn't running, or timed out.
    #[error("script {0} is not running, or ran too long and was answered already")]
    UnknownScript(ScriptId),
    /// The shell doesn't run, or is to be stopped.
    #[error("shell {0} does not run, or was told to stop")]
    UnknownShell(ShellId),
    /// The file isn't being received, or was discarded.
    #[error("file {0} is not being received, or was discarded")]
    UnknownFile(FileId),
    /// The file isn't being sent, or was aborted.
    #[error("file {0} is not being sent, or was aborted")]
    UnknownUpload(UploadId),
    /// More bytes than the machine said it takes.
    #[error("only {room} more bytes are taken now; wait for the event that says when it is more")]
    NoRoom {
        /// How many it takes.
        room: usize,
    },
    /// Nobody can be reached by the console.
    #[error("the console is not joined; wait for Event::ConsoleJoined, and see Config::console")]
    ConsoleNotJoined,
    /// The name of a file holds a path or control characters, is empty or too long.
    #[error("the name of the file is no plain file name of 1 to {MAX_FILE_NAME_BYTES} bytes")]
    FileName,
    /// The file is too large to be sent.
    #[error("the file has {size} bytes; it must have fewer than {MAX_UPLOAD_BYTES}")]
    FileTooLarge {
        /// Its size.
        size: u64,
    },
    /// The machine was told to stay offline.
    #[error("the link is offline; send Command::Connect first")]
    Offline,
    /// Nobody fetches the machine's outputs.
    #[error("too many outputs wait; call Link::poll until it returns None")]
    Undrained,
    /// The channel isn't joined, so the server can't be asked.
    #[error("the server can't be asked, as the channel is not joined; wait for Event::Joined")]
    NotJoined,
    /// The same question waits for its answer.
    #[error("the same question waits for its answer")]
    AlreadyInProgress,
    /// The delays are too many, too short or too long.
    #[error(
        "delays between attempts to connect must be at most {MAX_RECONNECT_DELAYS}, each from 1 ms to 1 day"
    )]
    ReconnectAfter,
    /// Another file is being sent.
    #[error("another file is being sent; wait for its end or cancel it")]
    UploadInProgress,
    /// An update is under way.
    #[error("an update is under way")]
    Updating,
    /// The server asked not to be asked before.
    #[error("the server wants no request for another {} seconds", retry_in.as_secs())]
    TooEarly {
        /// How long.
        retry_in: Duration,
    },
    /// Only an operator may do that.
    #[error("only an operator can set the update mode to off, or away from it")]
    NotPermitted,
    /// The server knows no device-managed updates.
    #[error("the server knows no device-managed updates; it may be too old")]
    Unsupported,
    /// The configuration has no such extension.
    #[error("the configuration has no such extension; switch it on or register it there")]
    UnknownExtension,
    /// The server hasn't attached the extension, so nothing can be sent.
    #[error("the extension is not attached; an operator may have to switch it on, or the device is offline")]
    NotAttached,
    /// Too much waits to be sent already.
    #[error("too much waits to be sent already; try again later")]
    Busy,
    /// The command holds something that can't be sent.
    #[error("this can't be sent: {0}")]
    Unusable(&'static str),
}

impl CommandError {
    /// Returns whether the same command may succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Offline
            | Self::Undrained
            | Self::NotJoined
            | Self::ConsoleNotJoined
            | Self::NoRoom { .. }
            | Self::AlreadyInProgress
            | Self::UploadInProgress
            | Self::Updating
            | Self::NotAttached
            | Self::Busy
            | Self::TooEarly { .. } => true,
            Self::UnknownOffer(_)
            | Self::UnknownArchive(_)
            | Self::UnknownScript(_)
            | Self::UnknownExtension
            | Self::Unusable(_)
            | Self::UnknownShell(_)
            | Self::UnknownFile(_)
            | Self::UnknownUpload(_)
            | Self::FileName
            | Self::FileTooLarge { .. }
            | Self::NotPermitted
            | Self::Config(_)
            | Self::Unsupported
            | Self::ReconnectAfter => false,
        }
    }
}
