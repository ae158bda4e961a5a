//! An index of the names in folders, and of where room in them begins.
//!
//! FatFs walks through a folder from its start for every name and every new entry, so that the work grows with the
//! square of the names. The index leads to the same entry: it names candidates, which are compared in the folder's
//! order like all others, and everything behind the part it covers is walked through.
//!
//! It holds only while nobody else writes to the file system: [`Mounts`](super::Mounts) drops it when something
//! did. Folders that share clusters, or hold parts of long names without their entry, are damaged; they have none.

use std::collections::BTreeSet;

use super::boot::ENTRY;
use super::codepage::capital;
use super::folder::{AT_LONG, LAST_LONG, Place};
use super::limits::{INDEXED_FOLDERS, INDEXED_NAMES};
use super::name::checksum;
use super::window::word;

/// Characters in a long entry.
const PART: usize = 13;
/// Long entries of the longest path that counts, which is 252 bytes; longer names on the disk match none.
const PARTS: usize = 20;
/// Entries of the longest name: its long entries and the short one.
const ENTRIES: usize = PARTS + 1;

/// Where an entry may have a name: hash of the name, place of the entry, place of its first long entry.
type Key = (u32, u32, u32);

/// The indexes of a file system's folders.
#[derive(Default)]
pub(super) struct Index {
    enabled: bool,
    /// The sector in memory may be another one on the disk: nothing may be learned from it.
    stale: bool,
    folders: Vec<Folder>,
}

/// The index of a folder.
pub(super) struct Folder {
    cluster: u32,
    keys: BTreeSet<Key>,
    /// The last entry covered; `None` before the first.
    pub(super) covered: Option<Place>,
    /// The folder's clusters, as far as they are known.
    chain: Vec<u32>,
    clusters: BTreeSet<u32>,
    /// By number of entries, less one: no room for so many begins before this place.
    room: [u32; ENTRIES],
    /// The folder cannot be indexed.
    damaged: bool,
}

impl Index {
    /// Forgets everything, for something else has written. Until a sector is read, the one in memory may be an old one.
    pub(super) fn clear(&mut self) {
        self.folders.clear();
        self.stale = true;
    }

    /// Hears that the sector in memory was read from the disk.
    pub(super) fn sector_was_read(&mut self) {
        self.stale = false;
    }

    /// Switches indexes on or off for good.
    pub(super) fn enable(&mut self, enabled: bool) {
        self.enabled = enabled;
        self.folders.clear();
    }

    /// Takes the index of a folder out to work with it; `None` for a folder that cannot have one.
    pub(super) fn take(&mut self, cluster: u32) -> Option<Folder> {
        if !self.enabled || self.stale {
            return None;
        }
        match self.folders.iter().position(|folder| folder.cluster == cluster) {
            Some(at) if self.folders.get(at).is_some_and(|folder| folder.damaged) => None,
            Some(at) => Some(self.folders.remove(at)),
            None => Some(Folder::new(cluster)),
        }
    }

    /// Puts an index back, and drops those that were not used for longest if there are too many names.
    pub(super) fn put(&mut self, folder: Folder) {
        let Folder { cluster, damaged, .. } = folder;
        self.folders.push(if damaged { Folder { damaged, ..Folder::new(cluster) } } else { folder });
        while self.folders.len() > 1
            && (self.folders.len() > INDEXED_FOLDERS
                || self.folders.iter().map(|folder| folder.keys.len()).sum::<usize>() > INDEXED_NAMES)
        {
            self.folders.remove(0);
        }
    }

    /// Forgets a folder.
    pub(super) fn forget(&mut self, cluster: u32) {
        self.folders.retain(|folder| folder.cluster != cluster);
    }

    /// Hears that a cluster is used for something else than the folder it belonged to; says whether it belonged to
    /// one. Only in damaged file systems does that happen before it is freed.
    pub(super) fn overwritten(&mut self, cluster: u32) -> bool {
        let before = self.folders.len();
        self.folders.retain(|folder| !folder.clusters.contains(&cluster));
        self.folders.len() < before
    }

    /// Hears that a folder changes a cluster, which is its own unless the file system is damaged.
    pub(super) fn changed_by(&mut self, owner: u32, cluster: u32) {
        self.folders.retain(|folder| folder.cluster == owner || !folder.clusters.contains(&cluster));
    }

