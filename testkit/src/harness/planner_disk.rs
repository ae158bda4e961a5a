//! A disk for downloads that loses what wasn't brought onto it.

use std::collections::{BTreeMap, VecDeque};

use fwup_stream::trust::to_hex;
use nerves_hub_link_protocol::{FetchId, OfferId, OpenStore, ReadStore, StoreId};
use sha2::{Digest, Sha256};

use super::input::Source;
use super::planner::Announced;

/// Bytes of a part.
pub(super) const PART: u32 = 1024;
/// Bytes of the largest file.
pub(super) const SIZE_MAX: usize = 6 * 1024;

/// The byte of the published file at an offset.
pub(super) fn published(at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 7)).to_le_bytes()[0]
}

/// What a folder holds.
#[derive(Default)]
struct Folder {
    name: (String, String),
    part_size: u64,
    parts: BTreeMap<u32, Vec<u8>>,
    /// Parts that a power loss leaves alone.
    committed: Vec<u32>,
}

/// The disk, and what it was asked to do.
pub(super) struct Disk {
    announced: Announced,
    folder: Folder,
    pub(super) store: Option<StoreId>,
    pub(super) opening: Option<OpenStore>,
    pub(super) writing: VecDeque<(FetchId, usize)>,
    pub(super) commits: VecDeque<(StoreId, u32)>,
    pub(super) reading: Option<ReadStore>,
    pub(super) finishing: Option<OfferId>,
    full: bool,
    /// Whether nobody changed what is kept.
    sound: bool,
}

impl Disk {
    pub(super) fn new(announced: Announced) -> Self {
        Self {
            announced,
            folder: Folder::default(),
            store: None,
            opening: None,
            writing: VecDeque::new(),
            commits: VecDeque::new(),
            reading: None,
            finishing: None,
            full: false,
            sound: true,
        }
    }

    /// The `update` message, as announced.
    pub(super) fn offer(&self) -> String {
        let Announced { size, says_size, whole, parts, .. } = self.announced;
        let file: Vec<u8> = (0..size).map(published).collect();
        let sum = |bytes: &[u8]| serde_json::Value::from(to_hex(&Sha256::digest(bytes)));
        let sums: Vec<_> =
            file.chunks(PART as usize).map(sum).take(if parts { usize::MAX } else { 0 }).collect();
        let update = serde_json::json!({
            "firmware_url": "https://files.example/1.fw",
            "firmware_meta": {"uuid": "new"},
            "size": says_size.then_some(size),
            "checksum": whole.then(|| sum(&file)),
            "partials_checksums": sums,
        });
        serde_json::json!([null, null, "device", "update", update]).to_string()
    }

    /// Whether the applier can get nothing else than what servers sent.
    pub(super) const fn is_sound(&self) -> bool {
        self.sound
    }

    /// Whether something asked of it isn't done.
    pub(super) fn is_busy(&self) -> bool {
        let waits = self.opening.is_some() || self.reading.is_some() || self.finishing.is_some();
        waits || !self.writing.is_empty() || !self.commits.is_empty()
    }

    /// The disk works again. What is on it stays, and nothing vouches for it if nobody announced checksums.
    pub(super) fn heal(&mut self) {
        self.full = false;
        self.sound = self.folder.parts.is_empty();
    }

