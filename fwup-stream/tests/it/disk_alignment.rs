//! What direct I/O wants of each read and write: memory at the start of a page, place and length in whole sectors.

use std::io;

use fwup_stream::action::fat::Mounts;
use fwup_stream::disk::{
    CacheOptions, DiskIo, Extent, MemoryTarget, SegmentCache, Target, Twins, WriteBehind,
};

const PAGE: usize = 4096;
const SEGMENT: usize = 128 * 1024;
const END: u64 = 40 << 20;

/// Refuses what is not aligned, as a device opened for direct I/O may.
struct Direct {
    disk: MemoryTarget,
    sector: usize,
}

impl Direct {
    fn new(sector: usize) -> Self {
        Self { disk: MemoryTarget::with_hard_size(END), sector }
    }

    fn check(&self, what: &str, memory: &[u8], offset: u64) -> io::Result<()> {
        let misplaced = memory.as_ptr().align_offset(PAGE);
        let (offset, length) = (usize::try_from(offset).unwrap(), memory.len());
        if misplaced != 0 || offset % self.sector != 0 || length % self.sector != 0 || length == 0 {
            let text = format!("{what} of {length} bytes at {offset}, memory {misplaced} before a page");
            println!("{text}");
            return Err(io::Error::other(text));
        }
        assert!(offset / SEGMENT == (offset + length - 1) / SEGMENT, "a {what} crosses segments");
        Ok(())
    }
}

impl Target for Direct {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.check("read", buffer, offset)?;
        self.disk.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check("write", data, offset)?;
        self.disk.write_at(offset, data)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.trim(offset, length)
    }

    fn extent(&self) -> Extent {
        self.disk.extent()
    }

    fn granularity(&self) -> usize {
        self.sector
    }
}

#[allow(clippy::unnecessary_wraps)] // The type of such a function.
fn first(_: [&[u8]; 2]) -> Option<usize> {
    Some(0)
}

fn same(new: &[u8], _: &[u8]) -> Vec<u8> {
    new.to_vec()
}

/// Everything that gets to the disk on a way of its own. Data lie at every place in memory that there is.
fn work(target: impl Target, options: CacheOptions) {
    let mut cache = SegmentCache::new(target, options);
    let data: Vec<u8> = (0..3 * SEGMENT + 100_000).map(|number| number.to_le_bytes()[1]).collect();
    for (number, start) in [0, 1, 512, 2048, 4096, 4097, 100_000 - 1].into_iter().enumerate() {
        let place = (number as u64 + 1) << 20;
        // Whole segments, and parts of them.
        cache.write(place, &data[start..start + 2 * SEGMENT], true).unwrap();
        cache.write(place + 2 * SEGMENT as u64 + 512, &data[start..start + 3 * 512], true).unwrap();
        cache.write(place + 3 * SEGMENT as u64 - 777, &data[start..start + 1000], false).unwrap();
    }
    let twins = Twins { other: 65_536 + 8192, preferred: true, newer: first, disguise: same, succeed: same };
    cache.write_twin(65_536, &data[..8192], twins).unwrap();
    cache.write_twin(65_536 + 8192, &data[1..8193], Twins { other: 65_536, ..twins }).unwrap();
    let mut mounts = Mounts::new();
    mounts.mkfs(&mut cache, 40_001, 20_000).unwrap();
    for number in 0..40 {
        let name = format!("a file with number {number}");
        mounts.truncate(&mut cache, 40_001, &name).unwrap();
        mounts.write_at(&mut cache, 40_001, &name, 0, &data[number..number * 1000]).unwrap();
    }
    mounts.close(&mut cache).unwrap();
    cache.begin_last_act();
    for place in [446_u64, 512, 3 * 512, 1 << 19, END - 512, END - 5000] {
        cache.write(place, &data[..64], false).unwrap();
    }
    cache.flush().unwrap();
    let mut back = vec![0; 100_001];
    cache.read_uncached((1 << 20) + 7, &mut back).unwrap();
    assert!(back == data[7..100_008]);
}

#[test]
fn memory_places_and_lengths_are_aligned() {
    for sector in [512, 4096] {
        for (verify_writes, minimize_writes) in [(false, false), (true, false), (false, true), (true, true)] {
            println!("sectors of {sector}, verify {verify_writes}, minimize {minimize_writes}");
            let options = || CacheOptions { verify_writes, minimize_writes, enable_trim: false };
            work(Direct::new(sector), options());
            let options = CacheOptions { verify_writes: false, ..options() };
            work(WriteBehind::new(Direct::new(sector), verify_writes).unwrap(), options);
        }
    }
}
