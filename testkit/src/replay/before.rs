//! What a recorded device must have had or been told before its recording began: bytes of a file that it did not ask
//! for, and how long its console may be idle.

use std::time::Duration;

use nerves_hub_link_protocol::{OpenStore, StoreKind};
use serde_json::Value;

use super::body::{range_end, range_start};
use super::plot::{Plot, said};
use super::recording::{Kind, Line, Side};
use super::values;

impl Plot<'_> {
    /// Returns the bytes of the firmware offered last before `position` that the recorded device had already: what it
    /// never asked for. As pairs of the first byte and the one after the last.
    pub fn held(&self, position: usize, order: &OpenStore) -> Vec<(u64, u64)> {
        let (StoreKind::Firmware, Some(size)) = (order.kind, order.size) else { return Vec::new() };
        let mut missing: Vec<(u64, u64)> = Vec::new();
        for line in self.lines(position) {
            match &line.kind {
                Kind::Request(request) if line.conn.is_some_and(|conn| self.life.fetches.contains(&conn)) => {
                    let range = request.header("range");
                    let end = range.and_then(range_end).map_or(size, |last| last.saturating_add(1).min(size));
                    missing.push((range.and_then(range_start).unwrap_or_default(), end));
                }
                _ if over(line) => break,
                _ => {}
            }
        }
        missing.sort_unstable();
        let mut held = Vec::new();
        let mut at = 0;
        for (from, to) in missing {
            if at < from {
                held.push((at, from.min(size)));
            }
            at = at.max(to);
        }
        if at < size {
            held.push((at, size));
        }
        held
    }
}

/// Returns whether the device says that an update ended.
fn over(line: &Line) -> bool {
    let status =
        said(line).filter(|m| m.event == "status_update").and_then(|m| m.payload.get("status")?.as_str());
    matches!(status, Some("completed" | "failed"))
}

/// Most requests for one file at a time.
pub fn at_a_time<'r>(
    fetches: &std::collections::BTreeSet<u64>,
    lines: impl Iterator<Item = &'r Line>,
) -> u32 {
    let (mut open, mut most) = (std::collections::BTreeSet::new(), 0);
    for line in lines {
        let Some(conn) = line.conn.filter(|conn| fetches.contains(conn)) else { continue };
        match &line.kind {
            Kind::Request(_) => {
                open.insert(conn);
            }
            Kind::Body { .. } | Kind::Eof(_) | Kind::Closed | Kind::Failed(_) => {
                open.remove(&conn);
            }
            _ => {}
        }
        most = most.max(open.len());
    }
    u32::try_from(most).unwrap_or(1)
}

/// How long the console may be idle, if the recording shows it: the time from the last activity to the notice, in whole
/// seconds as the recorded client is configured.
pub fn console_timeout<'r>(lines: impl Iterator<Item = &'r Line>) -> Option<Duration> {
    let mut last = None;
    for line in lines {
        let Kind::Message(side, message) = &line.kind else { continue };
        let Some(envelope) = message.envelope.as_ref().filter(|m| m.topic == "console") else { continue };
        let data = envelope.payload.get("data").and_then(Value::as_str).unwrap_or_default();
        let active = match (side, envelope.event.as_str()) {
            (Side::Device, "up") if values::is_idle_notice(data) => {
                let seconds = (line.at.saturating_sub(last?) + 500_000) / 1_000_000;
                return Some(Duration::from_secs(seconds.max(1)));
            }
            (Side::Device, "up") => true,
            (Side::Server, event) => matches!(event, "dn" | "window_size" | "restart"),
            _ => false,
        };
        if active {
            last = Some(line.at);
        }
    }
    None
}
