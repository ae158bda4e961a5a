//! What the command says: who it is, and what a person needs to know when it refuses.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::apply_support::{archive, data, resource};
use crate::tool_support::say;

/// Runs the command under a name; returns exit status, standard output and standard error.
fn run(name: &str, folder: &Path, arguments: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fwup-stream"));
    command.arg0(name).args(arguments).current_dir(folder);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn told(folder: &Path, arguments: &[&str]) -> String {
    let (exit, out, _) = run("fwup-stream", folder, arguments, b"");
    assert_eq!(exit, Some(1), "{arguments:?}: {out}");
    out
}

#[test]
fn the_version_begins_with_fwups_and_names_this_program() {
    let here = std::env::temp_dir();
    let version = |name: &str| run(name, &here, &["--version"], b"").1;
    let own = version("/usr/bin/fwup-stream");
    let lines: Vec<_> = own.lines().collect();
    assert_eq!((lines[0], lines.len()), ("1.16.0", 2));
    assert!(lines[1].starts_with(concat!("fwup-stream ", env!("CARGO_PKG_VERSION"))), "{own}");
    // Who starts `fwup` takes all it prints for a version.
    assert_eq!((version("fwup"), version("/usr/bin/fwup")), ("1.16.0\n".to_owned(), "1.16.0\n".to_owned()));
}

#[test]
fn help_sends_reports_to_this_project() {
    let here = std::env::temp_dir();
    let reports = "Report bugs to whoever gave you fwup-stream, not to the authors of fwup.";
    for arguments in [&["--help"][..], &["-h"], &["--nosuch"], &[]] {
        let (_, own, _) = run("fwup-stream", &here, arguments, b"");
        assert!(own.contains(reports) && !own.contains("github.com/fwup-home"), "{arguments:?}: {own}");
        let (_, as_fwup, _) = run("fwup", &here, arguments, b"");
        assert!(as_fwup.starts_with("fwup is a self-contained utility") && !as_fwup.contains(reports));
    }
}

#[test]
fn the_man_page_can_be_shown() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/fwup-stream.1");
    let page = page.to_str().unwrap();
    let ways: [(&str, &[&str]); 2] =
        [("mandoc", &["-T", "lint", "-W", "error"]), ("man", &["--warnings", "-l"])];
    for (program, arguments) in ways {
        let Ok(output) = Command::new(program).args(arguments).arg(page).stdin(Stdio::null()).output() else {
            say(&format!("SKIPPED: the man page was not checked with {program}, which is not here"));
            continue;
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{program}: {said}");
    }
}

#[test]
fn framed_input_that_ends_at_once_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["-a", "-F", "-q", "-d", "out.img", "-t", "t"][..], &["-m", "-F"], &["-l", "-F"]] {
        for input in [&b""[..], b"\0", b"\0\0\x10"] {
            let (exit, out, _) = run("fwup-stream", folder.path(), arguments, input);
            assert!(exit == Some(1) && out.contains("ER\0\0"), "{out}");
            assert!(
                out.contains("Error reading stdin: it ended before the first byte"),
                "{arguments:?}: {out}"
            );
        }
    }
}

#[test]
fn signing_what_is_not_there_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    assert_eq!(run("fwup-stream", at, &["-g"], b"").0, Some(0));
    let sign = |from: &str| told(at, &["-S", "-s", "fwup-key.priv", "-i", from, "-o", "x.fw"]);
    assert_eq!(sign("nosuch.fw"), "fwup: Failed to open 'nosuch.fw': No such file or directory\n");
    std::fs::create_dir(at.join("folder")).unwrap();
    assert!(sign("folder").starts_with("fwup: Error reading 'folder': "), "{}", sign("folder"));
    assert!(!at.join("x.fw").exists());
}

#[test]
fn a_destination_without_room_is_told_with_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let image = data(1, 1000);
    let manifest =
        resource("x", &image) + "task \"t\" {\non-resource \"x\" {\nfunlist={2,raw_write,0}\n}\n}\n";
    std::fs::write(folder.path().join("a.fw"), archive(&manifest, &[("x", &image)])).unwrap();
    let text =
        told(folder.path(), &["-a", "-q", "-d", "out.img", "-i", "a.fw", "-t", "t", "--max-size", "1"]);
    assert_eq!(
        text,
        "fwup: write failed at offset 0. Check media size: what is written ends at byte 1024, the destination at \
         byte 512 (its own size, or the limit it was given, as by --max-size).\n"
    );
}

