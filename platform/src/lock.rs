//! Locks that keep two writers off one medium.
//!
//! Everybody who can read a disk can lock it with `flock(2)`. The lock that decides is therefore one on a file that only this
//! user can open, in a folder in memory. The one on the disk, which `udev` and `systemd` honour, is taken too.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::kv::KvError;
use crate::limits::{LOCK_PAUSE, LOCK_TRIES};

/// The folder of lock files, in `/run` or `/run/user/UID`. Not `nerves-hub-link`, which systemd empties with
/// `RuntimeDirectory=nerves-hub-link` whenever the program ends.
const FOLDER: &str = "nerves-hub-link-lock";

/// A lock of a medium. Dropping it unlocks the medium.
#[derive(Debug)]
pub(crate) struct Held {
    /// What keeps other writers away. None where this user has no folder for it.
    _own: Option<OwnLock>,
    /// What others can see, and can hold.
    _medium: Option<File>,
}

/// Locks the medium `file` against other writers of ours. Waits a second at most.
///
/// Another program that holds a lock on the medium itself, which every reader can, does not prevent it.
pub(crate) fn insist(file: File, path: &Path) -> std::result::Result<Held, KvError> {
    let failed = |source| KvError::Io { what: "lock", path: path.to_owned(), source };
    let own = match own(&file).map_err(failed)? {
        Own::Held(own) => Some(own),
        Own::Taken => return Err(KvError::Busy { path: path.to_owned() }),
        Own::Nowhere => None,
    };
    let locked = wait_exclusive(&file).map_err(failed)?;
    if !locked && own.is_none() {
        return Err(KvError::Busy { path: path.to_owned() });
    }
    Ok(Held { _own: own, _medium: locked.then_some(file) })
}

/// Locks the medium against everybody who locks it, or returns `None` when someone else holds it for a second.
pub(crate) fn whole(file: &File) -> Result<Option<Held>> {
    let own = match own(file)? {
        Own::Held(own) => Some(own),
        Own::Taken => return Ok(None),
        Own::Nowhere => None,
    };
    Ok(wait_exclusive(file)?.then_some(Held { _own: own, _medium: None }))
}

/// Locks a file beside one of ours, which only this user can open. Waits a second at most.
pub(crate) fn beside(path: &Path) -> std::result::Result<OwnLock, KvError> {
    match OwnLock::acquire(path) {
        Ok(Some(held)) => Ok(held),
        Ok(None) => Err(KvError::Busy { path: path.to_owned() }),
        Err(source) => Err(KvError::Io { what: "lock", path: path.to_owned(), source }),
    }
}

enum Own {
    Held(OwnLock),
    Taken,
    Nowhere,
}

fn own(medium: &File) -> Result<Own> {
    let name = name(medium)?;
    for folder in folders() {
        // It may be there; whether it is ours is looked at next.
        let _ = DirBuilder::new().mode(0o700).create(&folder);
        if !is_private(&folder) {
            continue;
        }
        match OwnLock::acquire(&folder.join(&name)) {
            Ok(Some(mut held)) => {
                held.transient = true;
                return Ok(Own::Held(held));
            }
            Ok(None) => return Ok(Own::Taken),
            // A folder in memory that is full, say: the medium's own lock must do.
            Err(_) => {}
        }
    }
    Ok(Own::Nowhere)
}

fn folders() -> [PathBuf; 2] {
    let user = PathBuf::from(format!("/run/user/{}", geteuid().as_raw()));
    [PathBuf::from("/run").join(FOLDER), user.join(FOLDER)]
}

/// Returns the name of a medium's lock file.
fn name(medium: &File) -> Result<String> {
    let found = medium.metadata()?;
    Ok(if found.file_type().is_block_device() {
        format!("device-{:x}", found.rdev())
    } else {
        format!("file-{:x}-{:x}", found.dev(), found.ino())
    })
}

/// Returns whether a folder is this user's alone.
fn is_private(folder: &Path) -> bool {
    fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw() && !others(&found))
}

/// Returns whether the mode gives others than the owner any right.
fn others(found: &fs::Metadata) -> bool {
    found.mode() & 0o077 != 0
}

/// A locked file that only this user can open.
#[derive(Debug)]
pub(crate) struct OwnLock {
    _file: File,
    path: PathBuf,
    /// Whether the file is deleted with the lock.
    transient: bool,
}

