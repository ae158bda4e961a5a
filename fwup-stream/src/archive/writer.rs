//! Writing the container: a ZIP archive as the reference writes it (fw-format §1.2).

use std::io::{self, Write};

use crate::internal::Internal;

/// Sizes above this make an entry zip64 from the start: deflate may make data a little longer.
const ZIP64_ABOVE: u64 = 0xff00_0000;
/// What stands in a 32-bit field whose value is in the zip64 extra field.
const IN_ZIP64: u32 = u32::MAX;
/// What a 32-bit or 16-bit field of the directory cannot hold.
const BIG: u64 = 0xffff_ffff;
const MANY: u64 = 0xffff;

const METHOD_STORED: u16 = 0;
const METHOD_DEFLATE: u16 = 8;
const VERSION_STORED: u16 = 10;
const VERSION_DEFLATE: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// Made on Unix.
const SYSTEM_UNIX: u16 = 3 << 8;
/// Checksum and sizes follow the data.
const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// A regular file that its owner may write and all may read.
const ATTRIBUTES: u32 = 0o100_644 << 16;
/// 1980-01-01, the first date there is.
const DOS_EPOCH: DosTime = DosTime { time: 0, date: 0x21 };
/// 2107-12-31 23:59:58, the last there is.
const DOS_END: DosTime = DosTime { time: 0xbf7d, date: 0xff9f };
/// User and group 0, as an extra field.
const OWNER: [u8; 15] = [0x75, 0x78, 0x0b, 0, 1, 4, 0, 0, 0, 0, 4, 0, 0, 0, 0];

/// A time as ZIP headers have it: local time in steps of two seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DosTime {
    /// Hours, minutes and half seconds.
    pub time: u16,
    /// Years since 1980, months and days.
    pub date: u16,
}

impl DosTime {
    /// Packs a local time; what is before 1980 or after 2107 becomes the first or last time there is.
    pub fn new(year: i32, month: u8, day: u8, hour: u8, minute: u8, second: u8) -> Self {
        if year < 1980 {
            return DOS_EPOCH;
        }
        let Some(years) = u16::try_from(year - 1980).ok().filter(|years| *years < 128) else {
            return DOS_END;
        };
        Self {
            time: u16::from(hour) << 11 | u16::from(minute) << 5 | u16::from(second) >> 1,
            date: years << 9 | u16::from(month) << 5 | u16::from(day),
        }
    }
}

/// What an entry is, before its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// The entry's name.
    pub name: String,
    /// Bytes of data, uncompressed.
    pub size: u64,
    /// The data are deflated; stored as they are otherwise.
    pub deflated: bool,
    /// Seconds since 1970, and the same in local time. Only the manifest has one.
    pub mtime: Option<(i64, DosTime)>,
}

/// What an entry's data came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryTotals {
    /// CRC-32 of the uncompressed data.
    pub crc: u32,
    /// Bytes in the archive.
    pub compressed: u64,
}

/// Writes an archive from front to back.
#[derive(Debug)]
pub struct ArchiveWriter<W> {
    out: W,
    at: u64,
    entries: Vec<Written>,
}

/// An entry in the archive.
#[derive(Debug)]
struct Written {
    header: EntryHeader,
    totals: EntryTotals,
    offset: u64,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self { out, at: 0, entries: Vec::new() }
    }

    /// Writes an entry. `data` writes its bytes as they stand in the archive, and returns what they came to.
    pub fn entry<E: From<io::Error>>(
        &mut self,
        header: EntryHeader,
        data: impl FnOnce(&mut dyn Write) -> Result<EntryTotals, E>,
    ) -> Result<(), E> {
        let offset = self.at;
        let local = local_header(&header)?;
        self.put(&local)?;
        let totals = data(&mut self.out)?;
        self.at += totals.compressed;
        let descriptor = descriptor(&header, totals);
        self.put(&descriptor)?;
        self.entries.push(Written { header, totals, offset });
        Ok(())
    }

    /// Writes the directory and returns what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        let start = self.at;
        for entry in std::mem::take(&mut self.entries) {
            let central = central_header(&entry)?;
            self.put(&central)?;
            self.entries.push(entry);
        }
        let length = self.at - start;
        let end = end_records(self.entries.len() as u64, length, start);
        self.put(&end)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

impl EntryHeader {
    fn is_zip64(&self) -> bool {
        self.size > ZIP64_ABOVE
    }

    fn version(&self) -> u16 {
        match (self.is_zip64(), self.deflated) {
            (true, _) => VERSION_ZIP64,
            (false, true) => VERSION_DEFLATE,
            (false, false) => VERSION_STORED,
        }
    }

    /// The version it takes to read the entry. A reader that doesn't know the directory, where the system stands, takes
    /// names without a system for ones from DOS, and a backslash in them for a separator.
    fn needed(&self) -> u16 {
        self.version() | if self.name.contains('\\') { SYSTEM_UNIX } else { 0 }
    }

    fn dos_time(&self) -> DosTime {
        self.mtime.map_or(DOS_EPOCH, |(_, dos)| dos)
    }

    /// The fields both headers have: flags, method, time.
    fn common(&self, out: &mut Vec<u8>) {
        let method = if self.deflated { METHOD_DEFLATE } else { METHOD_STORED };
        for field in [self.needed(), FLAG_DESCRIPTOR, method, self.dos_time().time, self.dos_time().date] {
            out.extend(field.to_le_bytes());
        }
    }

