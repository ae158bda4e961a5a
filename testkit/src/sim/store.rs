//! The folder in which a device keeps a download, behind the same write-back cache as its slots.

use std::collections::BTreeMap;

use nerves_hub_link_protocol::OpenStore;

use super::dice::Rng;
use super::files::Files;
use super::firmware::FirmwareId;
use super::violation::Broken;

/// Bytes that are written whole or not at all.
const SECTOR: usize = 512;

/// What is kept of one file. Survives restarts of the program, and what was synced survives power cuts.
#[derive(Debug, Clone, Default)]
pub(super) struct Folder {
    key: String,
    manifest: String,
    part_size: u64,
    parts: BTreeMap<u32, Part>,
    /// A write failed, and nothing more is written until it is opened again.
    pub failed: bool,
}

#[derive(Debug, Clone, Default)]
struct Part {
    pieces: Vec<Piece>,
    length: u64,
    /// Bytes that survive a power cut.
    safe: u64,
}

/// Bytes in a row.
#[derive(Debug, Clone)]
enum Piece {
    /// As they were published: of which file, from where, and how many. A fleet keeps the same file many times.
    Published { file: FirmwareId, from: u64, length: u64 },
    /// Others.
    Other(Vec<u8>),
}

impl Part {
    fn push(&mut self, piece: Piece) {
        self.length += piece.length();
        if let Piece::Published { file, from, length } = piece
            && let Some(Piece::Published { file: its, from: begin, length: so_far }) = self.pieces.last_mut()
            && (file, from) == (*its, *begin + *so_far)
        {
            *so_far += length;
        } else {
            self.pieces.push(piece);
        }
    }

    /// Some of its bytes.
    fn read(&self, files: &mut Files, within: u64, most: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut begin = 0;
        for piece in &self.pieces {
            let (from, length) = (within.saturating_sub(begin), piece.length());
            begin += length;
            let wanted = length.saturating_sub(from).min(most - bytes.len() as u64);
            let (skip, wanted) = (usize::try_from(from), usize::try_from(wanted));
            let (Ok(skip), Ok(wanted @ 1..)) = (skip, wanted) else { continue };
            match piece {
                Piece::Published { file, from, .. } => {
                    let old = bytes.len();
                    bytes.resize(old + wanted, 0);
                    files.read(*file, *from + skip as u64, bytes.get_mut(old..).unwrap_or_default());
                }
                Piece::Other(all) => bytes.extend(all.get(skip..skip + wanted).unwrap_or_default()),
            }
        }
        bytes
    }
}

impl Piece {
    fn length(&self) -> u64 {
        match self {
            Self::Published { length, .. } => *length,
            Self::Other(bytes) => bytes.len() as u64,
        }
    }
}

impl Folder {
    /// Opens it: what another file left is deleted. Returns the parts that are there and their lengths.
    pub fn open(&mut self, order: &OpenStore) -> Vec<(u32, u64)> {
        if self.key != order.key || self.manifest != order.manifest {
            self.parts.clear();
        }
        self.failed = false;
        (self.key, self.manifest) = (order.key.clone(), order.manifest.clone());
        self.part_size = order.part_size;
        self.parts.retain(|part, _| *part < order.parts);
        self.parts.iter().map(|(part, held)| (*part, held.length)).collect()
    }

    /// Writes bytes of the file, which must go on where the part ends, or begin it anew. `published` says of which file
    /// they are, and from where, if they are as published.
    pub fn write(
        &mut self,
        offset: u64,
        mut bytes: &[u8],
        mut published: Option<(FirmwareId, u64)>,
    ) -> Result<(), Broken> {
        let mut offset = offset;
        while !bytes.is_empty() {
            let (part, within) = (offset / self.part_size, offset % self.part_size);
            let room = usize::try_from(self.part_size - within).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            let length = now.len() as u64;
            let held = self.parts.entry(u32::try_from(part).unwrap_or(u32::MAX)).or_default();
            if within == 0 {
                *held = Part::default();
            }
            if within != held.length {
                return Err(Broken::Gap { offset, kept: part * self.part_size + held.length });
            }
            held.push(match &mut published {
                Some((file, at)) => {
                    let from = *at;
                    *at += length;
                    Piece::Published { file: *file, from, length }
                }
                None => Piece::Other(now.to_vec()),
            });
            offset += length;
            bytes = rest;
        }
        Ok(())
    }

