//! Files on the console, in the words of both sides of the machine.

use alloc::string::String;

use crate::chunk::Chunk;
use crate::command::Command;
use crate::ids::{FileId, UploadId};

/// News about a file from an operator, in [`Event::File`](crate::Event::File).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FileEvent {
    /// An operator sends a file. Pieces follow in order; report them with
    /// [`FileCommand::Stored`].
    Started {
        /// The number of this file.
        file: FileId,
        /// Its name: no path, no control characters, at most
        /// [`MAX_FILE_NAME_BYTES`](crate::limits::MAX_FILE_NAME_BYTES).
        name: String,
    },
    /// The next piece of a file.
    Chunk {
        /// Which file.
        file: FileId,
        /// The piece.
        data: Chunk,
    },
    /// All pieces of a file came. Only now may it replace an older one of that name.
    Finished {
        /// Which file.
        file: FileId,
    },
    /// The rest of a file won't come, or is not wanted; forget it.
    Discarded {
        /// Which file.
        file: FileId,
        /// Why, for a person.
        reason: String,
    },
}

/// An order about a file from an operator, in [`Command::File`](crate::Command::File).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FileCommand {
    /// Say that bytes of a file are stored, or that more can be taken.
    Stored {
        /// Which file.
        file: FileId,
        /// How many more bytes.
        bytes: usize,
    },
    /// Say that a file can't be stored, before or shortly after its end; whoever watches the console is told.
    Failed {
        /// Which file.
        file: FileId,
        /// Why, for a person.
        reason: String,
    },
}

/// News about a file for operators, in [`Event::Upload`](crate::Event::Upload).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum UploadEvent {
    /// The file of [`UploadCommand::Send`] is on its way.
    Started {
        /// The number of this file.
        upload: UploadId,
        /// Its name.
        name: String,
    },
    /// More of the file is wanted, for [`UploadCommand::Data`].
    Ready {
        /// Which file.
        upload: UploadId,
        /// How many bytes at most, in addition to what is left of those before.
        bytes: usize,
    },
    /// A file was sent.
    Finished {
        /// Which.
        upload: UploadId,
    },
    /// A file can't be sent; operators see a part of it at most.
    Aborted {
        /// Which.
        upload: UploadId,
        /// Why, for a person.
        reason: String,
    },
}

/// An order about a file for operators, in [`Command::Upload`](crate::Command::Upload).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum UploadCommand {
    /// Send a file to whoever watches the console. [`UploadEvent::Started`] and
    /// [`UploadEvent::Ready`] follow.
    Send {
        /// Its name, without any path.
        name: String,
        /// Its size in bytes, less than [`MAX_UPLOAD_BYTES`](crate::limits::MAX_UPLOAD_BYTES).
        size: u64,
    },
    /// Hand in the next bytes of the file that is sent.
    Data {
        /// Which file.
        upload: UploadId,
        /// The bytes, no more than asked for.
        data: Chunk,
    },
    /// Stop sending the file.
    Cancel {
        /// Which file.
        upload: UploadId,
    },
}

impl From<FileCommand> for Command {
    fn from(command: FileCommand) -> Self {
        Self::File(command)
    }
}

impl From<UploadCommand> for Command {
    fn from(command: UploadCommand) -> Self {
        Self::Upload(command)
    }
}
