//! Small local files: read and replaced without waiting for the other end of a pipe and without trusting their size.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::limits::{ASIDE_MAX, CREATE_TRIES};

/// Opens a regular file for reading, or one that a link leads to. Never blocks on a pipe, and opens no device.
///
/// # Errors
///
/// What the system said; [`ErrorKind::InvalidInput`] if it is something other than a regular file.
pub fn open_regular(path: &Path) -> Result<File> {
    // Checked before it is opened: opening a watchdog or a tape already does something.
    regular(&fs::metadata(path)?)?;
    let file = open_nonblocking(path, OpenOptions::new().read(true))?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Like [`open_regular`], for a file that this program made: a link is not followed.
///
/// # Errors
///
/// As [`open_regular`].
pub(crate) fn open_regular_here(path: &Path) -> Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(|_| ErrorKind::Unsupported)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file of at most `limit` bytes; returns `None` for a longer one.
///
/// # Errors
///
/// As [`open_regular`].
pub fn read_limited(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Creates an empty file and deletes what was under its name. A link there is deleted and not followed, and the mode is exactly
/// `mode`, whatever this process's umask is.
///
/// # Errors
///
/// What the system said, such as that a folder has this name.
pub fn create_anew(path: &Path, mode: u32) -> Result<File> {
    for _ in 0..CREATE_TRIES {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(|_| ErrorKind::Unsupported)?;
        // Nobody else opens it before it has its mode.
        let private = mode & 0o700;
        match OpenOptions::new().write(true).create_new(true).mode(private).custom_flags(flags).open(path) {
            // Another program puts something there again and again.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                // The file systems that refuse it have no modes.
                match file.set_permissions(fs::Permissions::from_mode(mode)) {
                    Err(error)
                        if error.kind() != ErrorKind::PermissionDenied
                            && error.kind() != ErrorKind::Unsupported =>
                    {
                        return Err(error);
                    }
                    _ => return Ok(file),
                }
            }
        }
    }
    Err(Error::new(ErrorKind::AlreadyExists, "another program creates it at the same time"))
}

/// What could not be done to a file, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct ReplaceError {
    /// What was tried.
    pub what: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The system's words.
    pub source: Error,
}

/// Replaces a file: writes a new one beside it (`NAME.new`), brings it onto the disk, renames it over the old one and brings
/// the folder onto the disk. A crash leaves the old content or the new. A link with the name of the file is replaced by a file;
/// resolve it first if it is to stay. What was planted under the name of the new one is deleted and not followed.
///
/// # Errors
///
/// What failed. The old content is there unless only its folder could not be brought onto the disk. Nothing else is left behind.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> std::result::Result<(), ReplaceError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ReplaceError { what, path, source }
    };
    let new = beside(path, ".new");
    let mut file = create_anew(&new, mode).map_err(failed("create", &new))?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).map_err(failed("write", &new));
    let placed = written.and_then(|()| fs::rename(&new, path).map_err(failed("replace", path)));
    if placed.is_err() {
        // Half a file takes space that a full disk needs. What failed is reported.
        let _ = fs::remove_file(&new);
    }
    placed?;
    let synced = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    synced.map_err(failed("sync the directory of", path))
}

/// Opens or creates a regular file for writing. A link is not followed, and the opening waits for nobody.
///
/// # Errors
///
/// What the system said; [`ErrorKind::InvalidInput`] if it is something other than a regular file.
pub fn open_own(path: &Path, mode: u32) -> Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(|_| ErrorKind::Unsupported)?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(mode).custom_flags(flags).open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Returns the path of a file beside another, whose name goes on with `suffix`.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned(); // A path without a name, such as `/`, can't be replaced.
    name.push(suffix);
    file.with_file_name(name)
}

/// Renames a damaged file, folder or link, so that a new one can have its name: `state` becomes `state.damaged`, then
/// `state.damaged-2` and so on, up to [`ASIDE_MAX`] of them. Returns the new name. What a link leads to is not touched.
///
/// # Errors
///
/// What the system said.
pub fn set_aside(path: &Path) -> Result<PathBuf> {
    let mut name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
    name.push(".damaged");
    let first = path.with_file_name(name);
    let numbered = |number: u32| PathBuf::from(format!("{}-{number}", first.display()));
    let free = |aside: &PathBuf| fs::symlink_metadata(aside).is_err();
    let aside = std::iter::once(first.clone()).chain((2..=ASIDE_MAX).map(numbered)).find(free);
    // Disks are small: the first file gives way when there are so many. A folder with content does not.
    let aside = aside.unwrap_or(first);
    fs::rename(path, &aside)?;
    if let Ok(folder) = File::open(folder_of(path)) {
        // On a file system that can't sync folders, the name is old again after a power loss, and set aside again.
        let _ = folder.sync_all();
    }
    Ok(aside)
}

