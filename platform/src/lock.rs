//! Keeping two writers off one medium: the advisory lock that `udev` and `systemd` honour too.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::kv::KvError;
use crate::limits::{LOCK_PAUSE, LOCK_TRIES};

/// Locks `file` until it is closed; waits a second at most.
pub(crate) fn exclusive(file: File, path: &Path) -> Result<File, KvError> {
    match wait_exclusive(&file) {
        Ok(true) => Ok(file),
        Ok(false) => Err(KvError::Busy { path: path.to_owned() }),
        Err(source) => Err(KvError::Io { what: "lock", path: path.to_owned(), source }),
    }
}

/// Locks `file` until it is closed, or returns `false` when someone else holds it for a second. Some hold it for a moment
/// only: `udev`, which examines a disk that was written, and a program that this process is starting, which has a copy of
/// every descriptor until it runs.
pub(crate) fn wait_exclusive(file: &File) -> std::io::Result<bool> {
    for attempt in 0..LOCK_TRIES {
        if attempt > 0 {
            std::thread::sleep(LOCK_PAUSE);
        }
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {}
            // A file system without locks must not keep a device from its updates.
            Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}
