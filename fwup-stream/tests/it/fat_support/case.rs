//! The golden cases: reading them and playing their runs on `Mounts`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use fwup_stream::action::fat::Mounts;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Disk;

/// Finds the golden cases of the `.fw` format.
pub fn golden() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let found =
        [root.join("../shared/golden/fw"), root.join("testkit/golden/fw")].into_iter().find(|p| p.is_dir());
    match &found {
        Some(path) => println!("golden cases from {}", path.display()),
        None => drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: no golden cases in ../shared/golden/fw or testkit/golden/fw\n"),
        )),
    }
    found
}

/// A golden case: its runs and archives.
pub struct Case {
    folder: PathBuf,
    expected: Value,
}

/// A task as meta.conf has it.
#[derive(Default)]
struct Task {
    name: String,
    requirements: Vec<Vec<String>>,
    on_init: Vec<Vec<String>>,
    on_resource: Vec<(String, Vec<Vec<String>>)>,
    on_finish: Vec<Vec<String>>,
}

/// How a run ended here: the image, what was printed, and an error.
pub struct Outcome {
    pub image: Vec<u8>,
    pub printed: Vec<String>,
    pub error: Option<String>,
}

impl Case {
    /// Reads a case; says so and returns `None` where it is not kept.
    pub fn load(golden: &Path, name: &str) -> Option<Self> {
        let folder = golden.join(name);
        let Ok(text) = std::fs::read_to_string(folder.join("expected.json")) else {
            drop(std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("SKIPPED: {} is not here\n", folder.display()),
            ));
            return None;
        };
        Some(Case { folder, expected: serde_json::from_str(&text).unwrap() })
    }

    /// The runs that apply an archive.
    pub fn runs(&self) -> Vec<&Value> {
        self.expected["runs"].as_array().unwrap().iter().filter(|run| run["argv"][0] == "-a").collect()
    }

    /// The image that a run starts from, or `None` when the destination does not exist.
    fn before(&self, run: &Value) -> Option<Vec<u8>> {
        let before = &run["before"];
        if before.is_null() {
            None
        } else if let Some(file) = before["file"].as_str() {
            Some(self.unpack(file))
        } else if let Some(name) = before["result_of_run"].as_str() {
            let other = self.runs().into_iter().find(|run| run["name"] == name).unwrap();
            Some(self.play(other).image)
        } else {
            let size = usize::try_from(before["size"].as_u64().unwrap()).unwrap();
            Some(vec![u8::try_from(before["every_byte"].as_u64().unwrap()).unwrap(); size])
        }
    }

    pub fn unpack(&self, file: &str) -> Vec<u8> {
        let packed = std::fs::read(self.folder.join(file)).unwrap();
        let mut image = Vec::new();
        ruzstd::decoding::StreamingDecoder::new(&packed[..]).unwrap().read_to_end(&mut image).unwrap();
        image
    }

    /// Plays a run: its functions on FAT file systems, `info` and `error`.
    pub fn play(&self, run: &Value) -> Outcome {
        let argv: Vec<&str> =
            run["argv"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
        let after = |option| argv.iter().position(|arg| *arg == option).map(|at| argv[at + 1]).unwrap();
        let (archive, prefix) = (after("-i"), after("-t"));
        let archive_data = std::fs::read(self.folder.join(archive)).unwrap();
        let entries = self.expected["archives"][archive]["entries"].as_array().unwrap();
        let manifest = entries.iter().find(|entry| entry["name"] == "meta.conf").unwrap();
        let manifest = String::from_utf8(entry_data(&archive_data, manifest)).unwrap();
        let before = self.before(run).unwrap_or_default();
        let mut disk = Disk::new(before.clone());
        let mut mounts = Mounts::new();
        let mut printed = Vec::new();
        let tasks = read_tasks(&manifest);
        let task = tasks
            .iter()
            .filter(|task| task.name.starts_with(prefix))
            .find(|task| task.requirements.iter().all(|call| is_met(&mut mounts, &mut disk, call)))
            .unwrap();
        let mut result: Result<(), String> = Ok(());
        let mut apply =
            |mounts: &mut Mounts, disk: &mut Disk, calls: &[Vec<String>], data: Option<&Resource>| {
                for call in calls {
                    if result.is_ok() {
                        result = run_call(mounts, disk, call, data, &mut printed);
                    }
                }
            };
        apply(&mut mounts, &mut disk, &task.on_init, None);
        let lengths = read_lengths(&manifest);
        for entry in entries {
            let Some(name) = entry["name"].as_str().unwrap().strip_prefix("data/") else { continue };
            if let Some((_, calls)) = task.on_resource.iter().find(|(resource, _)| resource == name) {
                let bytes = entry_data(&archive_data, entry);
                let lengths = lengths.get(name).cloned().unwrap_or_default();
                let resource = Resource { name: name.to_owned(), bytes, lengths, taken: false.into() };
                apply(&mut mounts, &mut disk, calls, Some(&resource));
            }
        }
        mounts.close(&mut disk).unwrap();
        apply(&mut mounts, &mut disk, &task.on_finish, None);
        mounts.close(&mut disk).unwrap();
        match result {
            Ok(()) => Outcome { image: disk.finish(), printed, error: None },
            Err(error) => Outcome { image: before, printed, error: Some(error) },
        }
    }

    /// Plays a run and compares everything with what the reference did; returns what differs.
    pub fn check(&self, run: &Value) -> Result<(), String> {
        let outcome = self.play(run);
        let quiet = run["argv"].as_array().unwrap().iter().any(|arg| arg == "-q");
        let exit = run["exit"].as_i64().unwrap();
        if (exit != 0) != outcome.error.is_some() {
            return Err(format!("exit {exit} expected, error here: {:?}", outcome.error));
        }
        if quiet {
            let mut lines = outcome.printed.clone();
            lines.extend(outcome.error.clone());
            let text = lines.iter().fold(String::new(), |text, line| text + "fwup: " + line + "\n");
            let expected = run["stdout"].as_str().unwrap();
            // How much of a file fits into its last piece depends on the size of the pieces.
            let cut = |text: &str| text.split(", expected ").next().unwrap().to_owned();
            if cut(&text) != cut(expected) {
                return Err(format!("printed {text:?} instead of {expected:?}"));
            }
        }
        let Some(destination) = run["destination"].get("out.img") else { return Ok(()) };
        let mut image = outcome.image;
        let mut expected = destination["sha256"].as_str().unwrap();
        if let Some(slack) = destination["fat_slack"].as_array() {
            for range in slack {
                let start = usize::try_from(range[0].as_u64().unwrap()).unwrap();
                let length = usize::try_from(range[1].as_u64().unwrap()).unwrap();
                image[start..start + length].fill(0);
            }
            expected = destination["sha256_with_fat_slack_zeroed"].as_str().unwrap();
        }
        if sha256(&image) == expected {
            return Ok(());
        }
        Err(format!("image differs: {}", self.differences(&image, destination)))
    }

    fn differences(&self, image: &[u8], destination: &Value) -> String {
        let size = usize::try_from(destination["size"].as_u64().unwrap()).unwrap();
        if image.len() != size {
            return format!("size {} instead of {size}", image.len());
        }
        if let Some(stored) = destination["stored_as"].as_str() {
            let theirs = self.unpack(stored);
            let at: Vec<usize> = (0..image.len()).filter(|at| image[*at] != theirs[*at]).take(16).collect();
            let pairs: Vec<_> =
                at.iter().map(|at| format!("{at:#x}: {:02x}/{:02x}", image[*at], theirs[*at])).collect();
            return pairs.join(" ");
        }
        let extents = destination["nonzero_extents"].as_array().cloned().unwrap_or_default();
        let wrong: Vec<_> = extents
            .iter()
            .filter(|extent| {
                let start = usize::try_from(extent["offset"].as_u64().unwrap()).unwrap();
                let length = usize::try_from(extent["length"].as_u64().unwrap()).unwrap();
                sha256(&image[start..start + length]) != extent["sha256"].as_str().unwrap()
            })
            .map(ToString::to_string)
            .collect();
        wrong.join(" ")
    }
}

