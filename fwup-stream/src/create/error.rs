//! Why an archive cannot be made or signed.

use std::io;

use crate::internal::Internal;
use crate::limits::{CREATED_NAME_MAX, SIGN_ENTRIES};
use crate::manifest::ConfigurationError;

/// Why an archive cannot be made or signed. Displays as fwup does where fwup has a text for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The archive's own reader would refuse the manifest.
    #[error("the archive could not be read again: {0}")]
    Unreadable(String),
    /// A task could not be run.
    #[error("the task '{task}' could never be applied: {error}")]
    Task {
        /// The task's name.
        task: String,
        /// Why not.
        error: Box<crate::Error>,
    },
    /// Something that cannot happen has happened.
    #[error(transparent)]
    Internal(#[from] Internal),
    /// A file cannot be opened.
    #[error("can't open path '{path}' in file-resource '{resource}'")]
    Open {
        /// The file.
        path: String,
        /// The resource it belongs to.
        resource: String,
    },
    /// A resource names no file.
    #[error("must specify a host-path for resource '{0}'")]
    NoPath(String),
    /// A file cannot be read.
    #[error("reading '{path}' for file-resource '{resource}' failed: {}", crate::create::error::reason(.source))]
    Read {
        /// The file.
        path: String,
        /// The resource it belongs to.
        resource: String,
        /// What the system says.
        source: io::Error,
    },
    /// A file was another when its data were needed than when it was described.
    #[error("the files of resource '{0}' changed while the archive was made; make it again")]
    Changed(String),
    /// A resource is larger or smaller than the configuration says.
    #[error(
        "file size assertion failed on '{paths}'. Size is {size} bytes. It must be {relation} {limit} bytes ({} blocks)",
        .limit / 512
    )]
    Size {
        /// Its files.
        paths: String,
        /// Its bytes, holes included.
        size: u64,
        /// `<=` or `>=`.
        relation: &'static str,
        /// The bytes allowed.
        limit: u64,
    },
    /// A resource's name cannot be used.
    #[error("resources can't be named /meta.conf")]
    NamedManifest,
    /// A resource's name would hide others.
    #[error("use a normal resource name rather than specifying /data")]
    NamedData,
    /// A resource's name is that of a folder.
    #[error("resource name '{0}' can't end in a '/'")]
    NamedFolder(String),
    /// A resource's name is too long.
    #[error("resource name '{0}' is too long")]
    NameTooLong(String),
    /// A resource has no name.
    #[error("resource name can't be empty")]
    NoName,
    /// The archive cannot be created.
    #[error("error creating archive '{path}': Failed to open '{path}'")]
    Create {
        /// The archive.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("writing the archive failed: {}", crate::create::error::reason(.0))]
    Write(#[from] io::Error),
    /// The archive cannot be put in its place.
    #[error("Error updating '{path}': {}", crate::create::error::reason(.source))]
    Update {
        /// The archive.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The archive to sign cannot be opened.
    #[error("Failed to open '{path}': {}", crate::create::error::reason(.source))]
    OpenArchive {
        /// The archive.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The archive to sign cannot be read.
    #[error("Error reading '{path}': {}", crate::create::error::reason(.source))]
    ReadArchive {
        /// The archive.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The archive to sign is damaged.
    #[error("the archive can't be signed: {0}")]
    Damaged(String),
    /// The archive to sign has its manifest twice.
    #[error("Invalid firmware. More than one meta.conf found")]
    TwoManifests,
    /// The archive to sign has something in front of its manifest.
    #[error("Invalid firmware. meta.conf must be at the beginning of archive")]
    ManifestNotFirst,
    /// The archive to sign has no manifest.
    #[error("Invalid firmware. No meta.conf not found")]
    NoManifest,
    /// The manifest of the archive to sign is too short or too long.
    #[error("Unexpected meta.conf size: {0}")]
    ManifestSize(usize),
    /// The archive to sign has more entries than any firmware.
    #[error("the archive has more than {SIGN_ENTRIES} entries, which is no firmware")]
    Entries,
}

/// What the system says, without its number.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Checks that a resource's name can stand in an archive, and returns the entry's name.
pub(super) fn entry_name(resource: &str) -> Result<String, CreateError> {
    if resource.len() > CREATED_NAME_MAX {
        return Err(CreateError::NameTooLong(resource.to_owned()));
    }
    if resource.is_empty() {
        return Err(CreateError::NoName);
    }
    if resource.ends_with('/') {
        return Err(CreateError::NamedFolder(resource.to_owned()));
    }
    let Some(rooted) = resource.strip_prefix('/') else { return Ok(format!("data/{resource}")) };
    match rooted {
        // fwup lets the name of the signature pass, and the archive is of no use then.
        "meta.conf" | "meta.conf.ed25519" => Err(CreateError::NamedManifest),
        "data" => Err(CreateError::NamedData),
        _ if rooted.starts_with("data/") => Err(CreateError::NamedData),
        _ => Ok(rooted.to_owned()),
    }
}