#[test]
fn a_function_without_arguments_says_what_it_requires() {
    let folder = tempfile::tempdir().unwrap();
    for (function, needs) in [
        ("raw_memset", "a block offset, count, and value"),
        ("mbr_write", "an mbr reference"),
        ("uboot_setenv", "a uboot-environment reference, variable name and value"),
        ("fat_cp", "either 3 or 4 arguments"),
    ] {
        let manifest = format!("task \"t\" {{\non-init {{\nfunlist={{1,{function}}}\n}}\n}}\n");
        std::fs::write(folder.path().join("a.fw"), archive(&manifest, &[])).unwrap();
        let text = told(folder.path(), &["-a", "-q", "-d", "out.img", "-i", "a.fw", "-t", "t"]);
        assert!(text.starts_with(&format!("fwup: {function} requires {needs}, but")), "{text}");
    }
}

/// Makes "an apple a day is fine" of "an apple a day keeps the doctor away", in one window.
const DELTA: [u8; 25] = [
    0xd6, 0xc3, 0xc4, 0, 0, 1, 36, 0, 16, 22, 0, 7, 3, 1, b'i', b's', b' ', b'f', b'i', b'n', b'e', 19, 15,
    8, 0,
];

#[test]
fn archives_whose_deltas_are_broken_are_not_valid() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, delta: &[u8], result: &[u8]| {
        let path = folder.path().join("a.fw");
        std::fs::write(path, archive(&resource("r", result), &[("r", delta)])).unwrap();
        run(name, folder.path(), &["-V", "-i", "a.fw"], b"")
    };
    let fine = b"an apple a day is fine";
    let valid = "Valid archive without a signature\n";
    let (exit, out, err) = check("fwup-stream", &DELTA, fine);
    assert_eq!((exit, out.as_str(), err.as_str()), (Some(0), valid, ""));
    let mut broken = vec![(DELTA.to_vec(), &fine[..21], "makes 22 bytes, but only 21")];
    // Cut anywhere but where a window ends, and so with nothing in it at all.
    for end in (0..DELTA.len()).filter(|end| *end != fine.len()) {
        broken.push((DELTA[..end].to_vec(), &fine[..], ""));
    }
    for (at, byte, why) in [
        (5, 0x40, "window"),
        (9, 23, "makes 23 bytes, but only 22"),
        (9, 21, "overflows"),
        (11, 6, ""),
        (11, 8, ""),
        (23, 0x24, ""),
        (24, 60, "address"),
    ] {
        let mut delta = DELTA.to_vec();
        delta[at] = byte;
        broken.push((delta, &fine[..], why));
    }
    broken.push(([&DELTA[..], b"x"].concat(), &fine[..], ""));
    // A checksum of what takes nothing from the source can be told to be wrong: one that does cannot.
    let alone = [0xd6, 0xc3, 0xc4, 0, 0, 4, 13, 3, 0, 3, 1, 0, 2, 0x4d, 1, 0x27, b'a', b'b', b'c', 4];
    let (exit, out, _) = check("fwup-stream", &alone, b"abc");
    assert_eq!((exit, out.as_str()), (Some(0), valid));
    let mut wrong = alone;
    wrong[15] ^= 1;
    broken.push((wrong.to_vec(), &b"abc"[..], "checksum"));
    for (delta, result, why) in broken {
        let (exit, out, _) = check("fwup-stream", &delta, result);
        assert_eq!(exit, Some(1), "{delta:x?}: {out}");
        assert!(
            out.starts_with("fwup: xdelta3 error: ") && out.contains(why),
            "{delta:x?}: {out}, not {why}"
        );
        // Called as fwup it takes what fwup takes, and says so.
        let (exit, out, err) = check("fwup", &delta, result);
        if exit == Some(0) {
            assert!(out == valid && err.contains("fwup takes such an archive for valid"), "{out} {err}");
        }
    }
}
