//! Running programs that may be there or not.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The command under test.
pub fn fwup_stream() -> PathBuf {
    env!("CARGO_BIN_EXE_fwup-stream").into()
}

/// Says something past the test harness, which hides the output of tests that pass.
pub fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// Finds a tool, also where only the superuser looks; says so when it is not there.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found =
        std::env::split_paths(&path).chain(usual).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        say(&format!("SKIPPED: {name} is not installed"));
    }
    found
}

/// A command that neither asks nor speaks another language.
pub fn command(program: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("LC_ALL", "C").env("MTOOLS_SKIP_CHECK", "1");
    command.stdin(Stdio::null());
    command
}

/// Runs a program; whether it ended well, and all it printed.
pub fn run(program: &Path, folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = command(program, folder, arguments).output().unwrap();
    let text = if output.status.success() { output.stdout } else { [output.stdout, output.stderr].concat() };
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
