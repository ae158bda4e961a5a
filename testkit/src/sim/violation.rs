//! What must never happen, and what it looks like when it did.

use std::fmt;

use nerves_hub_link_protocol::{ConnectionState, FetchId, OfferId, Request, SocketId};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// A socket was dialled while another one lived.
    #[error("socket {new} was dialled while socket {old} was in use")]
    TwoSockets {
        /// The one in use.
        old: SocketId,
        /// The one dialled.
        new: SocketId,
    },
    /// A look for the network while a socket lives.
    #[error("the network was looked for while socket {0} was in use")]
    ProbeBesideSocket(SocketId),
    /// An order for a store that isn't open, or before the application accepted an offer.
    #[error("an order for a store that is not open, or before an offer was accepted")]
    StoreOutOfTurn,
    /// A number came a second time.
    #[error("{what} {number} after {last}: a number was used twice")]
    NumberReused {
        /// Of what.
        what: &'static str,
        /// The number.
        number: u64,
        /// The newest before.
        last: u64,
    },
    /// A message for a socket that isn't up.
    #[error("a message was sent on socket {0}, which is not up")]
    SentOnDeadSocket(SocketId),
    /// Something other than a join or a heartbeat was sent before the join was answered.
    #[error("{event} was sent before the join was answered")]
    SentBeforeJoin {
        /// The event.
        event: String,
    },
    /// More messages than the adapter may be given.
    #[error("{0} messages wait to be sent, more than the credit")]
    CreditExceeded(u32),
    /// A message longer than any a device has to send.
    #[error("a message of {0} bytes")]
    LongMessage(usize),
    /// A message that is no message.
    #[error("the device sent what is no message: {0}")]
    NoMessage(String),
    /// An applier was started for an offer that the application did not accept.
    #[error("offer {0} is applied, and the application did not accept it")]
    AppliedWithoutDecision(OfferId),
    /// An applier that would trust nobody, or whoever the server named.
    #[error("an applier was started with keys that were not those the device trusts")]
    WrongKeys,
    /// The disk was in use already.
    #[error("offer {0} is applied while the disk is in use, or after firmware was written")]
    DiskInUse(OfferId),
    /// A download for something that isn't being applied.
    #[error("request {0} belongs to no applier")]
    FetchWithoutApplier(FetchId),
    /// Bytes out of order.
    #[error("bytes from {offset} on were kept after {kept} bytes")]
    Gap {
        /// Where they belong.
        offset: u64,
        /// What was kept so far.
        kept: u64,
    },
    /// An applier was finished too early.
    #[error("the applier of offer {offer} was finished when {stored} of {kept} bytes were stored")]
    FinishedEarly {
        /// The offer.
        offer: OfferId,
        /// What was stored.
        stored: u64,
        /// What was kept.
        kept: u64,
    },
    /// An order about an applier that isn't open.
    #[error("an order to {what} offer {offer}, which is not being applied")]
    NoApplier {
        /// Which order.
        what: &'static str,
        /// The offer.
        offer: OfferId,
    },
    /// A reboot that nobody asked for.
    #[error("a reboot that nobody wanted")]
    RebootUnasked,
    /// A text for people holds a secret.
    #[error("a secret shows in a text for people: {0}")]
    SecretTold(String),
    /// More outputs at once than the machine may hold.
    #[error("{0} outputs waited at once")]
    QueueUnbounded(usize),
    /// A deadline passed and stayed.
    #[error("after time was told, the deadline {why} is still in the past")]
    DeadlineStands {
        /// The timer.
        why: String,
    },
    /// Attempts that follow each other too fast.
    #[error("{what} {gap_ms} ms after the last attempt failed, sooner than {least_ms} ms")]
    TooSoon {
        /// What was attempted.
        what: &'static str,
        /// The time between.
        gap_ms: u64,
        /// The shortest allowed.
        least_ms: u64,
    },
    /// Attempts without end.
    #[error("{count} requests for firmware in a row without a byte")]
    EndlessAttempts {
        /// How many.
        count: u32,
    },
    /// A firmware that doesn't prove good is booted again and again.
    #[error("firmware {firmware} was booted {times} times and never proved good")]
    TriedTooOften {
        /// Which.
        firmware: u32,
        /// How often.
        times: u32,
    },
    /// The slot that runs was written.
    #[error("slot {slot} runs and was written")]
    RunningSlotWritten {
        /// Which.
        slot: &'static str,
    },
    /// The boot loader was told to run nothing.
    #[error("slot {slot} is to boot and holds no firmware")]
    NothingToBoot {
        /// Which.
        slot: &'static str,
    },
    /// The boot loader was told to run what was not safe on the disk.
    #[error(
        "slot {slot} is to boot, but power went before firmware {firmware} in it was safe from byte {at} on"
    )]
    TornFirmwareBooted {
        /// Which.
        slot: &'static str,
        /// What it holds.
        firmware: u32,
        /// The first byte that isn't there.
        at: u64,
    },
    /// Both copies of the boot environment are torn.
    #[error("no copy of the boot environment is whole")]
    NoEnvironment,
    /// An archive was handed to the application that nobody trusted signed, or that has other bytes than published.
    #[error("archive {0} was given to the application, and is not as it was published by somebody trusted")]
    BadArchive(u32),
    /// A shell's doings don't fit: typed into one that doesn't run, two at a time, or output refused within its room.
    #[error("shell {shell}: {what}")]
    Shell {
        /// Which.
        shell: u64,
        /// What.
        what: &'static str,
    },
    /// An answer to a question of the server did not reach it.
    #[error(
        "{event} was sent {minutes} minutes ago on a connection that lives, and the server did not get it"
    )]
    AnswerLost {
        /// The message's event.
        event: String,
        /// How long ago.
        minutes: u64,
    },
    /// What a device asked the server about its updates was not answered once, or sent though nobody asks any more.
    #[error("the question {request:?} {what}")]
    Question {
        /// Which.
        request: Request,
        /// What.
        what: &'static str,
    },
    /// A device that decides when it is updated took what it did not ask for.
    #[error("offer {0} was accepted, and the device, which decides when it is updated, did not ask for it")]
    AppliedUnasked(OfferId),
    /// A script was not answered once, or not within its limits.
    #[error("a script {what}")]
    Script {
        /// What.
        what: &'static str,
    },
    /// A file on the console was neither what was sent nor reported as not, or it went without bound.
    #[error("a file {what}")]
    File {
        /// What.
        what: &'static str,
    },
    /// An update reached the application when none may begin.
    #[error("offer {0} was made to the application outside the windows in which updates may begin")]
    OutsideWindow(OfferId),
    /// An update was put off to a window though one is open.
    #[error("an update was put off to the next window though it may begin now")]
    WindowMissed,
    /// Firmware came faster than it may.
    #[error("firmware came faster than {bytes_per_second} bytes a second")]
    TooFast {
        /// The speed allowed.
        bytes_per_second: u64,
    },
    /// Another device took its place again and again, and nobody was told.
    #[error("another device has the same identity, and nobody was told, or no alarm raised")]
    TwinUnnoticed,
    /// What is in a slot isn't what was published.
    #[error(
        "slot {slot} is to boot, but its {written} bytes are not the {size} published of firmware {firmware}"
    )]
    OtherBytesThanPublished {
        /// Which.
        slot: &'static str,
        /// What it says it is.
        firmware: u32,
        /// Bytes in it.
        written: u64,
        /// Bytes published.
        size: u64,
    },
    /// Firmware runs that nobody trusted signed.
    #[error("firmware {0} runs, and is signed by nobody the device trusts")]
    UntrustedFirmwareRuns(u32),
    /// The machine isn't in the state that the model predicts.
    #[error("the machine is {machine:?} but should be {model:?}")]
    ConnectionDiffers {
        /// What the machine says.
        machine: ConnectionState,
        /// What the model says.
        model: ConnectionState,
    },
    /// The machine's update isn't in the state that the model predicts.
    #[error("the machine's update is {machine} but should be {model}")]
    UpdateDiffers {
        /// What the machine says.
        machine: String,
        /// What the model says.
        model: String,
    },
    /// An offer without one.
    #[error("offer {0} was made to the application, and no message offered it")]
    OfferFromNowhere(OfferId),
    /// The server was not told of a failure.
    #[error(
        "an update failed {minutes} minutes ago and the server was not told, though the device is connected"
    )]
    FailureNotReported {
        /// How long ago.
        minutes: u64,
    },
    /// A device that doesn't come back though nothing is wrong any more.
    #[error("{hours} hours after everything healed: {what}")]
    Stuck {
        /// How long it had.
        hours: u64,
        /// What it doesn't do.
        what: String,
    },
    /// Too much waits to happen: the world or the machine runs hot.
    #[error("{0} things happened within one second of one device")]
    Hot(u64),
    /// A message arrived that is not the next one that was sent.
    #[error("a message arrived that is not the next one sent: {0}")]
    OtherMessage(String),
    /// A download's machine told of other bytes than the server sent.
    #[error("a download told of {0}, which the server did not send")]
    OtherBytes(&'static str),
    /// A device's bytes are none that a client may send.
    #[error("the server can't read the bytes of the device: {0}")]
    NotWebSocket(String),
    /// What the server sent was right, and was refused.
    #[error("the bytes of the server were right, and were refused: {0}")]
    GoodBytesRefused(String),
    /// Bytes that no server should send were taken for good ones.
    #[error("bytes no server should send were taken for {0}")]
    BadBytesTaken(&'static str),
    /// Messages were reported sent before the system had all their bytes.
    #[error("{frames} messages were reported sent, and the system did not take all their bytes yet")]
    SaidUnsent {
        /// How many.
        frames: u32,
    },
    /// More waits to be sent than messages on their way and answers to pings can be.
    #[error("{0} bytes wait in a machine to be sent")]
    UnsentUnbounded(usize),
    /// A request of the machine makes no connection.
    #[error("no request can be made of what the machine wants: {0}")]
    NoRequest(String),
    /// The machine refused its configuration.
    #[error("the machine refused its configuration: {0}")]
    Config(String),
}

/// A broken promise, where and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// Microseconds of virtual time.
    pub at: u64,
    /// The device's number.
    pub device: u32,
    /// What was broken.
    pub broken: Broken,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {} at {}: {}", self.device, Clock(self.at), self.broken)
    }
}

impl std::error::Error for Violation {}

/// Virtual time for people: days, hours, minutes, seconds.
#[derive(Debug, Clone, Copy)]
pub struct Clock(pub u64);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        write!(f, "{days}d {hours:02}:{minutes:02}:{:02}.{:06}", seconds % 60, micros)
    }
}
