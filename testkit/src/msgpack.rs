//! MessagePack as the server and the recordings use it: values to and from JSON trees.
//!
//! Two types that JSON lacks have stand-ins, the same as in recordings: `{"$bytes_base64": …}` for bin, and
//! `{"$msgpack_timestamp": …}` for the timestamp extension.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::date::civil;
use crate::limits::MSGPACK_DEPTH;

const BYTES: &str = "$bytes_base64";
const TIMESTAMP: &str = "$msgpack_timestamp";

/// Writes a value. Maps keep the order of their keys.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

/// Writes an array of values.
pub fn encode_array(items: &[&Value]) -> Vec<u8> {
    let mut out = Vec::new();
    write_length(&mut out, items.len(), Some((0x90, 15)), [0, 0xdc, 0xdd]);
    for item in items {
        write(&mut out, item);
    }
    out
}

/// Reads one value with nothing behind it. `None` for anything else, and for values nested deeper than
/// [`MSGPACK_DEPTH`].
pub fn decode(bytes: &[u8]) -> Option<Value> {
    let mut reader = Reader { rest: bytes };
    let value = reader.value(0)?;
    reader.rest.is_empty().then_some(value)
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(false) => out.push(0xc2),
        Value::Bool(true) => out.push(0xc3),
        Value::Number(number) => {
            if let Some(unsigned) = number.as_u64() {
                write_unsigned(out, unsigned);
            } else if let Some(signed) = number.as_i64() {
                write_negative(out, signed);
            } else {
                out.push(0xcb);
                out.extend(number.as_f64().unwrap_or(f64::NAN).to_be_bytes());
            }
        }
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            write_length(out, items.len(), Some((0x90, 15)), [0, 0xdc, 0xdd]);
            for item in items {
                write(out, item);
            }
        }
        Value::Object(fields) => {
            if let Some(bytes) = stand_in(fields, BYTES).and_then(|text| STANDARD.decode(text).ok()) {
                write_length(out, bytes.len(), None, [0xc4, 0xc5, 0xc6]);
                out.extend(bytes);
                return;
            }
            write_length(out, fields.len(), Some((0x80, 15)), [0, 0xde, 0xdf]);
            for (name, field) in fields {
                write_text(out, name);
                write(out, field);
            }
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_length(out, text.len(), Some((0xa0, 31)), [0xd9, 0xda, 0xdb]);
    out.extend(text.as_bytes());
}

fn stand_in<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name).filter(|_| fields.len() == 1)?.as_str()
}

fn write_unsigned(out: &mut Vec<u8>, value: u64) {
    if let Ok(small) = u8::try_from(value) {
        if small >= 0x80 {
            out.push(0xcc);
        }
        out.push(small);
    } else if let Ok(short) = u16::try_from(value) {
        out.push(0xcd);
        out.extend(short.to_be_bytes());
    } else if let Ok(word) = u32::try_from(value) {
        out.push(0xce);
        out.extend(word.to_be_bytes());
    } else {
        out.push(0xcf);
        out.extend(value.to_be_bytes());
    }
}

fn write_negative(out: &mut Vec<u8>, value: i64) {
    match i8::try_from(value) {
        Ok(small) if small >= -32 => out.extend(small.to_be_bytes()),
        Ok(small) => {
            out.push(0xd0);
            out.extend(small.to_be_bytes());
        }
        Err(_) => {
            out.push(0xd3);
            out.extend(value.to_be_bytes());
        }
    }
}

