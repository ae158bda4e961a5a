//! Making archives in a folder of their own, and looking at them byte by byte.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The command under test.
pub const COMMAND: &str = env!("CARGO_BIN_EXE_fwup-stream");

/// Says something past the test harness, which hides the output of tests that pass.
pub fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// The folder of the golden cases: the shared one, else the selection that comes with the project.
pub fn golden_folder() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    ["../shared/golden/fw", "testkit/golden/fw"]
        .iter()
        .map(|place| root.join(place))
        .find(|path| path.is_dir())
}

/// Copies a folder with all that is in it; the copies may be written.
pub fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            fs::write(target, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// Runs the command in a folder with nothing in its environment but `env`.
pub fn run(folder: &Path, argv: &[&str], env: &[(&str, &str)], stdin: &[u8]) -> Output {
    let mut command = Command::new(COMMAND);
    command.args(argv).current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    command.envs(env.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that reads nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

/// What both headers of an entry say.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub made_by: [u8; 2],
    pub version: u16,
    pub flags: u16,
    pub method: u16,
    pub time: u16,
    pub date: u16,
    pub crc: u32,
    pub compressed: u32,
    pub size: u64,
    pub attributes: u32,
    pub local_sizes: [u32; 3],
    pub local_extra: String,
    pub central_extra: String,
    pub offset: usize,
    data: usize,
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::try_from(number(bytes, at, 2)).unwrap()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::try_from(number(bytes, at, 4)).unwrap()
}

pub fn hex(bytes: &[u8]) -> String {
    fwup_stream::trust::to_hex(bytes)
}

/// The entries of an archive, in the order of its directory.
pub fn entries(archive: &[u8]) -> Vec<Entry> {
    let end = archive.windows(4).rposition(|word| word == b"PK\x05\x06").unwrap();
    let mut at = word(archive, end + 16) as usize;
    let mut entries = Vec::new();
    while archive[at..].starts_with(b"PK\x01\x02") {
        let central = &archive[at..];
        let (name, extra) = (usize::from(short(central, 28)), usize::from(short(central, 30)));
        let offset = word(central, 42) as usize;
        let local = &archive[offset..];
        assert!(local.starts_with(b"PK\x03\x04"));
        let (local_name, local_extra) = (usize::from(short(local, 26)), usize::from(short(local, 28)));
        assert_eq!(local[30..30 + local_name], central[46..46 + name]);
        assert_eq!(local[4..14], central[6..16], "both headers agree");
        entries.push(Entry {
            name: String::from_utf8(central[46..46 + name].to_vec()).unwrap(),
            made_by: [central[4], central[5]],
            version: short(central, 6),
            flags: short(central, 8),
            method: short(central, 10),
            time: short(central, 12),
            date: short(central, 14),
            crc: word(central, 16),
            compressed: word(central, 20),
            size: u64::from(word(central, 24)),
            attributes: word(central, 38),
            local_sizes: [word(local, 14), word(local, 18), word(local, 22)],
            local_extra: hex(&local[30 + local_name..30 + local_name + local_extra]),
            central_extra: hex(&central[46 + name..46 + name + extra]),
            offset,
            data: offset + 30 + local_name + local_extra,
        });
        at += 46 + name + extra;
    }
    entries
}

impl Entry {
    /// The entry's bytes as they stand in the archive.
    pub fn packed<'a>(&self, archive: &'a [u8]) -> &'a [u8] {
        &archive[self.data..self.data + self.compressed as usize]
    }

    /// The entry's data, checked.
    pub fn data(&self, archive: &[u8]) -> Vec<u8> {
        let packed = self.packed(archive);
        let data = if self.method == 0 {
            packed.to_vec()
        } else {
            let mut data = Vec::with_capacity(usize::try_from(self.size).unwrap() + 1);
            let status = flate2::Decompress::new(false)
                .decompress_vec(packed, &mut data, flate2::FlushDecompress::Finish)
                .unwrap();
            assert_eq!(status, flate2::Status::StreamEnd);
            data
        };
        assert_eq!(data.len() as u64, self.size, "{}", self.name);
        assert_eq!(crc32fast::hash(&data), self.crc, "{}", self.name);
        data
    }
}

/// Lets `unzip` check an archive; says so once when it is not there.
pub fn unzip_accepts(archive: &Path) -> bool {
    match Command::new("unzip").arg("-tqq").arg(archive).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            true
        }
        Err(_) => false,
    }
}
