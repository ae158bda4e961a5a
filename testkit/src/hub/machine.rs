//! The hub: connections and messages in, orders and events out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::config::{Archive, HubConfig, Joins, KeyPair};
use super::deltas::Deltas;
use super::event::{ConnId, DeviceId, EventLog, HubEvent, HubOutput};
use super::extension_rules::Bucket;
use super::frame::{Encoded, Frame, Serializer};
use super::update::{Device, Fleet};

/// A NervesHub server without I/O and without a clock (device-protocol §9).
///
/// The caller gives connections numbers, hands in what arrives together with the time in milliseconds,
/// and carries out what [`Hub::poll`] returns. Times given to `authenticate` are Unix time; all others
/// may count from anywhere but must not go backwards.
#[derive(Debug)]
pub struct Hub {
    pub(super) config: HubConfig,
    pub(super) product: KeyPair,
    pub(super) device_keys: Vec<(KeyPair, String)>,
    pub(super) public_keys: Vec<String>,
    pub(super) fleet: Fleet,
    pub(super) deltas: Deltas,
    pub(super) archive: Option<Archive>,
    pub(super) conns: BTreeMap<ConnId, Connection>,
    /// All that is due on connections, the next first.
    pub(super) asks: BTreeSet<(u64, ConnId, &'static str)>,
    pub(super) out: VecDeque<HubOutput>,
    pub(super) log: EventLog,
}

/// One open socket.
#[derive(Debug)]
pub(super) struct Connection {
    pub device: DeviceId,
    pub identifier: String,
    pub heard_ms: u64,
    /// Joined topics and their join references.
    pub topics: BTreeMap<String, Value>,
    pub serializer: Serializer,
    pub api_version: (u64, u64, u64),
    /// What the device offered on this connection: name and version.
    pub offered: BTreeMap<String, String>,
    /// What of it the server agreed to.
    pub agreed: BTreeSet<String>,
    pub attached: BTreeSet<String>,
    pub buckets: BTreeMap<String, Bucket>,
    /// When to send which request of an extension again.
    pub due: BTreeMap<&'static str, u64>,
}

impl Hub {
    /// A hub with one product.
    pub fn new(config: HubConfig, product: KeyPair) -> Self {
        Self {
            config,
            product,
            device_keys: Vec::new(),
            public_keys: Vec::new(),
            fleet: Fleet::default(),
            deltas: Deltas::default(),
            archive: None,
            conns: BTreeMap::new(),
            asks: BTreeSet::new(),
            out: VecDeque::new(),
            log: EventLog::default(),
        }
    }

    /// The settings, to be changed at any time.
    pub fn config_mut(&mut self) -> &mut HubConfig {
        &mut self.config
    }

    /// Gives one device a key of its own.
    pub fn add_device_key(&mut self, pair: KeyPair, identifier: &str) {
        self.device_keys.push((pair, identifier.to_owned()));
    }

    /// Adds a firmware signing key (base64 of 32 bytes) to those sent to devices that ask.
    pub fn add_public_key(&mut self, key: &str) {
        if !self.public_keys.iter().any(|known| known == key) {
            self.public_keys.push(key.to_owned());
        }
    }

    /// The events so far, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &HubEvent> {
        self.log.iter()
    }

    /// The event at this position counted from the first ever, or the first still held after it, with
    /// its position.
    pub fn event_at(&self, position: u64) -> Option<(u64, &HubEvent)> {
        self.log.at(position)
    }

    /// Takes the oldest event out of the log, for callers that work through it as it grows.
    pub fn take_event(&mut self) -> Option<HubEvent> {
        self.log.take()
    }

    /// When [`Self::tick`] has something to do for an update or an offer, in milliseconds. Idle sockets and what
    /// extensions are asked now and then are not counted.
    pub fn next_due(&self) -> Option<u64> {
        self.fleet.next_due(self.config.offer_interval_ms)
    }

    /// When [`Self::tick`] has something to ask of an extension, in milliseconds.
    pub fn next_ask(&self) -> Option<u64> {
        self.asks.first().map(|(due, ..)| *due)
    }

