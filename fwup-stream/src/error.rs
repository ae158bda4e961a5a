//! Why firmware could not be applied or verified.

use crate::action::ActionError;
use crate::archive::{ArchiveError, StartError};
use crate::delta::{DeltaError, DeltaFault};
use crate::disk::DiskError;
use crate::internal::Internal;
use crate::manifest::CallListError;

/// Why firmware could not be applied or verified. Displays as fwup does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A signature is wanted and no key was given to check it with.
    #[error(
        "no public key was given, so nobody's firmware can be trusted; give the key the firmware is signed with, or \
         say that no signature is required"
    )]
    NoKey,
    /// The archive's beginning cannot be used: container, signature or manifest.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The archive is damaged.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// No task fits.
    #[error(
        "Couldn't find applicable task '{0}'. If task is available, the task's requirements may not be met."
    )]
    NoTask(String),
    /// A list of calls in the manifest is malformed.
    #[error(transparent)]
    Calls(#[from] CallListError),
    /// A task uses a resource the manifest does not describe.
    #[error("Resource '{0}' used, but metadata is missing. Archive is corrupt.")]
    NoMetadata(String),
    /// A resource is not in the archive.
    #[error("Resource {0} not found in archive")]
    NoResource(String),
    /// An entry has another size than its resource, so it is a delta, and the task names no source for it.
    #[error(
        "File '{resource}' isn't expected size ({entry} vs {expected}) and xdelta3 patch support not enabled on it. \
         (Add delta-source-raw-offset / delta-source-raw-count or delta-source-fat-offset / delta-source-fat-path)"
    )]
    UnexpectedSize {
        /// The resource's name.
        resource: String,
        /// Bytes of the entry.
        entry: u64,
        /// Bytes of the resource.
        expected: u64,
    },
    /// A function failed.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// What a delta made is not what the manifest says: its source is probably not what it was made for.
    #[error(transparent)]
    DeltaResult(ActionError),
    /// The destination failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An entry belongs to no resource (verifying).
    #[error("Can't find file-resource for {0}")]
    NoSection(String),
    /// An entry is there twice (verifying).
    #[error("Processing {0} twice. Archive is corrupt.")]
    Twice(String),
    /// The manifest has no usable digest (verifying).
    #[error("invalid blake2b-256 hash for '{0}'")]
    NoDigest(String),
    /// The data are not what the manifest says (verifying).
    #[error("Detected blake2b digest mismatch for {0}")]
    Digest(String),
    /// The header's size is not the manifest's (verifying).
    #[error("ZIP local header length mismatch for {0}")]
    HeaderLength(String),
    /// The data are longer or shorter than the manifest says (verifying).
    #[error("ZIP data length mismatch for {0}")]
    DataLength(String),
    /// An entry whose size differs from its resource is no delta either (verifying).
    #[error(
        "xdelta3 error: '{resource}' is {entry} bytes long instead of {expected}, and no delta that can be used: \
         {reason}"
    )]
    NotADelta {
        /// The resource's name.
        resource: String,
        /// Bytes of the entry.
        entry: u64,
        /// Bytes of the resource.
        expected: u64,
        /// What is wrong with its header.
        reason: DeltaFault,
    },
    /// A delta is damaged (verifying).
    #[error("xdelta3 error: the delta of '{resource}' can't be applied: {reason}")]
    BrokenDelta {
        /// The resource's name.
        resource: String,
        /// What is wrong with it, and where.
        reason: DeltaError,
    },
    /// A delta makes more or less than the manifest says (verifying).
    #[error("xdelta3 error: the delta of '{resource}' makes {made} bytes instead of {expected}")]
    DeltaLength {
        /// The resource's name.
        resource: String,
        /// Bytes it makes.
        made: u64,
        /// Bytes of the resource.
        expected: u64,
    },
    /// The archive broke off.
    #[error("the archive broke off before its end")]
    BrokeOff,
    /// The work ended in an error before; nothing more is done.
    #[error("the update has failed before; start again with a new one")]
    Ended,
    /// The work goes on only after [`Applier::proceed`](crate::Applier::proceed), as
    /// [`ApplyOptions::hold`](crate::ApplyOptions::hold) wants it.
    #[error("the firmware is waiting for permission to be written, so it takes no more bytes")]
    Held,
    /// Something that cannot happen has happened.
    #[error(transparent)]
    Internal(#[from] Internal),
}

impl Error {
    /// Returns whether a delta could not be applied: its source is missing or is not what the delta was made for, the
    /// task names none, or the delta is damaged. The full image would do.
    pub const fn is_delta(&self) -> bool {
        matches!(
            self,
            Self::Action(ActionError::Delta(_) | ActionError::DeltaRange { .. })
                | Self::DeltaResult(_)
                | Self::UnexpectedSize { .. }
                | Self::NotADelta { .. }
                | Self::BrokenDelta { .. }
                | Self::DeltaLength { .. }
        )
    }

    /// Returns whether the archive's bytes are at fault: damaged, not signed as wanted, or not an archive. Another copy of
    /// the file may do. What the destination did, or what the device lacks, is not of the file.
    pub const fn is_of_the_file(&self) -> bool {
        matches!(
            self,
            Self::Start(_)
                | Self::Archive(_)
                | Self::Calls(_)
                | Self::NoMetadata(_)
                | Self::NoResource(_)
                | Self::UnexpectedSize { .. }
                | Self::NoSection(_)
                | Self::Twice(_)
                | Self::NoDigest(_)
                | Self::Digest(_)
                | Self::HeaderLength(_)
                | Self::DataLength(_)
                | Self::NotADelta { .. }
                | Self::BrokeOff
                | Self::Action(
                    ActionError::NoDigest { .. } | ActionError::Digest { .. } | ActionError::Length { .. }
                )
        )
    }
}