/// The data of an archive entry, which can be consumed once.
struct Resource {
    name: String,
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    taken: std::cell::Cell<bool>,
}

fn is_met(mounts: &mut Mounts, disk: &mut Disk, call: &[String]) -> bool {
    let block = |at: usize| call[at].parse().unwrap();
    match call[0].as_str() {
        "require-fat-file-exists" => mounts.exists(disk, block(1), &call[2]),
        "require-fat-file-match" => mounts.file_contains(disk, block(1), &call[2], call[3].as_bytes()),
        other => panic!("{other} is not part of this test"),
    }
}

fn run_call(
    mounts: &mut Mounts,
    disk: &mut Disk,
    call: &[String],
    data: Option<&Resource>,
    printed: &mut Vec<String>,
) -> Result<(), String> {
    let block = |at: usize| call[at].parse::<u64>().unwrap();
    let text = |at: usize| call[at].as_str();
    match text(0) {
        "info" => {
            printed.push(call[1].clone());
            Ok(())
        }
        "error" => return Err(call[1].clone()),
        "fat_mkfs" => mounts.mkfs(disk, block(1), block(2)),
        "fat_touch" => mounts.touch(disk, block(1), text(2)),
        "fat_mkdir" => mounts.mkdir(disk, block(1), text(2)),
        "fat_setlabel" => mounts.set_label(disk, block(1), text(2)),
        "fat_rm" => mounts.remove(disk, block(1), text(2), false),
        "fat_rm!" => mounts.remove(disk, block(1), text(2), true),
        "fat_mv" => mounts.rename(disk, block(1), text(2), text(3), false),
        "fat_mv!" => mounts.rename(disk, block(1), text(2), text(3), true),
        "fat_cp" if call.len() == 4 => mounts.copy(disk, block(1), text(2), block(1), text(3)),
        "fat_cp" => mounts.copy(disk, block(1), text(2), block(3), text(4)),
        "fat_attrib" => {
            let _ = mounts.set_attributes(disk, block(1), text(2), text(3));
            Ok(())
        }
        "fat_write" => return write_resource(mounts, disk, block(1), text(2), data.unwrap()),
        other => panic!("{other} is not part of this test"),
    }
    .map_err(|error| error.to_string())
}

