//! Adapters and applications with a mistake in them, to show that the world notices.

use serde::{Deserialize, Serialize};

/// One mistake. `docs/testing.md` lists what notices each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Mutation {
    /// The applier takes firmware signed by anybody.
    SkipSignature,
    /// The applier doesn't compare the digest of what it wrote.
    SkipDigest,
    /// The applier switches slots before the firmware is synced.
    SkipSync,
    /// The applier switches slots first and writes then.
    SwitchFirst,
    /// The applier writes the slot that runs.
    WriteRunning,
    /// The adapter hands over whole chunks instead of the part to keep.
    ForgetRange,
    /// Numbers of sockets begin anew after each connection.
    ReuseNumber,
    /// The adapter applies what the application was only asked about.
    ApplyUndecided,
    /// Reports of failed updates get lost on the way.
    LoseFailure,
    /// The adapter gives addresses as the reason of a failed download.
    LeakAddress,
    /// The adapter doesn't carry out the order to hang up.
    KeepSocket,
    /// The adapter's clock stands still.
    StopClock,
    /// The application dials again at once, whatever happened.
    ForgetBackoff,
    /// The adapter forgets its timer when a connection breaks.
    LoseTimer,
    /// The adapter doesn't keep how often a firmware was tried.
    ForgetAttempts,
    /// The adapter says that bytes are stored which the applier never got.
    LoseBytes,
    /// The applier writes both copies of the boot environment at once.
    WriteBothCopies,
    /// The adapter tells the present connection what an earlier one had under way.
    MixSockets,
    /// The adapter takes bytes for text.
    BinaryAsText,
    /// The adapter calls archives verified that nobody looked at.
    SkipArchiveCheck,
    /// Shells write more than the machine takes.
    ForgetRoom,
    /// Answers to the server's questions get lost on the way.
    LoseAnswer,
    /// An application that decides when it is updated applies what it did not ask for.
    ApplyUnasked,
    /// The part of a frame that came before a connection ended is read as the front of the next one.
    KeepPartial,
    /// Messages are reported sent when the system did not take them yet.
    SaySentEarly,
    /// What is in the buffer behind the bytes that were read is taken for read.
    ReadWholeBuffer,
    /// Answers to scripts get lost on the way.
    LoseScript,
    /// The adapter loses a piece of a file from an operator.
    LosePiece,
    /// Pieces of files to operators get lost on the way.
    LoseUpload,
    /// The machine is not told of the windows in which updates may begin.
    IgnoreWindow,
    /// The adapter reads on though firmware comes faster than it may.
    IgnorePause,
    /// The adapter doesn't tell with which code the server closed a connection.
    ForgetCode,
}

impl Mutation {
    /// Every mistake.
    pub const ALL: [Self; 32] = [
        Self::SkipSignature,
        Self::SkipDigest,
        Self::SkipSync,
        Self::SwitchFirst,
        Self::WriteRunning,
        Self::ForgetRange,
        Self::ReuseNumber,
        Self::ApplyUndecided,
        Self::LoseFailure,
        Self::LeakAddress,
        Self::KeepSocket,
        Self::StopClock,
        Self::ForgetBackoff,
        Self::LoseTimer,
        Self::LoseBytes,
        Self::ForgetAttempts,
        Self::WriteBothCopies,
        Self::MixSockets,
        Self::BinaryAsText,
        Self::SkipArchiveCheck,
        Self::ForgetRoom,
        Self::LoseAnswer,
        Self::ApplyUnasked,
        Self::KeepPartial,
        Self::SaySentEarly,
        Self::ReadWholeBuffer,
        Self::LoseScript,
        Self::LosePiece,
        Self::LoseUpload,
        Self::IgnoreWindow,
        Self::IgnorePause,
        Self::ForgetCode,
    ];
}
