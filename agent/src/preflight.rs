//! What would fail silently later, looked at when the program starts. Nothing here keeps the device from connecting: with a
//! console it can be mended from afar.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, access};

use crate::cli::RunArgs;
use crate::record::Recorder;

/// Says what is wrong, and what to do.
pub fn check(args: &RunArgs, recorder: &Recorder) {
    let complain = |text: String| recorder.note("preflight", text);
    if let Some(key) = &args.key
        && let Some(mode) = open_to_others(key)
    {
        complain(format!(
            "--key {}: others can read this private key (mode {mode:03o}); run chmod 600 on it",
            key.display()
        ));
    }
    if args.console || args.local_shell {
        program(&args.shell, "--shell", "operators get no shell", &complain);
    }
    if args.reboot_command.is_some() {
        program(
            Path::new("/bin/sh"),
            "--reboot-command",
            "the system is not restarted after an update",
            &complain,
        );
    }
    for (option, folder) in [("--data-path", &args.data_path), ("--archive-dir", &args.archive_dir)] {
        if let Some(folder) = folder
            && let Err(error) = usable(folder)
        {
            complain(format!(
                "{option} {}: {error}; what is sent there is refused. Give a folder that can be written",
                folder.display()
            ));
        }
    }
}

fn program(path: &Path, option: &str, cost: &str, complain: &impl Fn(String)) {
    let wrong = match fs::metadata(path) {
        Err(error) => Some(error.to_string()),
        Ok(found) if !found.is_file() => Some("it is no program".to_owned()),
        Ok(_) => access(path, Access::EXEC_OK).err().map(|errno| std::io::Error::from(errno).to_string()),
    };
    if let Some(wrong) = wrong {
        complain(format!("{option}: {} can't be run: {wrong}; {cost}. Give another program", path.display()));
    }
}

/// Makes a folder if need be, and looks whether it can be written.
fn usable(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("can't create it: {error}"))?;
    let written = access(folder, Access::WRITE_OK | Access::EXEC_OK);
    written.map_err(|errno| format!("can't write to it: {}", std::io::Error::from(errno)))
}

/// Returns the mode of a file that others than its owner can read.
fn open_to_others(path: &Path) -> Option<u32> {
    // A missing file is reported where it is read.
    let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(found.mode() & 0o777).filter(|mode| mode & 0o044 != 0)
}
