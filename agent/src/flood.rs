//! Bounds what a peer can make this program print.
//!
//! Each kind of line has a budget of its own per minute, so that a peer which floods one kind silences no other. What is
//! over the budget is counted. The end of the minute, or of the program, prints how many there were, and the last of them.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::limits::{
    KIND_BYTES_MAX, KIND_LINES_MAX, KINDS_MAX, LOG_WINDOW, PROGRESS_LINES_MAX, SHAPE_BYTES_MAX,
};

/// Lines that are never held back. Each ends an update, a connection by choice, or the program, at most once per restart.
const ALWAYS: [&str; 5] = ["completed", "reboot", "reboot-failed", "stopping", "stopped"];
/// Lines that the machine itself sends at a fixed pace.
const PROGRESS: [&str; 2] = ["downloading", "updating"];
/// Lines whose kind says nothing about what happened, which their beginning does.
const MIXED: [&str; 1] = ["notice"];
/// The kind of all lines once [`KINDS_MAX`] kinds are remembered.
const OTHERS: &str = "";

/// How many lines of each kind were printed lately.
#[derive(Debug, Default)]
pub struct Flood {
    kinds: BTreeMap<String, Window>,
}

/// The current minute of a kind.
#[derive(Debug)]
struct Window {
    ends: Instant,
    lines: u32,
    bytes: usize,
    held: u64,
    last: Held,
}

/// A line that was not printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Its kind.
    pub kind: String,
    /// Its text.
    pub text: String,
}

/// Lines of one kind that were not printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct More {
    /// How many.
    pub count: u64,
    /// The last of them.
    pub last: Held,
}

impl Flood {
    /// Returns whether a line is to be printed, which takes `bytes`. The caller has printed what [`Flood::ended`] returns.
    pub fn admit(&mut self, now: Instant, kind: &str, text: &str, bytes: usize) -> bool {
        if ALWAYS.contains(&kind) {
            return true;
        }
        let mut key = key(kind, text);
        if !self.kinds.contains_key(&key) && self.kinds.len() >= KINDS_MAX {
            OTHERS.clone_into(&mut key);
        }
        let window = self.kinds.entry(key).or_insert_with(|| Window {
            ends: now + LOG_WINDOW,
            lines: 0,
            bytes: 0,
            held: 0,
            last: Held::default(),
        });
        let lines_max = if PROGRESS.contains(&kind) { PROGRESS_LINES_MAX } else { KIND_LINES_MAX };
        if window.lines < lines_max && window.bytes.saturating_add(bytes) <= KIND_BYTES_MAX {
            window.lines += 1;
            window.bytes += bytes;
            return true;
        }
        // One that did not fit stops shorter ones, too: lines stay in order.
        window.lines = lines_max;
        window.held = window.held.saturating_add(1);
        window.last = Held { kind: kind.to_owned(), text: text.to_owned() };
        false
    }

    /// Forgets the minutes that are over, and returns what they held back.
    pub fn ended(&mut self, now: Instant) -> Vec<More> {
        let mut ended = Vec::new();
        self.kinds.retain(|_, window| {
            let over = window.ends <= now;
            if over {
                ended.extend(window.take());
            }
            !over
        });
        ended
    }

    /// Returns what was held back until now, at the end of the program.
    pub fn all(&mut self) -> Vec<More> {
        self.kinds.values_mut().filter_map(Window::take).collect()
    }

    /// Returns when the first minute ends that has held something back.
    pub fn next(&self) -> Option<Instant> {
        self.kinds.values().filter(|window| window.held > 0).map(|window| window.ends).min()
    }
}

impl Window {
    fn take(&mut self) -> Option<More> {
        let count = std::mem::take(&mut self.held);
        (count > 0).then(|| More { count, last: std::mem::take(&mut self.last) })
    }
}

impl More {
    /// Says so.
    pub fn text(&self) -> String {
        let seconds = LOG_WINDOW.as_secs();
        format!("{} more like it within {seconds} s; the last: {}", self.count, self.last.text)
    }
}

