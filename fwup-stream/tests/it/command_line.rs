//! The command: what it refuses, and how it says so.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::apply_support::{archive, data, device, resource};

fn fwup(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fwup-stream"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap())
}

#[test]
fn a_destination_that_is_too_small_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let image = data(1, 300_000);
    let manifest =
        resource("x", &image) + "task \"t\" {\non-resource \"x\" {\nfunlist={2,raw_write,0}\n}\n}\n";
    std::fs::write(folder.path().join("a.fw"), archive(&manifest, &[("x", &image)])).unwrap();
    let limited = ["-a", "-q", "-d", "out.img", "-i", "a.fw", "-t", "t", "--max-size", "512"];
    let (exit, text) = text(&fwup(folder.path(), &limited));
    let begin = "fwup: write failed at offset 262144. Check media size: ";
    assert!(exit == Some(1) && text.starts_with(begin) && text.contains("byte 262144 ("), "{text}");
}

#[test]
fn a_negative_size_of_the_destination_is_no_size() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.fw"), device(1)).unwrap();
    for size in ["-1", " -512", "-0x10"] {
        let arguments = ["-a", "-q", "-d", "out.img", "-i", "a.fw", "-t", "complete", "--max-size", size];
        let (exit, text) = text(&fwup(folder.path(), &arguments));
        assert_eq!(exit, Some(1), "{text}");
        assert!(
            text.contains(&format!(
                "--max-size takes a number of 512-byte blocks, 0 for no limit, and not '{size}'"
            )),
            "{text}"
        );
        assert!(!folder.path().join("out.img").exists(), "nothing was written");
    }
}

/// Also when nobody is at its other end.
#[test]
fn a_pipe_is_no_destination() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.fw"), device(1)).unwrap();
    assert!(Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap().success());
    let arguments = ["-a", "-q", "-d", "pipe", "-i", "a.fw", "-t", "complete"];
    let (exit, text) = text(&fwup(folder.path(), &arguments));
    assert_eq!(exit, Some(1));
    assert!(text.starts_with("fwup: Error determining the size of pipe\nfwup: "), "{text}");
}

#[test]
fn a_variable_reaches_the_manifest_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "task \"t\" {\non-init {\nfunlist={2,info,\"hello ${WHO:-nobody}\"}\n}\n}\n";
    std::fs::write(folder.path().join("a.fw"), archive(manifest, &[])).unwrap();
    let arguments = ["-a", "-q", "-d", "out.img", "-i", "a.fw", "-t", "t"];
    assert_eq!(text(&fwup(folder.path(), &arguments)), (Some(0), "fwup: hello nobody\n".to_owned()));
    let output = Command::new(env!("CARGO_BIN_EXE_fwup-stream"))
        .args(arguments)
        .current_dir(folder.path())
        .env("WHO", "Ada")
        .output()
        .unwrap();
    assert_eq!(text(&output), (Some(0), "fwup: hello Ada\n".to_owned()));
}

#[test]
fn a_framed_stream_that_breaks_off_is_an_error() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let firmware = device(1);
    let mut child = Command::new(env!("CARGO_BIN_EXE_fwup-stream"))
        .args(["-a", "-F", "-q", "-d", "out.img", "-t", "complete"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&u32::try_from(firmware.len()).unwrap().to_be_bytes()).unwrap();
    pipe.write_all(&firmware[..firmware.len() - 1000]).unwrap();
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(&output.stdout[4..6], b"ER");
}

#[test]
fn making_an_archive_prints_nothing_and_no_frame_either() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.conf"), "meta-product = \"Lamp\"\n").unwrap();
    for more in [&[][..], &["-F"]] {
        let arguments = [&["-c", "-f", "a.conf", "-o", "a.fw"], more].concat();
        assert_eq!(text(&fwup(folder.path(), &arguments)), (Some(0), String::new()), "{more:?}");
        let arguments = [&["-c", "-f", "none.conf", "-o", "a.fw"], more].concat();
        let (exit, told) = text(&fwup(folder.path(), &arguments));
        assert_eq!((exit, told.contains("configuration file 'none.conf'")), (Some(1), true), "{more:?}");
    }
}

