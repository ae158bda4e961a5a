//! Random work on FAT file systems against a plain map, and against damage.

use std::collections::BTreeMap;

use crate::fat_support::Disk;
use crate::fat_support::check::contents;
use fwup_stream::action::fat::{FatError, Fault, Mounts};
use proptest::prelude::*;

/// One of each kind: FAT12, FAT16 and FAT32.
const SIZES: [u64; 3] = [3000, 4153, 66600];

const NAMES: [&str; 10] = [
    "a",
    "README.TXT",
    "readme.md",
    "Mixed Case.txt",
    "Mixed Case.text",
    "a rather long name with many characters in it.configuration",
    "UPPER.low",
    "dir.d",
    "trailing+plus=[x].tar.gz",
    "no extension here",
];

#[derive(Clone, Debug)]
enum Op {
    Write(String, Vec<Vec<u8>>),
    Touch(String),
    Mkdir(String),
    Remove(String),
    Move(String, String, bool),
    Copy(String, String),
    Attributes(String, bool),
    Label(String),
    Forget,
}

fn any_path() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(&NAMES[..]).prop_map(str::to_owned);
    prop_oneof![
        3 => name(),
        2 => (name(), name()).prop_map(|(a, b)| format!("{a}/{b}")),
        1 => (name(), name(), name()).prop_map(|(a, b, c)| format!("/{a}//{b}\\{c}/").to_uppercase()),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let pieces = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1500), 0..4);
    prop_oneof![
        4 => (any_path(), pieces).prop_map(|(path, pieces)| Op::Write(path, pieces)),
        2 => any_path().prop_map(Op::Touch),
        4 => any_path().prop_map(Op::Mkdir),
        2 => any_path().prop_map(Op::Remove),
        3 => (any_path(), any_path(), any::<bool>()).prop_map(|(a, b, force)| Op::Move(a, b, force)),
        2 => (any_path(), any_path()).prop_map(|(a, b)| Op::Copy(a, b)),
        1 => (any_path(), any::<bool>()).prop_map(|(path, on)| Op::Attributes(path, on)),
        1 => prop::sample::select(&["", "BOOT", "data x"][..]).prop_map(|label| Op::Label(label.to_owned())),
        1 => Just(Op::Forget),
    ]
}

#[derive(Clone, Debug)]
struct Node {
    /// `None` for a folder.
    content: Option<Vec<u8>>,
    read_only: bool,
}

/// A file system as a map from path, in capitals, to what is there.
#[derive(Default)]
struct Model(BTreeMap<String, Node>);

impl Model {
    fn key(path: &str) -> String {
        let steps = path.split(['/', '\\']).filter(|step| !step.is_empty());
        steps.fold(String::new(), |key, step| key + "/" + &step.to_uppercase())
    }

    fn parent_is_there(&self, key: &str) -> bool {
        let parent = &key[..key.rfind('/').unwrap()];
        parent.is_empty() || self.0.get(parent).is_some_and(|node| node.content.is_none())
    }

    fn has_children(&self, key: &str) -> bool {
        self.0.keys().any(|other| other.starts_with(&format!("{key}/")))
    }

    /// Whether a file can be made or written there.
    fn is_writable(&self, key: &str) -> bool {
        match self.0.get(key) {
            Some(node) => node.content.is_some() && !node.read_only,
            None => self.parent_is_there(key),
        }
    }

    fn put(&mut self, key: String, content: Vec<u8>) {
        self.0.insert(key, Node { content: Some(content), read_only: false });
    }

    /// `fat_rm`; a missing one is fine.
    fn remove(&mut self, key: &str) -> bool {
        let Some(node) = self.0.get(key) else { return true };
        if node.read_only || (node.content.is_none() && self.has_children(key)) {
            return false;
        }
        self.0.remove(key);
        true
    }