    /// Bytes from an offset on, up to the end of their part.
    pub fn read(&self, files: &mut Files, offset: u64, most: u64) -> Vec<u8> {
        let (part, within) = (offset / self.part_size.max(1), offset % self.part_size.max(1));
        let held = u32::try_from(part).ok().and_then(|part| self.parts.get(&part));
        held.map_or_else(Vec::new, |held| held.read(files, within, most))
    }

    /// A part is on the disk for good.
    pub fn commit(&mut self, part: u32) {
        if let Some(held) = self.parts.get_mut(&part) {
            held.safe = held.length;
        }
    }

    pub fn drop_part(&mut self, part: u32) {
        self.parts.remove(&part);
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// All bytes of a part that are there.
    pub fn whole(&self, files: &mut Files, part: u32) -> Vec<u8> {
        self.parts.get(&part).map_or_else(Vec::new, |held| held.read(files, 0, u64::MAX))
    }

    /// Power goes: what was not synced is lost, or made it after all; with `tear`, some of its sectors did and others
    /// hold nothing, or it ends early. Returns whether something is torn.
    pub fn lose_power(&mut self, files: &mut Files, rng: &mut Rng, tear: bool) -> bool {
        let mut tore = false;
        for held in self.parts.values_mut().filter(|held| held.safe < held.length) {
            let (safe, kept) = (held.safe, held.length - held.safe);
            let mut bytes = held.read(files, 0, u64::MAX);
            let truncate =
                |bytes: &mut Vec<u8>, to| bytes.truncate(usize::try_from(to).unwrap_or(usize::MAX));
            match rng.below(4) {
                0 if tear => {
                    truncate(&mut bytes, safe + rng.below(kept + 1));
                    tore |= (bytes.len() as u64) < held.length;
                }
                1 | 2 if tear => {
                    let whole = usize::try_from(safe).unwrap_or(usize::MAX).div_ceil(SECTOR);
                    for sector in bytes.chunks_mut(SECTOR).skip(whole) {
                        if rng.one_in(2) {
                            sector.fill(0);
                            tore = true;
                        }
                    }
                }
                0 | 1 => truncate(&mut bytes, safe),
                _ => {}
            }
            *held = Part {
                safe: bytes.len() as u64,
                length: bytes.len() as u64,
                pieces: vec![Piece::Other(bytes)],
            };
        }
        self.parts.retain(|_, held| held.length > 0);
        tore
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::firmware::Firmware;

    #[test]
    fn what_is_kept_reads_as_it_was_written_however_it_is_held() {
        let mut files = Files::new(7, Firmware::new(7, 0, 5000, true, true));
        let mut all = vec![0; 5000];
        files.read(0, 0, &mut all);
        all[1234] ^= 1;
        let mut folder = Folder { part_size: 2000, ..Folder::default() };
        for (from, to) in [(0, 700), (700, 1200), (1200, 1300), (1300, 4100), (4100, 5000)] {
            let published = (from != 1200).then_some((0, from as u64));
            folder.write(from as u64, &all[from..to], published).unwrap();
        }
        for from in [0, 1, 699, 700, 1250, 1999, 2000, 3999, 4999] {
            for most in [1, 600, 2000] {
                let end = (from + most).min(5000).min((from / 2000 + 1) * 2000);
                let read = folder.read(&mut files, from as u64, most as u64);
                assert!(read == all[from..end], "{most} from {from}: {} bytes", read.len());
            }
        }
        assert!(folder.whole(&mut files, 0) == all[..2000]);
        assert!(folder.read(&mut files, 5000, 10).is_empty());
        assert!(folder.write(4999, &[0], None).is_err(), "an overlap");
    }

    #[test]
    fn what_was_committed_survives_any_loss_of_power() {
        let mut files = Files::new(7, Firmware::new(7, 0, 5000, true, true));
        let mut all = vec![0; 5000];
        files.read(0, 0, &mut all);
        let (mut whole, mut shorter, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let mut folder = Folder { part_size: u64::MAX, ..Folder::default() };
            folder.write(0, &all[..1000], Some((0, 0))).unwrap();
            folder.commit(0);
            folder.write(1000, &all[1000..], Some((0, 1000))).unwrap();
            let tore = folder.lose_power(&mut files, &mut Rng::new(seed), seed % 2 == 0);
            let left = folder.whole(&mut files, 0);
            assert!(left[..1000] == all[..1000]);
            whole += u32::from(left == all);
            shorter += u32::from(left.len() < 5000);
            torn += u32::from(left.len() == 5000 && left != all);
            assert_eq!(tore, seed % 2 == 0 && left != all);
        }
        assert!(whole > 20 && shorter > 20 && torn > 20, "{whole} {shorter} {torn}");
    }
}