#[test]
fn an_archive_from_a_pipe_is_signed() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.conf"), "meta-product = \"Lamp\"\n").unwrap();
    assert!(fwup(folder.path(), &["-c", "-f", "a.conf", "-o", "a.fw"]).status.success());
    assert!(fwup(folder.path(), &["-g"]).status.success());
    let mut child = Command::new(env!("CARGO_BIN_EXE_fwup-stream"))
        .args(["-S", "-s", "fwup-key.priv", "-i", "/dev/stdin", "-o", "b.fw"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&std::fs::read(folder.path().join("a.fw")).unwrap()).unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap()), (Some(0), String::new()));
    let (_, told) = text(&fwup(folder.path(), &["-V", "-p", "fwup-key.pub", "-i", "b.fw"]));
    assert_eq!(told, "Valid archive with a good signature\n");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5);
}

#[test]
fn the_archive_is_not_taken_for_the_destination() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.fw"), device(1)).unwrap();
    std::os::unix::fs::symlink("a.fw", folder.path().join("link.fw")).unwrap();
    for (archive, disk) in [("a.fw", "a.fw"), ("a.fw", "./link.fw"), ("link.fw", "a.fw")] {
        let arguments = ["-a", "-q", "-d", disk, "-i", archive, "-t", "complete"];
        let (exit, told) = text(&fwup(folder.path(), &arguments));
        assert!(exit == Some(1) && told.contains("is the archive itself"), "{told}");
    }
    assert!(std::fs::read(folder.path().join("a.fw")).unwrap() == device(1));
}

#[test]
fn looking_for_holes_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("there"), "precious").unwrap();
    for name in ["there", "new"] {
        let (exit, told) = text(&fwup(folder.path(), &["--sparse-check", name]));
        // As the file system under it is.
        assert!((exit == Some(0)) == (told == "Sparse files supported\n"), "{told}");
    }
    assert_eq!(std::fs::read(folder.path().join("there")).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let (exit, told) = text(&fwup(folder.path(), &["--sparse-check", "/dev/null"]));
    assert_eq!((exit, told.as_str()), (Some(1), "fwup: Couldn't create sparse test file: /dev/null\n"));
}

/// Whatever the name under which the signed archive takes the place of the other.
#[test]
fn signing_through_a_link_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.conf"), "meta-product = \"Lamp\"\n").unwrap();
    assert!(fwup(folder.path(), &["-g"]).status.success());
    let make = || assert!(fwup(folder.path(), &["-c", "-f", "a.conf", "-o", "a.fw"]).status.success());
    std::os::unix::fs::symlink("a.fw", folder.path().join("link.fw")).unwrap();
    for (from, to) in [("link.fw", "link.fw"), ("a.fw", "link.fw"), ("link.fw", "a.fw")] {
        make();
        let output = fwup(folder.path(), &["-S", "-s", "fwup-key.priv", "-i", from, "-o", to]);
        assert_eq!(text(&output), (Some(0), String::new()), "{from} {to}");
        let (_, told) = text(&fwup(folder.path(), &["-V", "-p", "fwup-key.pub", "-i", "a.fw"]));
        assert_eq!(told, "Valid archive with a good signature\n", "{from} {to}");
        assert!(folder.path().join("link.fw").is_symlink());
    }
    // A name of the system for the open file, which cannot be given to another.
    make();
    let archive = std::fs::read(folder.path().join("a.fw")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_fwup-stream"))
        .args(["-S", "-s", "fwup-key.priv", "-i", "a.fw", "-o", "/proc/self/fd/0"])
        .current_dir(folder.path())
        .stdin(std::fs::File::open(folder.path().join("a.fw")).unwrap())
        .output()
        .unwrap();
    let (exit, told) = text(&output);
    assert!(exit == Some(1) && told.contains("cannot be replaced"), "{told}");
    assert_eq!(std::fs::read(folder.path().join("a.fw")).unwrap(), archive);
}

/// The update goes on when nobody reads what is told.
#[test]
fn nobody_need_listen() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.fw"), device(1)).unwrap();
    let apply = |image: &str, out: Stdio| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fwup-stream"))
            .args(["-a", "-n", "-d", image, "-i", "a.fw", "-t", "complete"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(out)
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        assert!(child.wait().unwrap().success());
        std::fs::read(folder.path().join(image)).unwrap()
    };
    assert!(apply("heard", Stdio::null()) == apply("unheard", Stdio::piped()));
}

