//! Archives: files that come with a deployment beside its firmware (device-protocol §6.7).

use alloc::string::String;
use core::time::Duration;

use crate::ids::ArchiveId;

/// An archive as the server describes it. It is a file like a firmware, signed, for the application's own use.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ArchiveInfo {
    /// The archive's UUID.
    pub uuid: String,
    /// The version, as in SemVer.
    pub version: String,
    /// What it is.
    pub description: Option<String>,
    /// The platform it is for.
    pub platform: Option<String>,
    /// The architecture it is for.
    pub architecture: Option<String>,
    /// When it was uploaded, ISO 8601 without a zone, as the server wrote it.
    pub uploaded_at: Option<String>,
    /// Bytes to download, if the server said.
    pub size: Option<u64>,
}

/// News about archives. The server repeats its offer after every join.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ArchiveEvent {
    /// The server offers an archive; answer with [`ArchiveCommand::Decide`]. One that the device has
    /// ([`ArchiveCommand::Known`]) or is downloading is not told again.
    Offered {
        /// The number to answer with.
        archive: ArchiveId,
        /// What is offered.
        info: ArchiveInfo,
    },
    /// An archive was turned down by the machine itself.
    Refused {
        /// What was offered.
        info: ArchiveInfo,
        /// Why, for a person.
        reason: String,
    },
    /// The download began, or resumed.
    DownloadStarted {
        /// The archive.
        archive: ArchiveId,
        /// The first byte asked for.
        offset: u64,
        /// The size of the file, if known.
        total: Option<u64>,
        /// Bytes of the file that are safe so far: 0 for a fresh download.
        received: u64,
    },
    /// A download attempt failed and will be tried again.
    DownloadInterrupted {
        /// The archive.
        archive: ArchiveId,
        /// What happened, for a person.
        reason: String,
        /// Bytes safe so far.
        received: u64,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The archive is there, and signed by a trusted key. From here on the file is the application's, which deletes it
    /// when it isn't needed any more, and remembers the UUID for
    /// [`Config::known_archives`](crate::Config::known_archives). Adapters may delete the oldest of such files
    /// ([`ArchiveEvent::Dropped`]); what must stay is to be moved elsewhere.
    Ready {
        /// The archive.
        archive: ArchiveId,
        /// What it is.
        info: ArchiveInfo,
        /// Where the adapter put it.
        path: String,
    },
    /// The archive could not be had, or is not signed by a trusted key; then it was deleted. It is offered again after
    /// the next join.
    Failed {
        /// The archive.
        archive: ArchiveId,
        /// Why, for a person.
        reason: String,
    },
    /// An older archive was deleted to make room for the one that becomes ready next. It is offered to the application again
    /// if the server offers it.
    Dropped {
        /// Its UUID, as far as it is known.
        uuid: String,
        /// Where it was.
        path: String,
    },
    /// Another archive took the place of this one.
    Replaced {
        /// The archive that is no longer wanted.
        archive: ArchiveId,
    },
}

/// Orders about archives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchiveCommand {
    /// Answer [`ArchiveEvent::Offered`].
    Decide {
        /// The archive the answer is for.
        archive: ArchiveId,
        /// The answer.
        decision: ArchiveDecision,
    },
    /// The device has an archive: it isn't offered to the application again. The machine remembers
    /// [`MAX_KNOWN_ARCHIVES`](crate::limits::MAX_KNOWN_ARCHIVES), and those that became ready by itself.
    Known {
        /// Its UUID.
        uuid: String,
    },
    /// The device wants an archive again that it had.
    Forget {
        /// Its UUID.
        uuid: String,
    },
}

/// What to do with an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchiveDecision {
    /// Download it.
    Download,
    /// Leave it. The server isn't told.
    Ignore,
    /// Ask again later. The server isn't told.
    Reschedule {
        /// How long from now, a year at most. The address is good for about an hour, unless the server sends
        /// another in between.
        delay: Duration,
    },
}
