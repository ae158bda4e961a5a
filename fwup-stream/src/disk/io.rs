//! The face of the cached destination that actions write through.

/// Why the destination could not be read or written. Texts as scripts match them (fw-format §9.2).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// Reading failed.
    #[error(
        "unexpected error reading {length} bytes at offset {signed}: {reason}.\nPossible causes are that the \
         destination is too small, the device (e.g., an SD card) is going bad, or the connection to it is flaky.",
        signed = offset.cast_signed()
    )]
    Read {
        /// Bytes asked for.
        length: usize,
        /// Where, in bytes.
        offset: u64,
        /// The system's words.
        reason: String,
    },
    /// Writing failed or would pass the end of the medium.
    #[error("write failed at offset {offset}. Check media size.")]
    Write {
        /// Where, in bytes.
        offset: u64,
    },
    /// A write would pass the end of the medium.
    #[error(
        "write failed at offset {offset}. Check media size: what is written ends at byte {to}, the destination at byte \
         {end} (its own size, or the limit it was given, as by --max-size)."
    )]
    NoSpace {
        /// Where the segment begins that does not fit, in bytes.
        offset: u64,
        /// The byte behind what was to be written.
        to: u64,
        /// Bytes of the medium.
        end: u64,
    },
    /// The access begins beyond the end of the medium.
    #[error("read/write failed at offset {offset} since past end of media ({end}).")]
    PastEnd {
        /// Where, in bytes.
        offset: u64,
        /// Bytes of the medium.
        end: u64,
    },
    /// What was just written could not be read back.
    #[error("read back failed at offset {offset}")]
    ReadBack {
        /// Where, in bytes.
        offset: u64,
    },
    /// What was just written reads back differently.
    #[error("write verification failed at offset {offset}")]
    Verify {
        /// Where, in bytes.
        offset: u64,
    },
    /// A mistake of this program's: it stops before it does harm.
    #[error(
        "internal error at offset {offset}: {what}. Nothing more was written. Please report this with the firmware that \
         was applied."
    )]
    Internal {
        /// Where, in bytes.
        offset: u64,
        /// What should never be.
        what: &'static str,
    },
    /// The medium did not confirm that what was written is safe.
    #[error(
        "syncing the destination failed: {reason}. What was written may be lost; nothing after it was written."
    )]
    Sync {
        /// The system's words.
        reason: String,
    },
}

impl DiskError {
    /// The error for what should never be; in tests it is a panic.
    pub(crate) fn internal(offset: u64, what: &'static str) -> Self {
        debug_assert!(false, "{what} (offset {offset})");
        Self::Internal { offset, what }
    }
}

/// A record kept twice, of which readers take the newer copy, or the sound one.
#[derive(Clone, Copy, Debug)]
pub struct Twins {
    /// Where the other copy is, in bytes. It is as long as this one.
    pub other: u64,
    /// Whether readers take this copy and not the other when both are equally new.
    pub preferred: bool,
    /// Says which of two copies a reader takes, the preferred one given first; `None` when neither is sound.
    pub newer: fn([&[u8]; 2]) -> Option<usize>,
    /// Makes a copy with the content of the first that is as old as the second.
    pub disguise: fn(&[u8], &[u8]) -> Vec<u8>,
    /// Makes a copy with the content of the first that every reader takes for just newer than the second.
    pub succeed: fn(&[u8], &[u8]) -> Vec<u8>,
}

/// Cached access to the destination in any size and alignment (fw-format §9.2 to §9.4).
pub trait DiskIo {
    /// Fills `buffer` from byte `offset`. Past the end of a regular file reads zeros.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Reads like [`read`](Self::read) what is read once and in large parts: leaves the cache as it is. What
    /// lies beyond the end of a device reads as zeros, as long as the read begins in a segment before it.
    fn read_uncached(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.read(offset, buffer)
    }

    /// Writes `data` at byte `offset`. A `streamed` write lets a segment go to the medium as soon as
    /// streamed writes alone have filled it; any other write waits for the flush.
    fn write(&mut self, offset: u64, data: &[u8], streamed: bool) -> Result<(), DiskError>;

    /// Writes like [`write`](Self::write) what belongs to a FAT file system, which keeps track of what it writes
    /// itself: not one of the [`other_changes`](Self::other_changes).
    fn write_fat(&mut self, offset: u64, data: &[u8], streamed: bool) -> Result<(), DiskError> {
        self.write(offset, data, streamed)
    }

    /// Counts the changes that were made otherwise than by [`write_fat`](Self::write_fat). While the count stays the
    /// same, file systems know what is on the disk. `None`, as when not implemented: nobody counts, and they look
    /// each time.
    fn other_changes(&self) -> Option<u64> {
        None
    }

    /// Writes a copy of a record that is kept twice, which waits for the flush like any unstreamed write. When
    /// both copies were written by then, they reach the medium in an order that leaves, at any moment, what was
    /// there before or what was written last as the copy a reader takes.
    fn write_twin(&mut self, offset: u64, data: &[u8], twins: Twins) -> Result<(), DiskError> {
        let _ = twins;
        self.write(offset, data, false)
    }

    /// Says that the content of this range no longer matters: whole segments inside it read as zeros.
    fn trim(&mut self, offset: u64, length: u64) -> Result<(), DiskError>;
}
