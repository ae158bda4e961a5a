//! The local file header of an entry.

/// Bytes of a local header before its name, the signature word included.
pub(crate) const FIXED_LENGTH: usize = 30;

/// Bit 0: the data are encrypted.
const FLAG_ENCRYPTED: u16 = 1;
/// Bit 3: checksum and sizes follow the data.
const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// A size that stands in the zip64 extra field.
const IN_ZIP64: u64 = 0xffff_ffff;

/// Extra field with 64-bit sizes.
const EXTRA_ZIP64: u16 = 0x0001;
/// Extra field with an extended timestamp.
const EXTRA_TIMESTAMP: u16 = 0x5455;
/// Extra field with times, Info-ZIP's older form.
const EXTRA_UNIX: u16 = 0x5855;

/// What the local header of an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EntryInfo {
    /// The entry's name. Bytes that are not UTF-8 are replaced; such a name matches no resource.
    pub name: String,
    /// Bytes of data; `None` when the header leaves it to the data descriptor.
    pub uncompressed_size: Option<u64>,
    /// Bytes in the archive; `None` when the header leaves it to the data descriptor.
    pub compressed_size: Option<u64>,
    /// Seconds since 1970. The extended timestamp wins over the DOS time, which is taken as UTC.
    pub mtime: Option<i64>,
    /// The name ends in a slash.
    pub is_directory: bool,
}

/// The fields of a local header.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalHeader {
    /// Bytes of the name.
    pub name_length: usize,
    /// Bytes of the extra fields.
    pub extra_length: usize,
    /// The compression method.
    pub method: u16,
    /// The data are encrypted.
    pub encrypted: bool,
    /// Checksum and sizes follow the data.
    pub descriptor: bool,
    /// A zip64 extra field is there, so sizes in the descriptor have 8 bytes.
    pub zip64: bool,
    /// CRC-32 of the data.
    pub crc: u32,
    /// Bytes in the archive.
    pub compressed: u64,
    /// Bytes of data.
    pub uncompressed: u64,
    /// Made on DOS, where names have backslashes.
    dos: bool,
    mtime: Option<i64>,
}

impl LocalHeader {
    /// Reads the fixed part, the signature word included.
    pub(crate) fn parse(fixed: &[u8]) -> Option<Self> {
        let u16_at = |at| le(fixed, at, 2).and_then(|value| u16::try_from(value).ok());
        let flags = u16_at(6)?;
        Some(Self {
            dos: fixed.get(5) == Some(&0),
            encrypted: flags & FLAG_ENCRYPTED != 0,
            descriptor: flags & FLAG_DESCRIPTOR != 0,
            method: u16_at(8)?,
            mtime: Some(dos_time(u16_at(10)?, u16_at(12)?)),
            crc: u32::try_from(le(fixed, 14, 4)?).ok()?,
            compressed: le(fixed, 18, 4)?,
            uncompressed: le(fixed, 22, 4)?,
            name_length: usize::from(u16_at(26)?),
            extra_length: usize::from(u16_at(28)?),
            zip64: false,
        })
    }

    /// Reads the extra fields. Unknown ones are passed over; `None` when they do not fit together.
    pub(crate) fn read_extra(&mut self, mut extra: &[u8]) -> Option<()> {
        // Some writers pad with zeros that are too short for a field.
        while extra.len() >= 4 {
            let id = u16::try_from(le(extra, 0, 2)?).ok()?;
            let length = usize::try_from(le(extra, 2, 2)?).ok()?;
            let field = extra.get(4..)?.get(..length)?;
            extra = extra.get(4 + length..)?;
            match id {
                EXTRA_ZIP64 => self.read_zip64(field)?,
                EXTRA_TIMESTAMP if field.first().is_some_and(|flags| flags & 1 != 0) => {
                    self.mtime = seconds(field, 1).or(self.mtime);
                }
                EXTRA_UNIX => self.mtime = seconds(field, 4).or(self.mtime),
                _ => {}
            }
        }
        extra.iter().all(|byte| *byte == 0).then_some(())
    }

    /// Returns what callers see of the header.
    pub(crate) fn info(&self, name: &[u8]) -> EntryInfo {
        let mut name = String::from_utf8_lossy(name).into_owned();
        if self.dos {
            name = name.replace('\\', "/");
        }
        let known = |size: u64| (!self.descriptor || size > 0).then_some(size);
        EntryInfo {
            is_directory: name.ends_with('/'),
            name,
            uncompressed_size: known(self.uncompressed),
            compressed_size: known(self.compressed),
            mtime: self.mtime,
        }
    }

    fn read_zip64(&mut self, field: &[u8]) -> Option<()> {
        self.zip64 = true;
        let mut at = 0;
        for size in [&mut self.uncompressed, &mut self.compressed] {
            if *size == IN_ZIP64 {
                *size = le(field, at, 8)?;
                at += 8;
            }
        }
        Some(())
    }
}

/// Reads a little-endian number of up to 8 bytes.
pub(crate) fn le(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let field = bytes.get(at..)?.get(..length)?;
    Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Reads a signed 32-bit time.
fn seconds(field: &[u8], at: usize) -> Option<i64> {
    let bytes = field.get(at..)?.first_chunk::<4>()?;
    Some(i64::from(i32::from_le_bytes(*bytes)))
}

/// Turns a DOS time into seconds since 1970, taking it as UTC. Days and months out of range run over into
/// the next or previous month, like C's `mktime`.
fn dos_time(time: u16, date: u16) -> i64 {
    let field = |value: u16, shift: u32, bits: u32| i64::from(value >> shift & ((1 << bits) - 1));
    let months = (1980 + field(date, 9, 7)) * 12 + field(date, 5, 4) - 1;
    let days = days_from_civil(months.div_euclid(12), months.rem_euclid(12) + 1) + field(date, 0, 5) - 1;
    days * 86_400 + field(time, 11, 5) * 3600 + field(time, 5, 6) * 60 + field(time, 0, 5) * 2
}

/// Returns the days from 1970-01-01 to the first day of a month (1 to 12) in the Gregorian calendar.
fn days_from_civil(year: i64, month: i64) -> i64 {
    // Years begin in March, so that the leap day comes last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}
