//! What happened: the facts an adapter tells the machine.

use crate::event::FirmwareMeta;
use crate::ids::{FetchId, OfferId, ProbeId, SocketId, StoreId};

/// A header of an HTTP response: name in any case, value as text.
pub type HeaderRef<'a> = (&'a str, &'a str);

/// A fact for [`Link::handle`](crate::Link::handle). Facts about a number the machine no longer
/// uses are counted and dropped, so an adapter needs no cancellation dance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input<'a> {
    /// Time passed. Spurious ticks are harmless.
    Tick,
    /// A TCP connection to where a probe pointed could be opened.
    Reachable {
        /// The number from [`Output::Probe`](crate::Output::Probe).
        probe: ProbeId,
    },
    /// It could not.
    Unreachable {
        /// The number from the probe.
        probe: ProbeId,
        /// What happened, for a person.
        reason: &'a str,
    },
    /// The WebSocket upgrade succeeded.
    SocketUp {
        /// The number from [`Output::Dial`](crate::Output::Dial).
        socket: SocketId,
        /// The name of the interface the connection runs over, if known.
        interface: Option<&'a str>,
    },
    /// The server answered the upgrade with something other than 101.
    SocketRefused {
        /// The number from the dial.
        socket: SocketId,
        /// The HTTP status.
        status: u16,
        /// The response's headers.
        headers: &'a [HeaderRef<'a>],
        /// The start of the body, as the adapter's limit allows.
        body: &'a [u8],
    },
    /// A whole text message.
    SocketText {
        /// The number from the dial.
        socket: SocketId,
        /// The message.
        text: &'a str,
    },
    /// A whole binary message.
    SocketBinary {
        /// The number from the dial.
        socket: SocketId,
        /// The message.
        data: &'a [u8],
    },
    /// `frames` messages of [`Output::Send`](crate::Output::Send) or
    /// [`Output::SendBinary`](crate::Output::SendBinary) reached the operating system.
    SocketSent {
        /// The number from the dial.
        socket: SocketId,
        /// How many messages, oldest first.
        frames: u32,
    },
    /// The connection is gone, or never came to be.
    SocketDown {
        /// The number from the dial.
        socket: SocketId,
        /// The WebSocket close code, if the server sent one.
        code: Option<u16>,
        /// What happened, for a person.
        reason: &'a str,
    },
    /// The head of a response to a fetch. Informational (1xx) responses are not reported.
    FetchHead {
        /// The number from [`Output::Fetch`](crate::Output::Fetch).
        fetch: FetchId,
        /// The HTTP status.
        status: u16,
        /// The response's headers.
        headers: &'a [HeaderRef<'a>],
        /// The name of the interface the connection runs over, if known.
        interface: Option<&'a str>,
    },
    /// The body of a fetch ended as HTTP says it should.
    FetchEnd {
        /// The number from the fetch.
        fetch: FetchId,
    },
    /// A fetch could not connect, or broke.
    FetchFailed {
        /// The number from the fetch.
        fetch: FetchId,
        /// What happened, for a person. Must hold no URL.
        reason: &'a str,
    },
    /// A store is open, and there is space for what is missing.
    StoreOpened {
        /// The number from [`Output::OpenStore`](crate::Output::OpenStore).
        store: StoreId,
        /// The parts it holds, in any order: index and length in bytes.
        parts: &'a [(u32, u64)],
    },
    /// A store can't be opened, read, written or brought onto the disk.
    StoreFailed {
        /// The store.
        store: StoreId,
        /// What failed, on what and why, for a person.
        reason: &'a str,
    },
    /// What comes into a store is not to be trusted: it is no archive, or none that one of
    /// [`OpenStore::public_keys`](crate::OpenStore::public_keys) signed. It was deleted.
    StoreRefused {
        /// The store, which is closed.
        store: StoreId,
        /// Why, for a person.
        reason: &'a str,
    },
    /// A part is on the disk for good.
    PartCommitted {
        /// The store.
        store: StoreId,
        /// The part.
        part: u32,
    },
    /// An archive is signed by a trusted key, sound, and where the application may have it.
    ArchiveVerified {
        /// The store it was in, which is closed.
        store: StoreId,
        /// Where it is.
        path: &'a str,
    },
    /// An archive is not signed by a trusted key, or not sound, or could not be checked; it was deleted.
    ArchiveRefused {
        /// The store it was in, which is closed.
        store: StoreId,
        /// Why, for a person.
        reason: &'a str,
    },
    /// A trusted key signed the firmware's manifest. The applier has written nothing yet: it waits for
    /// [`Output::ContinueApply`](crate::Output::ContinueApply), or for
    /// [`Output::CancelApply`](crate::Output::CancelApply). Every applier that can read the metadata reports them, once;
    /// without this input nothing is compared.
    FirmwareSigned {
        /// [`StartApply::offer`](crate::StartApply::offer) of the applier.
        offer: OfferId,
        /// The signed metadata, with the UUID computed from the manifest; of a delta, those of its result. What the
        /// manifest leaves out is empty.
        firmware: &'a FirmwareMeta,
    },
    /// An archive that was handed over earlier was deleted, as there were more than the folder may hold.
    ArchiveDropped {
        /// Where it was: its name begins with [`OpenStore::key`](crate::OpenStore::key).
        path: &'a str,
    },
    /// The applier got this far.
    ApplyProgress {
        /// [`StartApply::offer`](crate::StartApply::offer) of the applier.
        offer: OfferId,
        /// 0 to 100; more is taken as 100.
        percent: u8,
    },
    /// The applier finished and everything is on the disk.
    ApplyDone {
        /// [`StartApply::offer`](crate::StartApply::offer) of the applier.
        offer: OfferId,
    },
    /// The applier gave up, as the file is a delta whose source is not on this device: a full image would do. The running
    /// firmware is untouched. From the next join on no deltas are asked for, until an update succeeded.
    DeltaFailed {
        /// [`StartApply::offer`](crate::StartApply::offer) of the applier.
        offer: OfferId,
        /// What failed, on what and why, for a person.
        reason: &'a str,
    },
    /// The applier gave up, as the bytes it got are not those of a firmware it can take: damaged, not signed, not an
    /// archive. The running firmware is untouched. If the file changed on the server while it was received, the update
    /// starts over, so a number that was reported may be succeeded by another.
    FileRefused {
        /// [`StartApply::offer`](crate::StartApply::offer) of the applier.
        offer: OfferId,
        /// What failed, on what and why, for a person.
        reason: &'a str,
    },
    /// The applier gave up for another reason, such as a disk that fails. The running firmware is untouched.
    ApplyFailed {
        /// [`StartApply::offer`](crate::StartApply::offer) of the applier.
        offer: OfferId,
        /// What failed, on what and why, for a person.
        reason: &'a str,
    },
}