    pub(super) fn open(&mut self, store: &OpenStore) -> Result<Vec<(u32, u64)>, &'static str> {
        if self.full {
            return Err("no space is left");
        }
        let name = (store.key.clone(), store.manifest.clone());
        if self.folder.name != name {
            self.folder = Folder { name, part_size: store.part_size, ..Folder::default() };
        }
        self.folder.parts.retain(|part, _| *part < store.parts);
        Ok(self.folder.parts.iter().map(|(part, bytes)| (*part, bytes.len() as u64)).collect())
    }

    pub(super) fn close(&mut self, store: StoreId, clear: bool) {
        assert_eq!(self.store, Some(store), "a store that isn't open is closed");
        self.store = None;
        self.opening = None;
        self.reading = None;
        self.writing.clear();
        self.commits.clear();
        if clear {
            self.folder = Folder::default();
        }
    }

    /// The power goes. Of a part that wasn't brought onto the disk, half may be gone.
    pub(super) fn power_loss(&mut self) {
        let Folder { parts, committed, .. } = &mut self.folder;
        for (part, bytes) in parts.iter_mut().filter(|(part, _)| !committed.contains(part)) {
            bytes.truncate(bytes.len() / (1 + *part as usize % 3));
        }
        if let Some(store) = self.store.take() {
            self.store = Some(store);
            self.close(store, false);
        }
        self.finishing = None;
    }

    /// Something on the disk is not what it was, or comes and goes.
    pub(super) fn spoil(&mut self, source: &mut Source<'_>) {
        let (part, how) = (u32::from(source.byte() % 8), source.byte());
        self.full = how % 8 == 0;
        // Only between two uses: nobody else writes into a store that is open.
        if self.store.is_some() {
            return;
        }
        self.sound = false;
        let Folder { parts, committed, .. } = &mut self.folder;
        committed.retain(|held| *held != part);
        let bytes = parts.entry(part).or_default();
        match how >> 3 & 3 {
            0 => bytes.truncate(usize::from(how)),
            1 => bytes.extend([how; 30]),
            2 => bytes.resize(PART as usize, how),
            _ => bytes.iter_mut().for_each(|byte| *byte ^= 1),
        }
    }

    /// The store in use fails.
    pub(super) const fn fail(&self) -> Option<StoreId> {
        self.store
    }

    pub(super) fn write(&mut self, mut offset: u64, mut bytes: &[u8]) {
        let Announced { size, says_size, .. } = self.announced;
        assert!(!says_size || offset + bytes.len() as u64 <= size as u64, "more than the file has");
        let Folder { part_size, parts, committed, .. } = &mut self.folder;
        while !bytes.is_empty() {
            let part = u32::try_from(offset / *part_size).unwrap_or(u32::MAX);
            // Of a file whose size nobody knows, there may be more than a server sent the last time.
            assert!(
                !says_size || !committed.contains(&part),
                "part {part} is on the disk for good, and written"
            );
            let at = offset % *part_size;
            let room = usize::try_from(*part_size - at).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            let held = parts.entry(part).or_default();
            if at == 0 {
                held.clear();
            }
            assert_eq!(at, held.len() as u64, "a gap or an overlap in part {part}");
            held.extend_from_slice(now);
            offset += room as u64;
            bytes = later;
        }
    }

    /// A part is to be brought onto the disk: it must be what was announced.
    pub(super) fn check(&self, part: u32) {
        let Announced { size, says_size, whole, .. } = self.announced;
        let in_parts = self.announced.is_cut();
        let (from, to) = if in_parts {
            let from = part as usize * PART as usize;
            (from, size.min(from + PART as usize))
        } else {
            (0, size)
        };
        let held = self.folder.parts.get(&part).cloned().unwrap_or_default();
        if says_size {
            assert_eq!(held.len(), to - from, "part {part} has another length");
        }
        if in_parts || whole {
            let announced: Vec<u8> = (from..to).map(published).collect();
            assert!(held == announced, "part {part} is not what was announced");
        }
    }

    pub(super) fn commit(&mut self, part: u32) {
        self.folder.committed.push(part);
    }

    pub(super) fn drop_part(&mut self, part: u32) {
        self.folder.parts.remove(&part);
        self.folder.committed.retain(|held| *held != part);
    }

    pub(super) fn read(&self, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = from;
        while at < to {
            let part = u32::try_from(at / self.folder.part_size).unwrap_or(u32::MAX);
            let start = usize::try_from(at % self.folder.part_size).unwrap_or(usize::MAX);
            let held = self.folder.parts.get(&part).and_then(|held| held.get(start..)).unwrap_or_default();
            let held = held.get(..usize::try_from(to - at).unwrap_or(usize::MAX)).unwrap_or(held);
            if held.is_empty() {
                break;
            }
            bytes.extend_from_slice(held);
            at += held.len() as u64;
        }
        bytes
    }
}