    /// Hears that the chain goes on otherwise behind a cluster. A folder that grows at its end stays known.
    pub(super) fn relinked(&mut self, cluster: u32, free: bool) {
        self.folders.retain(|folder| {
            !folder.clusters.contains(&cluster) || (!free && folder.chain.last() == Some(&cluster))
        });
    }
}

impl Folder {
    fn new(cluster: u32) -> Self {
        Self {
            cluster,
            keys: BTreeSet::new(),
            covered: None,
            chain: Vec::new(),
            clusters: BTreeSet::new(),
            room: [0; ENTRIES],
            damaged: false,
        }
    }

    /// Whether the cluster of that number in the chain is the next to become known.
    pub(super) fn lacks(&self, number: u32) -> bool {
        usize::try_from(number) == Ok(self.chain.len())
    }

    /// Adds the next cluster; a circle is damage.
    pub(super) fn add_cluster(&mut self, cluster: u32) {
        self.damaged |= !self.clusters.insert(cluster);
        self.chain.push(cluster);
    }

    /// The cluster of that number in the chain, or the last one before it that is known, with its number.
    pub(super) fn nearest(&self, number: u32) -> Option<(u32, u32)> {
        let last = u32::try_from(self.chain.len()).ok()?.checked_sub(1)?;
        let at = number.min(last);
        Some((at, self.chain.get(usize::try_from(at).ok()?).copied()?))
    }

    /// Notes that the folder cannot be indexed.
    pub(super) fn note_damage(&mut self) {
        self.damaged = true;
    }

    /// Whether more entries can be covered.
    pub(super) fn has_space(&self) -> bool {
        self.keys.len() + 2 <= INDEXED_NAMES
    }

    /// Whether the place lies in the part that is covered.
    pub(super) fn covers(&self, offset: u32) -> bool {
        self.covered.is_some_and(|last| offset <= last.offset)
    }

    /// The places that may have one of these names, in the folder's order: of the entry, and of its first long entry.
    pub(super) fn candidates(&self, hashes: [Option<u32>; 2]) -> Vec<(u32, u32)> {
        let mut places: Vec<_> = hashes
            .into_iter()
            .flatten()
            .flat_map(|hash| self.keys.range((hash, 0, 0)..=(hash, u32::MAX, u32::MAX)))
            .map(|(_, entry, start)| (*entry, *start))
            .collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Adds an entry under its short name and, if it has one, its long name.
    pub(super) fn add(&mut self, entry: u32, start: u32, short: &[u8; 11], long: Option<u32>) {
        self.keys.insert((hash_short(short), entry, start));
        if let Some(long) = long {
            self.keys.insert((long, entry, start));
        }
    }

    /// Takes an entry out; says whether it was there as it should be.
    pub(super) fn remove(&mut self, entry: u32, start: u32, short: &[u8; 11], long: Option<u32>) -> bool {
        let had_short = self.keys.remove(&(hash_short(short), entry, start));
        let had_long = long.is_none_or(|long| self.keys.remove(&(long, entry, start)));
        had_short && had_long
    }

    /// Where to begin to look for room for so many entries.
    pub(super) fn room_from(&self, count: u32) -> u32 {
        // Of rooms of that size nothing is known: from the start of the folder.
        self.room_of(count).and_then(|at| self.room.get(at)).copied().unwrap_or(0)
    }

    /// Notes that the first room for so many entries begins here and is taken.
    pub(super) fn take_room(&mut self, start: u32, count: u32) {
        let Some(at) = self.room_of(count) else { return };
        for room in self.room.iter_mut().skip(at) {
            *room = (*room).max(start.saturating_add(count.saturating_mul(ENTRY)));
        }
    }

    /// Notes that entries from here on became free.
    pub(super) fn free_room(&mut self, start: u32) {
        // Room for more may begin in free entries before.
        for (room, before) in self.room.iter_mut().zip(0_u32..) {
            *room = (*room).min(start.saturating_sub(before * ENTRY));
        }
    }

    fn room_of(&self, count: u32) -> Option<usize> {
        usize::try_from(count).ok()?.checked_sub(1).filter(|at| *at < self.room.len())
    }
}

/// A long name as its entries are met, last part first, whatever the name is.
#[derive(Clone)]
pub(super) struct LongName {
    characters: [u16; PARTS * PART],
    length: usize,
    /// The part expected next; `None` when the run does not hang together or is too long to be looked for.
    next: Option<u8>,
    sum: u8,
}

impl LongName {
    pub(super) fn new() -> Self {
        Self { characters: [0; PARTS * PART], length: 0, next: None, sum: 0 }
    }

