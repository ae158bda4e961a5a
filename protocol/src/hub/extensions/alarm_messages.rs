//! Alarms told to the server as they come and go (device-protocol A8). What the server knows is compared with what is so;
//! nothing is queued, so nothing can be lost for good.

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value, json};

use super::super::{Context, names};
use super::alarms::Raised;
use super::bucket::Bucket;
use super::pace::Pace;
use super::port::Port;
use super::times::Times;
use crate::limits::{ALARM_BURST, ALARM_PERIOD};
use crate::phoenix::{Class, Payload};
use crate::timer::{Earliest, Timer};

/// Versions, the newest first.
pub(super) const VERSIONS: &[&str] = &["0.1.0"];

/// Tells alarms.
pub(super) struct AlarmMessages {
    /// What the server knows; `None` until it asked for the first time.
    told: Option<Vec<Told>>,
    /// Whether the server wants to hear of all alarms.
    snapshot: bool,
    pace: Pace,
}

struct Told {
    name: String,
    description: String,
    /// Stays the same as long as the alarm does.
    raised_at: Option<String>,
}

impl AlarmMessages {
    pub(super) const fn new() -> Self {
        let pace = Pace::new(Bucket::new(ALARM_BURST, ALARM_PERIOD));
        Self { told: None, snapshot: false, pace }
    }

    pub(super) fn stopped(&mut self) {
        (self.told, self.snapshot) = (None, false);
        self.pace.stop();
    }

    pub(super) fn received(&mut self, event: &str, payload: Payload<'_>) -> Result<bool, String> {
        let known = event == names::SYNC;
        if known {
            payload.ignore()?;
            self.snapshot = true;
            self.pace.flush();
        }
        Ok(known)
    }

    /// Sends what changed. `raised` are all alarms as they are.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>, port: Port, times: Times, raised: &[Raised<'_>]) {
        // Nothing before the server asked: its first question comes right after the extension was attached.
        if !self.pace.settle(cx.now) || !port.is_open() {
            return;
        }
        if self.snapshot && self.pace.may_send(cx, port) {
            self.snapshot = false;
            self.send_snapshot(cx, port, times, raised);
        }
        let Some(told) = self.told.as_mut().filter(|_| !self.snapshot) else { return };
        while let Some(at) =
            told.iter().position(|told| !raised.iter().any(|raised| raised.name == told.name))
        {
            if !self.pace.may_send(cx, port) {
                return;
            }
            let gone = told.remove(at);
            let mut payload = Map::from_iter([(String::from("alarm"), Value::from(gone.name))]);
            put(&mut payload, "cleared_at", times.text(cx.now));
            port.send(cx, names::ALARMS_CLEARED, Value::Object(payload), Class::Session);
        }
        for raised in raised {
            let at = told.iter().position(|told| told.name == raised.name);
            if at.and_then(|at| told.get(at)).is_some_and(|told| told.description == raised.description) {
                continue;
            }
            if !self.pace.may_send(cx, port) {
                return;
            }
            let before = at.map(|at| told.remove(at));
            let news = Told::new(raised, before.as_ref(), times);
            port.send(cx, names::ALARMS_RAISED, news.to_json(), Class::Session);
            told.push(news);
        }
    }

    pub(super) fn deadlines(&self, deadline: &mut Earliest) {
        self.pace.deadlines(Timer::AlarmMessages, deadline);
    }

    fn send_snapshot(&mut self, cx: &mut Context<'_>, port: Port, times: Times, raised: &[Raised<'_>]) {
        // Nothing was sent before the first snapshot.
        let before = self.told.take().unwrap_or_default();
        let known = |raised: &Raised<'_>| {
            let before = before.iter().find(|told| told.name == raised.name);
            Told::new(raised, before, times)
        };
        let told: Vec<Told> = raised.iter().map(known).collect();
        let all: Vec<Value> = told.iter().map(Told::to_json).collect();
        self.told = Some(told);
        port.send(cx, names::ALARMS_SNAPSHOT, json!({"alarms": all}), Class::Session);
    }
}

impl Told {
    fn new(raised: &Raised<'_>, before: Option<&Self>, times: Times) -> Self {
        let known = before.and_then(|before| before.raised_at.clone());
        Self {
            name: String::from(raised.name),
            description: String::from(raised.description),
            raised_at: known.or_else(|| times.text(raised.since)),
        }
    }

    fn to_json(&self) -> Value {
        let mut alarm = Map::from_iter([
            (String::from("alarm"), Value::from(self.name.as_str())),
            (String::from("description"), Value::from(self.description.as_str())),
        ]);
        put(&mut alarm, "raised_at", self.raised_at.clone());
        Value::Object(alarm)
    }
}

/// Adds a time, if it is known. Without one the server takes the time of arrival.
fn put(fields: &mut Map<String, Value>, name: &str, time: Option<String>) {
    if let Some(time) = time {
        fields.insert(String::from(name), Value::from(time));
    }
}