impl OwnLock {
    /// Locks the file, or returns `None` when another one of ours holds it for a second.
    fn acquire(path: &Path) -> Result<Option<Self>> {
        for attempt in 0..LOCK_TRIES {
            if attempt > 0 {
                sleep(LOCK_PAUSE);
            }
            let file = open_own(path)?;
            // Whoever held it before may have deleted it.
            if try_exclusive(&file)? && is_at(&file, path)? {
                return Ok(Some(Self { _file: file, path: path.to_owned(), transient: false }));
            }
        }
        Ok(None)
    }
}

impl Drop for OwnLock {
    fn drop(&mut self) {
        if self.transient {
            // Still locked: another one that opened it finds that it is no longer there. One that stays is used again.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens a file for locking that only this user can open. What others left under its name is deleted, and no link is followed.
fn open_own(path: &Path) -> Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(|_| ErrorKind::Unsupported)?;
    for _ in 0..LOCK_TRIES {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(flags);
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() && found.uid() == geteuid().as_raw() && !others(&found) => {}
            Ok(found) if found.is_dir() => return Err(Error::new(ErrorKind::IsADirectory, "it is a folder")),
            Ok(_) => match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => drop(options.create_new(true)),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => drop(options.create_new(true)),
            Err(error) => return Err(error),
        }
        match options.open(path) {
            // Another one of ours was faster.
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
            outcome => return outcome,
        }
    }
    Err(ErrorKind::ResourceBusy.into())
}

fn is_at(file: &File, path: &Path) -> Result<bool> {
    let file = file.metadata()?;
    Ok(fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino())))
}

/// Locks `file` until it is closed, or returns `false` when someone else holds it for a second. Some hold it for a moment
/// only: `udev`, which examines a disk that was written, and a program that this process is starting, which has a copy of
/// every descriptor until it runs.
pub(crate) fn wait_exclusive(file: &File) -> Result<bool> {
    for attempt in 0..LOCK_TRIES {
        if attempt > 0 {
            sleep(LOCK_PAUSE);
        }
        if try_exclusive(file)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn try_exclusive(file: &File) -> Result<bool> {
    loop {
        return match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => Ok(false),
            // A file system without locks must not keep a device from its updates.
            Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => Ok(true),
            Err(errno) => Err(errno.into()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_lock_file_is_this_user_s_alone_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, precious) = (dir.path().join("state.lock"), dir.path().join("precious"));
        fs::write(&precious, "precious").unwrap();
        let leave: [fn(&Path, &Path); 4] = [
            |lock, precious| symlink(precious, lock).unwrap(),
            |lock, _| symlink("/nowhere/at/all", lock).unwrap(),
            |lock, _| assert!(std::process::Command::new("mkfifo").arg(lock).status().unwrap().success()),
            |lock, _| {
                fs::write(lock, "").unwrap();
                fs::set_permissions(lock, fs::Permissions::from_mode(0o666)).unwrap();
            },
        ];
        for leave in leave {
            leave(&lock, &precious);
            // Somebody else has it open already.
            let planted = lock.is_file().then(|| File::open(&lock).unwrap());
            if let Some(planted) = &planted {
                flock(planted, FlockOperation::LockShared).unwrap();
            }
            let held = beside(&lock).unwrap();
            let found = fs::symlink_metadata(&lock).unwrap();
            assert!(found.is_file() && found.mode() & 0o777 == 0o600);
            assert!(matches!(beside(&lock), Err(KvError::Busy { .. })));
            drop(held);
            drop(beside(&lock).unwrap());
            fs::remove_file(&lock).unwrap();
        }
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        fs::create_dir(&lock).unwrap();
        assert!(beside(&lock).is_err());
    }

    #[test]
    fn the_lock_file_of_a_medium_goes_with_the_lock() {
        let file = tempfile::tempfile().unwrap();
        let name = name(&file).unwrap();
        let held = insist(file, Path::new("disk")).unwrap();
        let Some(path) = folders().map(|folder| folder.join(&name)).into_iter().find(|path| path.exists())
        else {
            return println!("SKIPPED: this user has no folder in /run");
        };
        drop(held);
        assert!(!path.exists());
    }
}
