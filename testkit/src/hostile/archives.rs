//! Signed archives that are not what an offer says.

use super::Victim;
use crate::firmware::{FirmwareArchive, FirmwareBuilder, Tamper, tamper};

/// Bytes of the root file system of every archive.
const ROOTFS: u64 = 300_000;

/// An archive that the vendor signed for this kind of device.
pub(super) fn genuine(victim: &Victim, version: &str) -> Option<FirmwareArchive> {
    of(victim, &victim.product, &victim.platform, &victim.architecture, version)
}

/// An archive that the vendor signed.
pub(super) fn of(
    victim: &Victim,
    product: &str,
    platform: &str,
    architecture: &str,
    version: &str,
) -> Option<FirmwareArchive> {
    FirmwareBuilder::new(product, version)
        .platform(platform)
        .architecture(architecture)
        .rootfs(ROOTFS, 5)
        .ab_layout(&victim.layout)
        .build(&victim.vendor)
        .ok()
}

/// The archive with one byte of its root file system changed: manifest and signature hold, the content does not.
pub(super) fn broken(archive: &FirmwareArchive) -> Option<Vec<u8>> {
    let offset = usize::try_from(ROOTFS).ok()?;
    tamper(&bytes(archive)?, &Tamper::Resource { name: "rootfs.img".to_owned(), offset }).ok()
}

/// The archive with an entry behind it that its manifest does not list, so that it has `length` bytes.
pub(super) fn padded(archive: &FirmwareArchive, length: usize) -> Option<Vec<u8>> {
    let bytes = bytes(archive)?;
    let name = b"data/padding";
    let body = length.checked_sub(bytes.len() + 30 + name.len())?;
    let mut entry = Vec::new();
    // A local header as the zip format has it: stored, no flags, the checksum of zeros filled in.
    entry.extend(b"PK\x03\x04\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00");
    entry.extend(crc_of_zeros(body).to_le_bytes());
    let size = u32::try_from(body).ok()?;
    entry.extend(size.to_le_bytes());
    entry.extend(size.to_le_bytes());
    entry.extend(u16::try_from(name.len()).ok()?.to_le_bytes());
    entry.extend([0, 0]);
    entry.extend(name);
    entry.resize(entry.len() + body, 0);
    // In front of the directory, where a reader of the stream meets it.
    let directory = bytes.windows(4).position(|window| window == b"PK\x01\x02")?;
    let mut padded = bytes.get(..directory)?.to_vec();
    padded.extend(entry);
    padded.extend(bytes.get(directory..)?);
    Some(padded)
}

/// CRC-32 of so many zeros.
fn crc_of_zeros(length: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&vec![0; length]);
    hasher.finalize()
}

fn bytes(archive: &FirmwareArchive) -> Option<Vec<u8>> {
    Some(archive.bytes().ok()?.to_vec())
}
