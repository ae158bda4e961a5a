//! A section of a window: bytes that come in and are then used up from the front.

use super::error::DeltaFault;
use super::varint;

/// Bytes announced, come and used.
#[derive(Debug, Default)]
pub(super) struct Section {
    bytes: Vec<u8>,
    length: usize,
    at: usize,
}

impl Section {
    /// Begins anew; `length` bytes shall come.
    pub(super) fn begin(&mut self, length: usize) {
        self.bytes.clear();
        self.length = length;
        self.at = 0;
    }

    /// Takes from the input what is missing; says whether all is there.
    pub(super) fn fill(&mut self, input: &mut &[u8]) -> bool {
        let missing = self.length - self.bytes.len();
        let (now, rest) = input.split_at(missing.min(input.len()));
        make_room(&mut self.bytes, now.len(), self.length);
        self.bytes.extend_from_slice(now);
        *input = rest;
        self.bytes.len() == self.length
    }

    /// Bytes not used yet.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Bytes of memory taken.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    /// The next `count` bytes, if there are as many.
    pub(super) fn take(&mut self, count: usize) -> Option<&[u8]> {
        let bytes = self.bytes.get(self.at..)?.get(..count)?;
        self.at += count;
        Some(bytes)
    }

    /// The next number; `None` when it is cut.
    pub(super) fn number(&mut self) -> Result<Option<u64>, DeltaFault> {
        let mut rest = self.bytes.get(self.at..).unwrap_or_default();
        let number = varint::take(&mut rest)?;
        self.at = self.bytes.len() - rest.len();
        Ok(number)
    }
}

/// Makes room for `more` bytes in a vector that will hold `most`: doubles as it fills, so that memory follows
/// what has come, and never reserves more than is needed in the end.
pub(super) fn make_room(bytes: &mut Vec<u8>, more: usize, most: usize) {
    let needed = bytes.len() + more;
    if needed > bytes.capacity() {
        let room = (bytes.capacity() * 2).min(most).max(needed);
        bytes.reserve_exact(room - bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_what_has_come() {
        let mut bytes = Vec::new();
        make_room(&mut bytes, 10, 1 << 26);
        assert_eq!(bytes.capacity(), 10);
        bytes.resize(10, 0);
        make_room(&mut bytes, 1, 1 << 26);
        assert_eq!(bytes.capacity(), 20);
        make_room(&mut bytes, 20, 35);
        assert_eq!(bytes.capacity(), 35);
    }
}
