//! The folder in which a device keeps a download, behind the same write-back cache as its slots.

use std::collections::BTreeMap;

use nerves_hub_link_protocol::OpenStore;

use super::dice::Rng;
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
}

#[derive(Debug, Clone, Default)]
struct Part {
    bytes: Vec<u8>,
    /// Bytes that survive a power cut.
    safe: usize,
}

impl Folder {
    /// Opens it: what another file left is deleted. Returns the parts that are there and their lengths.
    pub fn open(&mut self, order: &OpenStore) -> Vec<(u32, u64)> {
        if self.key != order.key || self.manifest != order.manifest {
            self.parts.clear();
        }
        (self.key, self.manifest) = (order.key.clone(), order.manifest.clone());
        self.part_size = order.part_size;
        self.parts.retain(|part, _| *part < order.parts);
        self.parts.iter().map(|(part, held)| (*part, held.bytes.len() as u64)).collect()
    }

    /// Writes bytes of the file. They must go on where the part ends, or begin it anew.
    pub fn write(&mut self, offset: u64, mut bytes: &[u8]) -> Result<(), Broken> {
        let mut offset = offset;
        while !bytes.is_empty() {
            let (part, within) = (offset / self.part_size, offset % self.part_size);
            let room = usize::try_from(self.part_size - within).unwrap_or(usize::MAX);
            let (piece, rest) = bytes.split_at(room.min(bytes.len()));
            let held = self.parts.entry(u32::try_from(part).unwrap_or(u32::MAX)).or_default();
            if within == 0 {
                *held = Part::default();
            }
            if within != held.bytes.len() as u64 {
                return Err(Broken::Gap { offset, kept: part * self.part_size + held.bytes.len() as u64 });
            }
            held.bytes.extend(piece);
            offset += piece.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Bytes from an offset on, up to the end of their part.
    pub fn read(&self, offset: u64, most: u64) -> &[u8] {
        let (part, within) = (offset / self.part_size.max(1), offset % self.part_size.max(1));
        let held = u32::try_from(part).ok().and_then(|part| self.parts.get(&part));
        let bytes = held.map_or(&[][..], |held| held.bytes.as_slice());
        let rest = usize::try_from(within).ok().and_then(|within| bytes.get(within..)).unwrap_or_default();
        rest.get(..usize::try_from(most).unwrap_or(usize::MAX)).unwrap_or(rest)
    }

    /// A part is on the disk for good.
    pub fn commit(&mut self, part: u32) {
        if let Some(held) = self.parts.get_mut(&part) {
            held.safe = held.bytes.len();
        }
    }

    pub fn drop_part(&mut self, part: u32) {
        self.parts.remove(&part);
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes of a part that are there, all of them.
    pub fn whole(&self, part: u32) -> &[u8] {
        self.parts.get(&part).map_or(&[], |held| held.bytes.as_slice())
    }

    /// Power goes: what was not synced is lost, or made it after all; with `tear`, some of its sectors did and others
    /// hold nothing, or it ends early. Returns whether something is torn.
    pub fn lose_power(&mut self, rng: &mut Rng, tear: bool) -> bool {
        let mut tore = false;
        for held in self.parts.values_mut() {
            let kept = held.bytes.len() - held.safe;
            match rng.below(4) {
                0 if tear => {
                    let some = usize::try_from(rng.below(kept as u64 + 1)).unwrap_or(0);
                    held.bytes.truncate(held.safe + some);
                    tore |= some < kept;
                }
                1 | 2 if tear => {
                    let lost = held.bytes.chunks_mut(SECTOR).skip(held.safe.div_ceil(SECTOR));
                    for sector in lost {
                        if rng.one_in(2) {
                            sector.fill(0);
                            tore = true;
                        }
                    }
                }
                0 | 1 => held.bytes.truncate(held.safe),
                _ => {}
            }
            held.safe = held.bytes.len();
        }
        self.parts.retain(|_, held| !held.bytes.is_empty());
        tore
    }
}
