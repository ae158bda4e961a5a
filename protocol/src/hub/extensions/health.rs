//! How the device is doing (device-protocol §5.2, A7).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use serde_json::{Map, Value, json};

use super::super::{Context, names};
use super::alarms::Raised;
use super::measure;
use super::port::Port;
use super::problem;
use super::question::Question;
use super::times::{Times, iso};
use crate::alarm::Alarm;
use crate::command::CommandError;
use crate::extension::{Connectivity, ExtensionEvent, HealthReport};
use crate::limits::{MAX_HEALTH_ENTRIES, MAX_HEALTH_TEXT_CHARS, MAX_NAME_CHARS, MIN_EXTENSION_INTERVAL};
use crate::phoenix::{Class, Payload};
use crate::text::cut;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};

/// Versions, the newest first.
pub(super) const VERSIONS: &[&str] = &["0.0.1"];

/// Asks the application and sends what it says.
#[derive(Default)]
pub(super) struct Health {
    asked: Question,
    /// When to ask unbidden.
    next: Option<Instant>,
    /// Why the application could not answer last time.
    failure: Option<String>,
}

impl Health {
    pub(super) fn started(&mut self, cx: &Context<'_>) {
        self.next = interval(cx).map(|interval| cx.now + interval);
    }

    pub(super) const fn stopped(&mut self) {
        self.asked.close();
        self.next = None;
    }

    /// Returns why the last report failed, if it did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn received(
        &mut self,
        cx: &mut Context<'_>,
        event: &str,
        payload: Payload<'_>,
    ) -> Result<bool, String> {
        let known = event == names::CHECK;
        if known {
            payload.ignore()?;
            self.asked.ask(cx, ExtensionEvent::HealthRequested);
        }
        Ok(known)
    }

    pub(super) fn settle(&mut self, cx: &mut Context<'_>, port: Port) {
        self.asked.settle(cx, names::HEALTH);
        if self.next.is_some_and(|next| next <= cx.now) {
            self.started(cx);
            if port.is_open() {
                self.asked.ask(cx, ExtensionEvent::HealthRequested);
            }
        }
    }

    pub(super) fn deadlines(&self, deadline: &mut Earliest) {
        self.asked.deadlines(deadline);
        if let Some(next) = self.next {
            deadline.at(Timer::Health, next);
        }
    }

    /// Sends a report. `raised` are the alarms to tell with it, unless they have a way of their own.
    pub(super) fn report(
        &mut self,
        cx: &mut Context<'_>,
        port: Port,
        times: Times,
        report: &HealthReport,
        raised: Option<&[Raised<'_>]>,
    ) -> Result<(), CommandError> {
        port.require()?;
        self.asked.close();
        self.failure = None;
        let mut left_out = 0;
        let timestamp = report.timestamp.and_then(iso);
        let (metrics, trimmed) = measure::metrics(&report.metrics);
        left_out += trimmed;
        let checks = map(
            &report.checks,
            &mut left_out,
            |check, _| json!({"pass": check.pass, "note": cut(&check.note, MAX_HEALTH_TEXT_CHARS)}),
        );
        let mut value = json!({
            "timestamp": timestamp.unwrap_or_else(|| times.text_or_since_start(cx.now)),
            "metadata": texts(&report.metadata, &mut left_out),
            "metrics": metrics,
            "checks": checks,
            "connectivity": map(&report.connectivity, &mut left_out, connectivity),
        });
        if let (Some(raised), Some(fields)) = (raised, value.as_object_mut()) {
            let mut alarms = texts(&report.alarms, &mut left_out);
            for alarm in raised {
                let text = Value::from(cut(alarm.description, MAX_HEALTH_TEXT_CHARS));
                alarms.insert(String::from(alarm.name), text);
            }
            fields.insert(String::from("alarms"), Value::Object(alarms));
        }
        send(cx, port, value);
        if left_out > 0 {
            problem(
                cx,
                names::HEALTH,
                format!("{left_out} entries of a report left out: too many, too long, or no numbers"),
            );
        }
        Ok(())
    }

    /// Reports that there is no report, as an alarm (device-protocol §5.2). `tells_alarms` is whether that has no way of its own.
    pub(super) fn failed(
        &mut self,
        cx: &mut Context<'_>,
        port: Port,
        times: Times,
        reason: &str,
        tells_alarms: bool,
    ) -> Result<(), CommandError> {
        port.require()?;
        self.asked.close();
        let reason = cut(reason, MAX_HEALTH_TEXT_CHARS);
        let mut value = json!({
            "timestamp": times.text_or_since_start(cx.now),
            "metadata": {}, "metrics": {}, "checks": {}, "connectivity": {},
        });
        if let (true, Some(fields)) = (tells_alarms, value.as_object_mut()) {
            let alarms = json!({Alarm::HealthCheckFailed.name(): reason});
            fields.insert(String::from("alarms"), alarms);
        }
        self.failure = Some(reason);
        send(cx, port, value);
        Ok(())
    }
}

fn send(cx: &mut Context<'_>, port: Port, value: Value) {
    let class = Class::Latest(names::HEALTH_REPORT);
    let report = Map::from_iter([(String::from("value"), value)]);
    port.send(cx, names::HEALTH_REPORT, Value::Object(report), class);
}

fn interval(cx: &Context<'_>) -> Option<Duration> {
    let interval = cx.config.extensions.health.as_ref()?.interval?;
    Some(interval.max(MIN_EXTENSION_INTERVAL))
}

fn connectivity(interface: &Connectivity, left_out: &mut usize) -> Value {
    let (metrics, trimmed) = measure::metrics(&interface.metrics);
    *left_out += trimmed;
    json!({
        "type": interface.kind.as_str(),
        "present": interface.present,
        "state": cut(&interface.state, MAX_NAME_CHARS),
        "connection_status": interface.reach.as_str(),
        "metrics": metrics,
        "metadata": texts(&interface.metadata, left_out),
    })
}

fn texts(entries: &BTreeMap<String, String>, left_out: &mut usize) -> Map<String, Value> {
    map(entries, left_out, |text, _| Value::from(cut(text, MAX_HEALTH_TEXT_CHARS)))
}

/// Writes the first entries of a map, and counts the others.
fn map<T>(
    entries: &BTreeMap<String, T>,
    left_out: &mut usize,
    write: impl Fn(&T, &mut usize) -> Value,
) -> Map<String, Value> {
    *left_out += entries.len().saturating_sub(MAX_HEALTH_ENTRIES);
    let first = entries.iter().take(MAX_HEALTH_ENTRIES);
    first.map(|(name, entry)| (cut(name, MAX_HEALTH_TEXT_CHARS), write(entry, left_out))).collect()
}