    /// Takes a long entry.
    pub(super) fn take(&mut self, entry: &[u8]) {
        let (first, sum) = match entry {
            [first, rest @ ..] => (*first, rest.get(12).copied().unwrap_or(0)),
            [] => return,
        };
        let number = first & !LAST_LONG;
        if first & LAST_LONG != 0 {
            self.sum = sum;
            self.length = usize::from(number) * PART;
            self.next = Some(number).filter(|number| (1..=PARTS).contains(&usize::from(*number)));
        }
        let Some(start) = number.checked_sub(1).map(|part| usize::from(part) * PART) else {
            self.next = None;
            return;
        };
        if self.next != Some(number) || self.sum != sum {
            self.next = None;
            return;
        }
        for (to, at) in self.characters.iter_mut().skip(start).zip(AT_LONG) {
            *to = word(entry, at);
        }
        self.next = Some(number - 1);
    }

    /// The hash of the name, if all of it came and it belongs to the short name.
    pub(super) fn hash(&self, short: &[u8; 11]) -> Option<u32> {
        if self.next != Some(0) || self.sum != checksum(short) {
            return None;
        }
        debug_assert!(self.length <= self.characters.len(), "a long name has too many parts");
        let characters = self.characters.get(..self.length)?;
        let end = characters.iter().position(|character| *character == 0).unwrap_or(characters.len());
        Some(hash_long(characters.split_at(end).0))
    }
}

/// The hash of a long name, the same in capital and small letters.
pub(super) fn hash_long(name: &[u16]) -> u32 {
    let bytes = name.iter().flat_map(|character| capital(*character).to_le_bytes());
    hash(1, bytes)
}

/// The hash of a short name.
pub(super) fn hash_short(short: &[u8; 11]) -> u32 {
    hash(0, short.iter().copied())
}

/// FNV-1a. Names that collide on purpose make a search as slow as without index.
fn hash(kind: u8, bytes: impl Iterator<Item = u8>) -> u32 {
    std::iter::once(kind)
        .chain(bytes)
        .fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_held_up_to_the_limit_and_folders_too() {
        let mut index = Index::default();
        index.enable(true);
        for cluster in 0..=u32::try_from(INDEXED_FOLDERS).unwrap() {
            let folder = index.take(cluster).unwrap();
            index.put(folder);
        }
        assert_eq!(index.folders.len(), INDEXED_FOLDERS);
        assert!(index.folders.iter().all(|folder| folder.cluster != 0), "the oldest goes first");

        let mut large = Folder::new(1000);
        for entry in 0..u32::try_from(INDEXED_NAMES).unwrap() / 2 {
            assert!(large.has_space());
            large.add(entry, entry, b"A          ", Some(7));
        }
        assert!(!large.has_space());
        index.put(large);
        assert_eq!(index.folders.len(), INDEXED_FOLDERS, "the limit itself is kept");
        let mut one_more = index.take(5).unwrap();
        one_more.add(0, 0, b"B          ", None);
        index.put(one_more);
        assert_eq!(index.folders.len(), 1, "one name more pushes out what was used before");
    }

    #[test]
    fn room_is_remembered_for_each_length() {
        let mut folder = Folder::new(0);
        folder.take_room(0, 1);
        assert_eq!((folder.room_from(1), folder.room_from(3)), (ENTRY, ENTRY));
        folder.take_room(10 * ENTRY, 3);
        assert_eq!((folder.room_from(1), folder.room_from(3)), (ENTRY, 13 * ENTRY));
        folder.free_room(5 * ENTRY);
        assert_eq!((folder.room_from(1), folder.room_from(3)), (ENTRY, 3 * ENTRY));
        folder.free_room(0);
        assert_eq!((folder.room_from(1), folder.room_from(3)), (0, 0));
    }
}
