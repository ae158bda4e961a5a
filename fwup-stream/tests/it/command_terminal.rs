//! What an archive's texts can do to a terminal: nothing. Scripts get the bytes of fwup.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::apply_support::archive;
use nerves_hub_link_printable::is_hidden;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A line break that forges a line, an escape sequence, C1, DEL, a bidirectional override and a line separator.
const WORDS: &str = "1.0\nfwup: forged\r\u{1b}[2J\u{9b}1m\u{7f}\u{202e}\u{2028}end";

fn firmware(folder: &Path) {
    let manifest = format!(
        "meta-product=\"{WORDS}\"\nmeta-version=\"{WORDS}\"\ntask \"t\" {{\non-init {{\nfunlist={{2,info,\"{WORDS}\"}}\n}}\n}}\n\
         task \"bad\" {{\non-init {{\nfunlist={{2,error,\"{WORDS}\"}}\n}}\n}}\n"
    );
    std::fs::write(folder.join("a.fw"), archive(&manifest, &[])).unwrap();
}

/// Runs the command with a terminal on standard output and standard error; returns what the terminal gets.
fn on_terminal(folder: &Path, arguments: &[&str]) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave: OwnedFd = OpenOptions::new().read(true).write(true).open(name).unwrap().into();
    let mut child = Command::new(env!("CARGO_BIN_EXE_fwup-stream"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave)
        .spawn()
        .unwrap();
    let (mut shown, mut master) = (Vec::new(), std::fs::File::from(master));
    let mut buffer = [0; 4096];
    // The terminal ends with an error once the command is gone.
    while let Ok(read @ 1..) = master.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..read]);
    }
    child.wait().unwrap();
    // The terminal itself turns a line end into two characters.
    String::from_utf8(shown).unwrap().replace("\r\n", "\n")
}

fn raw(folder: &Path, arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_fwup-stream")).args(arguments).current_dir(folder).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_terminal_gets_no_control_character_of_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    firmware(folder.path());
    std::fs::write(folder.path().join("bad.conf"), format!("meta-product = \"x\"\n{WORDS} = \n")).unwrap();
    let escaped = nerves_hub_link_printable::escape(WORDS);
    for (arguments, lines, scripts_read_it) in [
        (&["-m", "-i", "a.fw"][..], 5, true),
        (&["-m", "--metadata-key", "meta-version", "-i", "a.fw"], 1, true),
        (&["-a", "-q", "-d", "out.img", "-i", "a.fw", "-t", "t"], 1, true),
        (&["-a", "-q", "-d", "out.img", "-i", "a.fw", "-t", "bad"], 1, true),
        (&["-a", "-q", "-d", "out.img", "-i", "a.fw", "-t", WORDS], 1, true),
        (&["-m", "-i", WORDS], 1, true),
        (&["-c", "-f", "bad.conf", "-o", "new.fw"], 2, false),
    ] {
        let shown = on_terminal(folder.path(), arguments);
        assert!(!shown.replace('\n', "").contains(is_hidden), "{arguments:?}: {shown:?}");
        assert_eq!(shown.lines().count(), lines, "{arguments:?}: {shown:?}");
        if scripts_read_it {
            assert!(shown.contains(&*escaped), "{arguments:?}: {shown:?}");
            assert!(raw(folder.path(), arguments).contains(WORDS), "{arguments:?}");
        }
    }
}
