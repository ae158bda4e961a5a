//! Makes deltas: an archive with one resource replaced by a VCDIFF delta (fw-format §12).

use super::archive::ArchiveError;
use super::builder::FirmwareArchive;
use super::tamper::{content, replace};

/// What each window makes, at most. As large as xdelta3's.
const WINDOW: usize = 8 << 20;
/// Bytes that are compared at a time.
const STEP: usize = 512;
/// Bytes of a resource that are taken, at most.
const RESOURCE_MAX: u64 = 256 << 20;

/// Returns the target's archive with the resource as a delta from the source's, which must be in the same place. As with a
/// server's delta, manifest, signature and UUID are the target's.
///
/// # Errors
///
/// If an archive can't be read, or lacks the resource.
pub fn delta(
    source: &FirmwareArchive,
    target: &FirmwareArchive,
    resource: &str,
) -> Result<FirmwareArchive, ArchiveError> {
    let entry = format!("data/{resource}");
    let (old, new) = (source.bytes()?, target.bytes()?);
    let patch = encode(&content(&old, &entry, RESOURCE_MAX)?, &content(&new, &entry, RESOURCE_MAX)?);
    let data = super::Data::Memory(replace(&new, &entry, patch)?.into());
    Ok(FirmwareArchive { data, ..target.clone() })
}

/// Encodes `new` by the bytes that `old` has at the same places.
fn encode(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = vec![0xd6, 0xc3, 0xc4, 0, 0];
    for (index, window) in new.chunks(WINDOW).enumerate() {
        let at = index * WINDOW;
        let (mut data, mut instructions, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        let mut done = 0;
        while done < window.len() {
            let rest = window.get(done..).unwrap_or_default();
            let before = old.get(at + done..).unwrap_or_default();
            let equal = |(one, two): &(&[u8], &[u8])| one == two;
            let steps = || rest.chunks(STEP).zip(before.chunks(STEP));
            let same: usize = steps().take_while(equal).map(|(one, _)| one.len()).sum();
            if same > 0 {
                // A copy of what the source has at this address.
                instructions.push(19);
                number(&mut instructions, same);
                number(&mut addresses, at + done);
                done += same;
                continue;
            }
            let other: usize = steps().take_while(|pair| !equal(pair)).map(|(one, _)| one.len()).sum();
            // Behind the source's end everything is new.
            let other = if before.len() <= other { rest.len() } else { other };
            instructions.push(1);
            number(&mut instructions, other);
            data.extend(rest.get(..other).unwrap_or_default());
            done += other;
        }
        let mut body = Vec::new();
        number(&mut body, window.len());
        body.push(0);
        for section in [&data, &instructions, &addresses] {
            number(&mut body, section.len());
        }
        body.extend(adler32(window).to_be_bytes());
        for section in [&data, &instructions, &addresses] {
            body.extend(section);
        }
        // A source segment, all of the source, and a checksum.
        out.push(5);
        number(&mut out, old.len());
        number(&mut out, 0);
        number(&mut out, body.len());
        out.extend(body);
    }
    out
}

/// Writes a number in base 128, the highest digit first.
fn number(out: &mut Vec<u8>, value: usize) {
    let digits = (usize::BITS - value.leading_zeros()).div_ceil(7).max(1);
    for digit in (0..digits).rev() {
        let low = u8::try_from((value >> (7 * digit)) & 0x7f).unwrap_or_default();
        out.push(if digit > 0 { low | 0x80 } else { low });
    }
}

fn adler32(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    (high << 16) | low
}
