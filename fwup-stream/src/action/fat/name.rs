//! Names: one step of a path, as a long name and as the eleven bytes of a short one (fw-format §15.3).

use super::codepage::{decode, encode, short_capital};
use super::error::Fault;
use super::limits::PATH_BYTES;

/// Flags of an entry's byte 12: base or extension in small letters.
const SMALL_BASE: u8 = 0x08;
const SMALL_EXTENSION: u8 = 0x10;

/// A first byte that means "deleted". No short name begins with it: its capital in code page 850 is an `O`.
pub(super) const DELETED: u8 = 0xE5;

/// One step of a path.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// Base and extension, padded with blanks, in capitals.
    pub(super) short: [u8; 11],
    /// The short name leaves something out and needs a numbered tail.
    pub(super) lossy: bool,
    /// Long entries are needed to keep the name.
    pub(super) needs_long: bool,
    /// The flags of byte 12.
    pub(super) case: u8,
    /// The name in UTF-16, without end mark.
    pub(super) long: Vec<u16>,
    /// The path ends here.
    pub(super) last: bool,
}

/// Cuts a path to what counts and takes off the leading separators.
pub(super) fn start_of_path(path: &str) -> &[u8] {
    let bytes = path.as_bytes();
    let bytes = bytes.get(..PATH_BYTES).unwrap_or(bytes);
    let end = bytes.iter().position(|byte| *byte < b' ').unwrap_or(bytes.len());
    skip_separators(bytes.get(..end).unwrap_or(bytes))
}

/// Takes the first step off a path from [`start_of_path`].
pub(super) fn next_name(path: &[u8]) -> Result<(Name, &[u8]), Fault> {
    let end = path.iter().position(|byte| is_separator(*byte)).unwrap_or(path.len());
    let (step, rest) = path.split_at_checked(end).unwrap_or((path, &[]));
    let rest = skip_separators(rest);
    if step.iter().any(|byte| b"*:<>|\"?\x7F".contains(byte)) {
        return Err(Fault::InvalidName);
    }
    let kept = step.iter().rposition(|byte| !matches!(byte, b' ' | b'.')).map_or(0, |last| last + 1);
    let long: Vec<u16> = step.iter().take(kept).map(|byte| decode(*byte)).collect();
    if long.is_empty() {
        return Err(Fault::InvalidName);
    }
    let mut name =
        Name { short: [b' '; 11], lossy: false, needs_long: false, case: 0, long, last: rest.is_empty() };
    name.shorten();
    Ok((name, rest))
}

impl Name {
    /// Puts a tail in place of the short name's end: `~` and a number, after five tries one that depends on
    /// the long name.
    pub(super) fn numbered(&self, number: u32) -> [u8; 11] {
        let number = if number > 5 { self.hash(number) } else { number };
        let tail = format!("~{number:X}");
        let mut short = self.short;
        let room = 8usize.saturating_sub(tail.len());
        let base = short.iter().take(room).position(|byte| *byte == b' ').unwrap_or(room);
        let padded = tail.bytes().chain(std::iter::repeat(b' '));
        for (to, byte) in short.iter_mut().take(8).skip(base).zip(padded) {
            *to = byte;
        }
        short
    }

    /// Entries that the name takes: the short one and the long ones before it.
    pub(super) fn entries(&self) -> u32 {
        let long = if self.needs_long { self.long.len().div_ceil(13) } else { 0 };
        // Twenty at most, of a path that was cut.
        u32::try_from(long).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// A cyclic sum of the long name, 16 bits wide.
    fn hash(&self, seed: u32) -> u32 {
        let bits = self.long.iter().flat_map(|unit| (0..16).map(move |bit| u32::from(unit >> bit) & 1));
        bits.fold(seed, |sum, bit| {
            let sum = (sum << 1) + bit;
            if sum & 0x1_0000 == 0 { sum } else { sum ^ 0x1_1021 }
        })
    }

    /// Works out the short name and whether it says everything.
    fn shorten(&mut self) {
        let blanks = self.long.iter().take_while(|unit| **unit == u16::from(b' ')).count();
        let dot = self.long.iter().rposition(|unit| *unit == u16::from(b'.'));
        if blanks > 0 || self.long.first() == Some(&u16::from(b'.')) {
            self.lossy = true;
        }
        let base_end = dot.unwrap_or(self.long.len()).max(blanks);
        let base = self.long.get(blanks..base_end).unwrap_or(&[]);
        let extension = dot.and_then(|dot| self.long.get(dot + 1..)).unwrap_or(&[]);
        let mut short = [b' '; 11];
        let (base_field, extension_field) = short.split_at_mut(8);
        let base = fill_field(base_field, base);
        let extension = fill_field(extension_field, extension);
        self.lossy |= base.lossy | extension.lossy;
        self.needs_long = self.lossy
            || base.extended
            || extension.extended
            || (base.small && base.capital)
            || (extension.small && extension.capital);
        if !self.needs_long {
            self.case =
                if base.small { SMALL_BASE } else { 0 } | if extension.small { SMALL_EXTENSION } else { 0 };
        }
        self.short = short;
    }
}

/// What putting a part of a name into its field showed.
#[derive(Default)]
struct Filled {
    lossy: bool,
    extended: bool,
    small: bool,
    capital: bool,
}

/// Puts base or extension into its field.
fn fill_field(field: &mut [u8], part: &[u16]) -> Filled {
    let mut filled = Filled::default();
    let mut room = field.iter_mut();
    for unit in part {
        if *unit == u16::from(b' ') || *unit == u16::from(b'.') {
            filled.lossy = true;
            continue;
        }
        let Some(place) = room.next() else {
            filled.lossy = true;
            break;
        };
        let byte = encode(*unit).unwrap_or(b'_');
        filled.extended |= byte >= 0x80;
        let byte = short_capital(byte);
        filled.lossy |= b"+,;=[]".contains(&byte);
        filled.capital |= byte.is_ascii_uppercase();
        filled.small |= byte.is_ascii_lowercase();
        *place = if b"+,;=[]".contains(&byte) { b'_' } else { byte.to_ascii_uppercase() };
    }
    filled
}

/// The sum over a short name that ties long entries to it.
pub(super) fn checksum(short: &[u8; 11]) -> u8 {
    short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

fn skip_separators(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| !is_separator(*byte)).unwrap_or(path.len());
    path.get(start..).unwrap_or(&[])
}
