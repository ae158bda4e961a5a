//! `--sparse-check`: whether a file system makes holes in files.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{SeekFrom, seek};

use crate::Failure;
use crate::output::Output;

/// Makes a file with a hole at `path`, looks whether there is one, and removes the file. A file that is there
/// already is left alone: the one with the hole is made beside it.
pub(crate) fn run(path: &OsStr, hole: u64, output: &mut Output) -> Result<(), Failure> {
    let shown = path.to_string_lossy();
    let cannot = |_| Failure::new(format!("Couldn't create sparse test file: {shown}"));
    let mut path = PathBuf::from(path);
    if path.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        path.set_file_name(format!(".{name}.{}.tmp", std::process::id()));
    }
    let file = File::create_new(&path).map_err(cannot)?;
    let made = makes_hole(&file, hole);
    // What stays behind if this fails is an empty hole.
    let _ = std::fs::remove_file(&path);
    if !made.map_err(cannot)? {
        return Err(Failure::new(format!("Hole of {hole} bytes not created on filesystem")));
    }
    output.result(["Sparse files supported"]);
    Ok(())
}

/// Leaves out `hole` bytes in front of one byte of data, and asks where the data begin.
fn makes_hole(file: &File, hole: u64) -> io::Result<bool> {
    file.write_all_at(b"x", hole)?;
    Ok(hole > 0 && seek(file, SeekFrom::Data(0))? >= hole)
}