    /// The device of this name, if it was ever seen.
    pub fn device_named(&self, identifier: &str) -> Option<DeviceId> {
        self.fleet.find(identifier)
    }

    /// Notes something that happened outside the machine.
    pub(crate) fn note(&mut self, event: HubEvent) {
        self.log.push(event);
    }

    /// The device's socket is open. An older one of the same device is closed with 1001.
    pub fn connected(&mut self, now_ms: u64, conn: ConnId, device: DeviceId) {
        self.connected_speaking(now_ms, conn, device, Serializer::Json);
    }

    /// As [`Hub::connected`], with what the connection speaks ([`Hub::serializer`]).
    pub fn connected_speaking(
        &mut self,
        now_ms: u64,
        conn: ConnId,
        device: DeviceId,
        serializer: Serializer,
    ) {
        let Some(identifier) = self.fleet.identifier(device) else { return };
        if let Some(old) = self.fleet.conn(device) {
            self.close(old, 1001, "");
        }
        self.log.push(HubEvent::Connected { conn, identifier: identifier.clone() });
        let connection = Connection {
            device,
            identifier,
            heard_ms: now_ms,
            topics: BTreeMap::new(),
            serializer,
            api_version: (1, 0, 0),
            offered: BTreeMap::new(),
            agreed: BTreeSet::new(),
            attached: BTreeSet::new(),
            buckets: BTreeMap::new(),
            due: BTreeMap::new(),
        };
        self.conns.insert(conn, connection);
        self.fleet.opened(device, conn);
    }

    /// The socket ended without the hub's doing.
    pub fn disconnected(&mut self, conn: ConnId) {
        self.forget(conn, None);
    }

    /// A text message arrived.
    pub fn text(&mut self, now_ms: u64, conn: ConnId, text: &str) {
        let frame = match self.speaks(conn) {
            Serializer::Json => Frame::parse(text),
            Serializer::MsgPack => None,
        };
        self.message(now_ms, conn, frame);
    }

    /// A binary message arrived.
    pub fn binary(&mut self, now_ms: u64, conn: ConnId, bytes: &[u8]) {
        let frame = match self.speaks(conn) {
            Serializer::Json => Frame::parse_binary(bytes),
            Serializer::MsgPack => Frame::parse_msgpack(bytes),
        };
        self.message(now_ms, conn, frame);
    }

    /// A control frame arrived: the device is alive.
    pub fn alive(&mut self, now_ms: u64, conn: ConnId) {
        if let Some(connection) = self.conns.get_mut(&conn) {
            connection.heard_ms = now_ms;
        }
    }

    /// Time has passed: closes idle sockets, forgets silent updates, makes offers that are due.
    pub fn tick(&mut self, now_ms: u64) {
        let idle = self.config.idle_ms;
        if idle != u64::MAX {
            let silent: Vec<ConnId> = self
                .conns
                .iter()
                .filter(|(_, c)| now_ms.saturating_sub(c.heard_ms) >= idle)
                .map(|(id, _)| *id)
                .collect();
            for conn in silent {
                self.close(conn, 1002, "");
            }
        }
        self.ask_extensions(now_ms);
        self.offer(now_ms);
    }

    /// The next order.
    pub fn poll(&mut self) -> Option<HubOutput> {
        self.out.pop_front()
    }

    /// Sends every device on its way as an orderly shutdown does: `phx_close` per channel, then 1012.
    pub fn drain(&mut self) {
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in conns {
            let topics = self.conns.get(&conn).map(|c| c.topics.clone()).unwrap_or_default();
            for (topic, join_ref) in topics {
                self.send(conn, &join_ref, &join_ref, &topic, "phx_close", &json!({}));
            }
            self.close(conn, 1012, "");
        }
    }

    /// Closes every socket with this code, as an operator or a crash would.
    pub fn close_all(&mut self, code: u16, reason: &str) {
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in conns {
            self.close(conn, code, reason);
        }
    }

    /// Broadcasts an event on the device channel to every device that joined it.
    pub fn broadcast(&mut self, event: &str, payload: &Value) {
        let conns: Vec<ConnId> = self.joined();
        for conn in conns {
            self.send(conn, &Value::Null, &Value::Null, "device", event, payload);
        }
    }