/// Returns the folder that a file is in.
pub fn folder_of(file: &Path) -> &Path {
    // A name without a folder is in the working directory.
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens a disk or an image of one. Never blocks on a pipe.
pub(crate) fn open_disk(path: &Path) -> Result<File> {
    let file = open_nonblocking(path, OpenOptions::new().read(true))?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is a pipe"));
    }
    Ok(file)
}

pub(crate) fn open_nonblocking(path: &Path, options: &mut OpenOptions) -> Result<File> {
    // Without the flag, opening a pipe waits for a writer. It has no effect on regular files.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(|_| ErrorKind::Unsupported)?;
    options.custom_flags(flags).open(path)
}

fn regular(found: &fs::Metadata) -> Result<()> {
    if found.is_file() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "it is no regular file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fifo(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn only_regular_files_are_read_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        fifo(&pipe);
        for path in [&*pipe, dir.path(), Path::new("/dev/zero"), Path::new("/dev/null")] {
            let error = read_limited(path, 10).unwrap_err();
            assert_eq!(error.to_string(), "it is no regular file", "{}", path.display());
        }
        assert_eq!(open_disk(&pipe).unwrap_err().to_string(), "it is a pipe");
        let file = dir.path().join("file");
        assert_eq!(read_limited(&file, 10).unwrap_err().kind(), ErrorKind::NotFound);
        fs::write(&file, [7; 10]).unwrap();
        assert_eq!(read_limited(&file, 10).unwrap(), Some(vec![7; 10]));
        assert_eq!(read_limited(&file, 9).unwrap(), None);
    }

    #[test]
    fn what_was_left_under_the_name_of_a_new_file_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let (new, precious) = (dir.path().join("state.new"), dir.path().join("precious"));
        fs::write(&precious, "precious").unwrap();
        let leave: [fn(&Path, &Path); 4] = [
            |new, _| fs::write(new, "left over").unwrap(),
            |new, _| fifo(new),
            |new, precious| std::os::unix::fs::symlink(precious, new).unwrap(),
            |new, _| std::os::unix::fs::symlink("/nowhere", new).unwrap(),
        ];
        for leave in leave {
            leave(&new, &precious);
            create_anew(&new, 0o600).unwrap();
            assert_eq!(fs::read(&new).unwrap(), b"");
            fs::remove_file(&new).unwrap();
        }
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        fs::create_dir(&new).unwrap();
        assert!(create_anew(&new, 0o600).is_err());
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_past_planted_links() {
        let dir = tempfile::tempdir().unwrap();
        let (path, precious) = (dir.path().join("file"), dir.path().join("precious"));
        fs::write(&precious, "precious").unwrap();
        // The umask would take the rights of others.
        for mode in [0o600, 0o644, 0o666] {
            std::os::unix::fs::symlink(&precious, dir.path().join("file.new")).unwrap();
            replace(&path, b"content", mode).unwrap();
            let found = fs::symlink_metadata(&path).unwrap();
            assert!(
                found.is_file() && found.permissions().mode() & 0o777 == mode,
                "{:o}",
                found.permissions().mode()
            );
            assert_eq!(fs::read(&path).unwrap(), b"content");
        }
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside it");
        fs::create_dir(dir.path().join("folder")).unwrap();
        let error = replace(&dir.path().join("folder"), b"", 0o600).unwrap_err().to_string();
        assert!(error.starts_with("cannot replace") && error.contains("folder"), "{error}");
        assert!(!dir.path().join("folder.new").exists());
    }

    #[test]
    fn own_files_are_opened_past_no_link_and_no_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let (path, precious) = (dir.path().join("part"), dir.path().join("precious"));
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        assert!(open_own(&path, 0o600).is_err());
        assert!(!precious.exists());
        fs::remove_file(&path).unwrap();
        fifo(&path);
        assert!(open_own(&path, 0o600).is_err());
        fs::remove_file(&path).unwrap();
        open_own(&path, 0o600).unwrap();
        open_own(&path, 0o600).unwrap();
    }

    #[test]
    fn what_is_set_aside_is_kept_a_few_times() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        for number in 1..=ASIDE_MAX + 1 {
            fs::write(&path, number.to_string()).unwrap();
            set_aside(&path).unwrap();
            assert!(!path.exists());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), usize::try_from(ASIDE_MAX).unwrap());
        let newest = (ASIDE_MAX + 1).to_string();
        assert_eq!(fs::read_to_string(dir.path().join("state.damaged")).unwrap(), newest);
    }

    #[test]
    fn folders_with_content_are_never_replaced_by_what_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder");
        for _ in 1..=ASIDE_MAX {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("photo"), "whose?").unwrap();
            set_aside(&path).unwrap();
        }
        fs::create_dir(&path).unwrap();
        assert!(set_aside(&path).is_err() && path.exists());
        std::os::unix::fs::symlink("/nowhere", dir.path().join("link")).unwrap();
        assert!(set_aside(&dir.path().join("link")).unwrap().is_symlink());
    }
}
