//! FAT file systems, whole and broken.

use std::sync::OnceLock;

use fwup_stream::action::fat::{FatError, Mounts};
use fwup_stream::disk::{BLOCK, DiskError, DiskIo, MemoryTarget, Target as _};

use super::input::Source;

/// Bytes of an image taken from the input.
const IMAGE_MAX: usize = 128 * 1024;
/// Bytes of the disk: no write of a sound program lies beyond.
const DISK: u64 = 64 << 20;
/// Sectors read and written before the disk stops working, as a broken file system may send a walk through
/// all of a volume.
const ACCESSES: usize = 20_000;
/// Accesses that may follow to a disk that does not work any more. Flags an endless loop.
const PATIENCE: usize = 2000;
/// Operations taken from an input.
const OPERATIONS: usize = 40;
/// Sizes of the file systems to begin with, in blocks: FAT12, FAT16 and FAT32.
const SIZES: [u64; 3] = [1024, 16_384, 77_261];

const NAMES: [&str; 16] = [
    "a.txt",
    "dir",
    "dir/b.bin",
    "a rather long name.txt",
    "dir/another long name of a file",
    "A.TXT",
    "dir/..",
    "dir/../a.txt",
    ".",
    "",
    "/",
    "x*y?.z",
    "zo\u{eb}.txt",
    "dir/sub/c",
    "big",
    "~1",
];

/// Runs operations on a FAT file system: one made for it, one with changed bytes, or an image of the input's.
///
/// # Panics
/// When an operation goes on for ever, accesses anything but whole sectors, or what was written to a sound
/// file system does not read back.
pub fn fat(data: &[u8]) {
    let mut source = Source::new(data);
    let kind = source.byte();
    let operations = u16::from(source.byte());
    let mut script = Source::new(source.take(usize::from(operations) * 4));
    let mut target = MemoryTarget::new();
    let mut sound = false;
    if kind & 3 == 3 {
        let image = source.rest(IMAGE_MAX);
        // Writing into memory cannot fail.
        let _ = target.write_at(0, image);
    } else {
        let start = made();
        target = start.get(usize::from(kind & 3)).cloned().unwrap_or_default();
        sound = source.is_empty();
        change(&mut source, &mut target);
    }
    let mut disk = Disk { target, accesses: 0, allowed: ACCESSES };
    let mut mounts = Mounts::new();
    for _ in 0..OPERATIONS {
        if script.is_empty() {
            break;
        }
        let before = disk.accesses;
        let elsewhere = operation(&mut mounts, &mut disk, &mut script, sound);
        // The first file system reaches everywhere another one may be made.
        sound &= !elsewhere;
        assert!(disk.accesses - before <= ACCESSES + PATIENCE, "no end of accesses");
    }
    let _ = mounts.close(&mut disk);
}

/// File systems with a few files, made once.
fn made() -> &'static [MemoryTarget] {
    static MADE: OnceLock<Vec<MemoryTarget>> = OnceLock::new();
    MADE.get_or_init(|| {
        let make = |size: &u64| {
            let mut disk = Disk { target: MemoryTarget::new(), accesses: 0, allowed: usize::MAX };
            let mut mounts = Mounts::new();
            let done = fill(&mut mounts, &mut disk, *size);
            assert!(done.is_ok(), "a file system of {size} blocks to begin with: {done:?}");
            disk.target
        };
        SIZES.iter().map(make).collect()
    })
}

fn fill(mounts: &mut Mounts, disk: &mut Disk, size: u64) -> Result<(), FatError> {
    mounts.mkfs(disk, 0, size)?;
    mounts.mkdir(disk, 0, "dir")?;
    mounts.mkdir(disk, 0, "dir/sub")?;
    for (name, length) in [("a.txt", 5), ("a rather long name.txt", 600), ("big", 9000), ("dir/b.bin", 1)] {
        mounts.truncate(disk, 0, name)?;
        mounts.write_at(disk, 0, name, 0, &vec![7; length])?;
    }
    mounts.set_label(disk, 0, "LABEL")?;
    mounts.close(disk)
}

/// Changes bytes: each time a sector, a place in it, and up to 255 bytes.
fn change(source: &mut Source<'_>, target: &mut MemoryTarget) {
    while !source.is_empty() {
        let at = u64::from(source.short()) * BLOCK as u64 + u64::from(source.short() % 512);
        let bytes = source.block();
        if !bytes.is_empty() && at + 512 < target.length() {
            let _ = target.write_at(at, bytes);
        }
    }
}

