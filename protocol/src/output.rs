//! What the machine wants done: orders for the adapter, events for the application.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::archive::ArchiveInfo;
use crate::attempts::Attempt;
use crate::bounds::History;
use crate::event::{Event, FirmwareMeta, UpdateInfo};
use crate::ids::{ArchiveId, FetchId, OfferId, ProbeId, SocketId, StoreId};
use crate::mismatch::{AllowMismatch, Mismatch};
use crate::secret::Secret;

/// An order or an event. Exhaustive on purpose: a loop that ignores a new order must not compile.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// See whether the network is there; answer with [`Input::Reachable`](crate::Input::Reachable) or
    /// [`Input::Unreachable`](crate::Input::Unreachable). No input is owed once something was dialled.
    Probe(Probe),
    /// Open a WebSocket.
    Dial(Dial),
    /// Send a text message; answer with [`Input::SocketSent`](crate::Input::SocketSent). Whoever compresses messages
    /// must leave one alone that would shrink to less than a 20th, as a shell's output may: servers hang up then (device-protocol
    /// §1.3).
    Send {
        /// The connection to send on.
        socket: SocketId,
        /// The message.
        text: String,
    },
    /// Send a binary message, as [`Serializer::MsgPack`](crate::Serializer::MsgPack) does; answer with
    /// [`Input::SocketSent`](crate::Input::SocketSent).
    SendBinary {
        /// The connection to send on.
        socket: SocketId,
        /// The message.
        data: Vec<u8>,
    },
    /// Close a connection, politely if that can be done at once. No input is owed afterwards.
    HangUp {
        /// The connection to close.
        socket: SocketId,
        /// The WebSocket close code to send.
        code: u16,
        /// Why, for the log.
        reason: String,
    },
    /// Request firmware over HTTP.
    Fetch(Fetch),
    /// Open the folder in which a download is kept; answer with
    /// [`Input::StoreOpened`](crate::Input::StoreOpened) or [`Input::StoreFailed`](crate::Input::StoreFailed).
    /// What is kept there and can't be trusted is deleted first.
    /// Orders about a store and bytes for it are carried out in the order in which they came.
    OpenStore(OpenStore),
    /// Read from a store, and show the bytes to [`Link::body`](crate::Link::body) like those of a fetch. End
    /// with [`Input::FetchEnd`](crate::Input::FetchEnd) or [`Input::FetchFailed`](crate::Input::FetchFailed).
    ReadStore(ReadStore),
    /// A part of a store is complete and verified: bring it onto the disk so that a power loss can't take it, then
    /// report [`Input::PartCommitted`](crate::Input::PartCommitted), or
    /// [`Input::StoreFailed`](crate::Input::StoreFailed).
    CommitPart {
        /// The store.
        store: StoreId,
        /// The part, from 0.
        part: u32,
    },
    /// Delete a part of a store: its bytes are wrong.
    DropPart {
        /// The store.
        store: StoreId,
        /// The part, from 0.
        part: u32,
    },
    /// Stop using a store. No input is owed afterwards.
    CloseStore {
        /// The store.
        store: StoreId,
        /// Delete what it holds. Otherwise it stays, to be resumed.
        clear: bool,
    },
    /// An archive is complete in its store: check that it is signed by one of the keys, sound, and what was offered
    /// ([`VerifyArchive::check`]). Then give the file a
    /// place of its own and report [`Input::ArchiveVerified`](crate::Input::ArchiveVerified); or delete it and report
    /// [`Input::ArchiveRefused`](crate::Input::ArchiveRefused). Either closes the store.
    VerifyArchive(VerifyArchive),
    /// Drop a fetch, or the reading of a store. No input is owed afterwards.
    Abort {
        /// The fetch to drop.
        fetch: FetchId,
    },
    /// Open the applier for an update. Bytes kept by [`Link::body`](crate::Link::body) go to it. When a trusted key proves
    /// to have signed it, report [`Input::FirmwareSigned`](crate::Input::FirmwareSigned) before the first write.
    StartApply(StartApply),
    /// The firmware that [`Input::FirmwareSigned`](crate::Input::FirmwareSigned) told of may be written: let the applier
    /// go on.
    ContinueApply {
        /// [`StartApply::offer`] of the applier.
        offer: OfferId,
    },
    /// All bytes of the update were stored: let the applier finish, then report
    /// [`Input::ApplyDone`](crate::Input::ApplyDone) or [`Input::ApplyFailed`](crate::Input::ApplyFailed).
    FinishApply {
        /// [`StartApply::offer`] of the applier.
        offer: OfferId,
    },
    /// Stop the applier and forget what it was doing. No input is owed afterwards; a late one is not taken for another
    /// applier's. If the file changed meanwhile, a [`StartApply`] with a new number and the same
    /// [`accepted`](StartApply::accepted) follows.
    CancelApply {
        /// [`StartApply::offer`] of the applier.
        offer: OfferId,
    },
    /// Keep this list over restarts, in place of the last; hand it to the next machine as
    /// [`Config::past_attempts`](crate::Config::past_attempts). It must be on the disk before the next output is
    /// carried out, so that an image that crashes the device is counted. Where it can't be kept, say so and go on.
    SaveAttempts {
        /// The starts of each firmware that did not end in it, at most
        /// [`MAX_ATTEMPTS_REMEMBERED`](crate::limits::MAX_ATTEMPTS_REMEMBERED).
        /// [`Attempt::list_to_text`] makes a line of them.
        attempts: Vec<Attempt>,
    },
    /// Keep this over restarts, in place of the last; hand it to the next machine as
    /// [`Config::history`](crate::Config::history). Like the attempts, it must be on the disk before the next output is
    /// carried out. [`History::to_text`] makes a line of it.
    SaveHistory {
        /// What counts towards [`Config::bounds`](crate::Config::bounds).
        history: History,
    },
    /// Keep this version over restarts and where a change of the slot doesn't lose it, in place of the last; hand it to the
    /// next machine as [`Config::newest_version`](crate::Config::newest_version). With
    /// [`Config::refuse_older`](crate::Config::refuse_older) only. Where it can't be kept, say so and go on.
    SaveNewest {
        /// The newest version that ran well on this device, at most
        /// [`MAX_META_CHARS`](crate::limits::MAX_META_CHARS) bytes.
        version: String,
    },
    /// Restart the device, after the application agreed and what was sent is on the wire.
    Reboot {
        /// Why, for the log.
        reason: String,
    },
    /// News for the application.
    Event(Event),
}

