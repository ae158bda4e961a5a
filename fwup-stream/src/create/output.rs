//! The file an archive is written to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::CreateError;

/// Bytes collected before they are written.
const BUFFER: usize = 256 * 1024;
/// Other names tried, should leftovers of earlier runs have them.
const TRIES: u32 = 100;

/// A file that gets its name when it is complete. Dropped before, it is gone.
#[derive(Debug)]
pub(super) struct OutputFile {
    out: Option<BufWriter<File>>,
    path: PathBuf,
    /// Its name until then; none for what cannot be replaced: devices, pipes, links to nowhere.
    temporary: Option<PathBuf>,
}

impl OutputFile {
    /// Begins a file, which may be the one that `input` is read from.
    pub(super) fn create(path: &Path, input: Option<&File>) -> Result<Self, CreateError> {
        let name = || path.to_string_lossy().into_owned();
        let path = &behind_links(path);
        let before = fs::symlink_metadata(path).ok();
        let replaceable = before.as_ref().is_none_or(fs::Metadata::is_file);
        let temporary = replaceable.then(|| temporary(path)).flatten();
        let (file, temporary) = match temporary {
            Some((file, name)) => {
                if let Some(before) = before {
                    // The archive keeps the permissions of the one it replaces; where it can't, its own do.
                    let _ = file.set_permissions(before.permissions());
                }
                (file, Some(name))
            }
            // The folder takes no new files, but perhaps this one may be written.
            None if input.is_some_and(|input| is_same(input, path)) => {
                let source =
                    io::Error::other("it is what is to be signed, and cannot be replaced as a whole");
                return Err(CreateError::Update { path: name(), source });
            }
            None => {
                let created = File::create(path);
                (created.map_err(|source| CreateError::Create { path: name(), source })?, None)
            }
        };
        let out = Some(BufWriter::with_capacity(BUFFER, file));
        Ok(Self { out, path: path.to_owned(), temporary })
    }

    /// Gives the complete file its name.
    pub(super) fn keep(mut self) -> Result<(), CreateError> {
        if let Some(mut out) = self.out.take() {
            out.flush()?;
        }
        let Some(temporary) = self.temporary.take() else { return Ok(()) };
        fs::rename(&temporary, &self.path).map_err(|source| {
            let _ = fs::remove_file(&temporary);
            CreateError::Update { path: self.path.to_string_lossy().into_owned(), source }
        })
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Some(out) => out.write(bytes),
            None => Err(io::Error::other("the file is closed")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // What is left cannot be told any more.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// The file that a link leads to, so that the file is replaced and not emptied. What the system keeps in `/dev` and
/// `/proc` are no files to be replaced.
fn behind_links(path: &Path) -> PathBuf {
    let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let real = fs::canonicalize(path).ok().filter(|_| is_link && !is_of_system(path));
    real.filter(|real| !is_of_system(real)).unwrap_or_else(|| path.to_owned())
}

fn is_of_system(path: &Path) -> bool {
    ["/dev", "/proc"].iter().any(|folder| path.starts_with(folder))
}

/// Says whether a path leads to this very file.
fn is_same(file: &File, path: &Path) -> bool {
    let number = |metadata: io::Result<fs::Metadata>| metadata.map(|found| (found.dev(), found.ino())).ok();
    number(file.metadata()).is_some_and(|one| number(fs::metadata(path)) == Some(one))
}

/// Puts what can be read only once, a pipe, into a file without a name beside `path`.
pub(super) fn spool(mut input: impl Read, path: &Path) -> io::Result<File> {
    let elsewhere = std::env::temp_dir().join("spool");
    let Some((mut file, name)) = temporary(path).or_else(|| temporary(&elsewhere)) else {
        return Err(io::Error::other("there is no room to keep what is read from a pipe"));
    };
    // Gone with its last user, whatever becomes of us.
    fs::remove_file(name)?;
    io::copy(&mut input, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// Creates a file beside `path`; nothing when the folder takes none.
fn temporary(path: &Path) -> Option<(File, PathBuf)> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    for number in 0..TRIES {
        let name = path.with_file_name(format!(".{name}.{}-{number}.tmp", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).open(&name) {
            Ok(file) => return Some((file, name)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => return None,
        }
    }
    None
}
