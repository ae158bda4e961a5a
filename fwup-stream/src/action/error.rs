//! Why a function failed.

use super::fat::FatError;
use super::gpt::GptError;
use super::mbr::MbrError;
use super::uboot::UbootError;
use crate::delta::DeltaError;
use crate::disk::{CipherError, DiskError};
use crate::internal::Internal;

/// Why a function failed. Displays as fwup does where fwup has a text for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActionError {
    /// The destination could not be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Something on a FAT file system failed.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// A partition table cannot be written.
    #[error(transparent)]
    Mbr(#[from] MbrError),
    /// A partition table of the GPT kind cannot be written.
    #[error(transparent)]
    Gpt(#[from] GptError),
    /// A U-Boot environment cannot be read or changed.
    #[error(transparent)]
    Uboot(#[from] UbootError),
    /// The task says so: `error(TEXT)`.
    #[error("{0}")]
    Scripted(String),
    /// There is no such function.
    #[error("Unknown function")]
    UnknownFunction {
        /// Its name.
        function: String,
    },
    /// The function got fewer arguments than it needs.
    #[error(
        "{function} requires {}, but the firmware gives it {given} of at least {needed} arguments",
        crate::manifest::needs(function)
    )]
    Arguments {
        /// The function's name.
        function: &'static str,
        /// How many it needs at least.
        needed: usize,
        /// How many there are.
        given: usize,
    },
    /// An argument has no meaning.
    #[error("{function}: '{value}' is not {expected}")]
    Argument {
        /// The function's name.
        function: &'static str,
        /// The argument.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A function that takes a resource's data stands where there is none.
    #[error("{function} only usable in on-resource")]
    NotInResource {
        /// The function's name.
        function: &'static str,
    },
    /// A section the function refers to is not in the manifest.
    #[error("{function} can't find {kind} reference {name}")]
    Reference {
        /// The function's name.
        function: &'static str,
        /// The kind of section.
        kind: &'static str,
        /// The name looked for.
        name: String,
    },
    /// The function is only allowed with `--unsafe`.
    #[error("{function} requires --unsafe")]
    Unsafe {
        /// The function's name.
        function: &'static str,
    },
    /// The manifest has no usable digest for the resource.
    #[error("invalid blake2b hash for '{resource}'")]
    NoDigest {
        /// The resource's name.
        resource: String,
    },
    /// No data were left for the function.
    #[error(
        "{function} didn't write anything and was likely called twice in an on-resource for '{resource}'. Try a \
         \"cp\" function."
    )]
    NoData {
        /// The function's name.
        function: &'static str,
        /// The resource's name.
        resource: String,
    },
    /// The data are longer or shorter than the manifest says.
    #[error("{function} wrote {wrote} bytes for '{resource}', but should have written {expected}")]
    Length {
        /// The function's name.
        function: &'static str,
        /// The resource's name.
        resource: String,
        /// Bytes that came.
        wrote: u64,
        /// Bytes the manifest says.
        expected: u64,
    },
    /// The data are not what the manifest says.
    #[error("{function} detected blake2b mismatch on '{resource}'")]
    Digest {
        /// The function's name.
        function: &'static str,
        /// The resource's name.
        resource: String,
    },
    /// An option of `raw_write` is not known.
    #[error("Unexpected parameter: {0}")]
    Parameter(String),
    /// An option of `raw_write` has no value.
    #[error("Expecting '=' for in parameter '{0}'")]
    ParameterValue(String),
    /// Only one of cipher and secret was given.
    #[error("Both a cipher and secret are required if one is supplied")]
    CipherAndSecret,
    /// The cipher or its key cannot be used.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// A delta is malformed or does not belong to its source.
    #[error("xdelta3 error: {0}")]
    Delta(DeltaError),
    /// A delta refers to what is behind the end of its source.
    #[error(
        "xdelta tried to load outside of allowed byte range (0-{size}): offset: {offset}, count: {count}"
    )]
    DeltaRange {
        /// Bytes of the source.
        size: u64,
        /// Where the bytes wanted begin.
        offset: u64,
        /// How many were wanted.
        count: usize,
    },
    /// A file of this system cannot be opened.
    #[error("{function} can't open '{path}'")]
    CannotOpen {
        /// The function's name.
        function: &'static str,
        /// The file.
        path: String,
    },
    /// A file of this system cannot be written.
    #[error("{function} failed to write '{to}': {reason}")]
    HostWrite {
        /// The function's name.
        function: &'static str,
        /// The file.
        to: String,
        /// The system's words.
        reason: String,
    },
    /// A volume on raw flash cannot be opened.
    #[error("ubi_volume_write can't open '{path}': {reason}")]
    UbiOpen {
        /// The volume.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// What should be a volume on raw flash is none.
    #[error("UBI_IOCVOLUP failed on '{path}': {reason}. Check that it's a UBI volume (see /sys/class/ubi)")]
    UbiVolume {
        /// The path.
        path: String,
        /// What fwup's system call says of such a path.
        reason: String,
    },
    /// Volumes on raw flash cannot be updated by this process, nor by a program.
    #[error(
        "updating the volume '{path}' is not allowed here, and ubiupdatevol, which might do it, can't be run: {reason}. \
         Run this with the right to call UBI_IOCVOLUP, or install mtd-utils or BusyBox."
    )]
    UbiProgram {
        /// The volume.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// No command can be run.
    #[error("can't run /bin/sh: {0}")]
    Shell(String),
    /// A command stopped taking data.
    #[error("pipe_write failed to write '{0}'")]
    Pipe(String),
    /// A command that was given data failed.
    #[error("command '{0}' returned an error to pipe_write")]
    PipeStatus(String),
    /// A command failed.
    #[error("'{command}' failed with exit status {status}")]
    Execute {
        /// The command.
        command: String,
        /// How it ended, as `wait` tells.
        status: i32,
    },
    /// The system has no memory left for something whose size the firmware decides.
    #[error("this system has no {bytes} bytes of memory left for the work")]
    NoMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// Something that cannot happen has happened.
    #[error(transparent)]
    Internal(#[from] Internal),
}
