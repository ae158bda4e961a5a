//! Programs of the system that do what this process may not do itself.

use std::ffi::OsStr;
use std::process::Command;

/// Returns a program that gets nothing of this process's environment but where programs are.
pub(crate) fn command(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}