    /// Sends this text to every connected device as it is, for messages no server would send.
    pub fn broadcast_raw(&mut self, text: &str) {
        let outputs = self.conns.keys().map(|conn| HubOutput::Send { conn: *conn, text: text.to_owned() });
        self.out.extend(outputs);
    }

    /// Crashes the device channel of every device that joined it; the sockets stay open.
    pub fn crash_channels(&mut self) {
        for conn in self.joined() {
            self.crash(conn, "device", "asked to");
        }
    }

    /// Crashes the device channel of one connection.
    pub fn crash_channel(&mut self, conn: ConnId) {
        self.crash(conn, "device", "asked to");
    }

    /// Closes one socket with this code.
    pub fn close_conn(&mut self, conn: ConnId, code: u16, reason: &str) {
        if self.conns.contains_key(&conn) {
            self.close(conn, code, reason);
        }
    }

    /// Whether a connection's device channel is joined.
    pub(super) fn is_joined(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(|connection| connection.topics.contains_key("device"))
    }

    /// Connections whose device channel is joined.
    pub(super) fn joined(&self) -> Vec<ConnId> {
        self.conns.iter().filter(|(_, c)| c.topics.contains_key("device")).map(|(id, _)| *id).collect()
    }

    pub(super) fn send(
        &mut self,
        conn: ConnId,
        join_ref: &Value,
        reference: &Value,
        topic: &str,
        event: &str,
        payload: &impl serde::Serialize,
    ) {
        self.push_out(conn, join_ref, reference, &Value::from(topic), event, payload);
    }

    pub(super) fn reply(&mut self, conn: ConnId, frame: &Frame, status: &str, response: &Value) {
        let payload = json!({"status": status, "response": response});
        self.push_out(conn, &frame.join_ref, &frame.reference, &frame.topic, "phx_reply", &payload);
    }

    fn push_out(
        &mut self,
        conn: ConnId,
        join_ref: &Value,
        reference: &Value,
        topic: &Value,
        event: &str,
        payload: &impl serde::Serialize,
    ) {
        self.out.push_back(match self.speaks(conn).encode(join_ref, reference, topic, event, payload) {
            Encoded::Text(text) => HubOutput::Send { conn, text },
            Encoded::Binary(data) => HubOutput::SendBinary { conn, data },
        });
    }

    fn speaks(&self, conn: ConnId) -> Serializer {
        self.conns.get(&conn).map(|connection| connection.serializer).unwrap_or_default()
    }

    /// `phx_error` with both references those of the join; the topic must be joined again.
    pub(super) fn crash(&mut self, conn: ConnId, topic: &str, why: &str) {
        let Some(connection) = self.conns.get_mut(&conn) else { return };
        let Some(join_ref) = connection.topics.remove(topic) else { return };
        let identifier = connection.identifier.clone();
        self.send(conn, &join_ref, &join_ref, topic, "phx_error", &json!({"reason": "channel_crash"}));
        self.log.push(HubEvent::ChannelCrashed { identifier, topic: topic.to_owned(), why: why.to_owned() });
    }

    pub(super) fn ignored(&mut self, identifier: &str, topic: &str, event: &str) {
        let (identifier, topic, event) = (identifier.to_owned(), topic.to_owned(), event.to_owned());
        self.log.push(HubEvent::Ignored { identifier, topic, event });
    }

    fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        self.out.push_back(HubOutput::Close { conn, code, reason: reason.to_owned() });
        self.forget(conn, Some(code));
    }

    fn forget(&mut self, conn: ConnId, code: Option<u16>) {
        if let Some(connection) = self.conns.remove(&conn) {
            for (request, due) in connection.due {
                self.asks.remove(&(due, conn, request));
            }
            self.fleet.closed(connection.device, conn);
            self.log.push(HubEvent::Disconnected { conn, identifier: connection.identifier, code });
        }
    }

    fn message(&mut self, now_ms: u64, conn: ConnId, frame: Option<Frame>) {
        let Some(connection) = self.conns.get_mut(&conn) else { return };
        connection.heard_ms = now_ms;
        let identifier = connection.identifier.clone();
        let Some(frame) = frame else {
            self.log.push(HubEvent::Undecodable { identifier });
            self.close(conn, 1011, "");
            return;
        };
        let event = frame.event.as_str().unwrap_or_default();
        let Some(topic) = frame.topic.as_str() else { return self.unmatched(conn, frame) };
        let joined = connection.topics.get(topic);
        match (topic, event, joined) {
            ("phoenix", "heartbeat", _) => {
                if self.config.log_heartbeats {
                    self.log.push(HubEvent::Heartbeat { identifier });
                }
                if self.config.heartbeat_replies {
                    let reply = Frame { join_ref: Value::Null, ..frame };
                    self.reply(conn, &reply, "ok", &json!({}));
                }
            }
            (_, "phx_join", _) => self.join(now_ms, conn, &identifier, frame),
            (_, "phx_leave", _) => self.leave(conn, &frame),
            (_, _, None) => self.unmatched(conn, frame),
            // A reference of an earlier join: dropped without a word. Null is let through.
            (_, _, Some(current)) if !frame.join_ref.is_null() && frame.join_ref != *current => {}
            ("device", _, _) => self.device_message(now_ms, conn, &identifier, &frame),
            ("extensions", _, _) => self.extensions_message(now_ms, conn, &identifier, &frame),
            ("console", _, _) => self.console_message(conn, &identifier, &frame),
            (topic, event, _) => self.ignored(&identifier, topic, event),
        }
        self.offer(now_ms);
    }

    fn unmatched(&mut self, conn: ConnId, frame: Frame) {
        let frame = Frame { join_ref: Value::Null, ..frame };
        self.reply(conn, &frame, "error", &json!({"reason": "unmatched topic"}));
    }

    fn join(&mut self, now_ms: u64, conn: ConnId, identifier: &str, frame: Frame) {
        let topic = frame.topic.as_str().unwrap_or_default().to_owned();
        // The device's own topic by its number in the database; nothing is sent there but the reply.
        let numbered = topic.starts_with("device:");
        if !numbered && !["device", "console", "extensions"].contains(&topic.as_str()) {
            return self.unmatched(conn, frame);
        }
        let topic = if numbered { "device:".to_owned() } else { topic };
        let shown = if numbered { "device" } else { &topic };
        let frame = Frame { topic: Value::from(shown), ..frame };
        let Some(connection) = self.conns.get_mut(&conn) else { return };
        if let Some(old) = connection.topics.remove(&topic) {
            self.send(conn, &old, &old, shown, "phx_close", &json!({}));
        }
        let mut reason = "join crashed".to_owned();
        let accepted = match (topic.as_str(), &self.config.joins) {
            ("device", Joins::Unanswered) => return,
            ("device", Joins::Refused(why)) => {
                reason.clone_from(why);
                false
            }
            ("device", Joins::Judged) => self.device_join(now_ms, conn, identifier, &frame),
            ("extensions", _) => self.extensions_join(conn, identifier, &frame),
            _ => {
                self.reply(conn, &frame, "ok", &json!({}));
                true
            }
        };
        if accepted {
            if let Some(connection) = self.conns.get_mut(&conn) {
                connection.topics.insert(topic, frame.join_ref);
            }
        } else {
            self.reply(conn, &frame, "error", &json!({"reason": reason}));
            let identifier = identifier.to_owned();
            self.log.push(HubEvent::JoinRefused { identifier, topic, reason });
        }
    }

    fn leave(&mut self, conn: ConnId, frame: &Frame) {
        self.reply(conn, frame, "ok", &json!({}));
        let topic = frame.topic.as_str().unwrap_or_default();
        let left = self.conns.get_mut(&conn).and_then(|c| c.topics.remove(topic));
        if let Some(join_ref) = left {
            self.send(conn, &join_ref, &join_ref, topic, "phx_close", &json!({}));
        }
    }

    /// The device behind a connection.
    pub(super) fn device_of(&mut self, conn: ConnId) -> Option<&mut Device> {
        let id = self.conns.get(&conn)?.device;
        self.fleet.get_mut(id)
    }
}
