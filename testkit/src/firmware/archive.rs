//! Reads archives by their central directory, the other way than appliers do, and rewrites them.

use std::io::{Read, Seek, SeekFrom};

use super::builder::uuid;
use super::zip::{ArchiveWriter, Head, META_CONF};
use crate::limits::META_CONF_MAX;
use crate::meta::FirmwareMeta;

/// Why an archive could not be read or rewritten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// There is no directory at the end: the archive is cut, or no archive.
    #[error("the archive has no directory at its end: it is cut short, or not a .fw file")]
    NoDirectory,
    /// The directory or an entry cannot be.
    #[error("the archive is damaged: {0}")]
    Damaged(&'static str),
    /// A named entry is not there.
    #[error("the archive has no entry {0}")]
    NoEntry(String),
    /// Reading or writing failed.
    #[error("the archive could not be read or written: {0}")]
    Io(#[from] std::io::Error),
}

/// One entry of the directory.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub name: String,
    method: u16,
    time: u16,
    date: u16,
    compressed: u64,
    size: u64,
    at: u64,
    extra: Vec<u8>,
    record: Vec<u8>,
}

/// An archive whose directory was read.
pub(super) struct Archive<R> {
    source: R,
    pub entries: Vec<Entry>,
    pub directory_at: u64,
}

impl<R: Read + Seek> Archive<R> {
    pub fn read(mut source: R) -> Result<Self, ArchiveError> {
        let length = source.seek(SeekFrom::End(0))?;
        // The end record is 22 bytes and may have a comment of up to 65535.
        let tail_len = length.min(22 + 65_535);
        source.seek(SeekFrom::Start(length - tail_len))?;
        let mut tail = Vec::new();
        source.by_ref().take(tail_len).read_to_end(&mut tail)?;
        let end = tail
            .windows(4)
            .rposition(|window| window == b"PK\x05\x06")
            .and_then(|at| tail.get(at..))
            .ok_or(ArchiveError::NoDirectory)?;
        let count = u16_at(end, 10).ok_or(ArchiveError::NoDirectory)?;
        let directory_len = u32_at(end, 12).ok_or(ArchiveError::NoDirectory)?;
        let directory_at = u64::from(u32_at(end, 16).ok_or(ArchiveError::NoDirectory)?);
        source.seek(SeekFrom::Start(directory_at))?;
        let mut directory = Vec::new();
        source.by_ref().take(u64::from(directory_len)).read_to_end(&mut directory)?;
        let mut rest = directory.as_slice();
        let mut entries = Vec::new();
        for _ in 0..count {
            let (entry, left) = entry(rest).ok_or(ArchiveError::Damaged("its directory is cut short"))?;
            entries.push(entry);
            rest = left;
        }
        entries.sort_by_key(|entry| entry.at);
        Ok(Self { source, entries, directory_at })
    }

    /// The uncompressed content of an entry, at most `limit` bytes.
    pub fn content(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let entry = self.entries.iter().find(|entry| entry.name == name).cloned();
        let entry = entry.ok_or_else(|| ArchiveError::NoEntry(name.to_owned()))?;
        if entry.size > limit {
            return Err(ArchiveError::Damaged("an entry is larger than it may be"));
        }
        let mut head = [0; 30];
        self.source.seek(SeekFrom::Start(entry.at))?;
        self.source.read_exact(&mut head)?;
        let skip = u16_at(&head, 26).zip(u16_at(&head, 28)).map(|(a, b)| u64::from(a) + u64::from(b));
        let skip = skip.ok_or(ArchiveError::Damaged("a local header is cut short"))?;
        self.source.seek(SeekFrom::Start(entry.at + 30 + skip))?;
        let data = self.source.by_ref().take(entry.compressed);
        let mut content = Vec::new();
        match entry.method {
            0 => data.take(limit).read_to_end(&mut content)?,
            8 => flate2::read::DeflateDecoder::new(data).take(limit).read_to_end(&mut content)?,
            _ => return Err(ArchiveError::Damaged("an entry is neither stored nor deflated")),
        };
        Ok(content)
    }

