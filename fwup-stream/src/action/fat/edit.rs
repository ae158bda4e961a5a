//! What changes entries and not contents: folders, names, attributes, labels (fw-format §15.5).

use super::codepage::{capital, decode, encode};
use super::error::Fault;
use super::file::{AT_MODIFIED, Opening, TIME};
use super::folder::{ARCHIVE, AT_ATTRIBUTES, FOLDER, HIDDEN, LABEL, Place, READ_ONLY, SYSTEM};
use super::limits::PATH_BYTES;
use super::name::DELETED;
use super::path::Target;
use super::volume::Volume;
use crate::disk::DiskIo;

/// Bytes of a label.
const LABEL_BYTES: usize = 11;

impl Volume {
    /// Makes an empty file unless one is there.
    pub(super) fn touch(&mut self, disk: &mut dyn DiskIo, path: &str) -> Result<(), Fault> {
        let mut file = self.open(disk, path, Opening::Touch)?;
        self.sync_file(disk, &mut file)
    }

    /// Makes a folder unless one is there.
    pub(super) fn make_folder(&mut self, disk: &mut dyn DiskIo, path: &str) -> Result<(), Fault> {
        let (mut place, name) = match self.follow(disk, path)? {
            Target::Entry(place, _) if place.attributes & FOLDER != 0 => return Ok(()),
            Target::Root | Target::Entry(..) => return Err(Fault::Exists),
            Target::Missing(place, name) => (place, name),
        };
        let cluster = self.begin_chain(disk)?.ok_or(Fault::Denied)?;
        self.index.forget(cluster);
        self.blank_cluster(disk, cluster)?;
        let parent = place.folder;
        for (at, cluster, dots) in [(0, cluster, *b".          "), (32, parent, *b"..         ")] {
            self.window.put(at, &dots);
            self.window.put(at + AT_ATTRIBUTES, &[FOLDER]);
            self.window.put(at + AT_MODIFIED, &TIME);
            self.set_entry_cluster(at, cluster);
        }
        if let Err(fault) = self.register(disk, &mut place, &name) {
            // Give the cluster back; the reason that counts is the first one.
            let _ = self.free_chain(disk, cluster);
            return Err(fault);
        }
        let at = place.at();
        self.window.put(at + AT_MODIFIED, &TIME);
        self.set_entry_cluster(at, cluster);
        self.window.put(at + AT_ATTRIBUTES, &[FOLDER]);
        self.sync(disk)
    }

    /// Deletes a file or an empty folder.
    pub(super) fn remove(&mut self, disk: &mut dyn DiskIo, path: &str) -> Result<(), Fault> {
        let mut place = match self.follow(disk, path)? {
            Target::Root => return Err(Fault::InvalidName),
            Target::Missing(..) => return Err(Fault::NoFile),
            Target::Entry(place, _) => place,
        };
        if place.attributes & READ_ONLY != 0 {
            return Err(Fault::Denied);
        }
        let cluster = self.entry_cluster(place.at());
        if place.attributes & FOLDER != 0 {
            let mut inside = Place::start_of(cluster);
            self.seek(disk, &mut inside, 0)?;
            if self.next_entry(disk, &mut inside, false)? {
                return Err(Fault::Denied);
            }
        }
        self.unregister(disk, &mut place)?;
        if cluster != 0 {
            self.free_chain(disk, cluster)?;
        }
        self.sync(disk)
    }

    /// Gives a file or folder another name or place.
    pub(super) fn rename(&mut self, disk: &mut dyn DiskIo, from: &str, to: &str) -> Result<(), Fault> {
        let mut old = match self.follow(disk, from)? {
            Target::Root => return Err(Fault::InvalidName),
            Target::Missing(..) => return Err(Fault::NoFile),
            Target::Entry(place, _) => place,
        };
        let entry: [u8; 32] = self
            .window
            .bytes()
            .get(old.at()..)
            .and_then(<[u8]>::first_chunk)
            .copied()
            .ok_or(Fault::Corrupt)?;
        let (mut new, name) = match self.follow(disk, to)? {
            Target::Missing(place, name) => (place, name),
            // Only the letters' case changes.
            Target::Entry(place, name) if (place.folder, place.offset) == (old.folder, old.offset) => {
                (place, name)
            }
            Target::Root | Target::Entry(..) => return Err(Fault::Exists),
        };
        let is_folder = entry[AT_ATTRIBUTES] & FOLDER != 0;
        if is_folder && old.folder != new.folder {
            self.load_entry(disk, &old)?;
            let own = self.entry_cluster(old.at());
            self.refuse_inside(disk, own, new.folder)?;
        }
        self.register(disk, &mut new, &name)?;
        let at = new.at();
        let attributes = if is_folder { entry[AT_ATTRIBUTES] } else { entry[AT_ATTRIBUTES] | ARCHIVE };
        self.window.put(at + AT_ATTRIBUTES, &[attributes]);
        self.window.put(at + 13, entry.split_at(13).1);
        if is_folder && old.folder != new.folder {
            let own = self.geometry.sector_of(self.entry_cluster(at)).ok_or(Fault::Corrupt)?;
            self.load(disk, own)?;
            if self.window.byte(32 + 1) == b'.' {
                self.set_entry_cluster(32, new.folder);
            }
        }
        self.unregister(disk, &mut old)?;
        self.sync(disk)
    }