    /// Does what `op` should do and says whether it should succeed.
    fn apply(&mut self, op: &Op) -> bool {
        match op {
            Op::Write(path, pieces) => {
                let key = Self::key(path);
                let fine = self.is_writable(&key);
                if fine {
                    self.put(key, pieces.concat());
                }
                fine
            }
            Op::Touch(path) => {
                let key = Self::key(path);
                let fine = self.is_writable(&key);
                if fine && !self.0.contains_key(&key) {
                    self.put(key, Vec::new());
                }
                fine
            }
            Op::Mkdir(path) => {
                let key = Self::key(path);
                match self.0.get(&key) {
                    Some(node) => node.content.is_none(),
                    None if !self.parent_is_there(&key) => false,
                    None => {
                        self.0.insert(key, Node { content: None, read_only: false });
                        true
                    }
                }
            }
            Op::Remove(path) => self.remove(&Self::key(path)),
            Op::Move(from, to, force) => {
                let (from, to) = (Self::key(from), Self::key(to));
                if *force && !self.remove(&to) {
                    return false;
                }
                let Some(node) = self.0.get(&from).cloned() else { return false };
                if from == to {
                    return true;
                }
                let into_itself = to.starts_with(&format!("{from}/"));
                if self.0.contains_key(&to) || !self.parent_is_there(&to) || into_itself {
                    return false;
                }
                let children: Vec<_> = self
                    .0
                    .iter()
                    .filter_map(|(key, node)| Some((key.strip_prefix(&from)?.to_owned(), node.clone())))
                    .filter(|(rest, _)| rest.starts_with('/'))
                    .collect();
                for (rest, child) in children {
                    self.0.remove(&format!("{from}{rest}"));
                    self.0.insert(format!("{to}{rest}"), child);
                }
                self.0.remove(&from);
                self.0.insert(to, node);
                true
            }
            Op::Copy(from, to) => {
                let (from, to) = (Self::key(from), Self::key(to));
                let Some(content) = self.0.get(&from).and_then(|node| node.content.clone()) else {
                    return false;
                };
                if from == to {
                    return true;
                }
                let fine = self.is_writable(&to);
                if fine {
                    self.put(to, content);
                }
                fine
            }
            Op::Attributes(path, read_only) => match self.0.get_mut(&Self::key(path)) {
                Some(node) => {
                    node.read_only = *read_only;
                    true
                }
                None => false,
            },
            Op::Label(_) | Op::Forget => true,
        }
    }
}

