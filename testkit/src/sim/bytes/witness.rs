//! What was sent one way, message by message: what arrives must be that, in order, up to a lost tail.

use std::collections::VecDeque;

use crate::sim::message::Frame;
use crate::sim::violation::Broken;

/// A message, told by its kind, length and checksum.
type Mark = (bool, usize, u32);

#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Message(Mark),
    /// Bytes that are no message: the reader must give up at them.
    Garbage,
}

/// What was sent one way and did not arrive yet.
#[derive(Debug, Default)]
pub(in crate::sim) struct Witness {
    sent: VecDeque<Sent>,
    /// Up to which byte each message reaches that was not reported sent.
    ends: VecDeque<u64>,
    /// Payloads of pings.
    pings: VecDeque<Vec<u8>>,
    garbage: bool,
}

impl Witness {
    /// A message is sent, whose last byte is the one of this number.
    pub fn sends(&mut self, frame: &Frame, end: u64) {
        self.sent.push_back(Sent::Message(mark(frame)));
        self.ends.push_back(end);
    }

    /// A message is sent of which nobody reports that it was.
    pub fn says(&mut self, frame: &Frame) {
        self.sent.push_back(Sent::Message(mark(frame)));
    }

    /// What is no message is sent.
    pub fn garbage(&mut self) {
        self.sent.push_back(Sent::Garbage);
        self.garbage = true;
    }

    /// Whether bytes were sent that the reader must refuse.
    pub fn is_garbage(&self) -> bool {
        self.garbage
    }

    /// A message arrived: the next one that was sent.
    pub fn arrives(&mut self, frame: &Frame) -> Result<(), Broken> {
        match self.sent.pop_front() {
            Some(Sent::Message(next)) if next == mark(frame) => Ok(()),
            _ => Err(Broken::OtherMessage(frame.shown().chars().take(200).collect())),
        }
    }

    /// So many messages are said to be sent, of whose bytes the system took `taken`.
    pub fn reported(&mut self, frames: u32, taken: u64) -> Result<(), Broken> {
        for _ in 0..frames {
            if self.ends.pop_front().is_some_and(|end| end > taken) {
                return Err(Broken::SaidUnsent { frames });
            }
        }
        Ok(())
    }

    /// A ping is sent.
    pub fn pings(&mut self, payload: &[u8]) {
        self.pings.push_back(payload.to_vec());
    }

    /// A pong arrived: the answer to a ping, of which some may go without.
    pub fn pong(&mut self, payload: &[u8]) -> Result<(), Broken> {
        let at = self.pings.iter().position(|sent| sent == payload);
        let at = at.ok_or_else(|| Broken::NotWebSocket("a pong to no ping".to_owned()))?;
        self.pings.drain(..=at);
        Ok(())
    }
}

fn mark(frame: &Frame) -> Mark {
    (matches!(frame, Frame::Binary(_)), frame.bytes().len(), crc32fast::hash(frame.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Frame {
        Frame::Text(text.to_owned())
    }

    #[test]
    fn only_what_was_sent_arrives_in_order() {
        let mut witness = Witness::default();
        for frame in [text("a"), text("b"), Frame::Binary(b"c".to_vec())] {
            witness.says(&frame);
        }
        witness.garbage();
        witness.says(&text("d"));
        witness.arrives(&text("a")).unwrap();
        witness.arrives(&text("b")).unwrap();
        assert!(matches!(witness.arrives(&text("c")), Err(Broken::OtherMessage(_))), "another kind");
        assert!(matches!(witness.arrives(&text("d")), Err(Broken::OtherMessage(_))), "past garbage");
    }

    #[test]
    fn messages_are_sent_once_their_bytes_are_taken() {
        let mut witness = Witness::default();
        witness.sends(&text("a"), 10);
        witness.sends(&text("b"), 20);
        witness.reported(1, 10).unwrap();
        assert_eq!(witness.reported(1, 19), Err(Broken::SaidUnsent { frames: 1 }));
    }

    #[test]
    fn pongs_answer_pings() {
        let mut witness = Witness::default();
        witness.pings(b"1");
        witness.pings(b"2");
        witness.pong(b"2").unwrap();
        assert!(witness.pong(b"1").is_err());
    }
}
