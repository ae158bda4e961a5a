//! What of unsynced writes is there after power was lost.

use std::collections::BTreeMap;
use std::io;

use super::medium::Medium;
use super::random::Random;

/// One write that a disk has taken and may still lose.
#[derive(Debug, Clone)]
pub(super) enum Pending {
    Write { offset: u64, data: Vec<u8> },
    Trim { offset: u64, length: u64 },
}

impl Pending {
    /// Its first byte and the one behind its last.
    pub fn range(&self) -> (u64, u64) {
        let (offset, length) = match self {
            Self::Write { offset, data } => (*offset, data.len() as u64),
            Self::Trim { offset, length } => (*offset, *length),
        };
        (offset, offset.saturating_add(length))
    }

    /// Does it to the bytes at `base`.
    pub fn overlay(&self, base: u64, buffer: &mut [u8]) {
        let (from, to) = self.range();
        let (start, end) = (from.max(base), to.min(base.saturating_add(buffer.len() as u64)));
        let index = |value: u64, from: u64| usize::try_from(value - from).unwrap_or(usize::MAX);
        if start >= end {
            return;
        }
        let Some(part) = buffer.get_mut(index(start, base)..index(end, base)) else { return };
        match self {
            Self::Write { data, .. } => {
                let skip = index(start, from);
                if let Some(new) = data.get(skip..skip + part.len()) {
                    part.copy_from_slice(new);
                }
            }
            Self::Trim { .. } => part.fill(0),
        }
    }

    /// Does it to the medium.
    pub fn apply(&self, medium: &mut impl Medium) -> io::Result<()> {
        match self {
            Self::Write { offset, data } => medium.write_at(*offset, data),
            Self::Trim { offset, length } => {
                let (zeros, end) = ([0; 4096], offset.saturating_add(*length));
                let mut at = *offset;
                while at < end {
                    let n = (end - at).min(4096);
                    let part = zeros.get(..usize::try_from(n).unwrap_or_default()).unwrap_or_default();
                    medium.write_at(at, part)?;
                    at += n;
                }
                Ok(())
            }
        }
    }
}

/// A sector and what it may hold when power comes back: what is on the medium or any of what was written
/// since, as disks keep no order among unsynced writes.
#[derive(Debug, Clone)]
struct Sector {
    offset: u64,
    /// The write it came with, and the whole sector then; oldest first. Versions that change nothing are
    /// left out.
    versions: Vec<(usize, Vec<u8>)>,
}

/// All that can become of unsynced writes, sector by sector.
#[derive(Debug, Clone)]
pub(super) struct Losses {
    sectors: Vec<Sector>,
    writes: usize,
}

/// A choice for each sector: 0 is what is on the medium, each other number a version.
type Choice = Vec<usize>;

impl Losses {
    /// Looks at what is pending on a medium whose sectors are whole or not there at all.
    pub fn new(medium: &impl Medium, pending: &[Pending], sector: u64) -> io::Result<Self> {
        let sector = sector.max(1);
        let mut sectors: BTreeMap<u64, (Vec<u8>, Sector)> = BTreeMap::new();
        for (write, pending) in pending.iter().enumerate() {
            let (from, to) = pending.range();
            let mut offset = from - from % sector;
            while offset < to {
                if let std::collections::btree_map::Entry::Vacant(entry) = sectors.entry(offset) {
                    let mut now = vec![0; usize::try_from(sector).unwrap_or(512)];
                    medium.read_at(offset, &mut now)?;
                    entry.insert((now, Sector { offset, versions: Vec::new() }));
                }
                if let Some((now, sector)) = sectors.get_mut(&offset) {
                    let before = now.clone();
                    pending.overlay(offset, now);
                    if *now != before {
                        sector.versions.push((write, now.clone()));
                    }
                }
                offset = offset.saturating_add(sector);
            }
        }
        let sectors = sectors.into_values().map(|(_, sector)| sector);
        let sectors = sectors.filter(|sector| !sector.versions.is_empty()).collect();
        Ok(Self { sectors, writes: pending.len() })
    }

    /// How many sectors would change.
    pub fn sectors(&self) -> usize {
        self.sectors.len()
    }

    /// How many different disks can come of it, up to `most`; `None` when there are more.
    pub fn count(&self, most: usize) -> Option<usize> {
        let step = |all: usize, sector: &Sector| all.checked_mul(sector.versions.len() + 1);
        let all = self.sectors.iter().try_fold(1, |all, sector| step(all, sector).filter(|all| *all <= most));
        all.filter(|all| *all <= most)
    }

    /// One of all possible disks, by number from 0 up to [`Self::count`].
    pub fn numbered(&self, mut number: usize) -> Choice {
        let digit = |sector: &Sector| {
            let base = sector.versions.len() + 1;
            let digit = number % base;
            number /= base;
            digit
        };
        self.sectors.iter().map(digit).collect()
    }

    /// The disk with all that was written, or with none of it.
    pub fn all_or_none(&self, all: bool) -> Choice {
        self.choose(|_, _| all)
    }

    /// One of the possible disks, in one of the ways real ones fail.
    pub fn sampled(&self, random: &mut Random) -> Choice {
        let write = random.below(self.writes);
        let one = random.below(self.sectors.len());
        match random.next() % 10 {
            0 => self.all_or_none(false),
            1 => self.all_or_none(true),
            // In order, up to a write that is torn.
            2 => {
                let coins: Vec<bool> = self.sectors.iter().map(|_| random.coin()).collect();
                self.choose(|at, of| of < write || (of == write && coins.get(at) == Some(&true)))
            }
            // In order, up to a write that is cut off.
            3 => self.choose(|at, of| of < write || (of == write && at < one)),
            // Whole writes, in any order.
            4 => {
                let kept: Vec<bool> = (0..self.writes).map(|_| random.coin()).collect();
                self.choose(|_, of| kept.get(of) == Some(&true))
            }
            5 => self.choose(|_, of| of == write),
            6 => self.choose(|_, of| of != write),
            7 => self.choose(|at, _| at == one),
            8 => self.choose(|at, _| at != one),
            // Any version of any sector.
            _ => self.sectors.iter().map(|sector| random.below(sector.versions.len() + 1)).collect(),
        }
    }

    /// Writes what was chosen.
    pub fn keep(&self, choice: &[usize], medium: &mut impl Medium) -> io::Result<()> {
        for (sector, choice) in self.sectors.iter().zip(choice) {
            if let Some((_, data)) = choice.checked_sub(1).and_then(|at| sector.versions.get(at)) {
                medium.write_at(sector.offset, data)?;
            }
        }
        Ok(())
    }

    /// The newest version of each sector that is kept, by the sector's place in the list and the write.
    fn choose(&self, kept: impl Fn(usize, usize) -> bool) -> Choice {
        let newest = |(at, sector): (usize, &Sector)| {
            let found = sector.versions.iter().rposition(|(write, _)| kept(at, *write));
            found.map_or(0, |version| version + 1)
        };
        self.sectors.iter().enumerate().map(newest).collect()
    }
}
