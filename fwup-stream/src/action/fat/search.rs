//! Looking for names and for room in a folder: from its start, or with what the index knows of it.

use super::boot::ENTRY;
use super::error::Fault;
use super::folder::{
    AT_ATTRIBUTES, AT_CLUSTER_LOW, AT_LONG, AT_LONG_SUM, ATTRIBUTES, LABEL, LAST_LONG, LONG_NAME, Place,
};
use super::index::{Folder, LongName, hash_long, hash_short};
use super::name::{DELETED, Name, checksum};
use super::volume::Volume;
use crate::disk::DiskIo;

/// A run of long entries as it is met, last part first.
struct LongRun {
    /// Number of the part met last; `None` when it does not hang together.
    part: Option<u8>,
    sum: u8,
}

impl LongRun {
    const NONE: Self = LongRun { part: None, sum: 0xFF };

    /// Takes the long entry of number `number`; returns whether it begins a run. `fits` says whether its
    /// characters are right.
    fn take(&mut self, first: u8, sum: u8, fits: impl FnOnce() -> bool) -> bool {
        let begins = first & LAST_LONG != 0;
        let number = first & !LAST_LONG;
        if begins {
            self.sum = sum;
        }
        let expected = if begins { Some(number) } else { self.part };
        let holds = expected == Some(number) && self.sum == sum && fits();
        self.part = if holds { number.checked_sub(1) } else { None };
        begins
    }

    /// Whether all parts have come and belong to the short name.
    fn belongs_to(&self, short: &[u8; 11]) -> bool {
        self.part == Some(0) && self.sum == checksum(short)
    }
}

/// Adds entries to an index as they are passed.
struct Watch<'a> {
    known: Option<&'a mut Folder>,
    long: LongName,
    /// Where the long name began.
    start: Option<u32>,
    /// Long entries came that no entry has followed yet.
    waiting: bool,
}

impl<'a> Watch<'a> {
    fn new(known: Option<&'a mut Folder>) -> Self {
        Watch {
            known: known.filter(|known| known.has_space()),
            long: LongName::new(),
            start: None,
            waiting: false,
        }
    }

    /// Takes a long entry. What would be left behind if the entry it belongs to were deleted is damage.
    fn long(&mut self, place: &Place, entry: &[u8]) {
        let Some(known) = &mut self.known else { return };
        let begins = entry.first().is_some_and(|first| first & LAST_LONG != 0);
        if begins == self.waiting {
            known.note_damage();
        }
        if begins {
            self.start = Some(place.offset);
        }
        self.waiting = true;
        self.long.take(entry);
    }

    /// Takes an entry.
    fn entry(&mut self, place: &Place, short: &[u8; 11]) {
        let Some(known) = &mut self.known else { return };
        let long = if self.waiting { self.long.hash(short) } else { None };
        known.add(place.offset, self.start.unwrap_or(place.offset), short, long);
        (self.start, self.waiting) = (None, false);
        known.covered = Some(*place);
        if !known.has_space() {
            self.known = None;
        }
    }

    /// Takes what is no name.
    fn gap(&mut self, place: &Place) {
        self.end();
        if let Some(known) = &mut self.known {
            known.covered = Some(*place);
        }
    }

    /// Takes the end, or something else that ends a long name without an entry.
    fn end(&mut self) {
        if let Some(known) = &mut self.known
            && self.waiting
        {
            known.note_damage();
        }
    }
}

impl Volume {
    /// Looks for a name from the folder's start; stays at its short entry when it is there. `short_only`
    /// compares nothing but the short name.
    pub(super) fn find(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        name: &Name,
        short_only: bool,
    ) -> Result<bool, Fault> {
        let Some(mut known) = self.index.take(place.folder) else {
            self.seek_with(disk, place, 0, None)?;
            return self.walk(disk, place, name, short_only, None);
        };
        let mut found = self.find_known(disk, place, name, short_only, &mut known)?;
        if found.is_none() {
            self.seek_with(disk, place, 0, None)?;
            found = Some(self.walk(disk, place, name, short_only, None)?);
        }
        self.index.put(known);
        Ok(found == Some(true))
    }

    /// Looks for a name with an index; `None` if the index is wrong.
    fn find_known(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        name: &Name,
        short_only: bool,
        known: &mut Folder,
    ) -> Result<Option<bool>, Fault> {
        let short = (short_only || !name.lossy).then(|| hash_short(&name.short));
        let long = (!short_only).then(|| hash_long(&name.long));
        for (entry, start) in known.candidates([short, long]) {
            let start = if short_only { entry } else { start };
            match self.is_named(disk, place, name, short_only, (start, entry), known)? {
                Some(false) => {}
                outcome => return Ok(outcome),
            }
        }
        match known.covered {
            None => self.seek_with(disk, place, 0, Some(known))?,
            Some(last) => {
                *place = last;
                if !self.advance_with(disk, place, false, Some(known))? {
                    return Ok(Some(false));
                }
            }
        }
        self.walk(disk, place, name, short_only, Some(known)).map(Some)
    }