#[test]
fn a_folder_is_no_archive() {
    let folder = tempfile::tempdir().unwrap();
    for command in [&["-V"][..], &["-m"], &["-l"], &["-a", "-q", "-d", "out.img", "-t", "t"]] {
        let (exit, told) = text(&fwup(folder.path(), &[command, &["-i", "."]].concat()));
        let want = "fwup: reading the archive from . failed: Is a directory\n";
        assert_eq!((exit, told.as_str()), (Some(1), want), "{command:?}");
    }
}

#[test]
fn an_event_that_does_not_exist_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let manifest =
        "task \"t\" {\non-reboot {\nfunlist={2,error,no}\n}\non-init {\nfunlist={2,info,yes}\n}\n}\n";
    std::fs::write(folder.path().join("a.fw"), archive(manifest, &[])).unwrap();
    let arguments = ["-a", "-q", "-d", "out.img", "-i", "a.fw", "-t", "t"];
    assert_eq!(text(&fwup(folder.path(), &arguments)), (Some(0), "fwup: yes\n".to_owned()));
}

#[test]
fn an_offset_no_file_can_have_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for block in ["18014398509481984", "36028797018963967", "36028797018963968"] {
        let manifest = resource("x", b"data")
            + &format!("task \"t\" {{\non-resource \"x\" {{\nfunlist={{2,raw_write,{block}}}\n}}\n}}\n");
        std::fs::write(folder.path().join("a.fw"), archive(&manifest, &[("x", b"data")])).unwrap();
        let arguments = ["-a", "-q", "-d", "out.img", "-i", "a.fw", "-t", "t"];
        let (exit, text) = text(&fwup(folder.path(), &arguments));
        assert_eq!(exit, Some(1), "{block}: {text}");
        assert!(text.starts_with("fwup: "), "{block}: {text}");
        assert_eq!(std::fs::metadata(folder.path().join("out.img")).unwrap().len(), 0);
    }
}

#[test]
fn the_memory_cards_of_this_machine_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let output = fwup(folder.path(), &["-D"]);
    let (exit, lines) = text(&output);
    assert_eq!(exit, Some(0));
    for line in lines.lines() {
        let (path, bytes) = line.split_once(',').unwrap();
        assert!(path.starts_with("/dev/") && bytes.parse::<u64>().unwrap() >= 1 << 20, "{line}");
    }
    // Without exactly one, there is none to write to.
    let one = lines.lines().count() == 1;
    assert_eq!(fwup(folder.path(), &["-z"]).status.success(), one);
    std::fs::write(folder.path().join("a.fw"), device(1)).unwrap();
    if !one {
        let (exit, text) = text(&fwup(folder.path(), &["a.fw"]));
        assert_eq!(exit, Some(1));
        assert!(text.contains("emory cards found"), "{text}");
    }
}

#[test]
fn the_write_options_change_nothing_in_the_image() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.fw"), device(1)).unwrap();
    let apply = |image: &str, more: &[&str]| {
        let arguments = [&["-a", "-q", "-d", image, "-i", "a.fw", "-t", "complete"], more].concat();
        assert_eq!(text(&fwup(folder.path(), &arguments)), (Some(0), String::new()), "{more:?}");
        std::fs::read(folder.path().join(image)).unwrap()
    };
    let plain = apply("plain", &[]);
    for more in [
        ["--verify-writes", "--minimize-writes"],
        ["--no-verify-writes", "--no-minimize-writes"],
        ["--minimize-writes", "--no-minimize-writes"],
        ["--verify-writes", "--no-verify-writes"],
    ] {
        assert!(apply("image", &more) == plain, "{more:?}");
    }
}

#[test]
fn old_options_are_read_and_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = resource("x", b"data")
        + "task \"t\" {\nrequire-unmounted-destination=true\nverify-on-the-fly=true\n\
           on-resource \"x\" {\nverify-on-the-fly=true\nfunlist={2,raw_write,0}\n}\n}\n";
    std::fs::write(folder.path().join("a.fw"), archive(&manifest, &[("x", b"data")])).unwrap();
    let arguments = ["-a", "-q", "-d", "out.img", "-i", "a.fw", "-t", "t"];
    assert_eq!(text(&fwup(folder.path(), &arguments)), (Some(0), String::new()));
    assert_eq!(std::fs::read(folder.path().join("out.img")).unwrap()[..4], *b"data");
}