    /// Fails if `folder` is `own` or lies in it. FatFs would move a folder into itself, which cuts it off from
    /// the root with all that it holds.
    fn refuse_inside(&mut self, disk: &mut dyn DiskIo, own: u32, folder: u32) -> Result<(), Fault> {
        let mut folder = folder;
        for _ in 0..PATH_BYTES {
            if folder == own {
                return Err(Fault::Denied);
            }
            if folder == 0 {
                return Ok(());
            }
            let first = self.geometry.sector_of(folder).ok_or(Fault::Corrupt)?;
            self.load(disk, first)?;
            folder = self.entry_cluster(32);
        }
        Err(Fault::Corrupt)
    }

    /// Sets those of the attributes R, H and S that are among `letters`, and clears the others of the three.
    pub(super) fn set_attributes(
        &mut self,
        disk: &mut dyn DiskIo,
        path: &str,
        letters: &str,
    ) -> Result<(), Fault> {
        let wanted = letters.bytes().fold(0, |bits, letter| {
            bits | match letter.to_ascii_uppercase() {
                b'R' => READ_ONLY,
                b'H' => HIDDEN,
                b'S' => SYSTEM,
                _ => 0,
            }
        });
        let place = match self.follow(disk, path)? {
            Target::Root => return Err(Fault::InvalidName),
            Target::Missing(..) => return Err(Fault::NoFile),
            Target::Entry(place, _) => place,
        };
        let at = place.at() + AT_ATTRIBUTES;
        let kept = self.window.byte(at) & !(READ_ONLY | HIDDEN | SYSTEM);
        self.window.put(at, &[kept | wanted]);
        self.sync(disk)
    }

    /// Sets the label in the root folder, or removes it when `label` is empty.
    pub(super) fn set_label(&mut self, disk: &mut dyn DiskIo, label: &str) -> Result<(), Fault> {
        let field = label_field(label)?;
        let mut place = Place::start_of(0);
        self.seek(disk, &mut place, 0)?;
        let found = self.next_entry(disk, &mut place, true)?;
        match (found, field) {
            (true, Some(field)) => {
                self.entry_changes(&place);
                self.window.put(place.at(), &field);
            }
            (true, None) => {
                self.entry_changes(&place);
                self.window.put(place.at(), &[DELETED]);
                if let Some(mut known) = self.index.take(place.folder) {
                    known.free_room(place.offset);
                    self.index.put(known);
                }
            }
            (false, Some(field)) => {
                self.find_room(disk, &mut place, 1)?;
                self.entry_changes(&place);
                let mut entry = [0; 32];
                super::window::put(&mut entry, 0, &field);
                entry[AT_ATTRIBUTES] = LABEL;
                self.window.put(place.at(), &entry);
            }
            (false, None) => return Ok(()),
        }
        self.sync(disk)
    }
}

/// Returns the bytes of a label, padded; `None` for an empty one.
fn label_field(label: &str) -> Result<Option<[u8; LABEL_BYTES]>, Fault> {
    // One byte more than of a path counts, for no slash stands before a label.
    let counted = label.bytes().take(PATH_BYTES + 1).take_while(|byte| *byte >= b' ');
    let mut field = [b' '; LABEL_BYTES];
    let mut places = field.iter_mut();
    for byte in counted {
        let byte = encode(capital(decode(byte))).ok_or(Fault::InvalidName)?;
        if b"+.,;=[]/*:<>|\\\"?\x7F".contains(&byte) {
            return Err(Fault::InvalidName);
        }
        *places.next().ok_or(Fault::InvalidName)? = byte;
    }
    if field[0] == DELETED {
        return Err(Fault::InvalidName);
    }
    Ok(Some(field).filter(|field| field.iter().any(|byte| *byte != b' ')))
}
