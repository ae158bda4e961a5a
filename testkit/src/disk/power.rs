//! A disk that loses power.

use std::io;

use fwup_stream::disk::{Extent, Target};

use super::layout::BLOCK;
use super::medium::Medium;

/// A destination that, when power goes, keeps what was synced and a seeded choice of what was not:
/// single sectors of unsynced writes may be lost or kept in any order, as real disks do.
///
/// Unsynced writes are held in memory.
#[derive(Debug)]
pub struct PowerLossDisk<M> {
    medium: M,
    length: u64,
    pending: Vec<Pending>,
    cut_at: Option<u64>,
    writes: u64,
    syncs: u64,
    dark: bool,
    state: u64,
}

#[derive(Debug)]
enum Pending {
    Write { offset: u64, data: Vec<u8> },
    Trim { offset: u64, length: u64 },
}

impl<M: Medium> PowerLossDisk<M> {
    /// A disk of `length` bytes with this content. Power stays on until [`Self::cut_at`] says otherwise.
    pub fn new(medium: M, length: u64, seed: u64) -> Self {
        Self {
            medium,
            length,
            pending: Vec::new(),
            cut_at: None,
            writes: 0,
            syncs: 0,
            dark: false,
            state: seed,
        }
    }

    /// Power goes during this write, counted from 1; it and everything after it fails. 0 is before
    /// anything.
    #[must_use]
    pub fn cut_at(mut self, write: u64) -> Self {
        self.cut_at = Some(write);
        self.dark = write == 0;
        self
    }

    /// Writes so far, the one that failed included.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Whether power is gone.
    pub fn is_dark(&self) -> bool {
        self.dark
    }

    /// What is on the disk when power comes back. When it never went, it goes now.
    pub fn survivor(mut self) -> io::Result<M> {
        for pending in std::mem::take(&mut self.pending) {
            let Pending::Write { offset, data } = pending else {
                // A trim that did not happen leaves what was there; one that did, zeros. The former is
                // the harder case for whoever relies on zeros, the latter for whoever relies on data.
                if let Pending::Trim { offset, length } = pending
                    && self.coin()
                {
                    zero(&mut self.medium, offset, length)?;
                }
                continue;
            };
            // Whole writes are kept or lost as often as single sectors of them.
            let fate = self.random() % 4;
            let mut at = offset;
            for sector in data.chunks(usize::try_from(BLOCK).unwrap_or(512)) {
                let kept = match fate {
                    0 => false,
                    1 => true,
                    _ => self.coin(),
                };
                if kept {
                    self.medium.write_at(at, sector)?;
                }
                at += sector.len() as u64;
            }
        }
        Ok(self.medium)
    }

    /// Switches off in an orderly way: everything written is on the disk.
    pub fn shut_down(mut self) -> io::Result<M> {
        self.apply()?;
        Ok(self.medium)
    }

    fn apply(&mut self) -> io::Result<()> {
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Write { offset, data } => self.medium.write_at(offset, &data)?,
                Pending::Trim { offset, length } => zero(&mut self.medium, offset, length)?,
            }
        }
        Ok(())
    }

    fn power(&self) -> io::Result<()> {
        if self.dark { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn coin(&mut self) -> bool {
        self.random() & 1 == 1
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) >> 7
    }
}

impl<M: Medium> Target for PowerLossDisk<M> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.power()?;
        let have = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = have.min(buffer.len());
        let buffer = buffer.get_mut(..n).unwrap_or_default();
        self.medium.read_at(offset, buffer)?;
        for pending in &self.pending {
            match pending {
                Pending::Write { offset: at, data } => {
                    overlay(offset, buffer, *at, data.len(), |part, from| {
                        if let Some(new) = data.get(from..from + part.len()) {
                            part.copy_from_slice(new);
                        }
                    });
                }
                Pending::Trim { offset: at, length } => {
                    let length = usize::try_from(*length).unwrap_or(usize::MAX);
                    overlay(offset, buffer, *at, length, |part, _| part.fill(0));
                }
            }
        }
        Ok(n)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.power()?;
        self.writes += 1;
        self.length = self.length.max(offset.saturating_add(data.len() as u64));
        self.pending.push(Pending::Write { offset, data: data.to_vec() });
        self.dark = self.cut_at.is_some_and(|cut| self.writes >= cut);
        self.power()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.power()?;
        self.syncs += 1;
        self.apply()
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.power()?;
        self.pending.push(Pending::Trim { offset, length });
        Ok(())
    }

    fn extent(&self) -> Extent {
        Extent::Soft(self.length)
    }
}

/// Calls `act` with the part of `buffer` (which starts at `base`) that `at..at + length` covers, and
/// with how far into that range the part begins.
fn overlay(base: u64, buffer: &mut [u8], at: u64, length: usize, act: impl FnOnce(&mut [u8], usize)) {
    let end = at.saturating_add(length as u64).min(base.saturating_add(buffer.len() as u64));
    let start = at.max(base);
    let index = |value: u64, from: u64| usize::try_from(value.saturating_sub(from)).unwrap_or(usize::MAX);
    if start < end
        && let Some(part) = buffer.get_mut(index(start, base)..index(end, base))
    {
        act(part, index(start, at));
    }
}

fn zero(medium: &mut impl Medium, mut offset: u64, mut length: u64) -> io::Result<()> {
    let zeros = [0; 4096];
    while length > 0 {
        let n = length.min(4096);
        medium.write_at(offset, zeros.get(..usize::try_from(n).unwrap_or(0)).unwrap_or_default())?;
        offset += n;
        length -= n;
    }
    Ok(())
}
