//! The memory of a window: its sections at the end, what is made of them at the front.

use std::ops::Range;

use super::error::DeltaFault;
use super::section::{Place, Section};
use crate::limits::DELTA_SURPLUS;

/// The sections of a window, which are used up from the front, and the target, which grows towards them over the data that
/// were used. All of it is one piece of memory that is used again for the next window: pieces of many sizes, freed and
/// taken again, would leave holes.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Bytes of the target, and those made, which are at the front.
    target: usize,
    made: usize,
    /// Bytes of data, instructions and addresses, and how many have come in all.
    lengths: [usize; 3],
    come: usize,
    data: Place,
    instructions: Place,
    addresses: Place,
}

/// Returns the bytes of memory for so many bytes of target and sections.
pub(super) fn memory(target: usize, [data, instructions, addresses]: [usize; 3]) -> usize {
    let together = target.saturating_add(data.min(DELTA_SURPLUS)).max(data);
    together.saturating_add(instructions).saturating_add(addresses)
}

impl Buffer {
    /// Begins anew. Memory follows what comes.
    pub(super) fn begin(&mut self, target: usize, sections: [usize; 3]) {
        (self.target, self.made, self.lengths, self.come) = (target, 0, sections, 0);
        (self.data, self.instructions, self.addresses) =
            (Place::default(), Place::default(), Place::default());
    }

    /// Takes what is missing of the sections. Returns whether all is there.
    pub(super) fn fill(&mut self, input: &mut &[u8]) -> Result<bool, DeltaFault> {
        let [data, instructions, addresses] = self.lengths;
        let all = data + instructions + addresses;
        let (now, rest) = input.split_at((all - self.come).min(input.len()));
        let end = self.come + now.len();
        self.grow(end)?;
        let place = self.bytes.get_mut(self.come..end);
        place.ok_or_else(|| DeltaFault::internal("a section has no memory"))?.copy_from_slice(now);
        self.come = end;
        *input = rest;
        if end < all {
            return Ok(false);
        }
        // The target needs the front.
        let end = memory(self.target, self.lengths);
        self.grow(end)?;
        self.bytes.copy_within(..all, end - all);
        self.addresses = Place { at: end - addresses, end };
        self.instructions = Place { at: self.addresses.at - instructions, end: self.addresses.at };
        self.data = Place { at: end - all, end: self.instructions.at };
        Ok(true)
    }

    /// Returns the bytes made.
    pub(super) const fn made(&self) -> usize {
        self.made
    }

