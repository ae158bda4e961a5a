//! One direction of a TCP connection: bytes in order, in packets of any size, through a window, to an end.

use std::collections::VecDeque;

use crate::sim::dice::Rng;

/// Bytes of the largest packet, or of several that travel together.
const PACKET: usize = 8 * 1024;
/// Packets of one byte, and small ones, that one write becomes at most.
const TINY: usize = 16;
/// Bytes of a small packet: what Ethernet carries.
const SMALL: u64 = 1460;

/// How a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum End {
    /// In order.
    Fin,
    /// The connection was reset.
    Reset,
}

/// One direction. What was taken from the sender and not read by the receiver is here.
#[derive(Debug)]
pub(in crate::sim) struct Flow {
    bytes: VecDeque<u8>,
    /// How many of them, from the front, can be read.
    arrived: usize,
    /// When those behind can: time and count, in order.
    packets: VecDeque<(u64, usize)>,
    /// How many may be here.
    window: usize,
    /// When the last packet arrives: they stay in order.
    last: u64,
    /// When the end arrives, and whether it did.
    end: Option<(u64, End, bool)>,
    /// When the queue holds an arrival.
    planned: u64,
    /// Bytes taken from the sender so far.
    pub taken: u64,
}

impl Flow {
    pub fn new(window: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            arrived: 0,
            packets: VecDeque::new(),
            window,
            last: 0,
            end: None,
            planned: u64::MAX,
            taken: 0,
        }
    }

    /// Takes as many bytes of the sender as fit, to arrive at `at` or later. Returns how many.
    pub fn write(&mut self, bytes: &[u8], at: u64, rng: &mut Rng) -> usize {
        let room = if self.end.is_some() { 0 } else { self.window.saturating_sub(self.bytes.len()) };
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.bytes.extend(taken);
        self.taken += taken.len() as u64;
        let mut at = self.last.max(at);
        let (mut left, mut number) = (taken.len(), 0);
        let manner = rng.below(8);
        while left > 0 {
            let size = match manner {
                0 if number < TINY => 1,
                1 | 2 if number == 0 => 1 + rng.below(left as u64),
                3 if number < TINY => rng.within(1, SMALL),
                _ => PACKET as u64,
            };
            let size = usize::try_from(size).unwrap_or(PACKET).min(left);
            self.packets.push_back((at, size));
            (left, number) = (left - size, number + 1);
            // Those that arrive at the same time are read as one.
            if manner < 4 && rng.one_in(2) {
                at += rng.within(1, 2_000);
            }
        }
        self.last = at;
        taken.len()
    }

    /// The sender ends, behind all it wrote.
    pub fn finish(&mut self, at: u64) {
        if self.end.is_none() {
            self.last = self.last.max(at);
            self.end = Some((self.last, End::Fin, false));
        }
    }

    /// The connection breaks: some bytes that are under way arrive still, at `at`, and the end with them. A reset may
    /// take what nobody read yet, too.
    pub fn cut(&mut self, at: u64, end: End, rng: &mut Rng) {
        if matches!(self.end, Some((.., true))) {
            return;
        }
        let under_way = self.bytes.len() - self.arrived;
        let most = usize::try_from(rng.below(under_way as u64 + 1)).unwrap_or(0);
        let keep = if end == End::Reset && rng.one_in(4) { 0 } else { self.arrived + most };
        self.bytes.truncate(keep);
        self.arrived = self.arrived.min(keep);
        self.packets.clear();
        if keep > self.arrived {
            self.packets.push_back((at, keep - self.arrived));
        }
        (self.last, self.end) = (at, Some((at, end, false)));
        self.planned = u64::MAX;
    }

    /// The sender is gone without a word: some bytes that are under way arrive still.
    pub fn fall_silent(&mut self, rng: &mut Rng) {
        let keep = usize::try_from(rng.below(self.packets.len() as u64 + 1)).unwrap_or(0);
        self.packets.truncate(keep);
        let under_way: usize = self.packets.iter().map(|(_, size)| size).sum();
        self.bytes.truncate(self.arrived + under_way);
        self.end = self.end.filter(|(.., seen)| *seen);
    }

    /// What was to arrive doesn't yet.
    pub fn postpone(&mut self) {
        self.planned = u64::MAX;
    }

    /// Something arrives: what is due by `now` can be read.
    pub fn arrive(&mut self, now: u64) {
        self.planned = u64::MAX;
        while let Some((_, size)) = self.packets.front().filter(|(at, _)| *at <= now) {
            self.arrived += size;
            self.packets.pop_front();
        }
        if let Some((at, _, seen)) = &mut self.end
            && self.packets.is_empty()
        {
            *seen |= *at <= now;
        }
    }

    /// Reads what can be read, at most so many bytes.
    pub fn read(&mut self, most: usize, into: &mut Vec<u8>) {
        let count = self.arrived.min(most);
        into.extend(self.bytes.drain(..count));
        self.arrived -= count;
    }

    /// The end, once everything before it was read.
    pub fn ended(&self) -> Option<End> {
        let (_, end, seen) = self.end?;
        (seen && self.bytes.is_empty()).then_some(end)
    }

    /// When something arrives next, `floor` at the earliest, if the queue doesn't hold that yet. The caller puts it
    /// there.
    pub fn plan(&mut self, floor: u64) -> Option<u64> {
        let end = self.end.filter(|(.., seen)| !seen).map(|(at, ..)| at);
        let at = self.packets.front().map(|(at, _)| *at).or(end)?.max(floor);
        if at >= self.planned {
            return None;
        }
        self.planned = at;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_of(flow: &mut Flow) -> Vec<u8> {
        let mut read = Vec::new();
        while let Some(at) = flow.plan(0) {
            flow.arrive(at);
            flow.read(usize::MAX, &mut read);
        }
        read
    }

    #[test]
    fn bytes_arrive_in_order_whatever_the_packets() {
        let mut rng = Rng::new(1);
        let sent: Vec<u8> = (0..20_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        for window in [1, 100, 64 * 1024] {
            let mut flow = Flow::new(window);
            let (mut rest, mut read) = (&sent[..], Vec::new());
            while !rest.is_empty() {
                let taken = flow.write(rest, 5, &mut rng);
                assert!((1..=window).contains(&taken), "{taken}");
                assert_eq!(flow.write(&[1], 0, &mut rng), usize::from(taken == rest.len() && taken < window));
                rest = &rest[taken..];
                read.extend(all_of(&mut flow));
            }
            read.truncate(sent.len());
            assert!(read == sent);
            flow.finish(7);
            assert_eq!((flow.ended(), all_of(&mut flow).len(), flow.ended()), (None, 0, Some(End::Fin)));
            assert_eq!(flow.write(&sent, 9, &mut rng), 0, "behind the end");
        }
    }

    #[test]
    fn a_cut_loses_a_tail_and_nothing_else() {
        let sent: Vec<u8> = (0..200).collect();
        let (mut whole, mut none) = (0, 0);
        for seed in 0..2000 {
            let mut rng = Rng::new(seed);
            let mut flow = Flow::new(1000);
            flow.write(&sent, 10, &mut rng);
            flow.arrive(10);
            let end = if seed % 2 == 0 { End::Fin } else { End::Reset };
            flow.cut(20, end, &mut rng);
            let read = all_of(&mut flow);
            assert!(sent.starts_with(&read));
            assert_eq!(flow.ended(), Some(end));
            whole += u32::from(read.len() == 200);
            none += u32::from(read.is_empty());
        }
        assert!(whole > 20 && none > 20, "{whole} {none}");
    }

    #[test]
    fn who_falls_silent_ends_nothing() {
        let mut rng = Rng::new(3);
        let mut flow = Flow::new(1000);
        flow.write(&[7; 500], 10, &mut rng);
        flow.finish(10);
        flow.fall_silent(&mut rng);
        assert!(all_of(&mut flow).len() <= 500);
        assert_eq!(flow.ended(), None);
    }
}