/// A look whether the network is there, before the first connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The number of this probe.
    pub probe: ProbeId,
    /// The address of the socket: open a TCP connection to its host and port, or to the proxy that would be used for
    /// it, and close it again. Holds no secret.
    pub url: String,
    /// How long looking up the name and connecting may take together.
    pub timeout: Duration,
}

/// A WebSocket to open.
#[derive(Clone, Debug, PartialEq)]
pub struct Dial {
    /// The number of this connection.
    pub socket: SocketId,
    /// `ws://` or `wss://`, with path and query. Holds no secret.
    pub url: String,
    /// Headers to add to the upgrade request. Values are secret.
    pub headers: Vec<(String, Secret)>,
    /// How long connecting, TLS and upgrade may take together.
    pub timeout: Duration,
}

/// An HTTP GET for firmware.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetch {
    /// The number of this request.
    pub fetch: FetchId,
    /// Where its bytes go.
    pub into: Sink,
    /// `http://` or `https://`. Secret: its query may hold a signature.
    pub url: Secret,
    /// Headers to send, `Range` among them where needed.
    pub headers: Vec<(String, String)>,
    /// How long connecting and TLS may take together.
    pub timeout: Duration,
}

/// Where the bytes of a fetch go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// To the applier of an offer, as they come.
    Applier(OfferId),
    /// Into a store.
    Store(StoreId),
}