    /// Returns a range of the bytes made.
    pub(super) fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        self.bytes.get(..self.made)?.get(range)
    }

    /// Returns the bytes that are still to be made.
    pub(super) const fn room(&self) -> usize {
        self.target - self.made
    }

    pub(super) fn data(&mut self) -> Section<'_> {
        Section::new(&self.bytes, &mut self.data)
    }

    pub(super) fn instructions(&mut self) -> Section<'_> {
        Section::new(&self.bytes, &mut self.instructions)
    }

    pub(super) fn addresses(&mut self) -> Section<'_> {
        Section::new(&self.bytes, &mut self.addresses)
    }

    /// Returns the bytes of data and of addresses not used yet.
    pub(super) const fn left(&self) -> (usize, usize) {
        (self.data.left(), self.addresses.left())
    }

    /// Adds the next `count` bytes of the data.
    pub(super) fn add(&mut self, count: usize) -> Result<(), DeltaFault> {
        if count > self.data.left() {
            return Err(DeltaFault::Data);
        }
        if count > self.room() {
            return Err(DeltaFault::internal("more data are made than the window holds"));
        }
        // The data begin behind what is made.
        self.bytes.copy_within(self.data.at..self.data.at + count, self.made);
        self.data.at += count;
        self.made += count;
        Ok(())
    }

    /// Adds `count` times the same byte.
    pub(super) fn run(&mut self, byte: u8, count: usize) -> Result<(), DeltaFault> {
        self.next(count)?.fill(byte);
        Ok(())
    }

    /// Adds bytes of the source.
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Result<(), DeltaFault> {
        self.next(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Adds `wanted` bytes of the target from `start` on, before what is made. A copy that runs into what it makes repeats
    /// it: each round there is twice as much to copy.
    pub(super) fn copy_made(&mut self, start: usize, wanted: usize) -> Result<(), DeltaFault> {
        let mut left = wanted;
        while left > 0 {
            let made = self.made;
            let count = left.min(made.saturating_sub(start));
            if count == 0 {
                return Err(DeltaFault::internal("a copy begins where nothing was made"));
            }
            self.next(count)?;
            self.bytes.copy_within(start..start + count, made);
            left -= count;
        }
        Ok(())
    }

    /// Returns the place of the next `count` bytes, which count as made.
    fn next(&mut self, count: usize) -> Result<&mut [u8], DeltaFault> {
        if count > self.room() {
            return Err(DeltaFault::internal("more is made than the window holds"));
        }
        let end = self.made + count;
        if end > self.data.at {
            return Err(DeltaFault::Surplus { data: self.data.left(), room: self.target - end });
        }
        let place = self.bytes.get_mut(self.made..end);
        self.made = end;
        place.ok_or_else(|| DeltaFault::internal("the target has no memory"))
    }

    /// Makes room for so many bytes. It doubles, so that memory follows what has come, and never takes more than the
    /// window needs in the end.
    fn grow(&mut self, length: usize) -> Result<(), DeltaFault> {
        if length <= self.bytes.len() {
            return Ok(());
        }
        if length > self.bytes.capacity() {
            let most = memory(self.target, self.lengths);
            let room = (self.bytes.capacity() * 2).min(most).max(length);
            let more = room - self.bytes.len();
            self.bytes.try_reserve_exact(more).map_err(|_| DeltaFault::NoMemory(room))?;
        }
        self.bytes.resize(length, 0);
        Ok(())
    }

    /// Bytes of memory taken.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer whose sections have come in pieces.
    fn filled(target: usize, data: &[u8], rest: &[u8], step: usize) -> Buffer {
        let mut buffer = Buffer::default();
        refill(&mut buffer, target, data, rest, step);
        buffer
    }

    fn refill(buffer: &mut Buffer, target: usize, data: &[u8], rest: &[u8], step: usize) {
        let all = [data, rest].concat();
        buffer.begin(target, [data.len(), rest.len() / 2, rest.len() - rest.len() / 2]);
        for (number, mut piece) in all.chunks(step).enumerate() {
            let complete = buffer.fill(&mut piece).unwrap();
            assert!(piece.is_empty());
            assert_eq!(complete, number == (all.len() - 1) / step);
        }
    }

    #[test]
    fn sections_come_out_as_they_came_in_without_more_memory() {
        let data: Vec<u8> = (0..300_000).map(|at: u32| (at % 253).to_le_bytes()[0]).collect();
        for step in [1, 1000, data.len()] {
            let mut buffer = filled(data.len() + 1, &data, &[1, 0x81, 0, 2, 3], step);
            assert_eq!(buffer.capacity(), data.len() + 1 + DELTA_SURPLUS + 5);
            buffer.run(b'x', 1).unwrap();
            for count in [0, 1, 99, 100_000, 199_900] {
                buffer.add(count).unwrap();
            }
            assert_eq!(buffer.add(1), Err(DeltaFault::Data));
            assert_eq!((buffer.room(), buffer.left(), buffer.data().byte()), (0, (0, 3), None));
            assert!(buffer.get(1..buffer.made()).unwrap() == data);
            assert_eq!((buffer.instructions().byte(), buffer.instructions().number()), (Some(1), Ok(None)));
            assert_eq!((buffer.addresses().number(), buffer.addresses().byte()), (Ok(Some(0)), Some(2)));
            assert_eq!(
                (buffer.left(), buffer.addresses().byte(), buffer.addresses().byte()),
                ((0, 1), Some(3), None)
            );
        }
    }

    #[test]
    fn the_target_never_grows_over_data_that_were_not_used() {
        let surplus = DELTA_SURPLUS;
        let data = vec![7; 2 * surplus];
        let mut buffer = filled(3 * surplus, &data, &[], 999);
        assert_eq!(buffer.capacity(), 4 * surplus);
        buffer.run(1, 2 * surplus).unwrap();
        let fault = DeltaFault::Surplus { data: 2 * surplus, room: surplus - 1 };
        assert_eq!(buffer.run(1, 1), Err(fault.clone()));
        assert_eq!(buffer.copy(&[1]), Err(fault.clone()));
        assert_eq!(buffer.copy_made(0, 1), Err(fault));
        buffer.add(surplus).unwrap();
        assert!(buffer.get(0..2 * surplus).unwrap().iter().all(|byte| *byte == 1));
        assert!(buffer.get(2 * surplus..3 * surplus).unwrap().iter().all(|byte| *byte == 7));
        assert_eq!((buffer.left(), buffer.room()), ((surplus, 0), 0));
    }

    #[test]
    fn memory_is_used_again() {
        let mut buffer = filled(100, &[1, 2, 3], &[4, 5], 3);
        buffer.add(3).unwrap();
        assert_eq!(buffer.capacity(), 105);
        refill(&mut buffer, 50, &[8, 9], &[10, 11], 1);
        assert_eq!((buffer.capacity(), buffer.get(0..1)), (105, None), "nothing was made yet");
        assert_eq!(
            [buffer.data().byte(), buffer.data().byte(), buffer.data().byte()],
            [Some(8), Some(9), None]
        );
        assert_eq!((buffer.instructions().byte(), buffer.addresses().byte()), (Some(10), Some(11)));
    }

    #[test]
    fn nothing_beyond_the_sections_is_taken() {
        let mut buffer = Buffer::default();
        buffer.begin(4, [1, 1, 0]);
        let mut input: &[u8] = &[1, 2, 3];
        assert_eq!(buffer.fill(&mut input), Ok(true));
        assert_eq!(input, [3]);
        buffer.begin(0, [0; 3]);
        assert_eq!(buffer.fill(&mut input), Ok(true));
        assert_eq!((input.len(), buffer.left()), (1, (0, 0)));
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        let mut buffer = Buffer::default();
        let most = usize::MAX / 4;
        buffer.begin(most, [0, 1, 0]);
        assert_eq!(buffer.fill(&mut &[0][..]), Err(DeltaFault::NoMemory(most + 1)));
    }
}