/// Carries out one operation. Returns whether it made a file system elsewhere.
fn operation(mounts: &mut Mounts, disk: &mut Disk, script: &mut Source<'_>, sound: bool) -> bool {
    let code = script.byte();
    // Once in a while another file system, or none.
    let block = if code >= 240 { u64::from(code - 239) * 63 } else { 0 };
    let name = script.byte();
    let name = match NAMES.get(usize::from(name)) {
        Some(known) => (*known).to_owned(),
        None => String::from_utf8_lossy(script.take(usize::from(name) - NAMES.len())).into_owned(),
    };
    let other = script.pick(&NAMES);
    let number = u32::from(script.short());
    let bytes = vec![code; usize::from(script.byte()) * 40];
    match code % 14 {
        0 => drop(mounts.touch(disk, block, &name)),
        1 => drop(mounts.mkdir(disk, block, &name)),
        2 => drop(mounts.set_label(disk, block, &name)),
        3 => drop(mounts.remove(disk, block, &name, code & 16 != 0)),
        4 => drop(mounts.rename(disk, block, &name, other, code & 16 != 0)),
        5 => drop(mounts.set_attributes(disk, block, &name, other)),
        6 => drop(mounts.size(disk, block, &name)),
        7 => drop(mounts.file_contains(disk, block, &name, other.as_bytes())),
        8 => drop(mounts.truncate(disk, block, &name)),
        9 => write(mounts, disk, (block, &name), u64::from(number), &bytes, sound),
        10 => {
            let mut buffer = vec![0; bytes.len()];
            drop(mounts.read_at(disk, block, &name, u64::from(number), &mut buffer));
        }
        11 => drop(mounts.copy(disk, block, &name, 0, other)),
        12 => drop(mounts.mkfs(disk, block, u64::from(number) * 2)),
        _ => drop(mounts.close(disk)),
    }
    code % 14 == 12 && block != 0
}

fn write(mounts: &mut Mounts, disk: &mut Disk, file: (u64, &str), offset: u64, bytes: &[u8], sound: bool) {
    let (block, name) = file;
    let written = mounts.write_at(disk, block, name, offset, bytes);
    if written.is_err() || !sound || disk.accesses > disk.allowed {
        return;
    }
    let mut back = vec![0; bytes.len()];
    match mounts.read_at(disk, block, name, offset, &mut back) {
        Ok(length) => assert!(length == bytes.len() && back == bytes, "{name:?} at {offset} read back"),
        Err(error) => assert!(disk.accesses > disk.allowed, "{name:?} at {offset}: {error}"),
    }
}

/// A disk that stops working after so many accesses.
struct Disk {
    target: MemoryTarget,
    accesses: usize,
    allowed: usize,
}

impl Disk {
    /// Counts an access; tells whether the disk still works.
    fn access(&mut self, offset: u64, length: usize) -> bool {
        let sectors = offset.is_multiple_of(BLOCK as u64) && length.is_multiple_of(BLOCK);
        assert!(sectors, "{length} bytes at {offset} are no whole sectors");
        self.accesses += 1;
        self.accesses <= self.allowed
    }
}

impl DiskIo for Disk {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let length = buffer.len();
        let failed = |reason: String| DiskError::Read { length, offset, reason };
        if !self.access(offset, length) {
            return Err(failed("worn out".to_owned()));
        }
        buffer.fill(0);
        self.target.read_at(offset, buffer).map(|_| ()).map_err(|error| failed(error.to_string()))
    }

    fn write(&mut self, offset: u64, data: &[u8], _: bool) -> Result<(), DiskError> {
        let inside = offset.checked_add(data.len() as u64).is_some_and(|end| end <= DISK);
        if !self.access(offset, data.len()) || !inside {
            return Err(DiskError::Write { offset });
        }
        self.target.write_at(offset, data).map_err(|_| DiskError::Write { offset })
    }

    fn other_changes(&self) -> Option<u64> {
        // Nothing but file systems writes here.
        Some(0)
    }

    fn trim(&mut self, _: u64, _: u64) -> Result<(), DiskError> {
        Ok(())
    }
}