fn write_resource(
    mounts: &mut Mounts,
    disk: &mut Disk,
    block: u64,
    name: &str,
    data: &Resource,
) -> Result<(), String> {
    mounts.truncate(disk, block, name).map_err(|error| error.to_string())?;
    if data.taken.replace(true) && !data.bytes.is_empty() {
        return Err(format!(
            "fat_write didn't write anything and was likely called twice in an on-resource for '{}'. Try a \"cp\" \
             function.",
            data.name
        ));
    }
    let mut left = &data.bytes[..];
    let mut offset = 0;
    for part in data.lengths.chunks(2) {
        let (piece, rest) = left.split_at(part[0]);
        left = rest;
        if !piece.is_empty() {
            mounts.write_at(disk, block, name, offset, piece).map_err(|error| error.to_string())?;
        }
        offset += part.iter().map(|length| *length as u64).sum::<u64>();
    }
    if data.lengths.len().is_multiple_of(2) && offset > 0 {
        // A final hole: its last bytes are written, which fills what is before.
        let tail = (*data.lengths.last().unwrap()).min(512);
        mounts
            .write_at(disk, block, name, offset - tail as u64, &vec![0; tail])
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Reads the tasks out of a meta.conf as the reference writes it: one statement in a line.
fn read_tasks(text: &str) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut section = String::new();
    let quoted = |line: &str| line.split('"').nth(1).unwrap_or_default().to_owned();
    for line in text.lines() {
        if line.starts_with("task ") {
            tasks.push(Task { name: quoted(line), ..Task::default() });
        }
        if line.ends_with('{') {
            line.split_whitespace().next().unwrap().clone_into(&mut section);
            if section == "on-resource" {
                tasks.last_mut().unwrap().on_resource.push((quoted(line), Vec::new()));
            }
        }
        if let Some(list) = line.strip_prefix("reqlist=") {
            tasks.last_mut().unwrap().requirements = read_calls(list);
        }
        if let Some(list) = line.strip_prefix("funlist=") {
            let task = tasks.last_mut().unwrap();
            let place = match section.as_str() {
                "on-init" => &mut task.on_init,
                "on-finish" => &mut task.on_finish,
                "on-resource" => &mut task.on_resource.last_mut().unwrap().1,
                _ => continue,
            };
            *place = read_calls(list);
        }
    }
    tasks
}

/// Reads `{3,fat_touch,0,"a b"}`.
fn read_calls(list: &str) -> Vec<Vec<String>> {
    let inner = list.strip_prefix('{').and_then(|list| list.strip_suffix('}')).unwrap();
    let mut words = Vec::new();
    let mut word = String::new();
    let mut characters = inner.chars();
    let mut in_quotes = false;
    while let Some(character) = characters.next() {
        match character {
            '"' => in_quotes = !in_quotes,
            '\\' if in_quotes => word.extend(characters.next()),
            ',' if !in_quotes => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    let mut calls = Vec::new();
    let mut words = words.into_iter();
    while let Some(count) = words.next() {
        calls.push(words.by_ref().take(count.parse().unwrap()).collect());
    }
    calls
}

/// Reads the lengths of the resources: data and hole in turn.
fn read_lengths(text: &str) -> BTreeMap<String, Vec<usize>> {
    let mut lengths = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if line.starts_with("file-resource ") {
            line.split('"').nth(1).unwrap().clone_into(&mut name);
        }
        if let Some(list) = line.strip_prefix("length=") {
            let list = list.trim_matches(['{', '}']);
            lengths.insert(name.clone(), list.split(',').map(|number| number.parse().unwrap()).collect());
        }
    }
    lengths
}

/// The data of a ZIP entry.
fn entry_data(archive: &[u8], entry: &Value) -> Vec<u8> {
    let number = |key: &str| usize::try_from(entry[key].as_u64().unwrap()).unwrap();
    let header = number("local_header_at");
    let two = |at: usize| usize::from(u16::from_le_bytes([archive[at], archive[at + 1]]));
    let start = header + 30 + two(header + 26) + two(header + 28);
    let packed = &archive[start..start + number("compressed")];
    if number("method") == 0 {
        return packed.to_vec();
    }
    let mut data = Vec::new();
    flate2::read::DeflateDecoder::new(packed).read_to_end(&mut data).unwrap();
    assert_eq!(data.len(), number("size"));
    data
}

/// SHA-256 in hex.
pub fn sha256(data: &[u8]) -> String {
    format!("{:x}", Sha256::digest(data))
}
