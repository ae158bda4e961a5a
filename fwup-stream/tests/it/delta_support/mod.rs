//! A small VCDIFF encoder that does what a program of instructions says, and a model of what comes out.

use fwup_stream::delta::{DecodeError, Decoder, DeltaFault, Source, Step};
use fwup_stream::limits::DATA_PIECE;

pub const HEADER: [u8; 5] = [0xd6, 0xc3, 0xc4, 0, 0];

/// An instruction.
#[derive(Clone, Debug)]
pub enum Op {
    Add(Vec<u8>),
    Run(u8, usize),
    /// From an address in the source segment and the target behind it.
    Copy(u64, usize),
}

/// A window.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Where the source segment begins, and how long it is.
    pub source: Option<(usize, usize)>,
    pub ops: Vec<Op>,
    pub checksum: bool,
    /// Makes the encoder choose among the ways to write the same thing.
    pub choice: usize,
}

/// Sections of a window with everything that announces them.
#[derive(Clone, Debug, Default)]
pub struct Raw {
    pub bits: u8,
    pub source: Vec<u64>,
    pub target: u64,
    pub indicator: u8,
    pub data: Vec<u8>,
    pub instructions: Vec<u8>,
    pub addresses: Vec<u8>,
    pub checksum: Option<u32>,
}

impl Raw {
    pub fn bytes(&self) -> Vec<u8> {
        let mut body = number(self.target);
        body.push(self.indicator);
        for section in [&self.data, &self.instructions, &self.addresses] {
            body.extend(number(section.len() as u64));
        }
        if let Some(checksum) = self.checksum {
            body.extend(checksum.to_be_bytes());
        }
        body.extend(&self.data);
        body.extend(&self.instructions);
        body.extend(&self.addresses);
        let mut out = vec![self.bits];
        for value in &self.source {
            out.extend(number(*value));
        }
        out.extend(number(body.len() as u64));
        out.extend(body);
        out
    }

    /// A delta of this window alone.
    pub fn delta(&self) -> Vec<u8> {
        [HEADER.as_slice(), &self.bytes()].concat()
    }
}

pub fn number(value: u64) -> Vec<u8> {
    let mut out = vec![low(value)];
    let mut rest = value >> 7;
    while rest > 0 {
        out.insert(0, low(rest) | 0x80);
        rest >>= 7;
    }
    out
}

