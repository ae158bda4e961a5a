//! What waits to be sent in batches: bounded, the oldest dropped first, and told how many.

use alloc::collections::VecDeque;

use super::times::{Times, iso};
use crate::time::{Instant, UnixMicros};

/// When something happened: on the monotonic clock, or as the application says.
#[derive(Clone, Copy)]
pub(super) enum Stamp {
    Here(Instant),
    Told(UnixMicros),
}

impl Stamp {
    pub(super) fn new(now: Instant, told: Option<UnixMicros>) -> Self {
        // One that can't be written is none.
        told.filter(|told| iso(*told).is_some()).map_or(Self::Here(now), Self::Told)
    }

    /// Returns the time, if the device knows it by now.
    pub(super) fn resolve(self, times: Times) -> Option<UnixMicros> {
        match self {
            Self::Here(at) => times.at(at),
            Self::Told(at) => Some(at),
        }
    }
}

/// Things that happened, oldest first.
pub(super) struct Backlog<T> {
    items: VecDeque<Item<T>>,
    bytes: usize,
    most: usize,
    most_bytes: usize,
    gap: Option<Gap>,
}

/// Something that happened.
pub(super) struct Item<T> {
    pub(super) stamp: Stamp,
    pub(super) what: T,
    bytes: usize,
}

/// What was dropped since that was last told.
#[derive(Clone, Copy)]
pub(super) struct Gap {
    pub(super) count: u64,
    /// When the first of it happened.
    pub(super) since: Stamp,
}

impl<T> Backlog<T> {
    pub(super) const fn new(most: usize, most_bytes: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, most, most_bytes, gap: None }
    }

    /// Adds something of a size. Returns how much older had to go for it.
    pub(super) fn push(&mut self, stamp: Stamp, what: T, bytes: usize) -> u64 {
        self.items.push_back(Item { stamp, what, bytes });
        self.bytes = self.bytes.saturating_add(bytes);
        let mut dropped = 0;
        while self.items.len() > self.most || (self.bytes > self.most_bytes && self.items.len() > 1) {
            // None is left if even a single one is too many.
            let Some(oldest) = self.items.pop_front() else { break };
            debug_assert!(self.bytes >= oldest.bytes, "{} bytes hold {}", self.bytes, oldest.bytes);
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            let gap = self.gap.get_or_insert(Gap { count: 0, since: oldest.stamp });
            gap.count = gap.count.saturating_add(1);
            dropped += 1;
        }
        dropped
    }

    /// Takes what was dropped, to be told.
    pub(super) const fn take_gap(&mut self) -> Option<Gap> {
        self.gap.take()
    }

    /// Takes the oldest, up to a number and a size, but one at least.
    pub(super) fn take(&mut self, most: usize, most_bytes: usize) -> impl Iterator<Item = Item<T>> {
        let mut bytes = 0_usize;
        let fits = self.items.iter().take(most).take_while(|item| {
            bytes = bytes.saturating_add(item.bytes);
            bytes <= most_bytes
        });
        let count = fits.count().max(most.min(1)).min(self.items.len());
        let taken: usize = self.items.iter().take(count).map(|item| item.bytes).sum();
        debug_assert!(self.bytes >= taken, "{} bytes hold {taken}", self.bytes);
        self.bytes = self.bytes.saturating_sub(taken);
        self.items.drain(..count)
    }

    /// Returns whether there is nothing to send, not even word of a gap.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.gap.is_none()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.bytes = 0;
        self.gap = None;
    }
}
