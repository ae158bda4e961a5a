//! Partition tables: written by the applier, and read where file systems are looked for.

use std::fmt::Write as _;

use fwup_stream::action::fat::Mounts;
use fwup_stream::disk::{BLOCK, CacheOptions, MemoryTarget, SegmentCache, Target as _};
use fwup_stream::{Applier, ApplyOptions};

use super::container;
use super::input::Source;

/// Blocks of the disk, of which the input may ask for fewer.
const DISK: u64 = 8192;
/// Where the file system is that a table may lead to, and its blocks.
const FAT: u64 = 2048;
const FAT_BLOCKS: u64 = 512;
/// Partitions taken from an input.
const PARTITIONS: usize = 16;

/// Writes a partition table and reads it with a reader of its own, or looks for a file system through a table.
///
/// # Panics
/// When what was written is no sound table, or not the one that was asked for; when a file system is found
/// where the table does not lead to it, or not found where it does.
pub fn tables(data: &[u8]) {
    let mut source = Source::new(data);
    match source.byte() % 3 {
        0 => lookup(&mut source),
        1 => written(&mut source, "mbr", check_mbr),
        _ => written(&mut source, "gpt", check_gpt),
    }
}

/// A partition as asked for.
#[derive(Debug)]
struct Asked {
    number: u8,
    offset: u64,
    count: u64,
    kind: u8,
    expand: bool,
}

fn lookup(source: &mut Source<'_>) {
    let honest = source.byte();
    let mut block = [0; BLOCK];
    for (place, byte) in block.iter_mut().zip(source.rest(BLOCK)) {
        *place = *byte;
    }
    // Guessing alone would hardly ever meet it.
    if honest < 128 {
        let at = 446 + 16 * usize::from(honest % 4);
        let entry = [&[0, 0, 0, 0, 6, 0, 0, 0][..], &2048_u32.to_le_bytes()].concat();
        if let Some(place) = block.get_mut(at..at + entry.len()) {
            place.copy_from_slice(&entry);
        }
        block[510..].copy_from_slice(&[0x55, 0xaa]);
    }
    // A block that begins with a jump may be a file system itself.
    if matches!(block[0], 0xe8 | 0xe9 | 0xeb) {
        return;
    }
    let mut target = MemoryTarget::with_hard_size(DISK * BLOCK as u64);
    let _ = target.write_at(0, &block);
    let mut disk = SegmentCache::new(target, CacheOptions::default());
    let mut mounts = Mounts::new();
    let made = mounts.mkfs(&mut disk, FAT, FAT_BLOCKS).and_then(|()| mounts.truncate(&mut disk, FAT, "x"));
    assert!(made.is_ok(), "a file system to look for: {made:?}");
    assert!(mounts.close(&mut disk).is_ok());
    let start = |number: usize| {
        let bytes = block.get(446 + 16 * number + 8..).and_then(|rest| rest.first_chunk());
        bytes.map(|bytes| u64::from(u32::from_le_bytes(*bytes)))
    };
    let leads = block.ends_with(&[0x55, 0xaa]) && (0..4).any(|number| start(number) == Some(FAT));
    assert_eq!(mounts.exists(&mut disk, 0, "x"), leads, "through {:02x?}", block.get(446..));
    assert!(mounts.exists(&mut disk, FAT, "x"), "where it is");
}

fn written(source: &mut Source<'_>, kind: &str, check: fn(&[Asked], &MemoryTarget, u64)) {
    let size = (u64::from(source.short()) % DISK).max(1);
    let count = usize::from(source.byte()) % PARTITIONS;
    let mut sections = String::new();
    let mut asked: Vec<Asked> = Vec::new();
    for _ in 0..count {
        let (number, kind_byte, flags) = (source.byte() % 17, source.byte(), source.byte());
        // Most on the disk, some anywhere.
        let mut place = || match flags & 4 {
            0 => u64::from(source.short()) % DISK,
            _ => u64::from(source.word()),
        };
        let partition =
            Asked { number, offset: place(), count: place(), kind: kind_byte, expand: flags & 1 == 1 };
        if asked.iter().any(|other| other.number == number) {
            continue;
        }
        let Asked { offset, count, expand, .. } = partition;
        let boot = flags & 2 == 2;
        let kind_text = if kind == "mbr" { kind_byte.to_string() } else { guid(kind_byte) };
        let more =
            if kind == "mbr" { String::new() } else { format!("guid={}\nname=n{number}\n", guid(number)) };
        // Writing into a string cannot fail.
        let _ = write!(
            sections,
            "partition \"{number}\" {{\nblock-offset={offset}\nblock-count={count}\ntype={kind_text}\n\
             expand={expand}\nboot={boot}\n{more}}}\n"
        );
        asked.push(partition);
    }
    let head = if kind == "gpt" { format!("guid={}\n", guid(99)) } else { String::new() };
    let manifest = format!(
        "{kind} \"m\" {{\n{head}{sections}}}\ntask \"t\" {{\non-init {{\nfunlist={{2,{kind}_write,m}}\n}}\n}}\n"
    );
    let mut disk = MemoryTarget::with_hard_size(size * BLOCK as u64);
    let mut options = ApplyOptions::default();
    "t".clone_into(&mut options.task);
    options.require_signature = false;
    let archive = container::archive(manifest.as_bytes(), &[], false);
    let applied = Applier::new(options, &mut disk).and_then(|mut applier| {
        applier.push(&archive)?;
        applier.finish()
    });
    if applied.is_ok() {
        check(&asked, &disk, size);
    }
}

