//! What goes into a resource: bytes at hand or made while reading.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

/// Bytes of the block that made-up content consists of: twice the window of deflate, so that the
/// repetition cannot be seen by it.
const NOISE: usize = 64 * 1024;

/// The content of a resource, readable as often as needed without being held in memory.
#[derive(Debug, Clone)]
pub struct Content {
    head: Arc<[u8]>,
    noise: Option<(Arc<[u8]>, u64)>,
}

impl Content {
    /// Content that does not compress, made from a seed; the same for the same seed.
    pub fn random(seed: u64, length: u64) -> Self {
        let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut block = Vec::with_capacity(NOISE);
        while block.len() < NOISE {
            // SplitMix64.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            block.extend((z ^ (z >> 31)).to_le_bytes());
        }
        Self { head: Arc::from([]), noise: Some((block.into(), length)) }
    }

    /// These bytes, then that content's made-up ones.
    pub(crate) fn joined(head: Vec<u8>, body: Self) -> Self {
        Self { head: head.into(), noise: body.noise }
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        let head = u64::try_from(self.head.len()).unwrap_or(u64::MAX);
        head.saturating_add(self.noise.as_ref().map_or(0, |(_, length)| *length))
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads it from the start.
    pub fn reader(&self) -> Box<dyn Read + Send> {
        let head = Cursor::new(Arc::clone(&self.head));
        match &self.noise {
            None => Box::new(head),
            Some((block, length)) => {
                let noise = Noise { block: Arc::clone(block), position: 0, length: *length };
                Box::new(head.chain(noise))
            }
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self { head: bytes.into(), noise: None }
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        Self { head: bytes.into(), noise: None }
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

struct Noise {
    block: Arc<[u8]>,
    position: u64,
    length: u64,
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = NOISE as u64;
        let left = usize::try_from(self.length.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let within = usize::try_from(self.position % size).unwrap_or(0);
        // The number of the block stands in its first eight bytes, so that no two blocks are alike.
        let stamp = (self.position / size).to_le_bytes();
        let source = stamp.get(within..).filter(|s| !s.is_empty());
        let source = source.unwrap_or_else(|| self.block.get(within..).unwrap_or_default());
        let n = source.len().min(left).min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), source.get(..n)) {
            to.copy_from_slice(from);
        }
        self.position += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_the_same_whatever_the_read_sizes_and_never_repeats_a_block() {
        let content = Content::random(7, 200_001);
        let mut whole = Vec::new();
        content.reader().read_to_end(&mut whole).unwrap();
        assert_eq!(whole.len(), 200_001);
        let mut reader = content.reader();
        let mut pieces = Vec::new();
        let mut buffer = [0; 1013];
        while let Ok(n @ 1..) = reader.read(&mut buffer) {
            pieces.extend_from_slice(&buffer[..n]);
        }
        assert_eq!(whole, pieces);
        assert_ne!(whole[..NOISE], whole[NOISE..2 * NOISE]);
        let mut other = Vec::new();
        Content::random(8, 200_001).reader().read_to_end(&mut other).unwrap();
        assert_ne!(whole, other);
    }
}
