//! What decides which firmware boots: the U-Boot environment and the partition table.

use fwup_stream::disk::MemoryTarget;
use fwup_stream::disk::Target as _;
use fwup_stream::{Applier, ApplyOptions};
use nerves_hub_link_platform::kv::uboot_env::{Copy, Environment, Layout, newer};

use super::container;
use super::input::Source;
use crate::disk::decode_environment;

/// Bytes of an environment: two blocks.
const SIZE: usize = 1024;
/// Where the copies are, in bytes.
const FIRST: u64 = 16 * 512;
const SECOND: u64 = 32 * 512;
/// The variable that is unset, to have an environment read and written again.
const UNSET: &str = "no such name";
/// Bytes of the disk.
const DISK: u64 = 64 * 512;

/// Reads a U-Boot environment, or asks for a partition of a table, by every reader of the project.
///
/// # Panics
/// When the applier of firmware and the device's identity do not agree on whether an environment is sound,
/// on its variables, or on which of two copies counts; when a requirement on a partition's start is not met
/// exactly where the table says so.
pub fn environment(data: &[u8]) {
    let mut source = Source::new(data);
    match source.byte() % 4 {
        0 => table(&mut source),
        1 => copies(&mut source, Layout::Plain),
        _ => copies(&mut source, Layout::Redundant),
    }
}

fn table(source: &mut Source<'_>) {
    let (number, guess, honest) = (source.byte() % 6, source.word(), source.byte());
    let mut block = [0; 512];
    for (place, byte) in block.iter_mut().zip(source.rest(512)) {
        *place = *byte;
    }
    let start = |number: u8| {
        let at = 446 + 16 * usize::from(number) + 8;
        block.get(at..at + 4).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes))
    };
    let there = (number < 4 && block.ends_with(&[0x55, 0xaa])).then(|| start(number)).flatten();
    // Guessing alone would hardly ever meet it.
    let wanted = if honest % 2 == 1 { there.unwrap_or(guess) } else { guess };
    let manifest = format!(
        "task \"t\" {{\nreqlist = {{ 3, \"require-partition-offset\", {number}, {wanted} }}\non-init {{\n\
         funlist = {{ 2, \"info\", \"met\" }}\n}}\n}}\n"
    );
    let mut disk = MemoryTarget::with_hard_size(DISK);
    put(&mut disk, 0, &block);
    let met = run(&manifest, &mut disk);
    assert_eq!(met.is_ok(), there == Some(wanted), "partition {number} at {there:?} for {wanted}: {met:?}");
}

fn copies(source: &mut Source<'_>, layout: Layout) {
    let redundant = layout == Layout::Redundant;
    let header = if redundant { 5 } else { 4 };
    let mut copy = || {
        let how = source.byte();
        let flag = source.byte();
        let text = if redundant { source.block() } else { source.rest(SIZE) };
        let mut body: Vec<u8> = text.iter().copied().take(SIZE - header).collect();
        body.resize(SIZE - header, if how & 1 == 0 { 0xff } else { 0 });
        let mut block = (crc32fast::hash(&body) ^ u32::from(how >> 4)).to_le_bytes().to_vec();
        if redundant {
            block.push(flag);
        }
        block.extend(body);
        block
    };
    let (first, second) = (copy(), copy());
    let mut disk = MemoryTarget::with_hard_size(DISK);
    put(&mut disk, FIRST, &first);
    let mut place = "block-offset=16\nblock-count=2\n".to_owned();
    if redundant {
        put(&mut disk, SECOND, &second);
        place.push_str("block-offset-redund=32\n");
    }
    // Rewrites the environment, hardly ever changing it.
    let manifest = format!(
        "uboot-environment \"e\" {{\n{place}}}\ntask \"t\" {{\non-init {{\n\
         funlist = {{ 3, \"uboot_unsetenv\", \"e\", \"{UNSET}\" }}\n}}\n}}\n"
    );
    let before = chosen(&first, redundant.then_some(&second), layout);
    let outcome = run(&manifest, &mut disk);
    let length = SIZE;
    let (first, second) = (disk.bytes(FIRST, length), disk.bytes(SECOND, length));
    let after = chosen(&first, redundant.then_some(&second), layout);
    match outcome {
        Ok(()) => {
            assert!(before.is_some(), "the applier read what the device calls unsound");
            let pairs = |found: &Option<Found>| {
                found.as_ref().filter(|found| found.regular).map(|found| found.environment.pairs())
            };
            if let Some(mut before) = pairs(&before) {
                before.remove(UNSET);
                assert_eq!(pairs(&after), Some(before), "rewritten by the applier");
            }
        }
        Err(text) if text.contains("CRC32 mismatch") => {
            let regular = before.is_some_and(|before| before.regular);
            assert!(!regular, "the device read what the applier calls unsound: {text}");
        }
        // Sound, but too full to be written again, or nothing that U-Boot would have written.
        Err(text) => {
            assert!(text.contains("Not enough room") || text.contains("Invalid U-boot"), "{text}");
            assert!(before.is_some(), "{text}");
        }
    }
}

