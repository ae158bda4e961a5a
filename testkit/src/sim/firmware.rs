//! Firmware made by formula: any byte of it can be told from its number and its offset.

use sha2::{Digest, Sha256};

use super::dice::mix;
use crate::hub::Release;
use crate::meta::FirmwareMeta;

/// Bytes in front of the body, all of them signed: what an archive's manifest is in real firmware.
pub(super) const HEADER: usize = 33;
const MAGIC: &[u8; 8] = b"SIMFW\0\0\x01";

/// What firmware is signed with. Number 0 is the one that devices trust.
pub(super) const KEYS: [&str; 2] =
    ["u1dJgAcnFUqREJB0shvP+bwDx8wOrVtoRlj7XsvF6Ds=", "XZfmRc6ns3JmcEC4nGSwJTBgPIJFyaV3HCTBxgVzJh0="];
/// What no text for people may hold: the signature in the addresses of files.
pub(super) const URL_SECRET: &str = "5ecre7-s1gna7ure";
pub(super) const FILES: &str = "https://files.sim/fw/";

/// What is said of a file that nobody trusted signed.
pub(super) const STRANGER: &str = "the signature is by none of the trusted keys";

/// Archives are files like firmware, with numbers from here on.
pub(super) const ARCHIVES: FirmwareId = 1 << 24;

/// Which firmware, in the order of their releases; 0 is what devices are made with.
pub(super) type FirmwareId = u32;

/// A release.
#[derive(Debug, Clone)]
pub(super) struct Firmware {
    pub id: FirmwareId,
    pub meta: FirmwareMeta,
    pub size: u64,
    pub header: [u8; HEADER],
    /// CRC-32 of everything.
    pub crc: u32,
    pub release: Release,
    /// Signed with a key that devices trust.
    pub trusted: bool,
    /// Proves good when it runs.
    pub good: bool,
}

impl Firmware {
    pub fn new(seed: u64, id: FirmwareId, size: u64, trusted: bool, good: bool) -> Self {
        let size = size.max(HEADER as u64 + 1);
        let code = content(seed, id);
        let mut header = [0; HEADER];
        let mut body_crc = crc32fast::Hasher::new();
        each(size, HEADER as u64, |offset, piece| {
            fill(code, offset, piece);
            body_crc.update(piece);
        });
        let signer = u8::from(!trusted);
        let body_crc = body_crc.finalize();
        let tag = sign(id, size, body_crc, signer);
        let fields =
            [&MAGIC[..], &id.to_le_bytes(), &size.to_le_bytes(), &body_crc.to_le_bytes(), &[signer], &tag];
        for (to, from) in header.iter_mut().zip(fields.concat()) {
            *to = from;
        }
        let mut crc = crc32fast::Hasher::new();
        let mut whole = Sha256::new();
        let mut part = Sha256::new();
        let mut partials = Vec::new();
        let mut in_part = 0;
        each(size, 0, |offset, piece| {
            read(code, &header, offset, piece);
            crc.update(piece);
            whole.update(&*piece);
            part.update(&*piece);
            in_part += piece.len();
            if in_part >= crate::limits::PART {
                partials.push(hex(&part.finalize_reset()));
                in_part = 0;
            }
        });
        if in_part > 0 {
            partials.push(hex(&part.finalize()));
        }
        let meta = FirmwareMeta {
            version: format!("1.{id}.0"),
            product: "sim".to_owned(),
            uuid: uuid(id),
            architecture: "generic".to_owned(),
            platform: "sim".to_owned(),
            ..FirmwareMeta::default()
        };
        let release = Release {
            meta: meta.clone(),
            url: format!("{FILES}{id}?signature={URL_SECRET}"),
            size,
            checksum: hex(&whole.finalize()),
            partials,
        };
        Self { id, meta, size, header, crc: crc.finalize(), release, trusted, good }
    }
}

/// The UUID of a firmware.
pub(super) fn uuid(id: FirmwareId) -> String {
    format!("00000000-0000-5000-8000-{id:012x}")
}

/// What a firmware's bytes are made of.
pub(super) fn content(seed: u64, id: FirmwareId) -> u64 {
    mix(seed, u64::from(id))
}

/// Bytes of a firmware from `offset` on.
pub(super) fn read(code: u64, header: &[u8; HEADER], offset: u64, buffer: &mut [u8]) {
    fill(code, offset, buffer);
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    if let Some(front) = header.get(from..) {
        for (to, from) in buffer.iter_mut().zip(front) {
            *to = *from;
        }
    }
}