fn perform(mounts: &mut Mounts, disk: &mut Disk, op: &Op) -> Result<(), FatError> {
    match op {
        Op::Write(path, pieces) => {
            mounts.truncate(disk, 0, path)?;
            let mut offset = 0;
            for piece in pieces {
                mounts.write_at(disk, 0, path, offset, piece)?;
                offset += piece.len() as u64;
            }
            Ok(())
        }
        Op::Touch(path) => mounts.touch(disk, 0, path),
        Op::Mkdir(path) => mounts.mkdir(disk, 0, path),
        Op::Remove(path) => mounts.remove(disk, 0, path, false),
        Op::Move(from, to, force) => mounts.rename(disk, 0, from, to, *force),
        Op::Copy(from, to) => mounts.copy(disk, 0, from, 0, to),
        Op::Attributes(path, on) => mounts.set_attributes(disk, 0, path, if *on { "R" } else { "" }),
        Op::Label(label) => mounts.set_label(disk, 0, label),
        Op::Forget => mounts.close(disk),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_work_reads_back(size in prop::sample::select(&SIZES[..]), ops in prop::collection::vec(any_op(), 1..40)) {
        let mut disk = Disk::default();
        let mut mounts = Mounts::new();
        let mut model = Model::default();
        mounts.mkfs(&mut disk, 0, size).unwrap();
        for op in &ops {
            let outcome = perform(&mut mounts, &mut disk, op);
            let expected = model.apply(op);
            prop_assert_eq!(outcome.is_ok(), expected, "{:?}: {:?}", op, outcome);
        }
        mounts.close(&mut disk).unwrap();
        for (path, node) in &model.0 {
            let content = node.content.as_ref();
            prop_assert_eq!(mounts.exists(&mut disk, 0, path), content.is_some());
            if let Some(content) = content {
                let mut read = vec![0; content.len() + 7];
                let count = mounts.read_at(&mut disk, 0, path, 0, &mut read).unwrap();
                prop_assert_eq!(&read[..count], &content[..]);
                let middle = content.len() / 2;
                let count = mounts.read_at(&mut disk, 0, path, middle as u64, &mut read).unwrap();
                prop_assert_eq!(&read[..count], &content[middle..]);
            }
        }
        let expected: BTreeMap<_, _> = model.0.into_iter().map(|(path, node)| (path, node.content)).collect();
        prop_assert_eq!(contents(&disk.finish()).0, expected);
    }

    #[test]
    fn pieces_do_not_matter(
        size in prop::sample::select(&SIZES[..]),
        data in prop::collection::vec(any::<u8>(), 0..20_000),
        cuts in prop::collection::vec(1_usize..3000, 0..30),
    ) {
        let write = |cuts: &[usize]| {
            let mut disk = Disk::default();
            let mut mounts = Mounts::new();
            mounts.mkfs(&mut disk, 0, size).unwrap();
            mounts.truncate(&mut disk, 0, "file").unwrap();
            let mut done = 0_usize;
            for cut in cuts.iter().copied().chain([usize::MAX]) {
                let end = data.len().min(done.saturating_add(cut));
                mounts.write_at(&mut disk, 0, "file", done as u64, &data[done..end]).unwrap();
                done = end;
            }
            mounts.close(&mut disk).unwrap();
            disk.finish()
        };
        prop_assert!(write(&cuts) == write(&[]));
    }

    #[test]
    fn damage_gives_errors_only(
        size in prop::sample::select(&SIZES[..]),
        damage in prop::collection::vec((0_usize..40_960, any::<u8>()), 1..60),
        in_tables in prop::collection::vec((512_usize..2048, any::<u8>()), 0..40),
        ops in prop::collection::vec(any_op(), 1..12),
    ) {
        let mut disk = Disk::default();
        let mut mounts = Mounts::new();
        mounts.mkfs(&mut disk, 0, size).unwrap();
        for folder in ["dir.d", "dir.d/a", "README.TXT"] {
            mounts.mkdir(&mut disk, 0, folder).unwrap();
        }
        for file in ["dir.d/readme.md", "Mixed Case.txt", "dir.d/a/UPPER.low"] {
            mounts.truncate(&mut disk, 0, file).unwrap();
            mounts.write_at(&mut disk, 0, file, 0, &[7; 3000]).unwrap();
        }
        mounts.close(&mut disk).unwrap();
        let mut image = disk.finish();
        for (at, byte) in damage.into_iter().chain(in_tables) {
            if at < image.len() {
                image[at] = byte;
            }
        }
        let mut disk = Disk::new(image);
        let mut mounts = Mounts::new();
        for op in &ops {
            let _ = perform(&mut mounts, &mut disk, op);
            let _ = mounts.file_contains(&mut disk, 0, "dir.d/readme.md", b"needle");
        }
        prop_assert!(disk.calls < 2_000_000, "{} calls", disk.calls);
    }
}

#[test]
fn a_failing_destination_is_reported_wherever_it_fails() {
    let work = |disk: &mut Disk| -> Result<(), FatError> {
        let mut mounts = Mounts::new();
        mounts.mkfs(disk, 0, 4153)?;
        mounts.mkdir(disk, 0, "a folder with a long name")?;
        mounts.truncate(disk, 0, "a folder with a long name/file")?;
        mounts.write_at(disk, 0, "a folder with a long name/file", 0, &[1; 2000])?;
        mounts.rename(disk, 0, "a folder with a long name/file", "file", false)?;
        mounts.remove(disk, 0, "file", true)?;
        mounts.close(disk)
    };
    let mut whole = Disk::default();
    work(&mut whole).unwrap();
    let mut failures = 0;
    for calls in 0..whole.calls {
        let mut disk = Disk::default();
        disk.fail_after = Some(calls);
        if let Err(error) = work(&mut disk) {
            failures += 1;
            let is_disk =
                matches!(&error, FatError::Disk(_) | FatError::Operation { fault: Fault::Disk(_), .. });
            assert!(is_disk, "after {calls} calls: {error}");
        }
    }
    assert!(failures > whole.calls / 3, "{failures} of {}", whole.calls);
}
