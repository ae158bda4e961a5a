//! The extensions channel (device-protocol §5.1, A3).

use serde_json::{Map, Value, json};

use super::event::{ConnId, HubEvent};
use super::extension_rules::{self as rules, Bucket, Judgement, ROWS};
use super::frame::Frame;
use super::machine::Hub;

/// Milliseconds after a dropped message until the alarms are asked for anew (device-protocol A8).
const ALARMS_AGAIN_MS: u64 = 10_000;

/// Why messages beyond the pace are dropped.
const FLOOD: &str = "too many messages";

impl Hub {
    /// The payload of `extensions:get`: all versions the server implements, whatever product and device allow.
    pub(super) fn advertisement(&self) -> Value {
        if !self.config.advertise_extensions {
            return json!({});
        }
        let rows = ROWS.iter().filter(|row| self.config.analytics || !row.analytics);
        let versions: Map<String, Value> =
            rows.map(|row| (row.name.to_owned(), json!(row.versions))).collect();
        json!({"extensions": versions})
    }

    /// Handles a join: false when it crashes over the payload.
    pub(super) fn extensions_join(&mut self, conn: ConnId, identifier: &str, frame: &Frame) -> bool {
        let Some(offered) = frame.payload.as_object() else { return false };
        if offered.values().any(|value| !value.is_string()) {
            return false;
        }
        let offered =
            offered.iter().filter_map(|(name, version)| Some((name.clone(), version.as_str()?.to_owned())));
        if let Some(connection) = self.conns.get_mut(&conn) {
            connection.offered = offered.collect();
            connection.attached.clear();
        }
        let attached = self.attachable(conn);
        if let Some(connection) = self.conns.get_mut(&conn) {
            connection.agreed = attached.iter().cloned().collect();
        }
        self.reply(conn, frame, "ok", &json!(attached));
        self.log.push(HubEvent::ExtensionsJoined { identifier: identifier.to_owned(), attached });
        true
    }

    /// What the product, the device and the offered versions allow on a connection.
    pub(super) fn attachable(&mut self, conn: ConnId) -> Vec<String> {
        let off = self.device_of(conn).map(|device| device.extensions_off.clone()).unwrap_or_default();
        let Some(connection) = self.conns.get(&conn) else { return Vec::new() };
        let allowed = |name: &String, version: &String| {
            self.config.extensions.contains(name)
                && !off.contains(name)
                && rules::implements(name, version, self.config.analytics)
        };
        let names = connection.offered.iter().filter(|(name, version)| allowed(name, version));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// Handles a push: extensions that were not agreed on are told to detach.
    pub(super) fn extensions_message(&mut self, now_ms: u64, conn: ConnId, identifier: &str, frame: &Frame) {
        let event = frame.event.as_str().unwrap_or_default();
        let (name, what) = event.split_once(':').unwrap_or((event, ""));
        let Some(connection) = self.conns.get_mut(&conn) else { return };
        // What was agreed on at the join stays so, even when it was switched off since.
        if !connection.agreed.contains(name) {
            return self.reply(conn, frame, "error", &json!("detach"));
        }
        match what {
            "attached" => {
                connection.attached.insert(name.to_owned());
                self.ask(now_ms, conn, name);
            }
            "detached" | "error" => {
                connection.attached.remove(name);
            }
            _ if !connection.attached.contains(name) => return,
            _ => {
                if !self.passes(now_ms, conn, identifier, frame) {
                    return;
                }
            }
        }
        self.log.push(HubEvent::Extension {
            identifier: identifier.to_owned(),
            event: event.to_owned(),
            payload: frame.payload.clone(),
        });
    }

    /// Whether pace and shape of a message are as the server demands.
    fn passes(&mut self, now_ms: u64, conn: ConnId, identifier: &str, frame: &Frame) -> bool {
        let event = frame.event.as_str().unwrap_or_default();
        let (name, what) = event.split_once(':').unwrap_or((event, ""));
        let Some(connection) = self.conns.get_mut(&conn) else { return false };
        let running = connection.offered.get(name).map(String::as_str).unwrap_or_default();
        let judgement = rules::judge(name, running, what, &frame.payload);
        let pace = rules::find(name).and_then(|row| row.pace);
        let (passes, entries, why) = match judgement {
            Judgement::Empty => (true, 0, ""),
            Judgement::Refused(why) => (false, 0, why),
            Judgement::Taken { dropped } => match pace {
                Some((per_second, burst)) => {
                    let full = || Bucket::full(now_ms, burst);
                    let bucket = connection.buckets.entry(name.to_owned()).or_insert_with(full);
                    if bucket.take(now_ms, per_second, burst) {
                        (true, dropped, "too many entries")
                    } else {
                        (false, 0, FLOOD)
                    }
                }
                None => (true, dropped, "too many entries"),
            },
        };
        if why == FLOOD && name == "alarms" {
            self.ask_at(conn, "alarms:sync", now_ms.saturating_add(ALARMS_AGAIN_MS));
        }
        if !passes || entries > 0 {
            let (identifier, event) = (identifier.to_owned(), event.to_owned());
            self.log.push(HubEvent::ExtensionDropped { identifier, event, entries, why });
        }
        passes
    }

    /// Asks an extension for what it has, now and from time to time.
    fn ask(&mut self, now_ms: u64, conn: ConnId, name: &str) {
        let Some(request) = rules::find(name).and_then(|row| row.request) else { return };
        self.push_to_topic(conn, "extensions", request, &json!({}));
        let again = match name {
            "health" => self.config.health_interval_ms,
            "metrics" => self.config.metrics_interval_ms,
            _ => return,
        };
        self.ask_at(conn, request, now_ms.saturating_add(again));
    }

    /// Sends a request of an extension at that time, and not when it was to be sent before.
    fn ask_at(&mut self, conn: ConnId, request: &'static str, at: u64) {
        let Some(connection) = self.conns.get_mut(&conn) else { return };
        if let Some(old) = connection.due.insert(request, at) {
            self.asks.remove(&(old, conn, request));
        }
        self.asks.insert((at, conn, request));
    }

    /// Sends the requests that are due.
    pub(super) fn ask_extensions(&mut self, now_ms: u64) {
        while let Some((at, conn, request)) = self.asks.first().copied()
            && at <= now_ms
        {
            self.asks.pop_first();
            if let Some(connection) = self.conns.get_mut(&conn) {
                connection.due.remove(request);
            }
            let name = request.split(':').next().unwrap_or_default();
            if self.conns.get(&conn).is_some_and(|connection| connection.attached.contains(name)) {
                self.ask_again(now_ms, conn, name, request);
            }
        }
    }

    fn ask_again(&mut self, now_ms: u64, conn: ConnId, name: &str, request: &'static str) {
        match name {
            "health" | "metrics" => self.ask(now_ms, conn, name),
            _ => {
                self.push_to_topic(conn, "extensions", request, &json!({}));
            }
        }
    }
}
