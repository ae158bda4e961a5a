//! Files in which this program remembers things. One that can't be used costs what it held, and nothing else: it is set aside,
//! the device connects, and nothing is marked good on its account.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nerves_hub_link_platform::limits::STORE_FILE_MAX;
use nerves_hub_link_platform::small_file::{self, folder_of};
use rustix::fs::{Access, access};

use crate::cli::RunArgs;
use crate::record::Recorder;

/// What it costs to do without the file of `--state`.
pub const LOST: &str = "how often updates were tried is remembered only until the next restart";

/// Gets the file of `--state` ready: makes its folder, and sets it aside if it is damaged. Returns where to remember things, if
/// anywhere.
pub fn state(args: &RunArgs, recorder: &Recorder) -> Result<Option<PathBuf>, String> {
    let Some(file) = args.state.clone() else { return Ok(None) };
    if same_file(&file, &args.disk) {
        return Err(format!("--state and --disk are the same file, {}", file.display()));
    }
    let complain = |what: String| recorder.note("state", format!("--state {}: {what}", file.display()));
    if let Err(error) = parent(&file) {
        complain(format!("{error}; {LOST}. Give a file in a folder that can be written"));
        return Ok(None);
    }
    match read_text(&file, STORE_FILE_MAX) {
        Ok(_) => {}
        Err(Unusable::Damaged(why)) => match set_aside(&file) {
            Ok(aside) => complain(format!(
                "{why}; it is set aside as {}, and how often updates were tried counts from zero",
                aside.display()
            )),
            Err(error) => {
                complain(format!("{why}, and it can't be set aside: {error}; {LOST}"));
                return Ok(None);
            }
        },
        Err(Unusable::Unreadable(why)) => {
            complain(format!("{why}; {LOST}. Give another file"));
            return Ok(None);
        }
    }
    let folder = folder_of(&file);
    if let Err(errno) = access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        complain(format!("{} can't be written: {}; {LOST}", folder.display(), io::Error::from(errno)));
    }
    Ok(Some(file))
}

/// Why a file of ours can't be used.
#[derive(Debug)]
pub enum Unusable {
    /// It is a file, and its content is not ours.
    Damaged(String),
    /// It is no file, or can't be read. It must not be touched: it may be a device, or somebody's folder.
    Unreadable(String),
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Damaged(why) | Self::Unreadable(why)) = self;
        f.write_str(why)
    }
}

/// Reads a file of text, without waiting for the other end of a pipe. None is an empty one.
pub fn read_text(path: &Path, limit: u64) -> Result<String, Unusable> {
    let file = match small_file::open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            return Err(Unusable::Unreadable(error.to_string()));
        }
        Err(error) => return Err(Unusable::Unreadable(format!("it can't be read: {error}"))),
    };
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| {
        // A block that can't be read stays so; the file's place can be had all the same.
        Unusable::Damaged(format!("it can't be read: {error}"))
    })?;
    if bytes.len() as u64 > limit {
        return Err(Unusable::Damaged(format!("it is larger than {limit} bytes")));
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(Unusable::Damaged("it is damaged: not text".into())),
    }
}

/// Renames a damaged file, so that a new one can take its place. Returns its new name. A link to it stays.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    small_file::set_aside(&fs::canonicalize(path)?)
}

/// Makes the folder of a file.
fn parent(file: &Path) -> Result<(), String> {
    let folder = folder_of(file);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| format!("can't create the folder {}: {error}", folder.display()))
}

fn same_file(one: &Path, other: &Path) -> bool {
    // One that does not exist, or is out of reach, is no other file.
    let id = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    id(one).is_some_and(|one| Some(one) == id(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_told_from_what_is_not_ours_to_move() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert_eq!(read_text(&path, 4).unwrap(), "");
        assert!(matches!(read_text(dir.path(), 4), Err(Unusable::Unreadable(_))));
        assert!(matches!(read_text(&fifo, 4), Err(Unusable::Unreadable(_))));
        assert!(matches!(read_text(Path::new("/dev/null"), 4), Err(Unusable::Unreadable(_))));
        for (content, good) in [(&b"a=bc"[..], true), (b"a=bcd", false), (b"\xff", false), (b"\0\0", false)] {
            fs::write(&path, content).unwrap();
            let read = read_text(&path, 4);
            assert!(
                if good { read.is_ok() } else { matches!(read, Err(Unusable::Damaged(_))) },
                "{content:?}"
            );
        }
    }

    #[test]
    fn a_link_to_a_damaged_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::write(dir.path().join("data/state"), [0]).unwrap();
        std::os::unix::fs::symlink("data/state", dir.path().join("link")).unwrap();
        set_aside(&dir.path().join("link")).unwrap();
        assert!(dir.path().join("link").is_symlink());
        assert!(dir.path().join("data/state.damaged").exists());
    }
}