/// A folder to open in which a download is kept, so that it can be resumed after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenStore {
    /// The number of this use.
    pub store: StoreId,
    /// What is kept in it. What other stores of the same kind hold is to be deleted.
    pub kind: StoreKind,
    /// The folder's name: 1 to [`MAX_STORE_KEY`](crate::limits::MAX_STORE_KEY) letters, digits, `_` and `-`.
    pub key: String,
    /// One line that says what the folder holds. If it holds something that another line tells of, that is to be
    /// deleted.
    pub manifest: String,
    /// The size of the whole file, if known: opening fails when there is no space for what is missing of it.
    pub size: Option<u64>,
    /// Bytes of a part: the byte at an offset of the file belongs to part `offset / part_size`. `u64::MAX` when the
    /// file is one part. A byte written at the start of a part replaces all that the part held.
    pub part_size: u64,
    /// How many parts there are; others are to be deleted.
    pub parts: u32,
    /// The keys (base64) one of which must have signed the file, a `.fw` archive. Its first bytes are to be checked as they
    /// come, before they are written: what is not to be trusted is reported by
    /// [`Input::StoreRefused`](crate::Input::StoreRefused). If there are none, nothing is checked.
    pub public_keys: Vec<String>,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// Firmware.
    Firmware,
    /// An archive.
    Archive,
}

/// Bytes of a store to read.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadStore {
    /// The number of this reading.
    pub fetch: FetchId,
    /// The store.
    pub store: StoreId,
    /// The offset in the file of the first byte.
    pub from: u64,
    /// One past the last byte.
    pub to: u64,
    /// The offer whose applier gets what [`Link::body`](crate::Link::body) says to keep; with `None` it keeps
    /// nothing and only looks.
    pub into: Option<OfferId>,
}

/// An archive to check.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyArchive {
    /// The store that holds it, in one part.
    pub store: StoreId,
    /// The archive.
    pub archive: ArchiveId,
    /// The Ed25519 public keys to trust, base64, current when the archive was offered. Never empty.
    pub public_keys: Vec<String>,
    /// What the server said of it.
    pub offered: ArchiveInfo,
    /// Which differences are allowed.
    pub allow_mismatch: AllowMismatch,
}

impl VerifyArchive {
    /// Compares the archive's signed metadata with what the server said of it. To be asked before the file gets a place of
    /// its own.
    ///
    /// # Errors
    ///
    /// The first field that differs, for [`Input::ArchiveRefused`](crate::Input::ArchiveRefused).
    pub fn check(&self, signed: &FirmwareMeta) -> Result<(), Mismatch> {
        self.allow_mismatch.check_archive(signed, &self.offered)
    }
}

/// An applier to open.
#[derive(Clone, Debug, PartialEq)]
pub struct StartApply {
    /// The number of this application, which reports about it carry: the offer's, or a new one when the update starts
    /// over.
    pub offer: OfferId,
    /// The offer that was accepted.
    pub accepted: OfferId,
    /// The Ed25519 public keys to trust, base64, current when the offer arrived. Never empty.
    pub public_keys: Vec<String>,
    /// The firmware's UUID, as the server says.
    pub uuid: String,
    /// The firmware's version, as the server says.
    pub version: String,
    /// Bytes of the file, if the server said.
    pub size: Option<u64>,
}

impl StartApply {
    /// Builds an order that says nothing about the firmware.
    pub const fn new(offer: OfferId, public_keys: Vec<String>) -> Self {
        Self { offer, accepted: offer, public_keys, uuid: String::new(), version: String::new(), size: None }
    }

    /// Builds an order for firmware as the server describes it.
    pub(crate) fn of(offer: OfferId, accepted: OfferId, public_keys: Vec<String>, info: UpdateInfo) -> Self {
        let FirmwareMeta { uuid, version, .. } = info.firmware;
        Self { offer, accepted, public_keys, uuid, version, size: info.size }
    }
}
