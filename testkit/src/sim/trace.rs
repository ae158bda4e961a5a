//! What happened, as a hash to compare runs by, and as lines for people.

use std::collections::VecDeque;

use nerves_hub_link_protocol::Output;

use super::dice::mix;
use super::message::Frame;
use super::violation::Clock;

/// The longest text of one line, in characters.
const LINE: usize = 400;

/// A trace.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    keep: usize,
    lines: VecDeque<String>,
}

impl Trace {
    /// Keeps so many of the newest lines.
    pub fn record(&mut self, lines: usize) {
        self.keep = lines;
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    pub fn note(&mut self, at: u64, device: u32, what: &str, text: &str) {
        let sum =
            u64::from(crc32fast::hash(text.as_bytes())) << 32 | u64::from(crc32fast::hash(what.as_bytes()));
        self.add(at, device, sum);
        if self.keep > 0 {
            self.line(at, device, what, text);
        }
    }

    /// Notes a message.
    pub fn frame(&mut self, at: u64, device: u32, what: &str, frame: &Frame) {
        self.add(at, device, u64::from(crc32fast::hash(frame.bytes())) << 8 | what.len() as u64);
        if self.keep > 0 {
            self.line(at, device, what, &frame.shown());
        }
    }

    pub fn note_number(&mut self, at: u64, device: u32, what: &str, number: u64) {
        self.add(at, device, mix(number, what.len() as u64));
        if self.keep > 0 {
            self.line(at, device, what, &number.to_string());
        }
    }

    /// Notes what a machine wants, other than messages and events.
    pub fn output(&mut self, at: u64, device: u32, output: &Output) {
        match output {
            Output::Dial(dial) => self.note_number(at, device, "dials", dial.socket.0),
            Output::Fetch(fetch) => {
                self.note_number(at, device, "fetches", fetch.fetch.0);
                if self.keep > 0 {
                    self.line(at, device, "  with", &format!("{:?}", fetch.headers));
                }
            }
            Output::Event(_) => {}
            other => {
                let text = format!("{other:?}");
                self.note(at, device, "wants", &text);
            }
        }
    }

    fn add(&mut self, at: u64, device: u32, sum: u64) {
        self.hash = mix(mix(self.hash, at ^ u64::from(device) << 40), sum);
    }

    fn line(&mut self, at: u64, device: u32, what: &str, text: &str) {
        if self.lines.len() >= self.keep {
            self.lines.pop_front();
        }
        let who = if device == u32::MAX { "world".to_owned() } else { format!("device {device}") };
        let text: String = text.chars().take(LINE).collect();
        self.lines.push_back(format!("{} {who} {what} {text}", Clock(at)));
    }
}
