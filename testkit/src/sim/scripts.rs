//! Scripts that operators have run on a device: each that arrives is answered once, within its time and its limits.

use nerves_hub_link_protocol::limits::{MAX_SCRIPT_BYTES, MAX_SCRIPT_OUTPUT_BYTES, MAX_SCRIPTS};
use nerves_hub_link_protocol::{Event, ScriptId};
use serde_json::Value;

use super::scenario::SECOND;
use super::violation::Broken;

/// How long an answer may take, to be sent and to arrive: a script's time and longer than a dead connection lasts.
const ANSWER: u64 = 110 * SECOND;
/// Bytes of a text that is cut which say so.
const NOTE: usize = 300;

/// What was asked for, runs, and is on its way back.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    owed: Vec<Owed>,
    running: Vec<(ScriptId, u64)>,
    last: u64,
    /// Answers on their way to the server: when they were sent, and to what.
    flying: Vec<(u64, String)>,
}

/// A script that arrived and was not answered.
#[derive(Debug)]
struct Owed {
    reference: String,
    at: u64,
    /// Nothing excuses the device from answering.
    must: bool,
}

impl Scripts {
    /// A script arrived, on a channel that is joined or not.
    pub fn arrives(&mut self, now: u64, payload: &Value, must: bool) {
        if let Some(reference) = payload.get("ref").and_then(Value::as_str) {
            // Whatever was excused for so long is not answered any more.
            self.owed.retain(|owed| owed.must || now < owed.at + 2 * ANSWER);
            self.owed.push(Owed { reference: reference.to_owned(), at: now, must });
        }
    }

    /// The application is told something.
    pub fn hears(&mut self, now: u64, event: &Event) -> Result<(), Broken> {
        match event {
            Event::ScriptRequested { id, text, timeout } => {
                if id.0 <= self.last || self.running.len() >= self.owed.len() {
                    return wrong("is to run twice, or nobody sent it");
                }
                if self.running.len() >= MAX_SCRIPTS || text.len() > MAX_SCRIPT_BYTES {
                    return wrong("is to run though it is too long, or one too many");
                }
                self.last = id.0;
                let timeout = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
                self.running.push((*id, now + timeout));
            }
            Event::ScriptTimedOut { id } if !self.ends(*id) => return wrong("is too late and does not run"),
            _ => {}
        }
        Ok(())
    }

    /// A script ended. Returns whether it ran.
    pub fn ends(&mut self, id: ScriptId) -> bool {
        let before = self.running.len();
        self.running.retain(|(running, _)| *running != id);
        self.running.len() < before
    }

    /// The device sends an answer.
    pub fn answers(&mut self, now: u64, payload: &Value) -> Result<(), Broken> {
        let reference = payload.get("ref").and_then(Value::as_str).unwrap_or_default();
        // Names come again, as that of what runs at each join: one that must be answered is.
        let of = |must| self.owed.iter().position(|owed| owed.must == must && owed.reference == reference);
        let Some(at) = of(true).or_else(|| of(false)) else {
            return wrong("is answered twice, or nobody sent it");
        };
        self.owed.remove(at);
        for field in ["output", "return", "reason"] {
            let length = payload.get(field).and_then(Value::as_str).map_or(0, str::len);
            if length > MAX_SCRIPT_OUTPUT_BYTES + NOTE {
                return Err(Broken::LongMessage(length));
            }
        }
        self.flying.push((now, reference.to_owned()));
        Ok(())
    }

    /// An answer reached the server.
    pub fn arrived(&mut self, payload: &Value) {
        let reference = payload.get("ref").and_then(Value::as_str).unwrap_or_default();
        if let Some(at) = self.flying.iter().position(|(_, flying)| flying == reference) {
            self.flying.remove(at);
        }
    }

    /// Whether something runs or is on its way.
    pub fn is_busy(&self) -> bool {
        !self.running.is_empty() || self.owed.iter().any(|owed| owed.must)
    }

    /// Looks whether something takes too long, once everything the machine wants was done.
    pub fn check(&mut self, now: u64, ticked: bool, joined: bool) -> Result<(), Broken> {
        if !joined {
            // What is on its way is lost with the channel; the server asks again if it wants to know.
            self.flying.clear();
            self.owed.iter_mut().for_each(|owed| owed.must = false);
        }
        let late = |at: u64| now >= at + ANSWER;
        if ticked && self.running.iter().any(|(_, until)| now >= *until) {
            return wrong("runs longer than it may");
        }
        if self.owed.iter().any(|owed| owed.must && late(owed.at)) {
            return wrong("is not answered, though the connection lives");
        }
        if self.flying.iter().any(|(at, _)| late(*at)) {
            return wrong("was answered, and the server did not get it though the connection lives");
        }
        Ok(())
    }
}

fn wrong(what: &'static str) -> Result<(), Broken> {
    Err(Broken::Script { what })
}