/// What a header says that is signed with one of these keys; otherwise what is wrong, for a person.
pub(super) fn verify(header: &[u8], keys: &[String]) -> Result<Header, &'static str> {
    let broken = "the archive is no firmware";
    let rest = header.strip_prefix(MAGIC).ok_or(broken)?;
    let (id, rest) = rest.split_first_chunk::<4>().ok_or(broken)?;
    let (size, rest) = rest.split_first_chunk::<8>().ok_or(broken)?;
    let (crc, rest) = rest.split_first_chunk::<4>().ok_or(broken)?;
    let (signer, rest) = rest.split_first().ok_or(broken)?;
    let tag = rest.first_chunk::<8>().ok_or(broken)?;
    let (id, size, body_crc) = (u32::from_le_bytes(*id), u64::from_le_bytes(*size), u32::from_le_bytes(*crc));
    let trusted = KEYS
        .get(usize::from(*signer))
        .is_some_and(|key| keys.iter().any(|ours| ours == key) && sign(id, size, body_crc, *signer) == *tag);
    let header = Header { id, size, body_crc };
    if trusted { Ok(header) } else { Err(STRANGER) }
}

/// The same without looking at the signature: what a broken applier would do.
pub(super) fn believe(header: &[u8]) -> Result<Header, &'static str> {
    let keys = KEYS.map(str::to_owned);
    verify(header, &keys)
}

/// What a firmware says about itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub id: FirmwareId,
    pub size: u64,
    pub body_crc: u32,
}

fn sign(id: FirmwareId, size: u64, crc: u32, signer: u8) -> [u8; 8] {
    let secret = 0x6b65_7973 + u64::from(signer);
    mix(mix(mix(secret, u64::from(id)), size), u64::from(crc)).to_le_bytes()
}

/// Calls with pieces of a buffer that cover `from..size`.
fn each(size: u64, from: u64, mut act: impl FnMut(u64, &mut [u8])) {
    let mut buffer = vec![0; 16 * 1024];
    let mut offset = from;
    while offset < size {
        let length = usize::try_from(size - offset).unwrap_or(usize::MAX).min(buffer.len());
        if let Some(piece) = buffer.get_mut(..length) {
            act(offset, piece);
        }
        offset += length as u64;
    }
}

/// Makes bytes, eight at a time.
fn fill(code: u64, offset: u64, buffer: &mut [u8]) {
    let mut word = offset / 8;
    let skew = usize::try_from(offset % 8).unwrap_or(0);
    let mut rest = buffer;
    if skew > 0 {
        let bytes = mix(code, word).to_le_bytes();
        let front = (8 - skew).min(rest.len());
        let (head, tail) = rest.split_at_mut(front);
        head.copy_from_slice(bytes.get(skew..skew + front).unwrap_or_default());
        rest = tail;
        word += 1;
    }
    for piece in rest.chunks_mut(8) {
        let bytes = mix(code, word).to_le_bytes();
        piece.copy_from_slice(bytes.get(..piece.len()).unwrap_or_default());
        word += 1;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write as _;
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_gives_the_same_bytes() {
        let firmware = Firmware::new(7, 3, 1000, true, true);
        let code = content(7, 3);
        let mut whole = vec![0; 1000];
        read(code, &firmware.header, 0, &mut whole);
        assert_eq!(crc32fast::hash(&whole), firmware.crc);
        for from in [0, 1, 7, 8, 31, 32, 33, 34, 40, 500, 999] {
            for length in [1, 3, 8, 9, 200] {
                let end = (from + length).min(1000);
                let mut piece = vec![0; end - from];
                read(code, &firmware.header, from as u64, &mut piece);
                assert_eq!(piece, whole[from..end], "{from} {length}");
            }
        }
    }

    #[test]
    fn only_a_trusted_signature_counts() {
        let keys = [KEYS[0].to_owned()];
        let good = Firmware::new(7, 3, 1000, true, true);
        assert_eq!(verify(&good.header, &keys).unwrap().size, 1000);
        let other = Firmware::new(7, 3, 1000, false, true);
        assert!(verify(&other.header, &keys).is_err());
        assert!(verify(&other.header, &[KEYS[1].to_owned()]).is_ok());
        for at in 0..HEADER {
            let mut spoilt = good.header;
            spoilt[at] ^= 1;
            assert!(verify(&spoilt, &keys).is_err(), "byte {at}");
        }
    }
}
