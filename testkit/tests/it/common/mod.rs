//! What several tests need.

pub mod recorded;
pub mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of golden data: the one in the variable `GOLDEN`, the one beside the workspace, or the copy in this crate.
pub fn golden(part: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("GOLDEN").map(PathBuf::from);
    let places = [here.join("../../shared/golden"), here.join("golden")];
    let found = named.into_iter().chain(places).map(|place| place.join(part)).find(|path| path.exists());
    match &found {
        Some(path) => println!("golden data: {}", path.display()),
        None => drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: no golden data {part}\n"),
        )),
    }
    found
}

/// Whether a program can be run here; says so visibly when not.
pub fn program(name: &str) -> bool {
    let there = Command::new(name)
        .arg("--help")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !there {
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: {name} is not on the PATH\n"),
        ));
    }
    there
}
