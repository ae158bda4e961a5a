//! A disk that loses power.

use std::io;

use fwup_stream::disk::{Extent, Target};

use super::layout::BLOCK;
use super::loss::{Losses, Pending};
use super::medium::Medium;
use super::random::Random;

/// When power goes. Calls are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// During this write: any part of it may be there.
    Write(u64),
    /// During this sync: any part of what it was to make safe may be there.
    Sync(u64),
}

/// A destination with a write cache. When power goes, it keeps what was synced and a seeded choice of what was
/// not: single sectors of unsynced writes are there or not, whatever their order, as on real disks.
///
/// Unsynced writes are held in memory. A clone is a snapshot, cache included.
#[derive(Debug, Clone)]
pub struct PowerLossDisk<M> {
    medium: M,
    extent: Extent,
    sector: u64,
    pending: Vec<Pending>,
    cut: Option<Cut>,
    writes: u64,
    syncs: u64,
    dark: bool,
    random: Random,
}

impl<M: Medium> PowerLossDisk<M> {
    /// A disk of `length` bytes with this content that grows when written behind its end. Power stays on until
    /// [`Self::cut`] says otherwise.
    pub fn new(medium: M, length: u64, seed: u64) -> Self {
        Self {
            medium,
            extent: Extent::Soft(length),
            sector: BLOCK,
            pending: Vec::new(),
            cut: None,
            writes: 0,
            syncs: 0,
            dark: false,
            random: Random::new(seed),
        }
    }

    /// Makes it a device of `length` bytes: what is written behind its end fails.
    #[must_use]
    pub fn hard_end(mut self, length: u64) -> Self {
        self.extent = Extent::Hard(length);
        self
    }

    /// Makes this many bytes what is written together, whole or not at all: a power of two from 512, which it
    /// is at first, to 131072.
    #[must_use]
    pub fn sectors_of(mut self, bytes: u32) -> Self {
        self.sector = u64::from(bytes).next_power_of_two().clamp(BLOCK, 128 * 1024);
        self
    }

    /// Power goes during this write, counted from 1; it and everything after it fails. 0 is before
    /// anything.
    #[must_use]
    pub fn cut_at(mut self, write: u64) -> Self {
        self.cut(Cut::Write(write));
        self.dark = write == 0;
        self
    }

    /// Says when power goes; everything from then on fails. Counts go on from what was done before.
    pub fn cut(&mut self, cut: Cut) {
        self.cut = Some(cut);
    }

    /// Power comes back, and what is left of unsynced writes is on the disk. When it never went, it went now.
    /// No other cut is planned.
    pub fn power_on(&mut self) -> io::Result<()> {
        let losses = Losses::new(&self.medium, &self.pending, self.sector)?;
        self.pending.clear();
        losses.keep(&losses.sampled(&mut self.random), &mut self.medium)?;
        self.dark = false;
        self.cut = None;
        Ok(())
    }

    /// Writes so far, the one that failed included.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Syncs so far, the one that failed included.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Whether power is gone.
    pub fn is_dark(&self) -> bool {
        self.dark
    }

    /// What is synced.
    pub fn medium(&self) -> &M {
        &self.medium
    }

    /// What is on the disk when power comes back. When it never went, it goes now.
    pub fn survivor(mut self) -> io::Result<M> {
        self.power_on()?;
        Ok(self.medium)
    }

    /// Switches off in an orderly way: everything written is on the disk.
    pub fn shut_down(mut self) -> io::Result<M> {
        self.apply()?;
        Ok(self.medium)
    }

    fn apply(&mut self) -> io::Result<()> {
        for pending in std::mem::take(&mut self.pending) {
            pending.apply(&mut self.medium)?;
        }
        Ok(())
    }

    fn length(&self) -> u64 {
        match self.extent {
            Extent::Soft(length) | Extent::Hard(length) => length,
            Extent::Unknown => 0,
        }
    }

    fn power(&self) -> io::Result<()> {
        if self.dark { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }
}

impl<M: Medium> Target for PowerLossDisk<M> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.power()?;
        let have = usize::try_from(self.length().saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = have.min(buffer.len());
        let buffer = buffer.get_mut(..n).unwrap_or_default();
        self.medium.read_at(offset, buffer)?;
        for pending in &self.pending {
            pending.overlay(offset, buffer);
        }
        Ok(n)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.power()?;
        let end = offset.saturating_add(data.len() as u64);
        match &mut self.extent {
            Extent::Hard(length) if end > *length => return Err(io::ErrorKind::StorageFull.into()),
            Extent::Soft(length) => *length = end.max(*length),
            _ => {}
        }
        self.writes += 1;
        self.pending.push(Pending::Write { offset, data: data.to_vec() });
        self.dark = matches!(self.cut, Some(Cut::Write(cut)) if self.writes >= cut);
        self.power()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.power()?;
        self.syncs += 1;
        self.dark = matches!(self.cut, Some(Cut::Sync(cut)) if self.syncs >= cut);
        self.power()?;
        self.apply()
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.power()?;
        self.pending.push(Pending::Trim { offset, length });
        Ok(())
    }

    fn extent(&self) -> Extent {
        self.extent
    }

    fn granularity(&self) -> usize {
        usize::try_from(self.sector).unwrap_or(512)
    }
}
