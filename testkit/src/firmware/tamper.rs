//! Signs archives anew, and spoils them.

use super::archive::{Archive, ArchiveError, Rewrite, rewrite};
use super::builder::DEFAULT_TIME;
use super::keys::SigningKey;
use super::zip::{Head, META_CONF, SIGNATURE};
use crate::limits::META_CONF_MAX;

/// Signs any archive: adds or replaces the signature, copies every other entry unchanged.
pub fn sign_archive(bytes: &[u8], key: &SigningKey) -> Result<Vec<u8>, ArchiveError> {
    let meta_conf = meta_conf(bytes)?;
    let signature = key.sign(&meta_conf).to_vec();
    rewrite(bytes, Some((Head::new(SIGNATURE, DEFAULT_TIME), signature)), |name| {
        if name == SIGNATURE { Rewrite::Drop } else { Rewrite::Keep }
    })
}

/// A way to spoil an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tamper {
    /// Changes one byte of a resource's content and compresses it anew: every checksum of the archive
    /// format fits, only the digest in `meta.conf` does not.
    Resource {
        /// The resource.
        name: String,
        /// Which byte; past the end the last one.
        offset: usize,
    },
    /// Flips one bit in the middle of a resource's compressed data.
    Compressed {
        /// The resource.
        name: String,
    },
    /// Changes one hex digit of the first digest in `meta.conf`; the signature stays.
    MetaConf,
    /// Flips one bit of the signature.
    Signature,
    /// Leaves the signature out.
    Unsigned,
    /// Cuts the archive after so many bytes.
    Truncated(usize),
    /// Puts an entry of zeros that no task asks for behind the last one, so that the archive has so many bytes. Its
    /// directory, which appliers don't read, stays as it was.
    Padded {
        /// The name of the entry.
        name: String,
        /// Bytes of the whole archive; one that has as many already stays as it is.
        size: usize,
    },
}

/// Returns a spoilt copy of an archive.
pub fn tamper(bytes: &[u8], how: &Tamper) -> Result<Vec<u8>, ArchiveError> {
    match how {
        Tamper::Resource { name, offset } => {
            let entry = format!("data/{name}");
            let content = content(bytes, &entry, bytes.len() as u64 * 1100)?;
            let last = content.len().saturating_sub(1);
            replace(bytes, &entry, flipped(content, (*offset).min(last)))
        }
        Tamper::Compressed { name } => {
            let entry = format!("data/{name}");
            let mut archive = Archive::read(std::io::Cursor::new(bytes))?;
            let index = archive.entries.iter().position(|e| e.name == entry);
            let index = index.ok_or_else(|| ArchiveError::NoEntry(entry.clone()))?;
            let local = archive.local(index)?;
            let before: usize = (0..index).map(|i| archive.local(i).map_or(0, |l| l.len())).sum();
            Ok(flipped(bytes.to_vec(), before + local.len() / 2))
        }
        Tamper::MetaConf => {
            let mut text = meta_conf(bytes)?;
            let marker = b"blake2b-256=";
            let found = text.windows(marker.len()).position(|window| window == marker);
            let at = found.map_or(text.len().saturating_sub(1), |at| at + marker.len());
            if let Some(byte) = text.get_mut(at) {
                *byte = if *byte == b'0' { b'1' } else { b'0' };
            }
            replace(bytes, META_CONF, text)
        }
        Tamper::Signature => {
            let signature = content(bytes, SIGNATURE, 64)?;
            replace(bytes, SIGNATURE, flipped(signature, 10))
        }
        Tamper::Unsigned => {
            rewrite(bytes, None, |name| if name == SIGNATURE { Rewrite::Drop } else { Rewrite::Keep })
        }
        Tamper::Padded { name, size } => padded(bytes, name, *size),
        Tamper::Truncated(length) => Ok(bytes.get(..*length).unwrap_or(bytes).to_vec()),
    }
}

fn padded(bytes: &[u8], name: &str, size: usize) -> Result<Vec<u8>, ArchiveError> {
    let Some(fill) = size.checked_sub(bytes.len() + 30 + name.len()) else { return Ok(bytes.to_vec()) };
    let at = usize::try_from(Archive::read(std::io::Cursor::new(bytes))?.directory_at)
        .map_err(|_| ArchiveError::Damaged("its directory is too far away"))?;
    let (entries, directory) =
        bytes.split_at_checked(at).ok_or(ArchiveError::Damaged("its directory is past its end"))?;
    let zeros = vec![0; fill];
    let length = u32::try_from(fill).map_err(|_| ArchiveError::Damaged("there is too much to fill"))?;
    let name_length = u16::try_from(name.len()).map_err(|_| ArchiveError::Damaged("its name is too long"))?;
    let mut padded = entries.to_vec();
    padded.extend_from_slice(b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0");
    padded.extend_from_slice(&crc32fast::hash(&zeros).to_le_bytes());
    padded.extend_from_slice(&length.to_le_bytes());
    padded.extend_from_slice(&length.to_le_bytes());
    padded.extend_from_slice(&name_length.to_le_bytes());
    padded.extend_from_slice(&[0, 0]);
    padded.extend_from_slice(name.as_bytes());
    padded.extend_from_slice(&zeros);
    padded.extend_from_slice(directory);
    Ok(padded)
}

fn meta_conf(bytes: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    content(bytes, META_CONF, META_CONF_MAX as u64 + 1)
}

pub(super) fn content(bytes: &[u8], entry: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
    Archive::read(std::io::Cursor::new(bytes))?.content(entry, limit)
}

pub(super) fn replace(bytes: &[u8], entry: &str, content: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
    let mut content = Some(content);
    rewrite(bytes, None, |name| match content.take_if(|_| name == entry) {
        Some(content) => Rewrite::With(content),
        None => Rewrite::Keep,
    })
}

fn flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    bytes
}
