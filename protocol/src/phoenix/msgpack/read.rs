//! Reading MessagePack: a byte at a time, borrowing what can be borrowed.

use crate::fault::Fault;
use alloc::format;
use alloc::string::String;

/// The extension type of timestamps.
pub(super) const TIMESTAMP: i8 = -1;

/// The beginning of a value; of a text or other bytes, all of it.
pub(super) enum Head<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    Array(u32),
    Map(u32),
    Extension(i8, &'a [u8]),
}

/// A message and how far it was read.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl Head<'_> {
    /// Returns a name for a person.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a bool",
            Self::Unsigned(_) | Self::Signed(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "bytes",
            Self::Array(_) => "a list",
            Self::Map(_) => "a map",
            Self::Extension(..) => "an extension",
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// Reads the beginning of the next value.
    pub(super) fn head(&mut self) -> Result<Head<'a>, String> {
        let [kind] = self.array()?;
        Ok(match kind {
            0x00..=0x7f => Head::Unsigned(u64::from(kind)),
            0x80..=0x8f => Head::Map(u32::from(kind & 0x0f)),
            0x90..=0x9f => Head::Array(u32::from(kind & 0x0f)),
            0xa0..=0xbf => Head::Text(self.take(u32::from(kind & 0x1f))?),
            0xc0 => Head::Nil,
            0xc1 => return Err(String::from("a byte that MessagePack doesn't use")),
            0xc2 => Head::Bool(false),
            0xc3 => Head::Bool(true),
            0xc4..=0xc6 => {
                let length = self.length(kind - 0xc4)?;
                Head::Bytes(self.take(length)?)
            }
            0xc7..=0xc9 => {
                let length = self.length(kind - 0xc7)?;
                self.extension(length)?
            }
            0xca => Head::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Head::Float(f64::from_be_bytes(self.array()?)),
            0xcc..=0xce => Head::Unsigned(u64::from(self.length(kind - 0xcc)?)),
            0xcf => Head::Unsigned(u64::from_be_bytes(self.array()?)),
            0xd0 => signed(i64::from(i8::from_be_bytes(self.array()?))),
            0xd1 => signed(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => signed(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => signed(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => self.extension(1 << (kind - 0xd4))?,
            0xd9..=0xdb => {
                let length = self.length(kind - 0xd9)?;
                Head::Text(self.take(length)?)
            }
            0xdc | 0xdd => Head::Array(self.length(kind - 0xdc + 1)?),
            0xde | 0xdf => Head::Map(self.length(kind - 0xde + 1)?),
            0xe0..=0xff => signed(i64::from(i8::from_be_bytes([kind]))),
        })
    }

    /// Passes the next value, whatever its depth, and returns its bytes.
    pub(super) fn skip(&mut self) -> Result<&'a [u8], String> {
        let start = self.rest;
        // Counting instead of nesting: a hostile depth costs nothing.
        let mut left = 1_u64;
        while left > 0 {
            left -= 1;
            match self.head()? {
                Head::Array(count) => left = left.saturating_add(u64::from(count)),
                Head::Map(count) => left = left.saturating_add(2 * u64::from(count)),
                _ => {}
            }
        }
        let value = start.len().checked_sub(self.rest.len()).and_then(|length| start.get(..length));
        value.ok_or_else(|| Fault::new("more of a message was left after a value than before it").into())
    }

    /// Returns what was not read yet.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads a text.
    pub(super) fn text(&mut self, what: &str) -> Result<&'a str, String> {
        match self.head()? {
            Head::Text(bytes) | Head::Bytes(bytes) => utf8(bytes),
            other => Err(format!("{} as {what}", other.name())),
        }
    }

    /// Returns whether everything was read.
    pub(super) fn end(&self) -> Result<(), String> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err(format!("{more} bytes too many")),
        }
    }

    /// Reads a number of 1, 2 or 4 bytes: 2 to the power of `width`.
    fn length(&mut self, width: u8) -> Result<u32, String> {
        Ok(match width {
            0 => u32::from(u8::from_be_bytes(self.array()?)),
            1 => u32::from(u16::from_be_bytes(self.array()?)),
            _ => u32::from_be_bytes(self.array()?),
        })
    }

    fn extension(&mut self, length: u32) -> Result<Head<'a>, String> {
        let kind = i8::from_be_bytes(self.array()?);
        Ok(Head::Extension(kind, self.take(length)?))
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8], String> {
        let taken = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) =
            taken.ok_or_else(|| format!("{length} bytes announced and {} there", self.rest.len()))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| String::from("it ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// The same number is the same value, however it was written.
fn signed(number: i64) -> Head<'static> {
    u64::try_from(number).map_or(Head::Signed(number), Head::Unsigned)
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, String> {
    core::str::from_utf8(bytes).map_err(|_| String::from("a text that is not UTF-8"))
}

/// Returns a timestamp as JSON has it: ISO 8601, in microseconds if it has any.
pub(super) fn timestamp(data: &[u8]) -> Option<String> {
    let (seconds, nanos) = match data.len() {
        4 => (i64::from(u32::from_be_bytes(data.try_into().ok()?)), 0),
        8 => {
            // 30 bits of nanoseconds, 34 of seconds.
            let both = u64::from_be_bytes(data.try_into().ok()?);
            (i64::try_from(both & 0x3_ffff_ffff).ok()?, u32::try_from(both >> 34).ok()?)
        }
        12 => {
            let (nanos, seconds) = data.split_first_chunk()?;
            (i64::from_be_bytes(seconds.try_into().ok()?), u32::from_be_bytes(*nanos))
        }
        _ => return None,
    };
    let text = crate::http::date::iso(seconds)?;
    match nanos {
        0 => Some(format!("{text}Z")),
        1..1_000_000_000 => Some(format!("{text}.{:06}Z", nanos / 1000)),
        _ => None,
    }
}
