//! What would fail silently later, looked at when the program starts. Nothing here keeps the device from connecting: with a
//! console it can be mended from afar.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nerves_hub_link_platform::boot::read_boot_id;
use nerves_hub_link_platform::small_file::folder_of;
use rustix::fs::{Access, access};

use crate::cli::{RunArgs, Strategy};
use crate::record::Recorder;

/// Says what is wrong, and what to do.
pub fn check(args: &RunArgs, recorder: &Recorder) {
    let complain = |text: String| recorder.note("preflight", text);
    open_folders(args, &complain);
    if let Some(key) = &args.key
        && let Some(mode) = open_to_others(key)
    {
        complain(format!(
            "--key {}: others can read this private key (mode {mode:03o}); run chmod 600 on it",
            key.display()
        ));
    }
    if let Some(file) = &args.boot_id
        && let Err(error) = read_boot_id(file)
    {
        complain(format!(
            "--boot-id {}: {error}; without it, firmware that was only written can't be told from firmware that booted, so \
             nothing is marked good until this file can be read. Give a file whose content changes at every boot",
            file.display()
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

/// Says which folders of ours others can write: they could plant files and links there, or delete ours.
fn open_folders(args: &RunArgs, complain: &impl Fn(String)) {
    let staged = !matches!(args.strategy, Strategy::Streaming);
    let folders = [
        ("--state", args.state.as_deref().map(folder_of)),
        ("--data-path", args.data_path.as_deref()),
        ("--archive-dir", args.archive_dir.as_deref()),
        ("--cache-dir", staged.then_some(args.cache_dir.as_path())),
    ];
    for (option, folder) in folders {
        if let Some(folder) = folder
            && let Ok(found) = fs::metadata(folder)
            && found.mode() & 0o022 != 0
        {
            let mode = found.mode() & 0o7777;
            complain(format!(
                "{option}: other users can write to the folder {} (mode {mode:03o}); use one that only this program's user can \
                 write",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;
    use std::cell::RefCell;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn folders_that_others_can_write_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let given =
            ["x", "run", "--host", "h", "--serial", "s", "--product-key", "k", "--disk", "d", "--state"];
        let given = given.map(std::ffi::OsString::from).into_iter().chain([state.into_os_string()]);
        let Command::Run(args) = Cli::try_parse_from(given).unwrap().command else {
            panic!("another command")
        };
        for (mode, open) in [(0o700, false), (0o755, false), (0o775, true), (0o757, true), (0o1777, true)] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            let said = RefCell::new(String::new());
            open_folders(&args, &|text| *said.borrow_mut() = text);
            assert_eq!(said.borrow().contains("--state: other users can write"), open, "{mode:o}: {said:?}");
        }
    }
}
