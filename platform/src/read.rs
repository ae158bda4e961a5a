//! Reading whole small files without trusting their size.

use std::fs::OpenOptions;
use std::io::{Error, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Reads a file of at most `limit` bytes; returns `None` for a longer one. Never waits for the other end of a pipe, which may
/// not be there.
pub(crate) fn read_limited(path: &Path, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    // Without the flag, opening a pipe waits for a writer.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(|_| ErrorKind::Unsupported)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is a pipe, and no file"));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_not_waited_for_and_a_device_has_no_end() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(read_limited(&pipe, 10).unwrap_err().to_string().contains("pipe"));
        assert_eq!(read_limited(Path::new("/dev/zero"), 10).unwrap(), None);
        assert_eq!(read_limited(Path::new("/dev/null"), 10).unwrap(), Some(Vec::new()));
        std::fs::write(dir.path().join("file"), [7; 10]).unwrap();
        assert_eq!(read_limited(&dir.path().join("file"), 10).unwrap(), Some(vec![7; 10]));
        assert_eq!(read_limited(&dir.path().join("file"), 9).unwrap(), None);
    }
}
