//! A store for downloads, in memory.

use std::collections::{BTreeMap, BTreeSet};

use nerves_hub_link_protocol::{FetchId, OpenStore, StoreId};

/// The folders of a device, by their names.
#[derive(Default)]
pub struct Store {
    folders: BTreeMap<String, Folder>,
    open: BTreeMap<StoreId, String>,
    readings: BTreeSet<FetchId>,
    seen: BTreeSet<String>,
}

struct Folder {
    manifest: String,
    part_size: u64,
    parts: BTreeMap<u32, Vec<u8>>,
}

impl Store {
    /// Opens a folder. Returns the parts it holds. One that is opened for the first time holds zeros in the ranges
    /// that `held` tells, in order.
    pub fn open(&mut self, order: OpenStore, held: &[(u64, u64)]) -> Vec<(u32, u64)> {
        let OpenStore { store, key, manifest, part_size, parts, .. } = order;
        if self.seen.insert(key.clone()) {
            self.folders.insert(
                key.clone(),
                Folder { manifest: manifest.clone(), part_size, parts: zeros(held, part_size) },
            );
        }
        let folder = self.folders.remove(&key).filter(|folder| folder.manifest == manifest);
        // Only the newest is kept, as with a device's little space.
        self.folders.clear();
        let mut folder = folder.unwrap_or_else(|| Folder { manifest, part_size, parts: BTreeMap::new() });
        folder.part_size = part_size;
        folder.parts.retain(|index, _| *index < parts);
        let held = folder.parts.iter().map(|(index, bytes)| (*index, bytes.len() as u64)).collect();
        self.folders.insert(key.clone(), folder);
        self.open.insert(store, key);
        held
    }

    /// Writes bytes of the file.
    pub fn write(&mut self, store: StoreId, offset: u64, mut bytes: &[u8]) {
        let Some(folder) = self.folder(store) else { return };
        let mut at = offset;
        while !bytes.is_empty() {
            let (part, within) = (at / folder.part_size, at % folder.part_size);
            let room = usize::try_from(folder.part_size - within).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            let held = folder.parts.entry(u32::try_from(part).unwrap_or(u32::MAX)).or_default();
            // What is written at the start of a part replaces all that it held.
            held.truncate(usize::try_from(within).unwrap_or(usize::MAX));
            held.extend(now);
            at += now.len() as u64;
            bytes = rest;
        }
    }

    /// Returns bytes of the file, if it has them all.
    pub fn read(&mut self, store: StoreId, from: u64, to: u64) -> Option<Vec<u8>> {
        let folder = self.folder(store)?;
        let mut bytes = Vec::new();
        let mut at = from;
        while at < to {
            let (part, within) = (at / folder.part_size, at % folder.part_size);
            let held = folder.parts.get(&u32::try_from(part).ok()?)?.get(usize::try_from(within).ok()?..)?;
            let wanted = usize::try_from(to - at).unwrap_or(usize::MAX).min(held.len());
            bytes.extend(held.get(..wanted).filter(|now| !now.is_empty())?);
            at += wanted as u64;
        }
        Some(bytes)
    }

    /// Deletes a part.
    pub fn drop_part(&mut self, store: StoreId, part: u32) {
        if let Some(folder) = self.folder(store) {
            folder.parts.remove(&part);
        }
    }

    /// Ends the use of a folder.
    pub fn close(&mut self, store: StoreId, clear: bool) {
        if let Some(key) = self.open.remove(&store).filter(|_| clear) {
            self.folders.remove(&key);
        }
    }

    /// Begins a reading.
    pub fn reading(&mut self, fetch: FetchId) {
        self.readings.insert(fetch);
    }

    /// Returns whether a reading goes on.
    pub fn is_reading(&self, fetch: FetchId) -> bool {
        self.readings.contains(&fetch)
    }

    /// Ends a reading, if it is one.
    pub fn abort(&mut self, fetch: FetchId) {
        self.readings.remove(&fetch);
    }

    fn folder(&mut self, store: StoreId) -> Option<&mut Folder> {
        self.folders.get_mut(self.open.get(&store)?)
    }
}

/// Parts with zeros in ranges of the file; a part holds something only from its start on.
fn zeros(held: &[(u64, u64)], part_size: u64) -> BTreeMap<u32, Vec<u8>> {
    let mut parts: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for (mut at, to) in held.iter().copied() {
        while at < to {
            let (part, within) = (at / part_size, at % part_size);
            let count = (to - at).min(part_size - within);
            if let Some(part) = u32::try_from(part).ok().filter(|_| within == 0) {
                parts.insert(part, vec![0; usize::try_from(count).unwrap_or_default()]);
            }
            at += count;
        }
    }
    parts
}
