//! Replaying the recorded runs of fwup through the built command.

pub mod image;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The command under test.
pub const COMMAND: &str = env!("CARGO_BIN_EXE_fwup-stream");

/// Says something past the test harness, which hides the output of tests that pass.
pub fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// The folder of the golden cases: the shared one, else the selection that comes with the project.
pub fn folder() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    ["../shared/golden/fw", "testkit/golden/fw"]
        .iter()
        .map(|place| root.join(place))
        .find(|path| path.is_dir())
}

/// Why a run of the selection that comes with the project is not replayed.
const NOT_HERE: &str = "its files are not in this selection";

/// A golden case, with a working copy of its files.
pub struct Case {
    pub name: String,
    pub expected: Value,
    place: PathBuf,
    work: tempfile::TempDir,
    /// Destinations as earlier runs left them.
    results: BTreeMap<String, Vec<u8>>,
}

/// What a run printed and how it ended.
pub struct Outcome {
    pub exit: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Case {
    /// Takes a working copy of a case; nothing when it is not in the folder.
    pub fn open(folder: &Path, name: &str) -> Option<Self> {
        let place = folder.join(name);
        let expected = serde_json::from_slice(&fs::read(place.join("expected.json")).ok()?).unwrap();
        let work = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(&place).unwrap() {
            let entry = entry.unwrap();
            let bytes = fs::read(entry.path()).unwrap();
            let name = entry.file_name().into_string().unwrap();
            if let Some(image) = name.strip_suffix(".zst") {
                if !name.starts_with("after-") {
                    fs::write(work.path().join(image), image::unpack(&bytes)).unwrap();
                }
            } else {
                fs::write(work.path().join(name), bytes).unwrap();
            }
        }
        Some(Self { name: name.to_owned(), expected, place, work, results: BTreeMap::new() })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Puts everything in place for a run; an error says what is missing.
    pub fn prepare(&self, run: &Value) -> Result<Vec<u8>, String> {
        let cut = |from: &str, to: &str, length: usize| {
            let bytes = fs::read(self.path(from)).map_err(|_| NOT_HERE.to_owned())?;
            fs::write(self.path(to), &bytes[..length.min(bytes.len())]).unwrap();
            Ok::<_, String>(bytes.len())
        };
        let argv = strings(&run["argv"]);
        if let Some(at) = run["cut_at"].as_u64() {
            cut("signed.fw", "cut.fw", usize::try_from(at).unwrap())?;
        } else if self.name == "ab-upgrade" && argv.iter().any(|word| word == "cut.fw") {
            let length = cut("input.fw", "cut.fw", usize::MAX)?;
            cut("input.fw", "cut.fw", length * 3 / 4)?;
        }
        self.make_odd_archives(&argv);
        let recorded_as_missing = ["nofile.fw", "other.fw", "nosuch.pub"];
        let is_stored = |word: &&String| {
            let end = Path::new(word).extension().and_then(|end| end.to_str()).unwrap_or_default();
            ["fw", "pub", "priv"].contains(&end) && !recorded_as_missing.contains(&word.as_str())
        };
        if argv.iter().filter(is_stored).any(|word| !self.path(word).exists()) {
            return Err(NOT_HERE.to_owned());
        }
        if argv.iter().any(|word| word == "ro.img") {
            fs::write(self.path("ro.img"), "").unwrap();
            let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o444);
            fs::set_permissions(self.path("ro.img"), read_only).unwrap();
        }
        if argv.iter().any(|word| word == "ubi") {
            fs::write(self.path("target.bin"), "x".repeat(10)).unwrap();
        }
        for name in run["other_files"].as_object().into_iter().flat_map(|files| files.keys()) {
            let _ = fs::remove_file(self.path(name));
        }
        self.place_destination(&run["before"])?;
        self.stdin(run)
    }

    /// Archives with garbage around them are not stored; the records say how they were made.
    fn make_odd_archives(&self, argv: &[String]) {
        let Ok(signed) = fs::read(self.path("signed.fw")) else { return };
        if self.name == "truncated" {
            fs::write(self.path("tail.fw"), [signed.as_slice(), &vec![0; 100_000]].concat()).unwrap();
            fs::write(self.path("head.fw"), [b"#!/bin/sh\n".as_slice(), &signed].concat()).unwrap();
            if argv.iter().any(|word| word == "notzip.fw") {
                fs::write(self.path("notzip.fw"), "this is no archive at all\n".repeat(100)).unwrap();
            }
        }
    }

    fn place_destination(&self, before: &Value) -> Result<(), String> {
        let path = self.path("out.img");
        if before.is_string() {
            // It goes on with what the run before it left.
            return Ok(());
        }
        let _ = fs::remove_file(&path);
        if let Some(byte) = before["every_byte"].as_u64() {
            let size = usize::try_from(before["size"].as_u64().unwrap()).unwrap();
            fs::write(path, vec![u8::try_from(byte).unwrap(); size]).unwrap();
        } else if let Some(file) = before["file"].as_str() {
            let file = file.trim_end_matches(".zst");
            fs::copy(self.path(file), path).map_err(|_| NOT_HERE.to_owned())?;
        } else if let Some(earlier) = before["result_of_run"].as_str() {
            let image =
                self.results.get(earlier).ok_or_else(|| "the run before it was skipped".to_owned())?;
            fs::write(path, image).unwrap();
        }
        Ok(())
    }

    fn stdin(&self, run: &Value) -> Result<Vec<u8>, String> {
        let stdin = &run["stdin"];
        if let Some(hex) = stdin["hex"].as_str() {
            let digits: Vec<u8> =
                hex.chars().map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap()).collect();
            return Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect());
        }
        let Some(file) = stdin["file"].as_str() else { return Ok(Vec::new()) };
        if file == "head.bin" {
            // The first bytes of the archive, up to 40 into the second entry.
            let at = self.expected["archives"]["input.fw"]["entries"][1]["local_header_at"].as_u64().unwrap();
            let bytes = fs::read(self.path("input.fw")).unwrap();
            return Ok(bytes[..usize::try_from(at).unwrap() + 40].to_vec());
        }
        let bytes = fs::read(self.path(file)).map_err(|_| NOT_HERE.to_owned())?;
        let Some(size) = stdin["framed_in_chunks_of"].as_u64() else { return Ok(bytes) };
        let mut framed = Vec::new();
        for chunk in bytes.chunks(usize::try_from(size).unwrap()) {
            framed.extend(u32::try_from(chunk.len()).unwrap().to_be_bytes());
            framed.extend(chunk);
        }
        framed.extend([0; 4]);
        Ok(framed)
    }

    /// Runs the command as recorded.
    pub fn execute(&self, run: &Value, stdin: Vec<u8>) -> Outcome {
        let mut command = Command::new(COMMAND);
        // The name in messages that the C library would print.
        std::os::unix::process::CommandExt::arg0(&mut command, "fwup");
        command.args(strings(&run["argv"])).current_dir(self.work.path()).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").env("HOME", "/nonexistent");
        for (name, value) in run["env"].as_object().into_iter().flatten() {
            command.env(name, value.as_str().unwrap());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // The command may stop reading early, as fwup does.
        let feeder = std::thread::spawn(move || drop(pipe.write_all(&stdin)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        Outcome { exit: output.status.code(), stdout: output.stdout, stderr: output.stderr }
    }

    /// Compares with what was recorded; what differs, in words.
    pub fn compare(&mut self, run: &Value, outcome: &Outcome) -> Vec<String> {
        let mut wrong = Vec::new();
        let exit = run["exit"].as_i64().unwrap();
        // A signal killed fwup: an error is as good.
        let as_good = exit < 0 && outcome.exit != Some(0);
        if outcome.exit.map(i64::from) != Some(exit) && !as_good {
            wrong.push(format!("exit {:?}, recorded {exit}", outcome.exit));
        }
        if exit >= 0 {
            wrong.extend(compare_output(run, &outcome.stdout, EXACT_PROGRESS.contains(&self.name.as_str())));
        }
        let stderr = String::from_utf8_lossy(&outcome.stderr);
        if let Some(recorded) = run["stderr"].as_str().filter(|recorded| exit >= 0 && stderr != **recorded) {
            wrong.push(format!("stderr {stderr:?}, recorded {recorded:?}"));
        }
        let destination = &run["destination"]["out.img"];
        let path = self.path("out.img");
        if destination.is_object() && exit >= 0 {
            wrong.extend(image::compare(&path, destination));
            let is_small = fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= 64 << 20);
            if let Some(mut image) = is_small.then(|| fs::read(&path).ok()).flatten() {
                // What fwup left in the slack is there for the runs after it.
                let stored =
                    destination["stored_as"].as_str().filter(|_| destination["fat_slack"].is_array());
                if let Some(packed) = stored.and_then(|name| fs::read(self.place.join(name)).ok()) {
                    image = image::unpack(&packed);
                }
                self.results.insert(run["name"].as_str().unwrap().to_owned(), image);
            }
        } else if destination == "does not exist" && path.exists() {
            wrong.push("the destination was created".to_owned());
        }
        for (name, file) in run["other_files"].as_object().into_iter().flatten() {
            let there = fs::read(self.path(name)).ok();
            match file["sha256"].as_str().filter(|_| exit >= 0) {
                Some(sha) if there.as_deref().map(image::sha256).as_deref() != Some(sha) => {
                    wrong.push(format!("{name} differs"));
                }
                None if !file.is_object() && there.is_some() => wrong.push(format!("{name} exists")),
                _ => {}
            }
        }
        wrong
    }
}

/// The words of a JSON list.
pub fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// Texts that come from the ZIP or delta library, or are a race in fwup: any error text will do.
const LIBRARY_TEXTS: [&str; 8] = [
    "Truncated ZIP",
    "ZIP decompression",
    "ZIP bad CRC",
    "ZIP uncompressed",
    "xdelta3 error",
    "write failed at offset",
    "Corrupt archive",
    " bytes failed at offset",
];

fn is_library_text(text: &str) -> bool {
    LIBRARY_TEXTS.iter().any(|part| text.contains(part))
}

/// Cases whose steps do not depend on the size of the pieces: there every step is compared, and so the weights of
/// the functions are.
const EXACT_PROGRESS: [&str; 3] = ["progress", "trim", "events-order"];

fn compare_output(run: &Value, stdout: &[u8], every_step: bool) -> Vec<String> {
    if run["stdout_frames"].is_array() {
        return compare_frames(run, stdout, every_step);
    }
    if let Some(hex) = run["stdout_hex"].as_str() {
        let got = fwup_stream::trust::to_hex(stdout);
        return if got == hex { Vec::new() } else { vec![format!("stdout {got}, recorded {hex}")] };
    }
    let Some(recorded) = run["stdout"].as_str() else { return Vec::new() };
    let numeric = !every_step && strings(&run["argv"]).iter().any(|word| word == "-n");
    let got = without_progress(&String::from_utf8_lossy(stdout), numeric);
    let want = without_progress(recorded, numeric);
    // Long texts are recorded shortened.
    if let Some((begin, _)) = want.split_once("...(").filter(|(begin, _)| got.starts_with(begin.trim_end())) {
        return if begin.is_empty() { vec!["the record says nothing".to_owned()] } else { Vec::new() };
    }
    let library = is_library_text(&want) && !got.is_empty();
    if got == want || library { Vec::new() } else { vec![format!("stdout {got:?}, recorded {want:?}")] }
}

fn compare_frames(run: &Value, stdout: &[u8], every_step: bool) -> Vec<String> {
    let frame = |frame: &Value| {
        let text = |key: &str| frame[key].as_str().unwrap().to_owned();
        (text("type"), frame["code"].as_u64().unwrap(), text("text"))
    };
    let want: Vec<_> = run["stdout_frames"].as_array().unwrap().iter().map(frame).collect();
    let (got, rest) = frames(stdout);
    let is_progress = |frame: &&(String, u64, String)| frame.0 == "PR";
    let values =
        |all: &[(String, u64, String)]| all.iter().filter(is_progress).map(|f| f.1).collect::<Vec<_>>();
    let others =
        |all: &[(String, u64, String)]| all.iter().filter(|f| !is_progress(f)).cloned().collect::<Vec<_>>();
    let mut wrong = Vec::new();
    let (mine, theirs) = (values(&got), values(&want));
    let rises = mine.windows(2).all(|pair| pair[0] < pair[1]);
    let ends = run["exit"] != 0 || mine.last() == theirs.last();
    if !rises || mine.first() != theirs.first() || !ends || every_step && mine != theirs {
        wrong.push(format!("progress {mine:?}, recorded {theirs:?}"));
    }
    let (got, want) = (others(&got), others(&want));
    if got != want && !is_library_text(&format!("{want:?}")) {
        wrong.push(format!("frames {got:?}, recorded {want:?}"));
    }
    let rest = fwup_stream::trust::to_hex(rest);
    if rest != run["stdout_rest_hex"].as_str().unwrap_or_default() {
        wrong.push(format!("after the frames {rest}"));
    }
    wrong
}

/// Takes frames apart; what is left over comes back too.
fn frames(mut bytes: &[u8]) -> (Vec<(String, u64, String)>, &[u8]) {
    let mut all = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if length < 4 || rest.len() < length {
            break;
        }
        let code = u16::from_be_bytes([rest[2], rest[3]]);
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        all.push((text(&rest[..2]), u64::from(code), text(&rest[4..length])));
        bytes = &rest[length..];
    }
    (all, bytes)
}

/// Leaves out what may differ: how many steps of progress appear, amounts in the bar, the time taken.
fn without_progress(text: &str, numeric: bool) -> String {
    let mut kept = String::new();
    for piece in text.split_inclusive('\n') {
        let line = piece.trim_end_matches('\n');
        if numeric && !line.is_empty() && line.chars().all(|c| c.is_ascii_digit()) {
            continue;
        }
        if line.starts_with("Elapsed time: ") {
            kept.push_str("Elapsed time\n");
            continue;
        }
        // A bar begins with a carriage return and a percentage; a cleared line with an escape.
        for (number, part) in piece.split('\r').enumerate() {
            let is_bar = part
                .trim_start()
                .split_once("% [")
                .is_some_and(|(percent, _)| percent.parse::<u32>().is_ok());
            match (number, is_bar) {
                (_, true) if part.ends_with('\n') => kept.push('\n'),
                (_, true) => {}
                (0, false) => kept.push_str(part),
                (_, false) => {
                    kept.push('\r');
                    kept.push_str(part);
                }
            }
        }
    }
    kept
}
