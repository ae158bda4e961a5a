//! Golden cases, and driving the library over their archives.

use std::path::PathBuf;

use fwup_stream::archive::{
    ArchiveError, ArchiveEvent, ArchiveReader, ArchiveStart, EntryInfo, OpenedArchive, Purpose, StartError,
    StartProgress,
};
use fwup_stream::trust::PublicKey;
use serde_json::Value;

/// A golden case.
pub struct Case {
    folder: PathBuf,
    pub expected: Value,
}

/// Finds a case, in the full collection or in the selection kept with the source.
pub fn case(name: &str) -> Option<Case> {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    for place in ["../shared/golden/fw", "testkit/golden/fw"] {
        let folder = workspace.join(place).join(name);
        if let Ok(text) = std::fs::read_to_string(folder.join("expected.json")) {
            println!("golden case {name} from {}", folder.display());
            return Some(Case { folder, expected: serde_json::from_str(&text).unwrap() });
        }
    }
    skipped(&format!("golden case {name}"));
    None
}

impl Case {
    /// Returns a file of the case. Some archives are left out of the selection.
    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(name);
        let bytes = std::fs::read(&path).ok().or_else(|| {
            let packed = std::fs::read(self.folder.join(format!("{name}.zst"))).ok()?;
            let mut bytes = Vec::new();
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(packed.as_slice()).unwrap();
            std::io::Read::read_to_end(&mut decoder, &mut bytes).unwrap();
            Some(bytes)
        });
        if bytes.is_none() {
            skipped(&path.display().to_string());
        }
        bytes
    }

    pub fn runs(&self) -> &[Value] {
        self.expected["runs"].as_array().unwrap()
    }

    pub fn run(&self, name: &str) -> &Value {
        self.runs().iter().find(|run| run["name"] == name).unwrap()
    }

    /// Names of the archives that are here.
    pub fn archives(&self) -> Vec<(String, Vec<u8>)> {
        let names = self.expected["archives"].as_object().unwrap().keys();
        names.filter_map(|name| Some((name.clone(), self.file(name)?))).collect()
    }
}

/// Runs a golden `-m` run and compares exit status and output.
pub fn check_metadata_run(run: &Value, archive: &[u8], keys: &[PublicKey]) {
    let name = run["name"].as_str().unwrap();
    let argv = strings(&run["argv"]);
    let after = |option: &str| argv.iter().position(|arg| arg == option).map(|at| argv[at + 1].clone());
    let environment = run["env"].clone();
    let variables = move |name: &str| environment[name].as_str().map(str::to_owned);
    let outcome = open(archive, keys, after("-i").as_deref(), Purpose::Inspect, &variables, usize::MAX);
    let (exit, stdout) = match outcome {
        Ok(opened) => match after("--metadata-key") {
            Some(key) => (0, format!("{}\n", opened.metadata.value(&key).unwrap_or("(null)"))),
            None => (0, opened.metadata.to_text()),
        },
        Err(error) => (1, format!("fwup: {error}\n")),
    };
    assert_eq!(run["exit"], exit, "{name}: {stdout}");
    match run["stdout"].as_str() {
        Some(expected) => assert_eq!(stdout, expected, "{name}"),
        None => assert_eq!(stdout, run["stdout_frames"][0]["text"].as_str().unwrap(), "{name}"),
    }
}

/// Says so where it is seen: what a passing test prints is hidden, what it writes to the descriptor is not.
fn skipped(what: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what} is not here");
}

pub fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// No variables.
pub fn none(_: &str) -> Option<String> {
    None
}

/// Opens an archive, giving it in pieces.
pub fn open(
    archive: &[u8],
    keys: &[PublicKey],
    file: Option<&str>,
    purpose: Purpose,
    variables: &dyn Fn(&str) -> Option<String>,
    piece: usize,
) -> Result<OpenedArchive, StartError> {
    let mut reader = ArchiveReader::new();
    let mut start = ArchiveStart::new(keys.to_vec(), file, purpose);
    for mut input in archive.chunks(piece.min(archive.len()).max(1)) {
        if let StartProgress::Opened(opened) = start.step(&mut reader, &mut input, variables)? {
            return Ok(*opened);
        }
    }
    Err(start.finish(&mut reader))
}

/// An entry as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    pub info: EntryInfo,
    pub data: Vec<u8>,
    pub complete: bool,
}

/// What reading a whole archive came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Walk {
    pub entries: Vec<Read>,
    pub outcome: Result<(), ArchiveError>,
    pub reached_end: bool,
}

/// Reads an archive given in pieces; skips the entries that `skip` names.
pub fn walk<'a>(pieces: impl Iterator<Item = &'a [u8]>, skip: &dyn Fn(&str) -> bool) -> Walk {
    let mut reader = ArchiveReader::new();
    let mut walk = Walk { entries: Vec::new(), outcome: Ok(()), reached_end: false };
    for piece in pieces {
        let mut input = piece;
        loop {
            match reader.next(&mut input) {
                Err(error) => {
                    walk.outcome = Err(error);
                    return walk;
                }
                Ok(ArchiveEvent::NeedInput) => {
                    assert!(input.is_empty());
                    break;
                }
                Ok(ArchiveEvent::Entry(info)) => {
                    if skip(&info.name) {
                        reader.skip_entry();
                    }
                    walk.entries.push(Read { info, data: Vec::new(), complete: false });
                }
                Ok(ArchiveEvent::Data(data)) => {
                    assert!(!data.is_empty() && data.len() <= fwup_stream::limits::DATA_PIECE);
                    walk.entries.last_mut().unwrap().data.extend_from_slice(data);
                }
                Ok(ArchiveEvent::EntryEnd) => walk.entries.last_mut().unwrap().complete = true,
                Ok(ArchiveEvent::End) => {
                    walk.reached_end = true;
                    return walk;
                }
            }
        }
    }
    walk.outcome = reader.finish();
    walk
}

/// Reads an archive given whole.
pub fn walk_whole(archive: &[u8]) -> Walk {
    walk(std::iter::once(archive), &|_| false)
}
