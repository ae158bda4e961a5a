//! Log lines for the server (device-protocol A4): one by one to servers of version 0.0.1, in batches to those of 0.1.0.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde_json::{Map, Value, json};

use super::super::{Context, names};
use super::backlog::{Backlog, Gap, Item, Stamp};
use super::bucket::Bucket;
use super::pace::Pace;
use super::port::Port;
use super::times::Times;
use crate::extension::{LogLevel, LogLine, LoggingConfig};
use crate::limits::{
    LOG_BURST, LOG_PERIOD, MAX_BACKLOG_BYTES, MAX_BATCH_BYTES, MAX_CONTEXT_NAME_BYTES,
    MAX_CONTEXT_VALUE_BYTES, MAX_LOG_BATCH, MAX_LOG_BYTES, MAX_LOG_LINES, MAX_LOG_META,
    MIN_EXTENSION_INTERVAL,
};
use crate::phoenix::Class;
use crate::text::cut_bytes;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};

/// Versions, the newest first.
pub(super) const VERSIONS: &[&str] = &["0.1.0", "0.0.1"];
/// The place of the version that takes batches.
const BATCHES: usize = 0;
/// What long lines end with.
const TRUNCATED: &str = " ... (truncated)";

/// Holds lines until the server takes them.
pub(super) struct Logging {
    config: LoggingConfig,
    lines: Backlog<Line>,
    pace: Pace,
    batches: bool,
}

struct Line {
    level: LogLevel,
    message: String,
    meta: Vec<(String, String)>,
}

impl Logging {
    pub(super) fn new(config: &LoggingConfig) -> Self {
        let config = LoggingConfig {
            level: config.level,
            max_lines: config.max_lines.clamp(1, MAX_LOG_LINES),
            interval: config.interval.max(MIN_EXTENSION_INTERVAL),
        };
        Self {
            lines: Backlog::new(config.max_lines, MAX_BACKLOG_BYTES),
            config,
            pace: Pace::new(Bucket::new(LOG_BURST, LOG_PERIOD)),
            batches: false,
        }
    }

    pub(super) fn started(&mut self, now: Instant, version: usize) {
        self.batches = version == BATCHES;
        if self.batches {
            self.pace.begin_after(now, self.config.interval);
        } else {
            // This version begins when it is attached, and goes on from line to line.
            self.lines.clear();
            self.pace.flush();
        }
    }

    pub(super) const fn stopped(&mut self) {
        self.pace.stop();
    }

    /// Takes a line. Returns how many older ones had to go for it.
    pub(super) fn log(&mut self, now: Instant, line: &LogLine) -> u64 {
        if line.level < self.config.level {
            return 0;
        }
        let message = cut_bytes(&line.message, MAX_LOG_BYTES, TRUNCATED);
        let own = line.meta.iter().filter(|(name, _)| *name != "time").take(MAX_LOG_META);
        let meta: Vec<(String, String)> = own
            .map(|(name, value)| {
                let name = cut_bytes(name, MAX_CONTEXT_NAME_BYTES, "…");
                (name, cut_bytes(value, MAX_CONTEXT_VALUE_BYTES, "…"))
            })
            .collect();
        let bytes = meta.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        // What a line costs beside its texts, in memory and on the wire.
        let bytes = bytes + message.len() + 128;
        let stamp = Stamp::new(now, line.time);
        self.lines.push(stamp, Line { level: line.level, message, meta }, bytes)
    }

    /// Sends what waits now.
    pub(super) const fn flush(&mut self) {
        self.pace.flush();
    }

    pub(super) fn settle(&mut self, cx: &mut Context<'_>, port: Port, times: Times) {
        if !self.pace.settle(cx.now) || !times.are_known() {
            return;
        }
        while !self.lines.is_empty() {
            if !self.pace.may_send(cx, port) {
                return;
            }
            // A line with a time past the year 9999 can't be written; the next one is sent.
            let payload = if self.batches { Some(self.batch(times)) } else { self.line(times) };
            if let Some(payload) = payload {
                port.send(cx, names::LOGGING_SEND, payload, Class::Session);
            }
        }
        if self.batches {
            self.pace.done(cx.now, Some(self.config.interval));
        }
    }

    pub(super) fn deadlines(&self, deadline: &mut Earliest) {
        self.pace.deadlines(Timer::Logs, deadline);
    }

    fn batch(&mut self, times: Times) -> Value {
        let notice = self.lines.take_gap().and_then(|gap| notice(gap, times));
        let room = MAX_LOG_BATCH - usize::from(notice.is_some());
        let lines = self.lines.take(room, MAX_BATCH_BYTES).filter_map(|item| write(item, times));
        let lines: Vec<Value> = notice.into_iter().chain(lines).collect();
        json!({"lines": lines})
    }

    fn line(&mut self, times: Times) -> Option<Value> {
        if let Some(gap) = self.lines.take_gap() {
            return notice(gap, times);
        }
        let next = self.lines.take(1, MAX_BATCH_BYTES).next();
        next.and_then(|item| write(item, times))
    }
}

/// Says what was dropped.
fn notice(gap: Gap, times: Times) -> Option<Value> {
    let lines = crate::text::count(gap.count, "log line");
    let message = format!("nerves-hub-link dropped {lines} to stay inside its buffer");
    let time = gap.since.resolve(times)?;
    Some(json!({
        "level": LogLevel::Warning.as_str(), "message": message, "meta": {"time": time.0.to_string()},
    }))
}

fn write(item: Item<Line>, times: Times) -> Option<Value> {
    let time = item.stamp.resolve(times)?;
    let Line { level, message, meta } = item.what;
    let mut meta: Map<String, Value> =
        meta.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    // Decimal microseconds; anything else would cost the server the whole message.
    meta.insert(String::from("time"), Value::from(time.0.to_string()));
    Some(json!({"level": level.as_str(), "message": message, "meta": meta}))
}
