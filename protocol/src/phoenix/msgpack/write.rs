//! Writing MessagePack: numbers, texts, lists and maps in their smallest form, floats always with 64 bits, as the
//! other side does.

use crate::fault::Fault;
use crate::number::as_usize;
use alloc::vec::Vec;

use serde_json::{Number, Value};

/// Writes a value.
pub(super) fn value(out: &mut Vec<u8>, value: &Value) -> Result<(), Fault> {
    match value {
        Value::Null => nil(out),
        Value::Bool(false) => out.push(0xc2),
        Value::Bool(true) => out.push(0xc3),
        Value::Number(number) => self::number(out, number)?,
        Value::String(string) => text(out, string),
        Value::Array(items) => {
            let count = count(items.len());
            array(out, count);
            for item in items.iter().take(as_usize(count)) {
                self::value(out, item)?;
            }
        }
        Value::Object(fields) => {
            let count = count(fields.len());
            match (u8::try_from(count), u16::try_from(count)) {
                (Ok(small @ 0..=15), _) => out.push(0x80 | small),
                (_, Ok(medium)) => wide(out, 0xde, &medium.to_be_bytes()),
                _ => wide(out, 0xdf, &count.to_be_bytes()),
            }
            for (key, field) in fields.iter().take(as_usize(count)) {
                text(out, key);
                self::value(out, field)?;
            }
        }
    }
    Ok(())
}

/// Writes nil.
pub(super) fn nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

/// Writes the head of a list.
pub(super) fn array(out: &mut Vec<u8>, count: u32) {
    match (u8::try_from(count), u16::try_from(count)) {
        (Ok(small @ 0..=15), _) => out.push(0x90 | small),
        (_, Ok(medium)) => wide(out, 0xdc, &medium.to_be_bytes()),
        _ => wide(out, 0xdd, &count.to_be_bytes()),
    }
}

/// Writes a text.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    let count = count(text.len());
    match (u8::try_from(count), u16::try_from(count)) {
        (Ok(small @ 0..=31), _) => out.push(0xa0 | small),
        (Ok(small), _) => wide(out, 0xd9, &[small]),
        (_, Ok(medium)) => wide(out, 0xda, &medium.to_be_bytes()),
        _ => wide(out, 0xdb, &count.to_be_bytes()),
    }
    out.extend(text.bytes().take(as_usize(count)));
}

fn number(out: &mut Vec<u8>, number: &Number) -> Result<(), Fault> {
    if let Some(unsigned) = number.as_u64() {
        let narrow = (u8::try_from(unsigned), u16::try_from(unsigned), u32::try_from(unsigned));
        match narrow {
            (Ok(tiny @ 0..=0x7f), ..) => out.push(tiny),
            (Ok(byte), ..) => wide(out, 0xcc, &[byte]),
            (_, Ok(word), _) => wide(out, 0xcd, &word.to_be_bytes()),
            (.., Ok(long)) => wide(out, 0xce, &long.to_be_bytes()),
            _ => wide(out, 0xcf, &unsigned.to_be_bytes()),
        }
    } else if let Some(signed) = number.as_i64() {
        let narrow = (i8::try_from(signed), i16::try_from(signed), i32::try_from(signed));
        match narrow {
            // The first byte of a number from -32 to -1 is the number itself.
            (Ok(tiny @ -32..), ..) => out.extend(tiny.to_be_bytes()),
            (Ok(byte), ..) => wide(out, 0xd0, &byte.to_be_bytes()),
            (_, Ok(word), _) => wide(out, 0xd1, &word.to_be_bytes()),
            (.., Ok(long)) => wide(out, 0xd2, &long.to_be_bytes()),
            _ => wide(out, 0xd3, &signed.to_be_bytes()),
        }
    } else {
        let float = number.as_f64().ok_or_else(|| Fault::new("a number of a message is of no known kind"))?;
        wide(out, 0xcb, &float.to_be_bytes());
    }
    Ok(())
}

fn wide(out: &mut Vec<u8>, kind: u8, rest: &[u8]) {
    out.push(kind);
    out.extend_from_slice(rest);
}

/// Returns a length as the format has it. Nothing we send comes near the four billion it ends at, and what is
/// beyond would be left out rather than break the message.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