fn low(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

pub fn adler(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    b << 16 | a
}

/// What a window makes of the source.
pub fn model(window: &Window, source: &[u8]) -> Vec<u8> {
    let (offset, length) = window.source.unwrap_or_default();
    let mut all = source[offset..offset + length].to_vec();
    for op in &window.ops {
        match op {
            Op::Add(bytes) => all.extend(bytes),
            Op::Run(byte, count) => all.extend(vec![*byte; *count]),
            Op::Copy(address, count) => {
                for at in usize::try_from(*address).unwrap()..usize::try_from(*address).unwrap() + count {
                    all.push(all[at]);
                }
            }
        }
    }
    all.split_off(length)
}

/// Writes a window down.
pub fn encode(window: &Window, source: &[u8]) -> Vec<u8> {
    let target = model(window, source);
    let mut raw = Raw { target: target.len() as u64, ..Raw::default() };
    let mut here = 0;
    if let Some((offset, length)) = window.source {
        raw.bits |= 1;
        raw.source = vec![length as u64, offset as u64];
        here = length as u64;
    }
    if window.checksum {
        raw.bits |= 4;
        raw.checksum = Some(adler(&target));
    }
    let mut cache = Cache { near: [0; 4], next: 0, same: vec![0; 768] };
    // The last instruction, if a following one can still join its code.
    let mut open: Option<(char, usize, u8)> = None;
    for (number_of, op) in window.ops.iter().enumerate() {
        let choice = window.choice.wrapping_add(number_of * 7);
        let (kind, size, mode) = match op {
            Op::Add(bytes) => {
                raw.data.extend(bytes);
                ('a', bytes.len(), 0)
            }
            Op::Run(byte, count) => {
                raw.data.push(*byte);
                ('r', *count, 0)
            }
            Op::Copy(address, count) => {
                ('c', *count, cache.write(&mut raw.addresses, *address, here, choice))
            }
        };
        here += size as u64;
        let joined = match open.take() {
            Some(('a', first, _)) if kind == 'c' && first <= 4 && mode < 6 && (4..=6).contains(&size) => {
                Some(163 + 12 * usize::from(mode) + 3 * (first - 1) + size - 4)
            }
            Some(('a', first, _)) if kind == 'c' && first <= 4 && mode >= 6 && size == 4 => {
                Some(235 + 4 * usize::from(mode - 6) + first - 1)
            }
            Some(('c', 4, mode)) if kind == 'a' && size == 1 => Some(247 + usize::from(mode)),
            _ => None,
        };
        if let Some(code) = joined {
            *raw.instructions.last_mut().unwrap() = u8::try_from(code).unwrap();
            continue;
        }
        let (base, short) = match kind {
            'r' => (0, None),
            'a' => (1, (1..=17).contains(&size).then_some(size)),
            _ => (19 + 16 * usize::from(mode), (4..=18).contains(&size).then_some(size.wrapping_sub(3))),
        };
        if let Some(step) = short.filter(|_| !choice.is_multiple_of(3)) {
            raw.instructions.push(u8::try_from(base + step).unwrap());
            open = Some((kind, size, mode));
        } else {
            raw.instructions.push(u8::try_from(base).unwrap());
            raw.instructions.extend(number(size as u64));
        }
    }
    raw.bytes()
}

/// The addresses written last.
struct Cache {
    near: [u64; 4],
    next: usize,
    same: Vec<u64>,
}

impl Cache {
    /// Writes an address in one of the ways it can be written, and says in which.
    fn write(&mut self, out: &mut Vec<u8>, address: u64, here: u64, choice: usize) -> u8 {
        let place = usize::try_from(address % 768).unwrap();
        let mut ways = vec![(0, number(address)), (1, number(here - address))];
        for (at, near) in self.near.iter().enumerate() {
            if let Some(distance) = address.checked_sub(*near) {
                ways.push((u8::try_from(at).unwrap() + 2, number(distance)));
            }
        }
        if self.same[place] == address {
            let way = (u8::try_from(place / 256).unwrap() + 6, vec![u8::try_from(place % 256).unwrap()]);
            ways.push(way.clone());
            ways.push(way);
        }
        let (mode, bytes) = ways.swap_remove(choice % ways.len());
        out.extend(bytes);
        self.near[self.next] = address;
        self.next = (self.next + 1) % 4;
        self.same[place] = address;
        mode
    }
}

/// A source that hands out a few bytes at a time.
pub struct Bits<'a>(pub &'a [u8], pub usize);

impl Source for Bits<'_> {
    type Error = std::convert::Infallible;

    fn bytes_at(&mut self, offset: u64) -> Result<&[u8], Self::Error> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        Ok(&rest[..rest.len().min(self.1)])
    }
}

/// Decodes pieces of the given sizes, the rest at once.
pub fn decode<S: Source>(
    delta: &[u8],
    source: &mut S,
    mut cuts: impl Iterator<Item = usize>,
) -> Result<Vec<u8>, DecodeError<S::Error>> {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    let mut rest = delta;
    while !rest.is_empty() {
        let (mut now, after) = rest.split_at(cuts.next().unwrap_or(usize::MAX).clamp(1, rest.len()));
        while let Step::Output(piece) = decoder.next(&mut now, source)? {
            assert!(!piece.is_empty() && piece.len() <= DATA_PIECE, "a piece of {}", piece.len());
            out.extend_from_slice(piece);
        }
        assert!(now.is_empty(), "all input is taken");
        rest = after;
    }
    decoder.finish()?;
    Ok(out)
}

/// Decodes at once.
pub fn decode_whole(delta: &[u8], source: &[u8]) -> Result<Vec<u8>, DeltaFault> {
    decode(delta, &mut &*source, std::iter::empty()).map_err(|error| match error {
        DecodeError::Delta(error) => error.fault().clone(),
        DecodeError::Source(never) => match never {},
    })
}