    /// Whether the entry at the second offset, whose long entries begin at the first, has the name; stays there.
    /// `None` if the index is wrong.
    fn is_named(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        name: &Name,
        short_only: bool,
        (start, entry): (u32, u32),
        known: &mut Folder,
    ) -> Result<Option<bool>, Fault> {
        self.seek_with(disk, place, start, Some(known))?;
        let mut run = LongRun::NONE;
        place.long_start = None;
        loop {
            let first = self.load_entry(disk, place)?;
            let attributes = self.window.byte(place.at() + AT_ATTRIBUTES) & ATTRIBUTES;
            place.attributes = attributes;
            let here = place.offset == entry;
            let fits = if here { attributes & LABEL == 0 } else { attributes == LONG_NAME };
            if first == 0 || first == DELETED || !fits {
                debug_assert!(false, "the index of a folder leads to an entry that is none");
                known.note_damage();
                return Ok(None);
            }
            if here {
                let short = self.short_name(place.at());
                let same = run.belongs_to(&short) || ((short_only || !name.lossy) && short == name.short);
                return Ok(Some(same));
            }
            let sum = self.window.byte(place.at() + AT_LONG_SUM);
            if run.take(first, sum, || self.long_part_is(place.at(), first, &name.long)) {
                place.long_start = Some(place.offset);
            }
            if !self.advance_with(disk, place, false, Some(known))? {
                return Err(Fault::Corrupt);
            }
        }
    }

    /// Looks for a name from here on, and adds to the index what it passes.
    fn walk(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        name: &Name,
        short_only: bool,
        known: Option<&mut Folder>,
    ) -> Result<bool, Fault> {
        let mut run = LongRun::NONE;
        let mut watch = Watch::new(known);
        place.long_start = None;
        loop {
            let first = self.load_entry(disk, place)?;
            if first == 0 {
                watch.end();
                return Ok(false);
            }
            let attributes = self.window.byte(place.at() + AT_ATTRIBUTES) & ATTRIBUTES;
            place.attributes = attributes;
            if first == DELETED || (attributes & LABEL != 0 && attributes != LONG_NAME) {
                run = LongRun::NONE;
                place.long_start = None;
                watch.gap(place);
            } else if attributes == LONG_NAME {
                watch.long(place, self.entry(place.at()));
                if !short_only {
                    let sum = self.window.byte(place.at() + AT_LONG_SUM);
                    if run.take(first, sum, || self.long_part_is(place.at(), first, &name.long)) {
                        place.long_start = Some(place.offset);
                    }
                }
            } else {
                let short = self.short_name(place.at());
                watch.entry(place, &short);
                if run.belongs_to(&short) || ((short_only || !name.lossy) && short == name.short) {
                    return Ok(true);
                }
                run = LongRun::NONE;
                place.long_start = None;
            }
            if !self.advance_with(disk, place, false, watch.known.as_deref_mut())? {
                watch.end();
                return Ok(false);
            }
        }
    }

    /// Finds `count` free entries in a row from the folder's start, growing it if needed, and stays at the
    /// last of them.
    pub(super) fn find_room(
        &mut self,
        disk: &mut dyn DiskIo,
        place: &mut Place,
        count: u32,
    ) -> Result<(), Fault> {
        let mut known = self.index.take(place.folder);
        let from = known.as_ref().map_or(0, |known| known.room_from(count));
        // The last entry before it is there; it may be the folder's last.
        self.seek_with(disk, place, from.saturating_sub(ENTRY), known.as_mut())?;
        if from > 0 && !self.advance_with(disk, place, true, known.as_mut())? {
            return Err(Fault::Denied);
        }
        let mut free = 0;
        loop {
            let first = self.load_entry(disk, place)?;
            free = if first == DELETED || first == 0 { free + 1 } else { 0 };
            if free == count {
                break;
            }
            if !self.advance_with(disk, place, true, known.as_mut())? {
                return Err(Fault::Denied);
            }
        }
        if let Some(mut known) = known {
            let start = place.offset.checked_sub((count - 1) * ENTRY).ok_or(Fault::Corrupt)?;
            known.take_room(start, count);
            self.index.put(known);
        }
        Ok(())
    }

    /// Whether the long entry at `at` has the right part of the name.
    fn long_part_is(&self, at: usize, first: u8, name: &[u16]) -> bool {
        let Some(part) = (first & 0x3F).checked_sub(1) else { return false };
        if self.window.word(at + AT_CLUSTER_LOW) != 0 {
            return false;
        }
        let mut expected = name.iter().copied().chain([0]).skip(usize::from(part) * 13);
        let mut ended = false;
        for character in AT_LONG.map(|offset| self.window.word(at + offset)) {
            if ended {
                if character != 0xFFFF {
                    return false;
                }
            } else if expected.next().map(super::codepage::capital)
                == Some(super::codepage::capital(character))
            {
                ended = character == 0;
            } else {
                return false;
            }
        }
        // A last part without end mark must be where the name ends.
        first & LAST_LONG == 0 || ended || expected.next().is_none_or(|next| next == 0)
    }
}
