//! Reports of errors (device-protocol A5), in batches.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::{Map, Value, json};

use super::super::{Context, names};
use super::backlog::{Backlog, Gap, Stamp};
use super::bucket::Bucket;
use super::pace::Pace;
use super::port::Port;
use super::times::{Times, iso};
use crate::extension::{ErrorFrame, ErrorReport, ErrorReportsConfig, ErrorSource};
use crate::limits::{
    MAX_BACKLOG_BYTES, MAX_BATCH_BYTES, MAX_CONTEXT, MAX_CONTEXT_NAME_BYTES, MAX_CONTEXT_VALUE_BYTES,
    MAX_ERROR_BATCH, MAX_ERROR_KIND_BYTES, MAX_ERROR_MESSAGE_BYTES, MAX_ERROR_REASON_BYTES,
    MAX_ERROR_REPORTS, MAX_FINGERPRINT_BYTES, MAX_FRAME_BYTES, MAX_FRAMES, MAX_NAME_CHARS,
    MIN_EXTENSION_INTERVAL, REPORT_BURST, REPORT_PERIOD,
};
use crate::phoenix::Class;
use crate::text::{count, cut_bytes};
use crate::time::Instant;
use crate::timer::{Earliest, Timer};

/// Versions, the newest first.
pub(super) const VERSIONS: &[&str] = &["0.1.0"];
/// What cut texts end with.
const MORE: &str = "…";

/// Holds reports until the server takes them.
pub(super) struct ErrorReports {
    reports: Backlog<Box<Report>>,
    pace: Pace,
    interval: Duration,
    /// Facts for all reports, if they were replaced.
    context: Option<BTreeMap<String, String>>,
    /// When the link began.
    born: Instant,
}

/// A report as it is sent, but for what is known only then.
struct Report {
    fields: Map<String, Value>,
    context: Map<String, Value>,
}

impl ErrorReports {
    pub(super) fn new(config: &ErrorReportsConfig, now: Instant) -> Self {
        Self {
            reports: Backlog::new(config.max_reports.clamp(1, MAX_ERROR_REPORTS), MAX_BACKLOG_BYTES),
            pace: Pace::new(Bucket::new(REPORT_BURST, REPORT_PERIOD)),
            interval: config.interval.max(MIN_EXTENSION_INTERVAL),
            context: None,
            born: now,
        }
    }

    pub(super) fn started(&mut self, now: Instant) {
        self.pace.begin_after(now, self.interval);
    }

    pub(super) const fn stopped(&mut self) {
        self.pace.stop();
    }

    /// Takes a report. Returns how many older ones had to go for it.
    pub(super) fn report(&mut self, cx: &Context<'_>, report: &ErrorReport) -> u64 {
        let mut context = texts(&report.context);
        if report.time.is_none() {
            let uptime = cx.now.saturating_since(self.born).as_millis().to_string();
            add(&mut context, "uptime_ms", Value::from(uptime));
        }
        let running = cx.config.firmware.uuid.as_str();
        let fields = fields(report, running);
        let size = |map: &Map<String, Value>| {
            map.iter().map(|(name, value)| name.len() + length(value)).sum::<usize>()
        };
        let bytes = size(&fields) + size(&context) + 256;
        let stamp = Stamp::new(cx.now, report.time);
        self.reports.push(stamp, Box::new(Report { fields, context }), bytes)
    }

    /// Replaces the facts for all reports.
    pub(super) fn set_context(&mut self, context: BTreeMap<String, String>) {
        self.context = Some(context);
    }

    /// Sends what waits now.
    pub(super) const fn flush(&mut self) {
        self.pace.flush();
    }

    pub(super) fn settle(&mut self, cx: &mut Context<'_>, port: Port, times: Times) {
        if !self.pace.settle(cx.now) || !times.are_known() {
            return;
        }
        while !self.reports.is_empty() {
            if !self.pace.may_send(cx, port) {
                return;
            }
            let batch = self.batch(cx, times);
            port.send(cx, names::ERROR_REPORTS_REPORT, batch, Class::Session);
        }
        self.pace.done(cx.now, Some(self.interval));
    }

    pub(super) fn deadlines(&self, deadline: &mut Earliest) {
        self.pace.deadlines(Timer::ErrorReports, deadline);
    }

