//! A disk in memory that many can share.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::medium::Medium;

/// Bytes of a page: what is copied when one byte changes.
const PAGE: usize = 4096;
const PAGE_BYTES: u64 = 4096;

type Page = Arc<[u8]>;

/// A sparse disk in memory whose clones share what they have in common.
///
/// A clone costs as much as what was changed since [`Self::settle`], so that thousands of devices can begin
/// with the same disk. What was never written reads as zeros.
#[derive(Debug, Clone, Default)]
pub struct Image {
    base: Arc<BTreeMap<u64, Page>>,
    own: BTreeMap<u64, Page>,
}

impl Image {
    /// A disk of zeros.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes what is on the disk now the part that clones share.
    pub fn settle(&mut self) {
        if !self.own.is_empty() {
            Arc::make_mut(&mut self.base).append(&mut self.own);
        }
    }

    /// The bytes of a range.
    pub fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.get(offset, &mut bytes);
        bytes
    }

    /// Whether both have the same bytes in this range. Pages that are shared are not looked at.
    pub fn same(&self, other: &Self, offset: u64, length: u64) -> bool {
        let end = offset.saturating_add(length);
        let mut at = offset;
        while at < end {
            let next = (at / PAGE_BYTES + 1).saturating_mul(PAGE_BYTES).min(end);
            let (mine, theirs) = (self.page(at / PAGE_BYTES), other.page(at / PAGE_BYTES));
            let shared = match (mine, theirs) {
                (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
                (None, None) => true,
                _ => false,
            };
            let length = usize::try_from(next - at).unwrap_or_default();
            if !shared && self.bytes(at, length) != other.bytes(at, length) {
                return false;
            }
            at = next;
        }
        true
    }

    /// Bytes that this disk holds for itself: pages written since it was made, cloned or settled.
    pub fn own_bytes(&self) -> usize {
        self.own.len() * PAGE
    }

    fn page(&self, number: u64) -> Option<&Page> {
        self.own.get(&number).or_else(|| self.base.get(&number))
    }

    fn get(&self, mut offset: u64, mut out: &mut [u8]) {
        while !out.is_empty() {
            let inside = usize::try_from(offset % PAGE_BYTES).unwrap_or_default();
            let here = out.len().min(PAGE - inside);
            let (now, rest) = std::mem::take(&mut out).split_at_mut(here);
            match self.page(offset / PAGE_BYTES).and_then(|page| page.get(inside..inside + here)) {
                Some(bytes) => now.copy_from_slice(bytes),
                None => now.fill(0),
            }
            offset = offset.saturating_add(here as u64);
            out = rest;
        }
    }

    /// A page that nobody else holds.
    fn page_mut(&mut self, number: u64) -> &mut Page {
        let base = &self.base;
        let page = self.own.entry(number).or_insert_with(|| {
            base.get(&number).map_or_else(|| vec![0; PAGE].into(), |page| Arc::from(&**page))
        });
        if Arc::get_mut(page).is_none() {
            *page = Arc::from(&**page);
        }
        page
    }
}

impl Medium for Image {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.get(offset, buffer);
        Ok(())
    }

    fn write_at(&mut self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        offset.checked_add(data.len() as u64).ok_or_else(|| io::Error::other("offset out of range"))?;
        while !data.is_empty() {
            let inside = usize::try_from(offset % PAGE_BYTES).unwrap_or_default();
            let (now, rest) = data.split_at(data.len().min(PAGE - inside));
            let page = Arc::get_mut(self.page_mut(offset / PAGE_BYTES));
            if let Some(place) = page.and_then(|page| page.get_mut(inside..inside + now.len())) {
                place.copy_from_slice(now);
            }
            offset += now.len() as u64;
            data = rest;
        }
        Ok(())
    }
}
