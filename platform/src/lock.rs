//! Keeping two writers off one medium: the advisory lock that `udev` and `systemd` honour too.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::kv::KvError;
use crate::limits::{LOCK_PAUSE, LOCK_TRIES};

/// Locks `file` until it is closed; waits a second at most.
pub(crate) fn exclusive(file: File, path: &Path) -> Result<File, KvError> {
    for _ in 0..LOCK_TRIES {
        match try_exclusive(&file) {
            Ok(true) => return Ok(file),
            Ok(false) => std::thread::sleep(LOCK_PAUSE),
            Err(source) => return Err(KvError::Io { what: "lock", path: path.to_owned(), source }),
        }
    }
    Err(KvError::Busy { path: path.to_owned() })
}

/// Locks `file` until it is closed, or returns `false` when someone else holds it.
pub(crate) fn try_exclusive(file: &File) -> std::io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        // A file system without locks must not keep a device from its updates.
        Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}
