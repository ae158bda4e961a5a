//! What the application is told.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::alarm::Alarm;
use crate::archive::ArchiveEvent;
use crate::extension::ExtensionEvent;
use crate::file::{FileEvent, UploadEvent};
use crate::ids::{OfferId, ScriptId};
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::shell::ShellEvent;
use crate::time::Instant;
use crate::update_mode::{RejectReason, Request, RequestFailure, UpdateMode};

/// News for the application, in the past tense.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A connection is being opened.
    Connecting {
        /// How many attempts failed in a row before this one.
        attempt: u32,
    },
    /// The device goes online, and the configured server is reached without TLS.
    NotEncrypted {
        /// Whether the server counts as if it had proved who it is
        /// ([`Config::insecure_plain_hub`](crate::Config::insecure_plain_hub)). Otherwise its keys and its clock are not
        /// used, and shells, scripts and firmware over `http` are refused.
        trusted: bool,
    },
    /// There is no network yet; the server is looked for every three seconds. Reported at once, after a minute and then
    /// every hour.
    WaitingForNetwork {
        /// Why the server could not be reached the last time, for a person.
        reason: String,
        /// How long the device has been waiting.
        waited: Duration,
    },
    /// The WebSocket is open; the join is on its way.
    Connected,
    /// The server accepted the device.
    Joined,
    /// The server refused the join; it will be tried again.
    JoinRefused {
        /// The server's words.
        reason: String,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The server's side of the device channel ended, or the server did not answer the join. The connection stays, and
    /// the channel will be joined again.
    ChannelLost {
        /// What happened, for a person.
        reason: String,
        /// How long until the next attempt to join.
        retry_in: Duration,
    },
    /// The server refused the connection. [`Event::Disconnected`] follows.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What that means, for a program.
        kind: Refusal,
        /// How long the server asks to wait (`Retry-After`), which is obeyed up to
        /// [`MAX_RETRY_AFTER`](crate::limits::MAX_RETRY_AFTER).
        retry_after: Option<Duration>,
        /// What that means and what to do, for a person. Does not repeat the status.
        explanation: String,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The connection is gone.
    Disconnected {
        /// What happened, for a person.
        reason: String,
        /// When the next attempt starts, or `None` when offline on purpose.
        retry_at: Option<Instant>,
        /// How long that is from now.
        retry_in: Option<Duration>,
    },
    /// The device's clock and the server's differ; signatures now use the server's time.
    ClockCorrected {
        /// Seconds to add to the device's clock.
        offset_seconds: i64,
    },
    /// The server replaced the firmware keys.
    PublicKeysReceived {
        /// How many keys are trusted now.
        count: usize,
    },
    /// Another connection took this device's place, again and again: two devices share one identity.
    DuplicateIdentitySuspected,
    /// The server offers an update; answer with [`Command::Decide`](crate::Command::Decide).
    UpdateOffered {
        /// The number to answer with.
        offer: OfferId,
        /// What is offered.
        info: UpdateInfo,
    },
    /// An offer was turned down by the machine itself.
    UpdateRefused {
        /// What was offered.
        info: UpdateInfo,
        /// Why, as reported to the server.
        reason: String,
        /// How long the server was asked to wait before it offers the update again. `None` if the server decides: after
        /// its penalty, a day by default, or when a person pushes the firmware.
        retry_in: Option<Duration>,
    },
    /// Whether the device can install updates changed
    /// ([`Command::InstallObstacle`](crate::Command::InstallObstacle)).
    InstallObstacle {
        /// What is in the way, for a person; `None` when nothing is any more.
        reason: Option<String>,
    },
    /// The application takes an update over, as decided; its reports come with
    /// [`Command::ReportUpdate`](crate::Command::ReportUpdate).
    UpdateHandedOver {
        /// The number to report with.
        offer: OfferId,
        /// What to install.
        info: Box<UpdateInfo>,
        /// Where the file is. Secret: the query may hold a signature.
        url: Secret,
        /// The Ed25519 public keys to trust, base64. Never empty.
        public_keys: Vec<String>,
    },
    /// The download of an accepted update began, or resumed.
    DownloadStarted {
        /// The offer.
        offer: OfferId,
        /// The first byte asked for. A later part of a file begins past 0 though nothing was there before.
        offset: u64,
        /// The size of the file, if known.
        total: Option<u64>,
        /// Bytes of the file that are safe so far: 0 for a fresh download.
        received: u64,
    },
    /// A trusted key signed the firmware, and it is what was offered, for this device: from here on it is written.
    FirmwareSigned {
        /// The offer.
        offer: OfferId,
        /// The signed metadata.
        firmware: Box<FirmwareMeta>,
    },
    /// A download attempt failed and will be tried again.
    DownloadInterrupted {
        /// The offer.
        offer: OfferId,
        /// What happened, for a person.
        reason: String,
        /// Bytes safe so far.
        received: u64,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The server's checksums of parts can't be used, so the file is kept as one part.
    PartsUnavailable {
        /// The offer.
        offer: OfferId,
        /// Why, for a person.
        reason: String,
    },
    /// The update got further. At most two a second per stage.
    UpdateProgress {
        /// The offer.
        offer: OfferId,
        /// What is under way.
        stage: Stage,
        /// 0 to 100.
        percent: u8,
    },
    /// The firmware is written and checked; a reboot follows.
    UpdateCompleted {
        /// The offer.
        offer: OfferId,
    },
    /// The update failed; the running firmware is untouched.
    UpdateFailed {
        /// The offer.
        offer: OfferId,
        /// Why, as reported to the server.
        reason: String,
        /// How long the server was asked to wait before it offers the update again. `None` if the server decides: after
        /// its penalty, a day by default, or when a person pushes the firmware.
        retry_in: Option<Duration>,
    },
    /// The server told who decides when this device is updated: first after a join, or changed, or as asked for with
    /// [`Command::SetUpdateMode`](crate::Command::SetUpdateMode).
    UpdateModeChanged {
        /// The mode now; `None` if it is one this version doesn't know.
        mode: Option<UpdateMode>,
        /// Whether the operator lets the device put itself into [`UpdateMode::DeviceManaged`].
        managed_updates_allowed: bool,
    },
    /// The answer to [`Command::CheckUpdate`](crate::Command::CheckUpdate).
    UpdateAvailability {
        /// Whether an update waits.
        available: bool,
        /// The firmware that waits, if the server said.
        firmware: Option<FirmwareMeta>,
    },
    /// The answer to [`Command::RequestUpdate`](crate::Command::RequestUpdate): not now. Otherwise
    /// [`Event::UpdateOffered`] follows.
    UpdateRejected {
        /// Why.
        reason: RejectReason,
        /// How long to wait before another request that no person asks for: what the server said, or five minutes,
        /// lengthened at random.
        retry_in: Duration,
    },
    /// A question to the server failed.
    RequestFailed {
        /// Which.
        request: Request,
        /// Why.
        why: RequestFailure,
    },
    /// An operator wants a script run; answer with [`Command::ScriptFinished`](crate::Command::ScriptFinished). Only
    /// with [`Config::scripts`](crate::Config::scripts). If an operator set a "connecting code", the server sends it
    /// after every join, and takes the value `nil` for its failure.
    ScriptRequested {
        /// The number to answer with.
        id: ScriptId,
        /// The script, in whatever language operators write.
        text: String,
        /// How long it may run.
        timeout: Duration,
    },
    /// A script of an operator's, or a "connecting code", was not run. The server was told.
    ScriptRefused {
        /// Why, for a person.
        reason: String,
    },
    /// A script ran too long; the server was told. Stop it: nobody waits for it any more.
    ScriptTimedOut {
        /// Which.
        id: ScriptId,
    },
    /// A condition began. [`Status::alarms`](crate::Status::alarms) holds those that last.
    AlarmRaised {
        /// Which.
        alarm: Alarm,
        /// What happened, for a person.
        description: String,
    },
    /// A condition ended.
    AlarmCleared {
        /// Which.
        alarm: Alarm,
    },
    /// News about an extension.
    Extension(ExtensionEvent),
    /// Operators can work with the console now.
    ConsoleJoined,
    /// Operators can't work with the console, on a connection that stays; it will be joined again.
    ConsoleLost {
        /// What happened, for a person.
        reason: String,
        /// How long until the next attempt to join.
        retry_in: Duration,
    },
    /// A shell for an operator is wanted, or what becomes of one.
    Shell(ShellEvent),
    /// A file on its way from an operator.
    File(FileEvent),
    /// A file on its way to operators.
    Upload(UploadEvent),
    /// Has the running firmware proved good? Asked every ten seconds until
    /// [`Command::FirmwareValidated`](crate::Command::FirmwareValidated), if it hadn't at the start
    /// ([`Config::firmware_validated`](crate::Config::firmware_validated)).
    ValidationWanted,
    /// News about archives, files that come with a deployment beside its firmware.
    Archive(ArchiveEvent),
    /// An operator wants to see which device this is.
    Identify,
    /// An operator asked for a reboot; [`Output::Reboot`](crate::Output::Reboot) follows.
    RebootRequested,
    /// The server ordered a reboot beyond [`Bounds::reboots_per_hour`](crate::Bounds::reboots_per_hour), which is refused.
    /// [`Alarm::RebootsRefused`] tells the server.
    RebootRefused {
        /// Why, for a person.
        reason: String,
        /// When an order would be obeyed again.
        retry_in: Duration,
    },
    /// The reboot after an update waits, as it is beyond [`Bounds::reboots_per_hour`](crate::Bounds::reboots_per_hour).
    RebootDelayed {
        /// Why, for a person.
        reason: String,
        /// How long.
        retry_in: Duration,
    },
    /// No update service has answered for longer than [`Config::freeze_alarm`](crate::Config::freeze_alarm). Repeated daily
    /// while [`Alarm::UpdatesFrozen`] is raised.
    UpdatesFrozen {
        /// Since when, for a person.
        description: String,
    },
    /// The server sent something this version doesn't know. Ignored.
    Unknown {
        /// The topic.
        topic: String,
        /// The event's name.
        event: String,
    },
    /// The server sent something that isn't a message. Ignored.
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The machine found itself in a state that its own logic rules out, and ended the operation concerned. The
    /// connection stays. This is a fault of this library: please report it.
    InternalError {
        /// What was inconsistent.
        what: String,
    },
}

/// What an update is doing. The words are the server's (`stage` of `fwup_progress`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Receiving bytes.
    Downloading,
    /// Writing the firmware.
    Updating,
}