/// Writes a length behind its mark: `fix` joins both in one byte up to a most; `marks` are those for one, two and
/// four bytes of length, 0 where there is none.
fn write_length(out: &mut Vec<u8>, length: usize, fix: Option<(u8, u8)>, marks: [u8; 3]) {
    let [one, two, four] = marks;
    match (u8::try_from(length), fix) {
        (Ok(small), Some((base, most))) if small <= most => return out.push(base | small),
        (Ok(small), _) if one != 0 => return out.extend([one, small]),
        _ => {}
    }
    if let Ok(short) = u16::try_from(length) {
        out.push(two);
        out.extend(short.to_be_bytes());
    } else {
        out.push(four);
        out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MSGPACK_DEPTH {
            return None;
        }
        let [mark] = self.array::<1>()?;
        Some(match mark {
            0..0x80 => Value::from(mark),
            0x80..0x90 => self.map(u64::from(mark & 15), depth)?,
            0x90..0xa0 => self.list(u64::from(mark & 15), depth)?,
            0xa0..0xc0 => self.text(u64::from(mark & 31))?,
            0xc0 => Value::Null,
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xc4..=0xc6 => {
                let length = self.length(1 << (mark - 0xc4))?;
                json!({BYTES: STANDARD.encode(self.take(length)?)})
            }
            0xc7..=0xc9 => {
                let length = self.length(1 << (mark - 0xc7))?;
                self.extension(length)?
            }
            0xca => Value::from(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Value::from(f64::from_be_bytes(self.array()?)),
            0xcc..=0xcf => Value::from(self.length(1 << (mark - 0xcc))?),
            0xd0 => Value::from(i8::from_be_bytes(self.array()?)),
            0xd1 => Value::from(i16::from_be_bytes(self.array()?)),
            0xd2 => Value::from(i32::from_be_bytes(self.array()?)),
            0xd3 => Value::from(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => self.extension(1 << (mark - 0xd4))?,
            0xd9..=0xdb => {
                let length = self.length(1 << (mark - 0xd9))?;
                self.text(length)?
            }
            0xdc | 0xdd => {
                let count = self.length(2 << (mark - 0xdc))?;
                self.list(count, depth)?
            }
            0xde | 0xdf => {
                let count = self.length(2 << (mark - 0xde))?;
                self.map(count, depth)?
            }
            0xe0..=0xff => Value::from(i8::from_be_bytes([mark])),
            0xc1 => return None,
        })
    }

    fn list(&mut self, count: u64, depth: usize) -> Option<Value> {
        (0..count).map(|_| self.value(depth + 1)).collect::<Option<Vec<_>>>().map(Value::Array)
    }

    fn map(&mut self, count: u64, depth: usize) -> Option<Value> {
        let mut fields = Map::new();
        for _ in 0..count {
            let name = match self.value(depth + 1)? {
                Value::String(name) => name,
                // What JSON can't have as a name is shown as JSON writes it.
                other => other.to_string(),
            };
            let value = self.value(depth + 1)?;
            fields.insert(name, value);
        }
        Some(Value::Object(fields))
    }

    fn text(&mut self, length: u64) -> Option<Value> {
        core::str::from_utf8(self.take(length)?).ok().map(Value::from)
    }

    fn extension(&mut self, length: u64) -> Option<Value> {
        let [kind] = self.array::<1>()?;
        let data = self.take(length)?;
        if kind != 0xff {
            return Some(json!({"$msgpack_extension": kind, BYTES: STANDARD.encode(data)}));
        }
        let mut parts = Reader { rest: data };
        let (nanos, seconds) = match data.len() {
            4 => (0, i64::from(u32::from_be_bytes(parts.array()?))),
            8 => {
                let both = u64::from_be_bytes(parts.array()?);
                (u32::try_from(both >> 34).ok()?, i64::try_from(both & 0x3_ffff_ffff).ok()?)
            }
            12 => (u32::from_be_bytes(parts.array()?), i64::from_be_bytes(parts.array()?)),
            _ => return None,
        };
        Some(json!({TIMESTAMP: iso_time(seconds, nanos / 1000)}))
    }

    fn length(&mut self, bytes: usize) -> Option<u64> {
        Some(match bytes {
            1 => u64::from(u8::from_be_bytes(self.array()?)),
            2 => u64::from(u16::from_be_bytes(self.array()?)),
            4 => u64::from(u32::from_be_bytes(self.array()?)),
            _ => u64::from_be_bytes(self.array()?),
        })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(head)
    }
}

/// A time as recordings write it.
fn iso_time(seconds: i64, micros: u32) -> String {
    // Years beyond four digits don't occur; the clamp keeps the arithmetic of days in range.
    let seconds = seconds.clamp(-62_135_596_800, 253_402_300_799);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}{fraction}+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive() {
        let long = "x".repeat(70_000);
        let value = json!({
            "a": [null, true, false, 0, 127, 128, 255, 256, 65_535, 65_536, u64::MAX, -1, -32, -33, -129, i64::MIN, 1.5],
            "b": {"nested": {"$bytes_base64": "//4="}}, "c": "ä", "d": "y".repeat(40), "e": "z".repeat(300), "f": long,
            "g": vec![1; 20], "h": vec![1; 70_000],
        });
        assert_eq!(decode(&encode(&value)), Some(value));
    }

    #[test]
    fn timestamps_are_shown_as_in_recordings() {
        let bytes = [0xd7, 0xff, 0x3b, 0x9a, 0xc9, 0xfc, 0x6a, 0x20, 0x17, 0x80];
        let Some(Value::Object(map)) = decode(&bytes) else { panic!("no map") };
        assert_eq!(
            map["$msgpack_timestamp"].as_str().unwrap().len(),
            "2026-11-23T15:05:56.032309+00:00".len()
        );
        assert_eq!(
            decode(&[0xd6, 0xff, 0, 0, 0, 0]).unwrap(),
            json!({TIMESTAMP: "1970-01-01T00:00:00+00:00"})
        );
    }

    #[test]
    fn noise_is_refused() {
        for bytes in [
            &[][..],
            &[0xc1],
            &[0x91],
            &[0xa5, b'a'],
            &[0xdf, 0xff, 0xff, 0xff, 0xff],
            &[0, 0],
            &[0xa1, 0xff],
        ] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
        let deep = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
        assert!(decode(&deep(MSGPACK_DEPTH)).is_some());
        assert!(decode(&deep(MSGPACK_DEPTH + 1)).is_none());
    }
}