/// Returns what lines are counted by: their kind, and for a mixed kind the words before the first value.
fn key(kind: &str, text: &str) -> String {
    if !MIXED.contains(&kind) {
        return kind.to_owned();
    }
    let value = |letter: char| !(letter.is_alphabetic() || " '-,".contains(letter));
    let words = text.split(value).next().unwrap_or_default();
    let shape: String = words.chars().take(SHAPE_BYTES_MAX / 4).collect();
    format!("{kind} {shape}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SHORT: usize = 100;

    fn printed(flood: &mut Flood, now: Instant, kind: &str, count: u32) -> u32 {
        (0..count).map(|number| u32::from(flood.admit(now, kind, &format!("line {number}"), SHORT))).sum()
    }

    #[test]
    fn a_kind_has_its_lines_and_one_more_is_counted() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        assert_eq!(printed(&mut flood, now, "malformed", KIND_LINES_MAX), KIND_LINES_MAX);
        assert_eq!((flood.next(), flood.all()), (None, vec![]));
        assert_eq!(printed(&mut flood, now, "malformed", 3), 0);
        // Other kinds are not concerned.
        assert!(flood.admit(now, "failed", "x", SHORT));
        let last = Held { kind: "malformed".into(), text: "line 2".into() };
        assert_eq!(flood.next(), Some(now + LOG_WINDOW));
        assert_eq!(flood.ended(now + LOG_WINDOW.saturating_sub(Duration::from_millis(1))), vec![]);
        let ended = flood.ended(now + LOG_WINDOW);
        assert_eq!(ended, [More { count: 3, last }]);
        assert_eq!(ended[0].text(), "3 more like it within 60 s; the last: line 2");
        // A new minute.
        assert_eq!(flood.next(), None);
        assert!(flood.admit(now + LOG_WINDOW, "malformed", "x", SHORT));
    }

    #[test]
    fn a_kind_has_its_bytes_and_one_more_is_too_many() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        assert!(flood.admit(now, "a", "x", KIND_BYTES_MAX - 1));
        assert!(flood.admit(now, "a", "x", 1) && !flood.admit(now, "a", "y", 1));
        assert!(!flood.admit(now, "b", "x", KIND_BYTES_MAX + 1));
        assert!(!flood.admit(now, "b", "x", 1), "a shorter line must not pass a longer one");
        assert_eq!(flood.all().len(), 2);
        assert_eq!(flood.all(), vec![], "told once");
    }

    #[test]
    fn kinds_are_bounded_and_the_rest_share_one_budget() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        for number in 0..KINDS_MAX {
            assert!(flood.admit(now, &format!("kind {number}"), "x", SHORT));
        }
        let rest = KIND_LINES_MAX + 5;
        let printed: u32 =
            (0..rest).map(|n| u32::from(flood.admit(now, &format!("new {n}"), "x", SHORT))).sum();
        assert_eq!(printed, KIND_LINES_MAX);
        assert_eq!(flood.kinds.len(), KINDS_MAX + 1);
        assert!(flood.admit(now, "kind 0", "x", SHORT));
        assert_eq!(flood.ended(now + LOG_WINDOW).len(), 1);
        assert_eq!(flood.kinds.len(), 0);
    }

    #[test]
    fn what_ends_an_update_or_the_program_is_always_printed() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        for kind in ALWAYS {
            assert_eq!(printed(&mut flood, now, kind, 200), 200, "{kind}");
        }
        // A minute of both stages at their pace.
        for kind in PROGRESS {
            assert_eq!(printed(&mut flood, now, kind, 120), 120, "{kind}");
        }
    }

    #[test]
    fn notices_are_told_apart_by_their_words_and_not_by_their_values() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        for number in 0..1000 {
            flood.admit(now, "notice", &format!("\"{number}\" was not sent: x"), SHORT);
            flood.admit(now, "notice", &format!("a command was refused: {number}"), SHORT);
        }
        assert!(flood.admit(now, "notice", "a thread has not ended for 60 s; a disk may be hanging", SHORT));
        assert_eq!((flood.kinds.len(), flood.all().len()), (3, 2));
    }
}
