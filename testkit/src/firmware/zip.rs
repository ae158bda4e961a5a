//! Writes archives byte for byte in fwup's form (fw-format §1.2).

use std::io::{self, Read, Write};

use flate2::{Compression, write::DeflateEncoder};

use crate::limits::ZIP32;

/// The name of the signature's entry.
pub(crate) const SIGNATURE: &str = "meta.conf.ed25519";
/// The name of the manifest's entry.
pub(crate) const META_CONF: &str = "meta.conf";

/// The head of an entry.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub name: String,
    pub stored: bool,
    pub dos_time: u16,
    pub dos_date: u16,
    pub extra: Vec<u8>,
}

impl Head {
    /// An entry as fwup writes it; only the manifest carries a time, in Unix seconds.
    pub fn new(name: &str, mtime: u32) -> Self {
        let mut extra = Vec::new();
        let (mut dos_time, mut dos_date) = (0, 0x21);
        if name == META_CONF {
            (dos_time, dos_date) = dos(mtime);
            extra.extend([0x55, 0x54, 5, 0, 1]);
            extra.extend(mtime.to_le_bytes());
        } else {
            extra.extend([0x55, 0x54, 1, 0, 0]);
        }
        extra.extend([0x75, 0x78, 11, 0, 1, 4, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
        Self { name: name.to_owned(), stored: name == SIGNATURE, dos_time, dos_date, extra }
    }
}

/// Writes entries one after the other, then the directory.
pub(crate) struct ArchiveWriter<W> {
    out: W,
    offset: u64,
    directory: Vec<u8>,
    entries: u16,
    level: u32,
}

impl<W: Write> ArchiveWriter<W> {
    pub fn new(out: W, level: u32) -> Self {
        Self { out, offset: 0, directory: Vec::new(), entries: 0, level: level.min(9) }
    }

    /// Writes one entry of exactly `size` bytes.
    pub fn entry(&mut self, head: &Head, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let at = self.offset;
        let size32 = small(size)?;
        let (version, method, known) = if head.stored { (10_u16, 0_u16, size32) } else { (20, 8, 0) };
        let mut local = Vec::new();
        local.extend(*b"PK\x03\x04");
        for field in [version, 8, method, head.dos_time, head.dos_date] {
            local.extend(field.to_le_bytes());
        }
        for field in [0, known, size32] {
            local.extend(field.to_le_bytes());
        }
        let lengths = [short(head.name.len())?, short(head.extra.len())?];
        for field in lengths {
            local.extend(field.to_le_bytes());
        }
        local.extend(head.name.as_bytes());
        local.extend(&head.extra);
        self.raw(&local)?;
        let data_at = self.offset;
        let mut input = Counted { inner: content, crc: crc32fast::Hasher::new(), bytes: 0 };
        let mut output = Tally { out: &mut self.out, bytes: 0 };
        if head.stored {
            io::copy(&mut input, &mut output)?;
        } else {
            let mut deflate = DeflateEncoder::new(&mut output, Compression::new(self.level));
            io::copy(&mut input, &mut deflate)?;
            deflate.finish()?;
        }
        if input.bytes != size {
            return Err(io::Error::other(format!(
                "entry {} was to have {size} bytes but had {}",
                head.name, input.bytes
            )));
        }
        let crc = input.crc.finalize();
        let compressed = output.bytes;
        self.offset = data_at.saturating_add(compressed);
        let compressed = small(compressed)?;
        let mut descriptor = b"PK\x07\x08".to_vec();
        for field in [crc, compressed, size32] {
            descriptor.extend(field.to_le_bytes());
        }
        self.raw(&descriptor)?;

        let mut record = b"PK\x01\x02".to_vec();
        // Made by version 20 on Unix.
        for field in [0x0314, version, 8, method, head.dos_time, head.dos_date] {
            record.extend(field.to_le_bytes());
        }
        for field in [crc, compressed, size32] {
            record.extend(field.to_le_bytes());
        }
        for field in [lengths[0], lengths[1], 0, 0, 0] {
            record.extend(field.to_le_bytes());
        }
        record.extend(0x81a4_0000_u32.to_le_bytes());
        record.extend(small(at)?.to_le_bytes());
        record.extend(head.name.as_bytes());
        record.extend(&head.extra);
        self.listed(&record)
    }

    /// Copies an entry of another archive as it is: its local part and its directory record.
    pub fn copy(&mut self, local: &[u8], record: &[u8]) -> io::Result<()> {
        let at = small(self.offset)?;
        self.raw(local)?;
        let mut record = record.to_vec();
        if let Some(field) = record.get_mut(42..46) {
            field.copy_from_slice(&at.to_le_bytes());
        }
        self.listed(&record)
    }

    /// Writes the directory and the end record; the archive is complete.
    pub fn finish(mut self) -> io::Result<W> {
        let directory = std::mem::take(&mut self.directory);
        let (at, length) = (small(self.offset)?, small(directory.len() as u64)?);
        self.raw(&directory)?;
        let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
        end.extend(self.entries.to_le_bytes());
        end.extend(self.entries.to_le_bytes());
        end.extend(length.to_le_bytes());
        end.extend(at.to_le_bytes());
        end.extend([0, 0]);
        self.raw(&end)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        self.out.write_all(bytes)
    }

    fn listed(&mut self, record: &[u8]) -> io::Result<()> {
        self.directory.extend(record);
        self.entries = self.entries.checked_add(1).ok_or_else(|| io::Error::other("too many entries"))?;
        Ok(())
    }
}

/// Date and time as ZIP has them, in UTC, for years 1980 to 2107.
fn dos(mtime: u32) -> (u16, u16) {
    let (days, seconds) = (i64::from(mtime / 86_400), mtime % 86_400);
    let (year, month, day) = crate::date::civil(days);
    let time = ((seconds / 3600) << 11) | ((seconds / 60 % 60) << 5) | (seconds % 60 / 2);
    let date = ((u32::try_from(year - 1980).unwrap_or(0) & 0x7f) << 9) | (month << 5) | day;
    (u16::try_from(time).unwrap_or(0), u16::try_from(date).unwrap_or(0x21))
}

fn small(value: u64) -> io::Result<u32> {
    let too_big = || io::Error::other(format!("{value} bytes need zip64, which this kit does not write"));
    u32::try_from(value).ok().filter(|_| value <= ZIP32).ok_or_else(too_big)
}

fn short(value: usize) -> io::Result<u16> {
    u16::try_from(value).map_err(|_| io::Error::other("a name or field is longer than 65535 bytes"))
}

struct Counted<'a> {
    inner: &'a mut dyn Read,
    crc: crc32fast::Hasher,
    bytes: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.crc.update(buffer.get(..n).unwrap_or_default());
        self.bytes = self.bytes.saturating_add(n as u64);
        Ok(n)
    }
}

struct Tally<'a, W> {
    out: &'a mut W,
    bytes: u64,
}

impl<W: Write> Write for Tally<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.bytes = self.bytes.saturating_add(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_limit() {
        assert_eq!(small(ZIP32).unwrap(), u32::MAX - 1);
        assert!(small(ZIP32 + 1).unwrap_err().to_string().contains("zip64"));
        assert_eq!(short(65_535).unwrap(), 65_535);
        assert!(short(65_536).is_err());
    }

    #[test]
    fn an_entry_of_another_length_than_said_is_an_error() {
        let mut writer = ArchiveWriter::new(Vec::new(), 9);
        assert!(writer.entry(&Head::new("data/x", 0), 4, &mut b"four".as_slice()).is_ok());
        assert!(writer.entry(&Head::new("data/y", 0), 5, &mut b"four".as_slice()).is_err());
    }
}
