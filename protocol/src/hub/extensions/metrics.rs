//! Samples of numbers (device-protocol A6), also of times when there was no connection.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value, json};

use super::super::{Context, names};
use super::backlog::{Backlog, Stamp};
use super::bucket::Bucket;
use super::pace::Pace;
use super::port::Port;
use super::question::Question;
use super::times::{Times, iso};
use super::{measure, problem};
use crate::extension::{ExtensionEvent, MetricSample};
use crate::limits::{
    MAX_BACKLOG_BYTES, MAX_BATCH_BYTES, MAX_METRIC_AGE, MAX_METRIC_BATCH, MAX_METRIC_SAMPLES, REPORT_BURST,
    REPORT_PERIOD,
};
use crate::phoenix::{Class, Payload};
use crate::timer::{Earliest, Timer};

/// Versions, the newest first.
pub(super) const VERSIONS: &[&str] = &["0.1.0"];

/// Asks the application, holds what it says, and sends it as soon as it can.
pub(super) struct Metrics {
    asked: Question,
    samples: Backlog<Map<String, Value>>,
    pace: Pace,
    /// Samples dropped because they were too old to be of use.
    stale: u64,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            asked: Question::default(),
            samples: Backlog::new(MAX_METRIC_SAMPLES, MAX_BACKLOG_BYTES),
            pace: Pace::new(Bucket::new(REPORT_BURST, REPORT_PERIOD)),
            stale: 0,
        }
    }

    pub(super) const fn started(&mut self) {
        self.pace.flush();
    }

    pub(super) const fn stopped(&mut self) {
        self.asked.close();
        self.pace.stop();
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
            self.asked.ask(cx, ExtensionEvent::MetricsRequested);
        }
        Ok(known)
    }

    /// Takes a sample. Returns how many older ones had to go for it.
    pub(super) fn sample(&mut self, cx: &mut Context<'_>, sample: &MetricSample) -> u64 {
        self.asked.close();
        let (metrics, left_out) = measure::metrics(&sample.metrics);
        if left_out > 0 {
            problem(
                cx,
                names::METRICS,
                format!("{left_out} metrics left out: too many, names too long, or no numbers"),
            );
        }
        let bytes = metrics.keys().map(|name| name.len() + 64).sum();
        self.samples.push(Stamp::new(cx.now, sample.time), metrics, bytes)
    }

    /// Takes the number of samples that were dropped for their age.
    pub(super) const fn take_stale(&mut self) -> u64 {
        core::mem::replace(&mut self.stale, 0)
    }

    pub(super) fn settle(&mut self, cx: &mut Context<'_>, port: Port, times: Times) {
        self.asked.settle(cx, names::METRICS);
        // Servers are not told of gaps in samples.
        self.samples.take_gap();
        if !self.pace.settle(cx.now) || !times.are_known() {
            return;
        }
        while !self.samples.is_empty() && self.pace.may_send(cx, port) {
            let reports = self.batch(cx, times);
            if !reports.is_empty() {
                port.send(cx, names::METRICS_REPORT, json!({"reports": reports}), Class::Session);
            }
        }
    }

    pub(super) fn deadlines(&self, deadline: &mut Earliest) {
        self.asked.deadlines(deadline);
        self.pace.deadlines(Timer::Metrics, deadline);
    }

    fn batch(&mut self, cx: &Context<'_>, times: Times) -> Vec<Value> {
        let now = times.at(cx.now);
        let mut stale = 0;
        let fresh = self.samples.take(MAX_METRIC_BATCH, MAX_BATCH_BYTES).filter_map(|item| {
            let time = item.stamp.resolve(times)?;
            let age = now.map_or(0, |now| now.0.abs_diff(time.0));
            if u128::from(age) > MAX_METRIC_AGE.as_micros() {
                stale += 1;
                return None;
            }
            Some(json!({"timestamp": iso(time)?, "metrics": item.what}))
        });
        let fresh = fresh.collect();
        self.stale = self.stale.saturating_add(stale);
        fresh
    }
}