fn guid(number: u8) -> String {
    format!("\"{number:08x}-0001-0002-0003-0123456789ab\"")
}

fn little(bytes: &[u8], at: usize, length: usize) -> u64 {
    let field = bytes.get(at..at + length).unwrap_or_default();
    field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn check_mbr(asked: &[Asked], disk: &MemoryTarget, size: u64) {
    let block = disk.bytes(0, BLOCK);
    assert!(block.ends_with(&[0x55, 0xaa]), "the end of block 0");
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for number in 0..4_u8 {
        let at = 446 + 16 * usize::from(number);
        let (kind, offset, count) =
            (little(&block, at + 4, 1), little(&block, at + 8, 4), little(&block, at + 12, 4));
        let Some(partition) = asked.iter().find(|partition| partition.number == number) else {
            assert!(block.get(at..at + 16).is_some_and(|entry| entry == [0; 16]), "partition {number}");
            continue;
        };
        let extended = number == 3 && matches!(partition.kind, 0x05 | 0x0f);
        assert_eq!((kind, offset), (u64::from(partition.kind), partition.offset), "partition {number}");
        // With the largest length the format knows, an extended partition has none of its own.
        let least = if extended && partition.count == 0x7fff_ffff { 1 } else { partition.count };
        assert!(count >= least, "partition {number} shrank");
        assert!(count == partition.count || partition.expand || extended, "partition {number} grew");
        if kind != 0 && count > 0 {
            assert!(taken.iter().all(|(from, to)| offset + count <= *from || offset >= *to), "an overlap");
            taken.push((offset, offset + count));
        }
    }
    let Some(extended) =
        asked.iter().find(|partition| partition.number == 3 && matches!(partition.kind, 0x05 | 0x0f))
    else {
        return;
    };
    let logical = asked.iter().filter(|partition| partition.number > 3).count() as u64;
    for (index, number) in (0..logical).zip(4_u8..) {
        // The records stand in a row; those behind the end of the disk could not have been written.
        let record = extended.offset + index;
        assert!(record < size, "record {index} of a disk of {size} blocks");
        let block = disk.bytes(record * BLOCK as u64, BLOCK);
        assert!(block.ends_with(&[0x55, 0xaa]), "the end of record {index}");
        let partition = asked.iter().find(|partition| partition.number == number);
        // A partition of no length may stand in front of its record, so that the distance wraps.
        let found = (little(&block, 450, 1), (record + little(&block, 454, 4)) % (1 << 32));
        let wanted = partition.map(|partition| (u64::from(partition.kind), partition.offset));
        assert_eq!(Some(found), wanted, "logical partition {number}");
        let link = little(&block, 466 + 4, 1);
        assert_eq!(link != 0, index + 1 < logical, "the link of record {index}");
    }
}

fn check_gpt(asked: &[Asked], disk: &MemoryTarget, size: u64) {
    let protective = disk.bytes(0, BLOCK);
    assert!(protective.ends_with(&[0x55, 0xaa]) && protective.get(450) == Some(&0xee), "block 0");
    let table = |header: u64, at: u64| {
        let block = disk.bytes(header * BLOCK as u64, BLOCK);
        assert!(block.starts_with(b"EFI PART"), "the header at {header}");
        let mut blank = block.get(..92).unwrap_or_default().to_vec();
        blank.get_mut(16..20).unwrap_or_default().fill(0);
        assert_eq!(little(&block, 16, 4), u64::from(crc32fast::hash(&blank)), "the header at {header}");
        assert_eq!((little(&block, 24, 8), little(&block, 72, 8)), (header, at), "the places");
        let entries = disk.bytes(at * BLOCK as u64, 128 * 128);
        assert_eq!(little(&block, 88, 4), u64::from(crc32fast::hash(&entries)), "the table at {at}");
        (little(&block, 32, 8), entries)
    };
    let (backup, entries) = table(1, 2);
    assert_eq!(backup, size.max(67) - 1, "the backup at the end of the disk");
    assert_eq!(table(backup, backup - 32), (1, entries.clone()), "both copies");
    for (number, entry) in (0_u8..).zip(entries.chunks_exact(128)) {
        let Some(partition) = asked.iter().find(|partition| partition.number == number) else {
            assert!(entry.iter().all(|byte| *byte == 0), "partition {number}");
            continue;
        };
        let (first, last) = (little(entry, 32, 8), little(entry, 40, 8));
        assert_eq!(first, partition.offset, "partition {number}");
        let end = partition.offset + partition.count;
        assert!(last + 1 >= end || partition.count == 0, "partition {number} shrank");
        assert!(last < end.max(1) || partition.expand, "partition {number} grew");
    }
}