    fn batch(&mut self, cx: &Context<'_>, times: Times) -> Value {
        let shared =
            self.context.as_ref().or_else(|| Some(&cx.config.extensions.error_reports.as_ref()?.context));
        // Empty when neither the application nor the configuration gave any.
        let shared = shared.map(texts).unwrap_or_default();
        let notice = self.reports.take_gap().and_then(|gap| notice(gap, times));
        let room = MAX_ERROR_BATCH - usize::from(notice.is_some());
        let reports = self.reports.take(room, MAX_BATCH_BYTES).filter_map(|item| {
            // The time is known here; one past the year 9999 can't be written.
            let time = iso(item.stamp.resolve(times)?)?;
            let Report { mut fields, mut context } = *item.what;
            // What the report says itself wins.
            for (name, value) in &shared {
                add(&mut context, name, value.clone());
            }
            fields.insert(String::from("timestamp"), Value::from(time));
            fields.insert(String::from("context"), Value::Object(context));
            Some(Value::Object(fields))
        });
        let reports: Vec<Value> = notice.into_iter().chain(reports).collect();
        json!({"reports": reports})
    }
}

/// Says what was dropped.
fn notice(gap: Gap, times: Times) -> Option<Value> {
    let reports = count(gap.count, "error report");
    let reason = format!("nerves-hub-link dropped {reports} to stay inside its buffer");
    let time = iso(gap.since.resolve(times)?)?;
    Some(json!({
        "timestamp": time, "kind": "nerves_hub_link", "reason": reason, "source": ErrorSource::Manual.as_str(),
        "fingerprint": "nerves_hub_link:dropped_error_reports", "frames": [],
    }))
}

fn fields(report: &ErrorReport, running: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(String::from(name), value);
    let kind = Some(report.kind.trim()).filter(|kind| !kind.is_empty()).unwrap_or("error");
    put("kind", Value::from(cut_bytes(kind, MAX_ERROR_KIND_BYTES, MORE)));
    let reason: String = report.reason.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let reason = if reason.is_empty() { "no reason given" } else { &reason };
    put("reason", Value::from(cut_bytes(reason, MAX_ERROR_REASON_BYTES, MORE)));
    if let Some(message) = &report.message {
        put("message", Value::from(cut_bytes(message, MAX_ERROR_MESSAGE_BYTES, MORE)));
    }
    put("source", Value::from(report.source.as_str()));
    if let Some(key) = report.fingerprint.as_deref().map(str::trim).filter(|key| !key.is_empty()) {
        put("fingerprint", Value::from(cut_bytes(key, MAX_FINGERPRINT_BYTES, MORE)));
    }
    put("frames", report.frames.iter().take(MAX_FRAMES).map(frame).collect());
    let firmware = report.firmware_uuid.as_deref().unwrap_or(running);
    if !firmware.is_empty() {
        put("firmware_uuid", Value::from(cut_bytes(firmware, MAX_NAME_CHARS, MORE)));
    }
    fields
}

fn frame(frame: &ErrorFrame) -> Value {
    let texts = [("module", &frame.module), ("function", &frame.function), ("file", &frame.file)];
    let known = texts.into_iter().filter_map(|(name, text)| {
        let text = cut_bytes(text.as_deref()?, MAX_FRAME_BYTES, MORE);
        Some((String::from(name), Value::from(text)))
    });
    let line = frame.line.map(|line| (String::from("line"), Value::from(line)));
    Value::Object(known.chain(line).collect())
}

fn texts(context: &BTreeMap<String, String>) -> Map<String, Value> {
    let first = context.iter().take(MAX_CONTEXT);
    first
        .map(|(name, value)| {
            let value = cut_bytes(value, MAX_CONTEXT_VALUE_BYTES, MORE);
            (cut_bytes(name, MAX_CONTEXT_NAME_BYTES, MORE), Value::from(value))
        })
        .collect()
}

/// Adds a fact that isn't there, while there is room.
fn add(context: &mut Map<String, Value>, name: &str, value: Value) {
    if context.len() < MAX_CONTEXT && !context.contains_key(name) {
        context.insert(String::from(name), value);
    }
}

/// Returns about how many bytes a value takes.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| 32 + length(item)).sum(),
        Value::Object(fields) => fields.iter().map(|(name, field)| 32 + name.len() + length(field)).sum(),
        _ => 16,
    }
}