/// An update as the server describes it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct UpdateInfo {
    /// The firmware the device will run afterwards.
    pub firmware: FirmwareMeta,
    /// Bytes to download, if the server said. Of a delta, the delta's own size.
    pub size: Option<u64>,
    /// SHA-256 of the file to download, lower-case hex, if the server said.
    pub checksum: Option<String>,
    /// SHA-256 of each 1 MiB of that file, in order. Empty if the server didn't say, or nothing that makes sense.
    pub part_checksums: Vec<[u8; 32]>,
    /// The deployment that offers it; `None` for a push by hand.
    pub deployment_id: Option<i64>,
    /// Whether a person pushed it to this device; `false` if the server doesn't say.
    pub by_hand: bool,
    /// Whether the device asked for it. Ignoring it would then count against the device for a day.
    pub requested: bool,
}

/// A firmware's identity (`firmware_meta`, and the `nerves_fw_*` keys of a slot).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FirmwareMeta {
    /// The archive's UUID.
    pub uuid: String,
    /// The product's name.
    pub product: String,
    /// The version, as in SemVer.
    pub version: String,
    /// The platform, such as `rpi4`.
    pub platform: String,
    /// The architecture, such as `arm`.
    pub architecture: String,
    /// Who made it.
    pub author: Option<String>,
    /// What it is.
    pub description: Option<String>,
    /// The commit it was built from.
    pub vcs_identifier: Option<String>,
    /// Anything else.
    pub misc: Option<String>,
}