    /// The extra fields both headers have: time and owner.
    fn extra(&self) -> Vec<u8> {
        let mut extra = match self.mtime {
            Some((seconds, _)) => {
                let low = seconds.to_le_bytes();
                let [a, b, c, d, ..] = low;
                vec![0x55, 0x54, 5, 0, 1, a, b, c, d]
            }
            None => vec![0x55, 0x54, 1, 0, 0],
        };
        extra.extend(OWNER);
        extra
    }

    fn name_length(&self) -> io::Result<[u8; 2]> {
        let length = u16::try_from(self.name.len());
        let length = length.map_err(|_| io::Error::other("an entry's name is longer than 65535 bytes"))?;
        Ok(length.to_le_bytes())
    }
}

fn local_header(header: &EntryHeader) -> io::Result<Vec<u8>> {
    let mut out = b"PK\x03\x04".to_vec();
    header.common(&mut out);
    let mut extra = header.extra();
    // What does not fit stands in the field for 64 bits.
    let size = u32::try_from(header.size).unwrap_or(IN_ZIP64);
    let (compressed, uncompressed) = if header.is_zip64() {
        extra.extend([1, 0, 16, 0]);
        extra.extend(header.size.to_le_bytes());
        extra.extend(0_u64.to_le_bytes());
        (IN_ZIP64, IN_ZIP64)
    } else if header.deflated {
        (0, size)
    } else {
        (size, size)
    };
    // The checksum is not known yet.
    out.extend([0; 4]);
    out.extend(compressed.to_le_bytes());
    // Known in spite of the descriptor behind the data: deltas are told apart by it.
    out.extend(uncompressed.to_le_bytes());
    out.extend(header.name_length()?);
    out.extend(short(extra.len())?);
    out.extend(header.name.as_bytes());
    out.extend(extra);
    Ok(out)
}

fn descriptor(header: &EntryHeader, totals: EntryTotals) -> Vec<u8> {
    let mut out = b"PK\x07\x08".to_vec();
    out.extend(totals.crc.to_le_bytes());
    for size in [totals.compressed, header.size] {
        let bytes = size.to_le_bytes();
        out.extend(bytes.iter().take(if header.is_zip64() { 8 } else { 4 }));
    }
    out
}

fn central_header(entry: &Written) -> io::Result<Vec<u8>> {
    let header = &entry.header;
    let mut out = b"PK\x01\x02".to_vec();
    out.extend((header.version() | SYSTEM_UNIX).to_le_bytes());
    header.common(&mut out);
    out.extend(entry.totals.crc.to_le_bytes());
    let mut zip64 = Vec::new();
    let mut field = |value: u64| {
        if value >= BIG {
            zip64.extend(value.to_le_bytes());
            return IN_ZIP64;
        }
        // Smaller than `BIG`, it fits.
        u32::try_from(value).unwrap_or(IN_ZIP64)
    };
    // The extra field has the uncompressed size first, the header has it second.
    let uncompressed = field(header.size);
    let compressed = field(entry.totals.compressed);
    let offset = field(entry.offset);
    let mut extra = header.extra();
    if !zip64.is_empty() {
        extra.extend([1, 0]);
        extra.extend(short(zip64.len())?);
        extra.extend(zip64);
    }
    out.extend(compressed.to_le_bytes());
    out.extend(uncompressed.to_le_bytes());
    out.extend(header.name_length()?);
    out.extend(short(extra.len())?);
    // No comment, first disk, no internal attributes.
    out.extend([0; 6]);
    out.extend(ATTRIBUTES.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.extend(header.name.as_bytes());
    out.extend(extra);
    Ok(out)
}

/// The end of the directory, with the zip64 records in front when they are needed.
fn end_records(entries: u64, length: u64, start: u64) -> Vec<u8> {
    let mut out = Vec::new();
    if entries >= MANY || length >= BIG || start >= BIG {
        out.extend(b"PK\x06\x06");
        out.extend(44_u64.to_le_bytes());
        out.extend((VERSION_ZIP64 | SYSTEM_UNIX).to_le_bytes());
        out.extend(VERSION_ZIP64.to_le_bytes());
        out.extend([0; 8]);
        for field in [entries, entries, length, start] {
            out.extend(field.to_le_bytes());
        }
        out.extend(b"PK\x06\x07");
        out.extend([0; 4]);
        out.extend((start + length).to_le_bytes());
        out.extend(1_u32.to_le_bytes());
    }
    // Numbers that have no place here stand in the records above, and all ones here (APPNOTE 4.4.1.4).
    let count = u16::try_from(entries).unwrap_or(u16::MAX).to_le_bytes();
    out.extend(b"PK\x05\x06");
    out.extend([0; 4]);
    out.extend(count);
    out.extend(count);
    for field in [length, start] {
        out.extend(u32::try_from(field).unwrap_or(IN_ZIP64).to_le_bytes());
    }
    out.extend([0; 2]);
    out
}

/// The length of an extra field, which is never long.
fn short(length: usize) -> io::Result<[u8; 2]> {
    let length = u16::try_from(length);
    Ok(length.map_err(|_| io::Error::other(Internal::new("an extra field is too long")))?.to_le_bytes())
}
