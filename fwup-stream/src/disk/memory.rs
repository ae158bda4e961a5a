//! A destination in memory, for tests and for programs that want the image themselves.

use std::collections::BTreeMap;
use std::io;

use super::target::{Extent, Target};

/// Bytes per page. Pages that were never written take no memory, so an image may have wide gaps.
const PAGE: usize = 4096;
const PAGE_BYTES: u64 = 4096;

/// A sparse disk in memory.
#[derive(Clone, Debug)]
pub struct MemoryTarget {
    pages: BTreeMap<u64, Box<[u8]>>,
    length: u64,
    extent: Extent,
}

impl MemoryTarget {
    /// An empty disk that grows as it is written, like a new file.
    pub fn new() -> Self {
        Self { pages: BTreeMap::new(), length: 0, extent: Extent::Unknown }
    }

    /// A disk that holds `content` and can grow, like an existing file.
    pub fn with_content(content: &[u8]) -> Self {
        let mut disk = Self::new();
        disk.put(0, content);
        disk.extent = if content.is_empty() { Extent::Unknown } else { Extent::Soft(disk.length) };
        disk
    }

    /// A disk of zeros of exactly `bytes`, like a device: writing past its end fails.
    pub fn with_hard_size(bytes: u64) -> Self {
        Self { pages: BTreeMap::new(), length: bytes, extent: Extent::Hard(bytes) }
    }

    /// Bytes from the start to the end of what was written (or the size of a fixed disk).
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Copies `length` bytes from `offset`; what was never written is zero.
    pub fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        self.get(offset, &mut out);
        out
    }

    /// The whole image.
    pub fn image(&self) -> Vec<u8> {
        // What is in memory has a length of memory's.
        self.bytes(0, usize::try_from(self.length).unwrap_or(usize::MAX))
    }

    fn put(&mut self, mut offset: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let inside = in_page(offset);
            let (now, rest) = data.split_at(data.len().min(PAGE - inside));
            let page =
                self.pages.entry(offset / PAGE_BYTES).or_insert_with(|| vec![0; PAGE].into_boxed_slice());
            let place = page.get_mut(inside..inside + now.len());
            debug_assert!(place.is_some(), "a piece lies outside of its page");
            if let Some(place) = place {
                place.copy_from_slice(now);
            }
            offset += now.len() as u64;
            data = rest;
        }
        self.length = self.length.max(offset);
    }

    fn get(&self, mut offset: u64, mut out: &mut [u8]) {
        while !out.is_empty() {
            let inside = in_page(offset);
            let here = out.len().min(PAGE - inside);
            let (now, rest) = std::mem::take(&mut out).split_at_mut(here);
            match self.pages.get(&(offset / PAGE_BYTES)).and_then(|page| page.get(inside..inside + here)) {
                Some(bytes) => now.copy_from_slice(bytes),
                None => now.fill(0),
            }
            offset += here as u64;
            out = rest;
        }
    }
}

/// The place of a byte in its page.
fn in_page(offset: u64) -> usize {
    // Less than a page, which every `usize` holds.
    usize::try_from(offset % PAGE_BYTES).unwrap_or_default()
}

impl Default for MemoryTarget {
    fn default() -> Self {
        Self::new()
    }
}

impl Target for MemoryTarget {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let there = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buffer.len().min(there);
        if let Some(part) = buffer.get_mut(..count) {
            self.get(offset, part);
        }
        Ok(count)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        if let Extent::Hard(size) = self.extent
            && end > size
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.put(offset, data);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn trim(&mut self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn extent(&self) -> Extent {
        self.extent
    }
}