    /// The bytes of an entry from its local header up to the next one.
    pub fn local(&mut self, index: usize) -> Result<Vec<u8>, ArchiveError> {
        let entry = self.entries.get(index).ok_or(ArchiveError::Damaged("no such entry"))?;
        let end = self.entries.get(index + 1).map_or(self.directory_at, |next| next.at);
        let length = end.checked_sub(entry.at).ok_or(ArchiveError::Damaged("its entries overlap"))?;
        self.source.seek(SeekFrom::Start(entry.at))?;
        let mut local = Vec::new();
        self.source.by_ref().take(length).read_to_end(&mut local)?;
        Ok(local)
    }
}

/// What the rewriter does with an entry.
pub(super) enum Rewrite {
    /// Copies it unchanged.
    Keep,
    /// Leaves it out.
    Drop,
    /// Writes it anew with this content.
    With(Vec<u8>),
}

/// Rewrites an archive: `first` goes in front, then each entry as `decide` says.
pub(super) fn rewrite(
    bytes: &[u8],
    first: Option<(Head, Vec<u8>)>,
    mut decide: impl FnMut(&str) -> Rewrite,
) -> Result<Vec<u8>, ArchiveError> {
    let mut archive = Archive::read(std::io::Cursor::new(bytes))?;
    let mut writer = ArchiveWriter::new(Vec::with_capacity(bytes.len()), 9);
    if let Some((head, content)) = first {
        writer.entry(&head, content.len() as u64, &mut content.as_slice())?;
    }
    for (index, entry) in archive.entries.clone().into_iter().enumerate() {
        match decide(&entry.name) {
            Rewrite::Keep => writer.copy(&archive.local(index)?, &entry.record)?,
            Rewrite::Drop => {}
            Rewrite::With(content) => {
                let head = Head {
                    name: entry.name,
                    stored: entry.method == 0,
                    dos_time: entry.time,
                    dos_date: entry.date,
                    extra: entry.extra,
                };
                writer.entry(&head, content.len() as u64, &mut content.as_slice())?;
            }
        }
    }
    Ok(writer.finish()?)
}

/// Reads what an archive says about itself: its UUID and the `meta-…` values, without expanding
/// variables in them.
pub fn describe(source: impl Read + Seek) -> Result<FirmwareMeta, ArchiveError> {
    let text = Archive::read(source)?.content(META_CONF, META_CONF_MAX as u64 + 1)?;
    let mut meta = FirmwareMeta { uuid: uuid(&text), ..FirmwareMeta::default() };
    for line in String::from_utf8_lossy(&text).lines() {
        let Some((name, value)) = line.split_once('=') else { break };
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        let value = value.replace("\\\"", "\"").replace("\\\\", "\\");
        match name {
            "meta-product" => meta.product = value,
            "meta-version" => meta.version = value,
            "meta-platform" => meta.platform = value,
            "meta-architecture" => meta.architecture = value,
            "meta-description" => meta.description = Some(value),
            "meta-author" => meta.author = Some(value),
            "meta-vcs-identifier" => meta.vcs_identifier = Some(value),
            "meta-misc" => meta.misc = Some(value),
            _ => {}
        }
    }
    Ok(meta)
}

fn entry(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    bytes.strip_prefix(b"PK\x01\x02")?;
    let name_len = usize::from(u16_at(bytes, 28)?);
    let extra_len = usize::from(u16_at(bytes, 30)?);
    let comment_len = usize::from(u16_at(bytes, 32)?);
    let (record, rest) = bytes.split_at_checked(46 + name_len + extra_len + comment_len)?;
    let entry = Entry {
        name: String::from_utf8_lossy(record.get(46..46 + name_len)?).into_owned(),
        method: u16_at(record, 10)?,
        time: u16_at(record, 12)?,
        date: u16_at(record, 14)?,
        compressed: u64::from(u32_at(record, 20)?),
        size: u64::from(u32_at(record, 24)?),
        at: u64::from(u32_at(record, 42)?),
        extra: record.get(46 + name_len..46 + name_len + extra_len)?.to_vec(),
        record: record.to_vec(),
    };
    Some((entry, rest))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}