/// An environment as the device reads it.
struct Found {
    environment: Environment,
    /// Whether every sound copy holds nothing but names and values. What else may stand there is read in
    /// different ways, and nothing writes it.
    regular: bool,
}

fn chosen(first: &[u8], second: Option<&Vec<u8>>, layout: Layout) -> Option<Found> {
    let read = |block: &[u8]| {
        let decoded = Environment::decode(block, layout).ok();
        let header = if layout == Layout::Redundant { 5 } else { 4 };
        let regular = is_regular(block.get(header..).unwrap_or_default());
        if let (Some((environment, _)), true) = (&decoded, regular) {
            let kit = decode_environment(block, layout == Layout::Redundant);
            assert_eq!(kit.map(|(pairs, _)| pairs), Some(environment.pairs()), "the test kit's own reader");
        }
        decoded.map(|(environment, flag)| (environment, flag, regular))
    };
    let first = read(first);
    let (environment, regular) = match (first, second.and_then(|block| read(block))) {
        (Some((first, one, regular)), Some((second, two, both))) => {
            let environment = if newer(one, two) == Copy::First { first } else { second };
            (environment, regular && both)
        }
        (Some((environment, _, regular)), None) | (None, Some((environment, _, regular))) => {
            (environment, regular)
        }
        (None, None) => return None,
    };
    Some(Found { environment, regular })
}

/// Whether a body is what U-Boot writes: names and values with `=` between and NUL behind, then a NUL.
fn is_regular(body: &[u8]) -> bool {
    let mut rest = body;
    while rest.first().is_some_and(|byte| *byte != 0) {
        let Some(end) = rest.iter().position(|byte| *byte == 0) else { return false };
        let (pair, after) = rest.split_at(end);
        let named = pair.first() != Some(&b'=') && pair.contains(&b'=');
        if !named || std::str::from_utf8(pair).is_err() {
            return false;
        }
        rest = after.get(1..).unwrap_or_default();
    }
    true
}

fn put(disk: &mut MemoryTarget, offset: u64, bytes: &[u8]) {
    let written = disk.write_at(offset, bytes);
    assert!(written.is_ok(), "everything lies on the disk: {written:?}");
}

/// Applies a manifest without resources.
fn run(manifest: &str, disk: &mut MemoryTarget) -> Result<(), String> {
    let mut options = ApplyOptions::default();
    "t".clone_into(&mut options.task);
    options.require_signature = false;
    let archive = container::archive(manifest.as_bytes(), &[], false);
    let applied = Applier::new(options, disk).and_then(|mut applier| {
        applier.push(&archive)?;
        applier.finish()
    });
    applied.map(|_| ()).map_err(|error| error.to_string())
}
