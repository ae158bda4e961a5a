//! MessagePack as serde reads it, bounded in depth and number of values.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::{self, Display};

use serde::de::value::{BorrowedStrDeserializer, StringDeserializer};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::read::{Head, Reader, TIMESTAMP, timestamp, utf8};
use crate::limits::{MAX_PAYLOAD_DEPTH, MAX_PAYLOAD_VALUES};

/// Why a value can't be read.
#[derive(Debug)]
pub(crate) struct Error(String);

/// Reads one value after the other.
pub(super) struct Deserializer<'de> {
    reader: Reader<'de>,
    /// Levels that may still be entered.
    depth: usize,
    /// Values that may still be read.
    values: usize,
}

impl<'de> Deserializer<'de> {
    pub(super) const fn new(data: &'de [u8]) -> Self {
        Self { reader: Reader::new(data), depth: MAX_PAYLOAD_DEPTH, values: MAX_PAYLOAD_VALUES }
    }

    /// Returns whether everything was read.
    pub(super) fn end(&self) -> Result<(), Error> {
        self.reader.end().map_err(Error)
    }

    fn head(&mut self) -> Result<Head<'de>, Error> {
        self.values = self
            .values
            .checked_sub(1)
            .ok_or_else(|| Error(format!("more than the {MAX_PAYLOAD_VALUES} values allowed")))?;
        self.reader.head().map_err(Error)
    }

    /// Reads what is one level deeper.
    fn inside<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let depth = self.depth;
        self.depth = depth
            .checked_sub(1)
            .ok_or_else(|| Error(format!("more than the {MAX_PAYLOAD_DEPTH} levels allowed")))?;
        let read = read(self);
        self.depth = depth;
        read
    }
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.head()? {
            Head::Bool(bool) => visitor.visit_bool(bool),
            Head::Unsigned(number) => visitor.visit_u64(number),
            Head::Signed(number) => visitor.visit_i64(number),
            Head::Float(number) => visitor.visit_f64(number),
            // Servers take both for the same thing.
            Head::Text(bytes) | Head::Bytes(bytes) => visitor.visit_borrowed_str(utf8(bytes).map_err(Error)?),
            Head::Array(left) => self.inside(|de| {
                let mut items = Items { de, left };
                let value = visitor.visit_seq(&mut items)?;
                items.end(value)
            }),
            Head::Map(left) => self.inside(|de| {
                let mut items = Items { de, left };
                let value = visitor.visit_map(&mut items)?;
                items.end(value)
            }),
            Head::Extension(TIMESTAMP, data) => match timestamp(data) {
                Some(time) => visitor.visit_string(time),
                None => visitor.visit_unit(),
            },
            // Nobody sends other extensions; a field of an unknown kind is an unknown field, not a lost message.
            Head::Nil | Head::Extension(..) => visitor.visit_unit(),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // Without recursion, so that no depth is too deep to be passed over.
        self.reader.skip().map_err(Error)?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct enum identifier option newtype_struct
    }
}

/// The values of a list, or the keys and values of a map.
struct Items<'a, 'de> {
    de: &'a mut Deserializer<'de>,
    left: u32,
}

impl Items<'_, '_> {
    fn next(&mut self) -> bool {
        let more = self.left > 0;
        self.left = self.left.saturating_sub(1);
        more
    }

    /// A visitor that stops early would have the rest taken for what follows.
    fn end<T>(&self, value: T) -> Result<T, Error> {
        if self.left == 0 { Ok(value) } else { Err(Error(format!("{} values too many", self.left))) }
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.next() { seed.deserialize(&mut *self.de).map(Some) } else { Ok(None) }
    }
}

impl<'de> MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if !self.next() {
            return Ok(None);
        }
        // Keys are no values of their own. Numbers become texts, as the server would write them in JSON.
        let number = match self.de.reader.head().map_err(Error)? {
            Head::Text(bytes) | Head::Bytes(bytes) => {
                let key = BorrowedStrDeserializer::new(utf8(bytes).map_err(Error)?);
                return seed.deserialize(key).map(Some);
            }
            Head::Unsigned(number) => number.to_string(),
            Head::Signed(number) => number.to_string(),
            other => return Err(Error(format!("{} as a key", other.name()))),
        };
        seed.deserialize(StringDeserializer::new(number)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.de)
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}
