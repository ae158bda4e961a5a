//! Following paths, and making and taking away the entries at their ends.

use super::boot::ENTRY;
use super::error::Fault;
use super::folder::{AT_LONG, FOLDER, LAST_LONG, LONG_NAME, Place};
use super::index::{LongName, hash_long};
use super::limits::SHORT_NAME_TRIES;
use super::name::{DELETED, Name, checksum, next_name, start_of_path};
use super::volume::Volume;
use super::window::put;
use crate::disk::DiskIo;

/// Where a path leads.
pub(super) enum Target {
    /// To the root folder itself.
    Root,
    /// To an entry; its sector is in memory.
    Entry(Place, Name),
    /// To nothing, but the folder that it would be in exists.
    Missing(Place, Name),
}

impl Volume {
    /// Follows a path from the root folder.
    pub(super) fn follow(&mut self, disk: &mut dyn DiskIo, path: &str) -> Result<Target, Fault> {
        let mut path = start_of_path(path);
        let mut place = Place::start_of(0);
        if path.is_empty() {
            self.seek(disk, &mut place, 0)?;
            return Ok(Target::Root);
        }
        // A path has at most 126 steps, for it is cut to 252 bytes.
        loop {
            let (name, rest) = next_name(path)?;
            let found = self.find(disk, &mut place, &name, false)?;
            if name.last {
                return Ok(if found { Target::Entry(place, name) } else { Target::Missing(place, name) });
            }
            if !found || place.attributes & FOLDER == 0 {
                return Err(Fault::NoPath);
            }
            place = Place::start_of(self.entry_cluster(place.at()));
            path = rest;
        }
    }

    /// Makes an entry of that name in the folder of `place`, empty but for the name. Its sector is in memory
    /// afterwards.
    pub(super) fn register(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        name: &Name,
    ) -> Result<(), Fault> {
        let outcome = self.write_name(disk, place, name);
        if outcome.is_err() {
            // Room was taken and perhaps not filled.
            self.index.forget(place.folder);
        }
        outcome
    }

    fn write_name(&mut self, disk: &mut dyn DiskIo, place: &mut Place, name: &Name) -> Result<(), Fault> {
        let short = if name.lossy { self.free_short_name(disk, place, name)? } else { name.short };
        let entries = name.entries();
        self.find_room(disk, place, entries)?;
        let mut part = entries.saturating_sub(1);
        if part > 0 {
            let start = place.offset.checked_sub(part * ENTRY).ok_or(Fault::Corrupt)?;
            self.seek(disk, place, start)?;
            let sum = checksum(&short);
            while part > 0 {
                self.load_entry(disk, place)?;
                self.entry_changes(place);
                self.put_long_entry(place.at(), &name.long, part, sum);
                if !self.advance(disk, place, false)? {
                    return Err(Fault::Corrupt);
                }
                part -= 1;
            }
        }
        self.load_entry(disk, place)?;
        let mut entry = [0; 32];
        put(&mut entry, 0, &short);
        entry[12] = name.case;
        self.entry_changes(place);
        self.window.put(place.at(), &entry);
        let start = place.offset.checked_sub(entries.saturating_sub(1) * ENTRY).ok_or(Fault::Corrupt)?;
        // What lies behind the part that is covered is found when it is looked at.
        if let Some(mut known) = self.index.take(place.folder)
            && known.has_space()
        {
            if known.covers(start) {
                let long = (entries > 1).then(|| hash_long(&name.long));
                known.add(place.offset, start, &short, long);
                if !known.covers(place.offset) {
                    known.covered = Some(*place);
                }
            }
            self.index.put(known);
        }
        Ok(())
    }

    /// Marks the entry at `place` and its long entries as deleted.
    pub(super) fn unregister(&mut self, disk: &mut dyn DiskIo, place: &mut Place) -> Result<(), Fault> {
        let last = place.offset;
        let start = place.long_start.unwrap_or(last);
        let mut known = self.index.take(place.folder);
        if start != last {
            self.seek_with(disk, place, start, known.as_mut())?;
        }
        let mut long = LongName::new();
        loop {
            self.load_entry(disk, place)?;
            let short = self.short_name(place.at());
            if place.offset < last {
                long.take(self.entry(place.at()));
            }
            self.entry_changes(place);
            self.window.put(place.at(), &[DELETED]);
            if place.offset >= last {
                if let Some(mut known) = known {
                    known.free_room(start);
                    if known.covers(last) && !known.remove(last, start, &short, long.hash(&short)) {
                        debug_assert!(false, "a name was not in the index of its folder");
                        known.note_damage();
                    }
                    self.index.put(known);
                }
                return Ok(());
            }
            if !self.advance(disk, place, false)? {
                return Err(Fault::Corrupt);
            }
        }
    }

    /// Returns the first short name with a tail that the folder does not have yet.
    fn free_short_name(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        name: &Name,
    ) -> Result<[u8; 11], Fault> {
        let mut candidate = name.clone();
        for number in 1..=SHORT_NAME_TRIES {
            candidate.short = name.numbered(number);
            if !self.find(disk, place, &candidate, true)? {
                return Ok(candidate.short);
            }
        }
        Err(Fault::Denied)
    }

    /// Writes part `part`, from 1, of a long name to the entry at `at` in memory.
    fn put_long_entry(&mut self, at: usize, long: &[u16], part: u32, sum: u8) {
        let skipped = (part as usize).saturating_sub(1) * 13;
        let rest = long.get(skipped..).unwrap_or(&[]);
        debug_assert!(
            skipped < long.len() || long.is_empty(),
            "part {part} of a name of {} letters",
            long.len()
        );
        // A path is cut to 252 bytes, which are twenty parts.
        debug_assert!(part <= 20, "part {part} of a long name");
        let number = u8::try_from(part).unwrap_or(0);
        let mut entry = [0; 32];
        entry[0] = if rest.len() <= 13 { number | LAST_LONG } else { number };
        entry[11] = LONG_NAME;
        entry[13] = sum;
        let characters = rest.iter().copied().chain([0]).chain(std::iter::repeat(0xFFFF));
        for (offset, character) in AT_LONG.into_iter().zip(characters) {
            put(&mut entry, offset, &u16::to_le_bytes(character));
        }
        self.window.put(at, &entry);
    }
}
