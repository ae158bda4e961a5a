//! The address cache: how the addresses of copies are written (RFC 3284 §5.1 to §5.3).

use super::error::DeltaFault;
use super::section::Section;

const NEAR: usize = 4;
const SAME: usize = 3 * 256;
/// The first mode of the "same" kind, after self, here and the near ones.
const FIRST_SAME: usize = 2 + NEAR;

/// Addresses of the last copies of a window.
#[derive(Debug)]
pub(super) struct AddressCache {
    near: [u64; NEAR],
    next: usize,
    same: Box<[u64; SAME]>,
}

impl AddressCache {
    pub(super) fn new() -> Self {
        Self { near: [0; NEAR], next: 0, same: Box::new([0; SAME]) }
    }

    /// Forgets everything, as at the start of each window.
    pub(super) fn clear(&mut self) {
        self.near.fill(0);
        self.next = 0;
        self.same.fill(0);
    }

    /// Reads an address written in `mode`; `here` is where the copy goes.
    pub(super) fn take(&mut self, section: &mut Section<'_>, mode: u8, here: u64) -> Result<u64, DeltaFault> {
        let mode = usize::from(mode);
        let cut = DeltaFault::Addresses;
        let address = if mode >= FIRST_SAME {
            let byte = section.byte().ok_or(cut)?;
            let known = self.same.get((mode - FIRST_SAME) * 256 + usize::from(byte));
            *known.ok_or_else(|| DeltaFault::internal("a copy has an address of no mode"))?
        } else {
            let number = section.number()?.ok_or(cut)?;
            match mode {
                0 => Some(number),
                1 => here.checked_sub(number),
                _ => {
                    let near = self.near.get(mode - 2);
                    near.ok_or_else(|| DeltaFault::internal("a copy is near no address"))?.checked_add(number)
                }
            }
            .ok_or(DeltaFault::Address { address: number, here })?
        };
        if address >= here {
            return Err(DeltaFault::Address { address, here });
        }
        if let Some(place) = self.near.get_mut(self.next) {
            *place = address;
        }
        self.next = (self.next + 1) % NEAR;
        // The remainder is below 768.
        if let Some(place) = self.same.get_mut(usize::try_from(address % SAME as u64).unwrap_or_default()) {
            *place = address;
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::section::Place;

    /// Takes an address off the front of bytes.
    fn take(
        cache: &mut AddressCache,
        place: &mut Place,
        bytes: &[u8],
        mode: u8,
        here: u64,
    ) -> Result<u64, DeltaFault> {
        place.end = bytes.len();
        cache.take(&mut Section::new(bytes, place), mode, here)
    }

    #[test]
    fn every_mode_is_read() {
        let mut cache = AddressCache::new();
        let (bytes, mut place) = ([100, 10, 5, 1, 105, 100, 3], Place::default());
        let mut read = |mode| take(&mut cache, &mut place, &bytes, mode, 1000);
        assert_eq!(read(0), Ok(100), "self");
        assert_eq!(read(1), Ok(990), "here");
        assert_eq!(read(2), Ok(105), "near 0 holds 100");
        assert_eq!(read(3), Ok(991), "near 1 holds 990");
        assert_eq!(read(6), Ok(105), "same");
        assert_eq!(read(6), Ok(100), "same");
        // The near addresses go round: 105, 100, then 105 and 991 of before.
        assert_eq!(read(2), Ok(108), "near 0 now holds 105");
    }

    #[test]
    fn the_same_cache_is_told_apart_by_768() {
        let mut cache = AddressCache::new();
        let (bytes, mut place) = ([0x86, 0x05, 5], Place::default());
        let mut read = |mode| take(&mut cache, &mut place, &bytes, mode, 1000);
        assert_eq!(read(0), Ok(768 + 5));
        assert_eq!(read(6), Ok(768 + 5));
        cache.clear();
        assert_eq!(cache.same[5], 0);
    }

    #[test]
    fn addresses_that_are_not_there_are_refused() {
        let mut cache = AddressCache::new();
        let refused = |address, here| Err(DeltaFault::Address { address, here });
        assert_eq!(take(&mut cache, &mut Place::default(), &[9], 0, 9), refused(9, 9));
        assert_eq!(take(&mut cache, &mut Place::default(), &[10], 1, 9), refused(10, 9));
        assert_eq!(take(&mut cache, &mut Place::default(), &[0], 1, 9), refused(9, 9));
        assert_eq!(take(&mut cache, &mut Place::default(), &[8], 0, 9), Ok(8));
        assert_eq!(take(&mut cache, &mut Place::default(), &[2], 2, 9), refused(10, 9));
        assert_eq!(take(&mut cache, &mut Place::default(), &[], 0, 9), Err(DeltaFault::Addresses));
        assert_eq!(take(&mut cache, &mut Place::default(), &[], 8, 9), Err(DeltaFault::Addresses));
    }
}
